"""How the numbers of a report came about, in words, from the report alone."""

from collections.abc import Iterator

from evalsite.results import wording
from evalsite.results.presentation import Names, title_of
from evalsite.results.report import Json
from evalsite.results.summary import UNDONE
from evalsite.studies.models import Criterion
from evalsite.studies.wording import counted


def methods(report: Json, names: Names) -> tuple[tuple[str, str], ...]:
    """A heading and a text each; of imported votes only what the votes themselves allow."""
    study, options = report["study"], report["settings"]["options"]
    arithmetic = (
        ("What is estimated", _estimand(report, options)),
        ("The interval", _interval(report, options)),
        *_declared(report, options),
        ("The claims", _claims(report, options)),
        ("The ranking", RANKING),
    )
    if study is None:
        return arithmetic
    return (
        *arithmetic,
        ("Ties", _ties(study["design"]["criteria"], options)),
        ("The ballots", _ballots(study["design"], names)),
        ("What counts", _what_counts(study["counts"])),
        *((("Latency", LATENCY),) if study["latencies"] else ()),
    )


def _declared(report: Json, options: Json) -> Iterator[tuple[str, str]]:
    """Nothing where nothing was declared."""
    if not report["declared_claims"]:
        return
    n, confidence = len(report["declared_claims"]), options["confidence"]
    when = "before the study opened" if report["study"] else "in a file of their own"
    level = wording.confidence_text(1 - confidence)
    sided = wording.confidence_text(2 * confidence - 1)
    yield (
        "The declared claims",
        f"{counted(n, 'claim')} declared {when}. p is that of the claim: of “is preferred” "
        "two-sided, against one half; with a margin one-sided, against the margin (against both "
        f"sides of it, of “equally good”), beside the {sided}% interval that goes with it. p is "
        "adjusted by Holm's method over these claims alone: the chance that any false one is "
        f"called shown stays below {level}%. A claim that is not shown is not refuted.",
    )


RANKING = (
    "Over all others: the mean of a system's win rates over its opponents, each opponent weighing "
    "the same. Rating: Bradley-Terry, 1000 for the mean of the systems, 400 more for odds of ten "
    "to one. Its errors are made as those of the intervals; the ranges of ranks hold for all "
    "systems together. A system without a chain of wins to and from the others has no rating."
)


LATENCY = (
    "The median time of single images, one after the other, from the prompt to pixels, on a device "
    "that is warm; loading a model, encoding its images into files and storing them are not in it. "
    "A worker measured it once for each device, on the day named beside it, and this report shows "
    "what was known when it was read. Systems are drawn together where they were timed on the same "
    "kind of device with the same options."
)


def _claims(report: Json, options: Json) -> str:
    n = sum(len(criterion["claims"]) for criterion in report["criteria"].values())
    level = wording.confidence_text(1 - options["confidence"])
    others = ", as a family of their own beside the declared claims" * bool(
        report["declared_claims"]
    )
    return (
        "What holds after adjusting: differences whose p, adjusted by Holm's method over every "
        f"pair and criterion of this report ({counted(n, 'test')}){others}, is below {level}%. "
        f"The chance that any false one is called so stays below {level}%. How firm each is (where "
        f"there are more than {UNDONE}, those with the largest p): the votes, or the raters, that "
        "undo it when they are taken out in the order that hurts it most."
    )


def _estimand(report: Json, options: Json) -> str:
    share = f"the chance that the system named first is preferred{_tie_clause(report)}"
    order = "the study's order" if report["study"] else "alphabetical order"
    turned = f"Each pair is shown from the system that is ahead; the files keep {order}."
    if options["fixed_prompts"]:
        whom = (
            "for a random rater of the pool and these prompts: the prompts are taken as the whole "
            "population, and the result speaks of no other."
        )
    else:
        whom = (
            "for a random rater of the pool and a random prompt of the population that these "
            f"prompts were drawn from, each shown once{_sides(report)}."
        )
    return f"Each win rate is {share}, {whom}{_limits(report)} {turned}"


def _sides(report: Json) -> str:
    """As they were drawn for a study of our own; of other votes as far as they show it."""
    effects = [criterion["side"] for criterion in report["criteria"].values()]
    if report["study"] is not None:
        return ", sides at random"
    if None in effects:
        return ", on whatever side it stood: the votes do not say"
    if any("sides unbalanced" in side["warnings"] for side in effects):
        return ", on the sides that these votes had, which are not balanced"
    return ", sides as in these votes, where chance would allow them"


def _tie_clause(report: Json) -> str:
    if not _has_ties(report):
        return ""
    dropped = report["settings"]["options"]["ties"] == "drop"
    return " among votes that are not ties" if dropped else ", a tie counting as half a win"


def _has_ties(report: Json) -> bool:
    """Could a vote be a tie? Where nobody says so, whether one was."""
    if report["study"] is not None:
        return bool(_ties_allowed(report["study"]["design"]["criteria"]))
    return any(pair["ties"] for c in report["criteria"].values() for pair in c["pairs"])


def _limits(report: Json) -> str:
    """Where a pair's votes cannot speak of other raters or prompts."""
    criteria = report["criteria"].values()
    warnings = {code for c in criteria for pair in c["pairs"] for code in pair["warnings"]}
    only = [thing for thing in ("rater", "prompt") if f"one {thing}" in warnings]
    if not only:
        return ""
    return f" Where all votes share one {' or one '.join(only)}, they speak of no other."


def _interval(report: Json, options: Json) -> str:
    asked = ("rater",) if options["fixed_prompts"] else ("rater", "prompt")
    unnamed = [thing for thing in asked if _is_unnamed(report, thing)]
    named = [thing for thing in asked if thing not in unnamed]
    alike = {"rater": "votes of one rater", "prompt": "votes on one prompt"}
    spread = (
        f"{' and '.join(alike[thing] for thing in named).capitalize()} are alike; so the variance "
        f"is a jackknife over {' and over '.join(f'{thing}s' for thing in named)}, not that of "
        "independent votes. "
    ) * bool(named)
    independent = (
        f"The votes do not name their {' or '.join(f'{thing}s' for thing in unnamed)}: in that "
        "respect they are taken as independent. "
    ) * bool(unnamed)
    quantile = (
        "the number of independent votes that the votes are worth and Student's t"
        if named
        else "the normal quantile"
    )
    return (
        f"{spread}{independent}Limits are Wilson's with {quantile}, two-sided, "
        f"{wording.confidence_text(options['confidence'])}%. Each interval stands for itself: "
        "nothing is adjusted for the number of pairs. A pair is called decided where its interval "
        "excludes one half; p is two-sided, against one half."
    )


def _is_unnamed(report: Json, thing: str) -> bool:
    """Does no vote of the report say which rater, or prompt, it is of?"""
    pairs = [pair for c in report["criteria"].values() for pair in c["pairs"] if pair["n"]]
    return bool(pairs) and all(pair[f"n_{thing}s"] is None for pair in pairs)


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
        f"{_enlarged(design)}, each made from pixels alone by one encoder without loss."
        f"{_left_out(design)}"
    )


def _left_out(design: Json) -> str:
    """What was done about safety filters and marks, as the images' records have it."""
    known = [system["watermark"] == "off" for system in design["systems"]]
    painted = " No safety filter blanked a painted image, and none was stamped with a mark."
    imported = " What imported images went through before they came is not known."
    return painted * any(known) + imported * (not all(known))


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
