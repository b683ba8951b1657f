"""Declared claims and looks, for people to read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evalsite.results import charts, wording
from evalsite.results.judging import Glimpse
from evalsite.results.looks import Looks
from evalsite.results.presentation import (
    Asked,
    CriterionPart,
    Names,
    notes_on,
    pair_line,
    title_of,
)
from evalsite.results.standings import standing_of
from evalsite.results.summary import Summary
from evalsite.stats import Ties, Verdict, spending_boundaries
from evalsite.studies.spec_claims import claim_text, points
from evalsite.studies.wording import counted


@dataclass(frozen=True, slots=True)
class ClaimLine:
    """One claim: what was declared, what the votes say of it, and whether that shows it."""

    criterion: str
    text: str
    shown: bool
    verdict: str
    bar: charts.Bar | None
    bounds: tuple[float, ...]  # where the interval must lie: above one, or between two; 0..100
    win_rate: str
    interval: str
    level: str
    p_value: str
    p_holm: str


def claim_lines(
    verdicts: Sequence[Verdict], systems: Sequence[str], names: Names, *, so_far: bool = False
) -> tuple[ClaimLine, ...]:
    """A line for each verdict, in the order of declaration.

    systems : the keys, by number. so_far : more votes are to come.
    """
    return tuple(_claim_line(verdict, systems, names, so_far) for verdict in verdicts)


def _claim_line(verdict: Verdict, systems: Sequence[str], names: Names, so_far: bool) -> ClaimLine:
    declared, low, high = verdict.declared, verdict.low, verdict.high
    claim = {
        "kind": declared.kind,
        "first": systems[declared.first],
        "second": systems[declared.second],
        "margin": declared.margin,
    }
    share = verdict.rate.win_rate if verdict.rate else None
    return ClaimLine(
        criterion=title_of(declared.criterion),
        text=claim_text(claim, names),
        shown=verdict.shown,
        verdict=verdict_text(verdict, so_far=so_far),
        bar=charts.bar_of(share, low, high),
        bounds=tuple(round(100 * bound, 4) for bound in _bounds(verdict)),
        win_rate="–" if share is None else f"{wording.percent(share)}%",
        interval="–" if low is None or high is None else wording.interval_text(low, high),
        level=f"{wording.confidence_text(verdict.confidence)}%",
        p_value="–" if verdict.p_value is None else wording.p_text(verdict.p_value),
        p_holm="–" if verdict.p_holm is None else wording.p_text(verdict.p_holm),
    )


def _bounds(verdict: Verdict) -> tuple[float, ...]:
    """Above what the win rate lies where the claim is true, or between what two."""
    margin = verdict.declared.margin or 0.0
    return (0.5 - margin, 0.5 + margin)[: 2 if verdict.declared.kind == "equivalence" else 1]


def verdict_text(verdict: Verdict, *, so_far: bool = False) -> str:
    """Shown or not, and by what. A claim that is not shown may yet be true."""
    low, high = verdict.low, verdict.high
    not_shown = "Not shown so far" if so_far else "Not shown"
    if low is None or high is None:
        return f"{not_shown}: there are no votes."
    lower, upper = (*_bounds(verdict), 1.0)[:2]
    is_inside = lower < low and (high < upper or upper == 1)
    if verdict.shown:
        return "Shown." if is_inside else "Shown, by its interval at an earlier look."
    if is_inside:
        return f"{not_shown} once adjusted for all claims declared."
    where = f"above {points(lower)}%"
    if upper < 1:
        where = f"within {points(lower)} to {points(upper)}%"
    is_outside = high < lower or low > upper
    return (
        f"{not_shown}: no part of its interval lies {where}."
        if is_outside
        else (f"{not_shown}: its interval is not wholly {where}.")
    )


# Looks


def looks_facts(summary: Summary) -> Iterator[tuple[str, str]]:
    """A heading and a text; nothing where no look was declared."""
    if summary.looks is not None:
        yield "The looks", _looks_text(summary.looks, summary.options.confidence)


def _looks_text(looks: Looks, confidence: float) -> str:
    """What was declared and what was taken, and what that costs."""
    if looks.at is None:
        return (
            "Results could be read at any time while the study was open. So a declared claim goes "
            "by a confidence sequence, whose intervals hold the truth all together, whenever "
            "somebody looks or stops."
        )
    declared = f"Declared at {_listed([f'{points(share)}%' for share in looks.at])} of the votes"
    if not looks.taken:
        return f"{declared}. None was taken: no vote counts."
    places = ["on closing" if c.share is None else f"at {points(c.share)}%" for c in looks.taken]
    taken = [
        f"{place} ({counted(cut.n_votes, 'vote')})"
        for place, cut in zip(places, looks.taken, strict=True)
    ]
    quantiles = _listed([f"{boundary:.2f}" for boundary in looks.boundaries(confidence)])
    alone = f"{spending_boundaries([1.0], confidence=confidence)[0]:.2f}"
    return (
        f"{declared}; taken {_listed(taken)}. A look counts as taken once its votes are given, "
        "whether or not somebody looked. A declared claim is tested at each by a boundary of "
        f"O'Brien and Fleming's type, the normal quantile {quantiles}; it is {alone} for a study "
        "that nobody looks into."
    )


def looks_note(looks: Looks | None) -> str:
    """Why a declared claim's interval and p are others than its pair's: nothing where nobody could
    look before closing, and they are the same."""
    if looks is None or not looks.taken or not looks.was_looked_into:
        return ""
    here = (
        "whenever somebody looked, their interval and p hold"
        if looks.at is None
        else "the interval is as wide as the last look asks, and p is over all looks together, so "
        "that an earlier look may show a claim that the last interval does not"
    )
    return (
        f"Results could be read before closing, and these claims pay for that: {here}. The "
        "intervals and p of pairs further down take the number of votes as fixed beforehand, and "
        "so differ from these."
    )


def early_note(looks: Looks | None) -> str:
    """What to keep in mind where somebody may have closed the study for what a look showed."""
    if looks is None or not looks.taken or not looks.was_looked_into:
        return ""
    last = looks.taken[-1]
    if last.information >= 1:
        return ""
    share = wording.percent(last.information)
    return (
        f"Results could be read while the study was open, and it closed with {share}% of the "
        "planned votes counted. The verdicts on declared claims allow for an early stop; every "
        "other interval and p on this page is that of a study that nobody had looked into."
    )


def _listed(texts: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))


def glimpse_parts(
    glimpse: Glimpse, asked: Mapping[str, Asked], names: Names, ties: Ties = "half"
) -> tuple[CriterionPart, ...]:
    """The pairs of an open study at its last look, criterion by criterion."""
    parts = []
    for key, found in glimpse.pairs:
        pairs = tuple(standing_of(pair, names, ties) for pair in found)
        parts.append(
            CriterionPart(
                anchor=f"criterion-{key}",
                title=title_of(key),
                question=asked[key].question,
                ties_allowed=asked[key].ties_allowed,
                counts=(counted(sum(pair.rate.n for pair in found), "vote"),),
                lines=tuple(map(pair_line, pairs)),
                notes=tuple(notes_on(pairs)),
                ranks=(),
                claims=(),
                facts=(),
            )
        )
    return tuple(parts)
