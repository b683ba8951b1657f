"""What the results page and report.html show: a summary in sentences, drawings and tables."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.utils.safestring import SafeString

from evalsite.results import charts, wording
from evalsite.results.queries import StudyDesign
from evalsite.results.summary import CriterionSummary, Json, PairSummary, Summary
from evalsite.studies.models import Criterion


@dataclass(frozen=True, slots=True)
class PairLine:
    """One row of the table beside the plot."""

    first: str
    second: str
    claim: SafeString
    decided: bool
    win_rate: str
    interval: str
    n: int
    wins: int
    ties: int
    losses: int
    p_value: str


@dataclass(frozen=True, slots=True)
class Note:
    """A warning in words, and the pairs it is about."""

    text: str
    pairs: tuple[str, ...]  # empty: all of them


@dataclass(frozen=True, slots=True)
class CriterionPart:
    """Everything shown under one criterion."""

    key: str
    title: str
    question: str
    ties_allowed: bool
    n_votes: int
    n_raters: int
    n_prompts: int
    n_ties: int
    forests: tuple[charts.Forest, ...]
    lines: tuple[PairLine, ...]
    notes: tuple[Note, ...]


def criterion_parts(design: StudyDesign, summary: Summary) -> tuple[CriterionPart, ...]:
    asked = {criterion.key: criterion for criterion in design.criteria}
    return tuple(_part(asked[criterion.key], criterion) for criterion in summary.criteria)


def _part(asked: Criterion, criterion: CriterionSummary) -> CriterionPart:
    return CriterionPart(
        key=criterion.key,
        title=criterion.key.replace("_", " ").replace("-", " ").capitalize(),
        question=asked.question,
        ties_allowed=asked.tie_policy == Criterion.TiePolicy.ALLOWED,
        n_votes=criterion.n_votes,
        n_raters=criterion.n_raters,
        n_prompts=criterion.n_prompts,
        n_ties=criterion.n_ties,
        forests=tuple(charts.forest(criterion, layout) for layout in (charts.WIDE, charts.NARROW)),
        lines=tuple(_line(pair) for pair in criterion.pairs),
        notes=tuple(_notes(criterion.pairs)),
    )


def _line(pair: PairSummary) -> PairLine:
    rate = pair.rate
    known = rate.win_rate is not None and rate.low is not None and rate.high is not None
    return PairLine(
        first=pair.first,
        second=pair.second,
        claim=wording.claim_html(pair),
        decided=wording.is_decided(rate),
        win_rate=f"{wording.percent(rate.win_rate)}%" if rate.win_rate is not None else "–",
        interval=wording.interval_text(rate.low or 0.0, rate.high or 0.0) if known else "–",
        n=rate.n,
        wins=rate.wins,
        ties=rate.ties,
        losses=rate.losses,
        p_value=wording.p_text(rate.p_value) if rate.p_value is not None else "–",
    )


def _notes(pairs: tuple[PairSummary, ...]) -> Iterator[Note]:
    """Each warning once, in the order of its first pair."""
    about: dict[str, list[str]] = {}
    for pair in pairs:
        for code in pair.rate.warnings:
            about.setdefault(code, []).append(f"{pair.first} and {pair.second}")
    for code, names in about.items():
        yield Note(wording.warning_text(code), () if len(names) == len(pairs) else tuple(names))


def methods(report: Json) -> tuple[tuple[str, str], ...]:
    """How the numbers came about: a heading and a text each, from the report alone."""
    study, options = report["study"], report["settings"]["options"]
    return (
        ("What is estimated", _estimand(options)),
        ("The interval", _interval(options)),
        ("Ties", _ties(study["design"]["criteria"], options)),
        ("The ballots", _ballots(study["design"])),
        ("What counts", _what_counts(study["counts"])),
    )


def _estimand(options: Json) -> str:
    share = "the chance that the first system is preferred"
    share += (
        " among votes that are not ties"
        if options["ties"] == "drop"
        else ", a tie counting as half a win"
    )
    if options["fixed_prompts"]:
        return (
            f"Each win rate is {share}, for a random rater of the pool and these prompts: "
            "the prompts are taken as the whole population, and the result speaks of no other."
        )
    return (
        f"Each win rate is {share}, for a random rater of the pool and a random prompt of the "
        "population that these prompts were drawn from, each shown once, sides at random."
    )


def _interval(options: Json) -> str:
    over = "raters" if options["fixed_prompts"] else "raters and over prompts"
    return (
        f"Votes of one rater, and votes on one prompt, are alike; so the variance is a jackknife "
        f"over {over}, not that of independent votes. Limits are Wilson's with the number of "
        f"independent votes that the votes are worth and Student's t, two-sided, "
        f"{wording.percent(options['confidence'])}%. Each interval stands for itself: nothing is "
        "adjusted for the number of pairs. A pair is called decided where its interval excludes "
        "one half."
    )


def _ties(criteria: list[Json], options: Json) -> str:
    allowed = [c["key"] for c in criteria if c["tie_policy"] == Criterion.TiePolicy.ALLOWED]
    if not allowed:
        return "Raters had to choose a side: no answer could be a tie."
    under = "every criterion" if len(allowed) == len(criteria) else ", ".join(allowed)
    counted = "are left out" if options["ties"] == "drop" else "count as half a win for each side"
    return f"“No preference” was an answer under {under}. Ties {counted}."


def _ballots(design: Json) -> str:
    pairs = (
        "every two systems were compared"
        if design["pairing"] == "ALL"
        else f"every system was compared with {design['baseline']}"
    )
    votes = design["votes_per_comparison"]
    return (
        f"On each prompt {pairs}, with {votes} {'vote' if votes == 1 else 'votes'} planned for "
        "each comparison and criterion. Sides were drawn beforehand and counterbalanced: within a "
        "comparison, and within a pair of systems, each system stood on the left as often as on "
        "the right, to within one. No rater saw a comparison twice for one criterion, and none saw "
        "the name of a system. Criteria came in blocks, in an order counterbalanced over raters. "
        f"Images were shown at {design['display_size']} pixels{_enlarged(design)}."
    )


def _enlarged(design: Json) -> str:
    upscaler = design["upscaler"]
    return f", enlarged where they are smaller ({upscaler.lower()})" if upscaler else ""


def _what_counts(counts: Json) -> str:
    return (
        "A vote counts when it is the rater's latest answer to a pair, was stored before the study "
        "closed, fills a planned ballot, and neither its rater nor its prompt or comparison was "
        f"taken out. Planned: {counts['n_ballots']} votes; given: {counts['n_votes_stored']}; "
        f"counted: {counts['n_votes_counted']}. The others are kept, and not used."
    )
