"""What the results page and report.html show: a report in sentences, drawings and tables."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.utils.safestring import SafeString

from evalsite.results import charts, wording
from evalsite.results.queries import StudyDesign
from evalsite.results.report import Json
from evalsite.results.standings import Standing, standings
from evalsite.results.summary import CriterionSummary, Summary
from evalsite.results.wording import counted
from evalsite.studies.models import Criterion

Names = dict[str, str]  # key of a system -> what people read


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
class CriterionPart:
    """Everything shown under one criterion."""

    anchor: str
    title: str
    question: str
    ties_allowed: bool
    counts: tuple[str, ...]
    lines: tuple[PairLine, ...]
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class SystemLine:
    """One system: what the pages call it, its key in the files, and how it paints."""

    name: str
    key: str
    licence: str
    sources: tuple[tuple[str, str], ...]  # a checkpoint and its revision; perhaps a UNet and its
    steps: str
    guidance: str


@dataclass(frozen=True, slots=True)
class Tile:
    """One number at the top of a page."""

    name: str
    value: str
    note: str = ""


def criterion_parts(design: StudyDesign, summary: Summary) -> tuple[CriterionPart, ...]:
    asked = {criterion.key: criterion for criterion in design.criteria}
    ties = summary.options.ties
    return tuple(
        _part(asked[criterion.key], criterion, standings(criterion, design.names, ties))
        for criterion in summary.criteria
    )


def _part(
    asked: Criterion, criterion: CriterionSummary, pairs: tuple[Standing, ...]
) -> CriterionPart:
    ties_allowed = asked.tie_policy == Criterion.TiePolicy.ALLOWED
    return CriterionPart(
        anchor=f"criterion-{criterion.key}",
        title=title_of(criterion.key),
        question=asked.question,
        ties_allowed=ties_allowed,
        counts=tuple(_counts(criterion, ties_allowed)),
        lines=tuple(_line(pair) for pair in pairs),
        notes=tuple(_notes(pairs)),
    )


def title_of(key: str) -> str:
    """A criterion's key as a heading."""
    return key.replace("_", " ").replace("-", " ").capitalize()


def _counts(criterion: CriterionSummary, ties_allowed: bool) -> Iterator[str]:
    yield counted(criterion.n_votes, "vote")
    yield counted(criterion.n_raters, "rater")
    yield counted(criterion.n_prompts, "prompt")
    yield counted(criterion.n_ties, "tie") if ties_allowed else "ties not allowed"


def _line(pair: Standing) -> PairLine:
    rate = pair.rate
    known = rate.win_rate is not None and rate.low is not None and rate.high is not None
    return PairLine(
        ahead=pair.ahead,
        behind=pair.behind,
        claim=wording.claim_html(pair),
        decided=pair.is_decided,
        bar=charts.bar(pair),
        win_rate=f"{wording.percent(rate.win_rate)}%" if rate.win_rate is not None else "–",
        interval=wording.interval_text(rate.low or 0.0, rate.high or 0.0) if known else "–",
        wins=rate.wins,
        ties=rate.ties,
        losses=rate.losses,
        p_value=wording.p_text(rate.p_value) if rate.p_value is not None else "–",
    )


def _notes(pairs: tuple[Standing, ...]) -> Iterator[Note]:
    """Each warning once, in the order of its first pair."""
    about: dict[str, list[str]] = {}
    for pair in pairs:
        for code in wording.worth_saying(pair.rate.warnings):
            about.setdefault(wording.warning_text(code), []).append(
                f"{pair.ahead} and {pair.behind}"
            )
    for text, names in about.items():
        yield Note(text, tuple(names), is_general=len(names) == len(pairs))


# What stands around the pairs: from the report alone.


def tiles(report: Json) -> tuple[Tile, ...]:
    counts = report["study"]["counts"]
    excluded, removed = counts["n_raters_excluded"], counts["n_prompts_removed"]
    return (
        Tile(
            "Votes counted", f"{counts['n_votes_counted']:,}", f"of {counts['n_ballots']:,} planned"
        ),
        Tile("Raters", f"{counts['n_raters']:,}", f"{excluded:,} excluded" if excluded else ""),
        Tile("Prompts", f"{counts['n_prompts']:,}", f"{removed:,} removed" if removed else ""),
        Tile("Systems", f"{len(report['study']['design']['systems']):,}"),
    )


def system_lines(report: Json, names: Names) -> tuple[SystemLine, ...]:
    return tuple(_system_line(system, names) for system in report["study"]["design"]["systems"])


def _system_line(system: Json, names: Names) -> SystemLine:
    recipe = system["recipe"]
    pinned = [(recipe["checkpoint"], recipe["revision"]), (recipe["unet"], recipe["unet_revision"])]
    return SystemLine(
        name=names[system["key"]],
        key=system["key"],
        licence=system["licence"],
        sources=tuple((place, revision) for place, revision in pinned if place),
        steps=str(recipe["steps"] or "–"),
        guidance="–" if recipe["guidance"] is None else f"{recipe['guidance']:g}",
    )


def left_out(report: Json, names: Names) -> tuple[str, ...]:
    """All that does not count, a line each; nothing where every stored vote does."""
    return tuple(_left_out(report["study"], names))


def _left_out(study: Json, names: Names) -> Iterator[str]:
    if surplus := study["counts"]["n_votes_surplus"]:
        yield (
            f"{counted(surplus, 'vote')} not counted: the ballot had gone to another rater, the "
            "study had closed, or the rater, prompt or comparison was taken out."
        )
    for prompt in study["removed_prompts"]:
        yield f"Prompt {prompt['prompt_id']}, “{prompt['prompt']}”, removed: {prompt['reason']}"
    for comparison in study["removed_comparisons"]:
        first, second = names[comparison["first"]], names[comparison["second"]]
        where = f"{first} against {second} on prompt {comparison['prompt_id']}"
        yield f"{where}, removed: {comparison['reason']}"
    for exclusion in study["exclusions"]:
        yield f"Rater {exclusion['rater_id']} excluded: {exclusion['reason']}"
    for reason, n in study["flags"].items():
        yield f"{counted(n, 'pair')} that a rater could not judge ({reason.lower()})"


# Methods.


def methods(report: Json, names: Names) -> tuple[tuple[str, str], ...]:
    """How the numbers came about: a heading and a text each."""
    study, options = report["study"], report["settings"]["options"]
    return (
        ("What is estimated", _estimand(report, options)),
        ("The interval", _interval(options)),
        ("Ties", _ties(study["design"]["criteria"], options)),
        ("The ballots", _ballots(study["design"], names)),
        ("What counts", _what_counts(study["counts"])),
    )


def _estimand(report: Json, options: Json) -> str:
    share = f"the chance that the system named first is preferred{_tie_clause(report)}"
    turned = "Each pair is shown from the system that is ahead; the files keep the study's order."
    if options["fixed_prompts"]:
        whom = (
            "for a random rater of the pool and these prompts: the prompts are taken as the whole "
            "population, and the result speaks of no other."
        )
    else:
        whom = (
            "for a random rater of the pool and a random prompt of the population that these "
            "prompts were drawn from, each shown once, sides at random."
        )
    return f"Each win rate is {share}, {whom}{_limits(report)} {turned}"


def _tie_clause(report: Json) -> str:
    if not _ties_allowed(report["study"]["design"]["criteria"]):
        return ""
    dropped = report["settings"]["options"]["ties"] == "drop"
    return " among votes that are not ties" if dropped else ", a tie counting as half a win"


def _limits(report: Json) -> str:
    """Where a pair's votes cannot speak of other raters or prompts."""
    criteria = report["criteria"].values()
    warnings = {code for c in criteria for pair in c["pairs"] for code in pair["warnings"]}
    only = [thing for thing in ("rater", "prompt") if f"one {thing}" in warnings]
    if not only:
        return ""
    return f" Where all votes share one {' or one '.join(only)}, they speak of no other."


def _interval(options: Json) -> str:
    over = "raters" if options["fixed_prompts"] else "raters and over prompts"
    return (
        f"Votes of one rater, and votes on one prompt, are alike; so the variance is a jackknife "
        f"over {over}, not that of independent votes. Limits are Wilson's with the number of "
        f"independent votes that the votes are worth and Student's t, two-sided, "
        f"{wording.confidence_text(options['confidence'])}%. Each interval stands for itself: "
        "nothing is adjusted for the number of pairs. A pair is called decided where its interval "
        "excludes one half; p is two-sided, against one half."
    )


def _ties(criteria: list[Json], options: Json) -> str:
    allowed = _ties_allowed(criteria)
    if not allowed:
        return "Raters had to choose a side: no answer could be a tie."
    titles = ", ".join(f"“{title_of(key)}”" for key in allowed)
    under = "every criterion" if len(allowed) == len(criteria) else titles
    read = "are left out" if options["ties"] == "drop" else "count as half a win for each side"
    return f"“No preference” was an answer under {under}. Ties {read}."


def _ties_allowed(criteria: list[Json]) -> list[str]:
    return [c["key"] for c in criteria if c["tie_policy"] == Criterion.TiePolicy.ALLOWED]


def _ballots(design: Json, names: Names) -> str:
    pairs = (
        "every two systems were compared"
        if design["pairing"] == "ALL"
        else f"every system was compared with {names[design['baseline']]}"
    )
    return (
        f"On each prompt {pairs}, with {counted(design['votes_per_comparison'], 'vote')} planned "
        "for each comparison and criterion. Sides were drawn beforehand and counterbalanced: "
        "within a comparison, and within a pair of systems, each system stood on the left as "
        "often as on the right, to within one. No rater saw a comparison twice for one criterion, "
        "and none saw the name of a system. Criteria came in blocks, in an order counterbalanced "
        f"over raters. Images were shown at {counted(design['display_size'], 'pixel')}"
        f"{_enlarged(design)}."
    )


def _enlarged(design: Json) -> str:
    upscaler = design["upscaler"]
    return f", enlarged where they are smaller ({upscaler.lower()})" if upscaler else ""


def _what_counts(counts: Json) -> str:
    planned, given, used = (
        f"{counts[n]:,}" for n in ("n_ballots", "n_votes_stored", "n_votes_counted")
    )
    others = " The others are kept, and not used." if given != used else ""
    return (
        "A vote counts when it is the rater's latest answer to a pair, was stored before the study "
        "closed, fills a planned ballot, and neither its rater nor its prompt or comparison was "
        f"taken out. Votes planned: {planned}; given: {given}; counted: {used}.{others}"
    )
