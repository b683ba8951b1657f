"""What the results page and report.html show: a report in sentences, drawings and tables."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf

from django.utils.safestring import SafeString

from evalsite.results import charts, wording
from evalsite.results.standings import Standing, standings
from evalsite.results.summary import CriterionSummary, Summary, SystemSummary
from evalsite.stats import Agreement, Fragility
from evalsite.studies.wording import counted

Names = dict[str, str]  # key of a system -> what people read
BALANCED = (
    " Each system stood on the left as often as chance or the design would put it there, so the "
    "pull favours none."
)


@dataclass(frozen=True, slots=True)
class PairLine:
    """One pair: its sentence, its bar and its numbers, all seen from the one ahead."""

    ahead: str
    behind: str
    claim: SafeString
    decided: bool
    bar: charts.Bar | None
    win_rate: str
    interval: str
    wins: int
    ties: int
    losses: int
    p_value: str


@dataclass(frozen=True, slots=True)
class Note:
    """A warning in words, and the pairs it is about."""

    text: str
    pairs: tuple[str, ...]
    is_general: bool  # about every pair there is


@dataclass(frozen=True, slots=True)
class Asked:
    """What raters were asked, as far as it is known."""

    question: str
    ties_allowed: bool
    without_ties: str = "ties not allowed"  # how to say that there is none


@dataclass(frozen=True, slots=True)
class RankLine:
    """One system among all: its ranks, its rating and its mean win rate."""

    name: str
    ranks: str
    rating: str
    rating_interval: str
    win_rate: str
    win_interval: str


@dataclass(frozen=True, slots=True)
class CriterionPart:
    """Everything shown under one criterion."""

    anchor: str
    title: str
    question: str
    ties_allowed: bool
    counts: tuple[str, ...]
    lines: tuple[PairLine, ...]
    notes: tuple[Note, ...]
    ranks: tuple[RankLine, ...]  # the best first
    claims: tuple[str, ...]  # what holds after adjustment, and what would undo it
    facts: tuple[tuple[str, str], ...]  # a heading and a text each


def criterion_parts(
    asked: Mapping[str, Asked], names: Names, summary: Summary
) -> tuple[CriterionPart, ...]:
    ties = summary.options.ties
    return tuple(
        _part(
            asked[criterion.key],
            criterion,
            standings(criterion, names, ties),
            names,
            summary.options.confidence,
        )
        for criterion in summary.criteria
    )


def _part(
    asked: Asked,
    criterion: CriterionSummary,
    pairs: tuple[Standing, ...],
    names: Names,
    confidence: float,
) -> CriterionPart:
    ties_allowed = asked.ties_allowed
    return CriterionPart(
        anchor=f"criterion-{criterion.key}",
        title=title_of(criterion.key),
        question=asked.question,
        ties_allowed=ties_allowed,
        counts=tuple(_counts(criterion, asked)),
        lines=tuple(map(pair_line, pairs)),
        notes=(
            *notes_on(pairs),
            *(Note(text, (), is_general=True) for text in wording.on_criterion(criterion)),
        ),
        ranks=tuple(_ranks(criterion, names)),
        claims=tuple(_firm_claims(criterion, names)),
        facts=(*_facts(criterion), *_slice_facts(criterion, names, 1 - confidence)),
    )


def title_of(key: str) -> str:
    """A criterion's key as a heading."""
    return key.replace("_", " ").replace("-", " ").capitalize()


def _counts(criterion: CriterionSummary, asked: Asked) -> Iterator[str]:
    yield counted(criterion.n_votes, "vote")
    yield counted(criterion.n_raters, "rater")
    yield counted(criterion.n_prompts, "prompt")
    yield counted(criterion.n_ties, "tie") if asked.ties_allowed else asked.without_ties


def _share(rate: float | None) -> str:
    return "–" if rate is None else f"{wording.percent(rate)}%"


def _share_span(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else wording.interval_text(low, high)


def pair_line(pair: Standing) -> PairLine:
    rate = pair.rate
    return PairLine(
        ahead=pair.ahead,
        behind=pair.behind,
        claim=wording.claim_html(pair),
        decided=pair.is_decided,
        bar=charts.bar(pair),
        win_rate=_share(rate.win_rate),
        interval=_share_span(rate.low, rate.high),
        wins=rate.wins,
        ties=rate.ties,
        losses=rate.losses,
        p_value=wording.p_text(rate.p_value) if rate.p_value is not None else "–",
    )


def notes_on(pairs: tuple[Standing, ...]) -> Iterator[Note]:
    """Each warning once, in the order of its first pair."""
    about: dict[str, list[str]] = {}
    for pair in pairs:
        for code in wording.worth_saying(pair.rate.warnings):
            about.setdefault(wording.warning_text(code), []).append(
                f"{pair.ahead} and {pair.behind}"
            )
    for text, names in about.items():
        yield Note(text, tuple(names), is_general=len(names) == len(pairs))


# Rankings and claims.


def _ranks(criterion: CriterionSummary, names: Names) -> Iterator[RankLine]:
    def place(system: SystemSummary) -> tuple[float, float]:
        rating, rate = system.rating.rating, system.overall.win_rate
        return (-rating if rating is not None else inf, -rate if rate is not None else inf)

    for system in sorted(criterion.systems, key=place):
        rating, overall = system.rating, system.overall
        yield RankLine(
            name=names[system.key],
            ranks=_span(rating.rank_low, rating.rank_high, "{:.0f}"),
            rating=_number(rating.elo, "{:.0f}"),
            rating_interval=_span(rating.elo_low, rating.elo_high, "{:.0f}"),
            win_rate=_share(overall.win_rate),
            win_interval=_share_span(overall.low, overall.high),
        )


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _span(low: float | None, high: float | None, form: str) -> str:
    """`2`, `1 to 3`, or a dash where either end is unknown."""
    if low is None or high is None:
        return "–"
    ends = form.format(low), form.format(high)
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def _firm_claims(criterion: CriterionSummary, names: Names) -> Iterator[str]:
    for summary in criterion.claims:
        if summary.claim.decided and summary.fragility is not None:
            better, other = names[summary.first], names[summary.second]
            if summary.claim.direction == "second":
                better, other = other, better
            yield f"{better} over {other}: {_undoing(summary.fragility)}"


def _undoing(found: Fragility) -> str:
    """What it takes to undo a claim; an upper bound unless every smaller set was tried."""
    ways = [
        f"{'' if exact else 'at most '}{counted(n, thing)}"
        for n, exact, thing in (
            (found.n_votes, found.n_votes_exact, "vote"),
            (found.n_raters, found.n_raters_exact, "rater"),
        )
        if n is not None
    ]
    if not ways:
        return "no removal of votes or raters undoes it."
    return f"undone by taking out {', or '.join(ways)}."


def _on_unknown_prompts(agreement: Agreement) -> str:
    if agreement.n_unlabelled:
        return f" {counted(agreement.n_unlabelled, 'vote')} without a prompt left out."
    if "no prompt labels" in agreement.warnings:
        return " The votes do not say which prompt they are on: each pair is one comparison here."
    return ""


def _facts(criterion: CriterionSummary) -> Iterator[tuple[str, str]]:
    agreement, side, nu = criterion.agreement, criterion.side, criterion.davidson.tie_parameter
    if agreement.alpha is not None:
        span = _span(agreement.low, agreement.high, "{:.2f}")
        shared = "with votes of several raters" if criterion.n_raters else "with two votes or more"
        yield (
            "Agreement",
            f"Krippendorff's alpha {agreement.alpha:.2f} ({span}) over "
            f"{counted(agreement.n_units, 'comparison')} {shared}: "
            "1 where all agree, 0 where votes agree no more than by chance. Pairs that are nearly "
            "even make it low." + _on_unknown_prompts(agreement),
        )
    if side is not None and side.logit is not None and side.left_share is not None:
        span = _span(side.low, side.high, "{:+.2f}")
        yield (
            "Sides",
            f"The left image was chosen in {wording.percent(side.left_share)}% of votes; the pull "
            f"of the left side is {side.logit:+.2f} logits ({span})."
            + BALANCED
            * ("sides unbalanced" not in side.warnings),
        )
    if nu is not None and criterion.n_ties:
        yield (
            "Ties",
            f"Two equal systems would tie in {wording.percent(nu / (2 + nu))}% of votes "
            "(Davidson's model).",
        )


def _slice_facts(
    criterion: CriterionSummary, names: Names, alpha: float
) -> Iterator[tuple[str, str]]:
    """Which pairs come out differently on different slices, after adjusting for all pairs."""
    keys = [system.key for system in criterion.systems]
    for name, slicing in criterion.slices:
        found = [
            f"{names[keys[test.first]]} over {names[keys[test.second]]}: "
            + ", ".join(
                f"{part.label} {_share(part.result.win_rate)}"
                for part in slicing.win_rates
                if (part.first, part.second) == (test.first, test.second) and part.result.n
            )
            for test in slicing.heterogeneity
            if test.p_holm is not None and test.p_holm < alpha
        ]
        nothing = "No pair comes out differently, as far as these votes can tell."
        yield f"By {name.replace('_', ' ')}", "; ".join(found) or nothing


# What stands around the pairs: from the report alone.
