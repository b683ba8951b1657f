"""What the pages show around the votes: counts, raters, systems and what befell their images."""

from collections.abc import Iterator
from dataclasses import dataclass

from evalsite.results import wording
from evalsite.results.presentation import Names
from evalsite.results.report import Json
from evalsite.studies.wording import counted
from generation.spec import places_of

N_IMAGE_NOTES = 50


@dataclass(frozen=True, slots=True)
class SystemLine:
    """One system: what the pages call it, its key in the files, and how it paints."""

    name: str
    key: str
    licence: str
    sources: tuple[tuple[str, str], ...]  # a checkpoint and its revision; perhaps a UNet and its
    steps: str
    guidance: str
    latencies: tuple[tuple[str, str], ...]  # how long, and on what it was measured when


@dataclass(frozen=True, slots=True)
class Tile:
    """One number at the top of a page."""

    name: str
    value: str
    note: str = ""


def tiles(report: Json) -> tuple[Tile, ...]:
    if report["study"] is None:
        return tuple(_imported_tiles(report))
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


def _imported_tiles(report: Json) -> Iterator[Tile]:
    criteria = report["criteria"].values()
    yield Tile("Votes", f"{sum(criterion['n_votes'] for criterion in criteria):,}")
    yield Tile("Criteria", f"{len(criteria):,}")
    yield Tile("Systems", f"{max(len(criterion['systems']) for criterion in criteria):,}")


def flagged_raters(report: Json) -> tuple[str, ...]:
    """Raters with a sign that they did not look, a line each."""
    return tuple(
        f"{rater['rater']}: {', '.join(rater['flags'])}, {counted(rater['n'], 'vote')}"
        for rater in report["raters"]
        if rater["flags"]
    )


SIGNS = {
    "left_p": "sides",
    "streak_p": "streaks",
    "speed": "speed",
    "agreement_p": "agreement with the others",
    "checks_p": "checks",
    "repeats_p": "repeats",
}


def honest_signs(report: Json) -> str:
    """What was looked at of any rater, as `sides, streaks and speed`."""
    known = [
        word
        for sign, word in SIGNS.items()
        if any(rater[sign] is not None for rater in report["raters"])
    ]
    return " and ".join(part for part in (", ".join(known[:-1]), *known[-1:]) if part)


def system_lines(report: Json, names: Names) -> tuple[SystemLine, ...]:
    study = report["study"]
    return tuple(
        _system_line(system, names, tuple(_latencies(system["key"], study["latencies"])))
        for system in study["design"]["systems"]
    )


def _latencies(key: str, latencies: list[Json]) -> Iterator[tuple[str, str]]:
    for row in latencies:
        if row["system"] == key:
            day = row["measured_at"][:10]
            yield wording.duration_text(row["latency_ms"]), f"{where_text(row)}; {day}"


def where_text(latency: Json) -> str:
    """On what it was measured, and with which options."""
    return ", ".join([latency["device"], *latency["options"]])


def _system_line(system: Json, names: Names, latencies: tuple[tuple[str, str], ...]) -> SystemLine:
    recipe = system["recipe"]
    return SystemLine(
        name=names[system["key"]],
        key=system["key"],
        licence=system["licence"],
        sources=tuple(places_of(recipe)),
        steps=str(recipe["steps"] or "–"),
        guidance="–" if recipe["guidance"] is None else f"{recipe['guidance']:g}",
        latencies=latencies,
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


def image_notes(report: Json, names: Names) -> tuple[str, ...]:
    """Blank and repeated images that raters saw, and finished images that were made anew, a line
    each; the first of many. What left the study for them stands among what was left out."""
    notes = list(_image_notes(report["study"], names))
    more = len(notes) - N_IMAGE_NOTES
    return (*notes[:N_IMAGE_NOTES], *[f"And {more:,} more: report.json has them all."] * (more > 0))


def _image_notes(study: Json, names: Names) -> Iterator[str]:
    for defect in study["image_defects"]:
        if defect["in_study"]:
            name = names.get(defect["system"], defect["system"])
            what = f"a {defect['kind'].lower()} image of {name} on prompt {defect['prompt_id']}"
            yield f"Kept: {what}, {defect['detail']}."
    for event in study["image_events"]:
        yield _event_text(event, names, opened_at=study["opened_at"])


def _event_text(event: Json, names: Names, *, opened_at: str) -> str:
    """An image may be older than the study, and shared: what befell it before is told as such."""
    same = event["sha256_before"] == event["sha256_after"]
    what = {
        "DAMAGED": "was found damaged in the store",
        "REPAINTED": f"was made a second time, with {'the same' if same else 'other'} pixels",
        "REIMPORTED": "came from a file that had other content when it was imported before",
    }
    image = f"The image of {names[event['system']]} on prompt {event['prompt_id']}"
    day, minute = event["at"][:10], event["at"][11:16]
    before = ", before this study was opened" if event["at"] < opened_at else ""
    return f"{image} {what[event['kind']]} ({day} {minute} UTC{before})."
