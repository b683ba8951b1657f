"""The CSV files of a report, as bytes. Exact values stand in report.json as well."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from evalsite.results.queries import Record, StoredVotes, StudyDesign, outcome_of_first
from evalsite.results.report import (
    Json,
    claim_json,
    pair_json,
    slicing_json,
    system_json,
    verdict_json,
)
from evalsite.results.summary import Summary

Cell = str | int | float | bool | None

VOTE_COLUMNS = (
    "criterion",
    "rater_id",
    "prompt_id",
    "system_a",
    "system_b",
    "winner",
    "left",
    "category",
    "challenge",
    "prompt",
    "response_ms",
    "voted_at",
    "n_given",
    "simulated",
)
# A spreadsheet takes a cell that begins like this for a formula, in some places full-width too.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def votes_csv(design: StudyDesign, record: Record, stored: StoredVotes) -> bytes:
    """One line a counted vote, as it was seen: system_a stood on the left."""
    return _csv(VOTE_COLUMNS, _vote_rows(design, record, stored))


def _vote_rows(design: StudyDesign, record: Record, stored: StoredVotes) -> Iterator[list[Cell]]:
    votes = stored.votes
    raters, names = record.rater_labels, record.prompt_labels
    prompts = {prompt.pk: prompt for prompt in record.prompts}
    systems = [system.key for system in design.systems]
    winners = {0.0: "b", 0.5: "tie", 1.0: "a"}
    columns = (
        votes.criteria.tolist(),
        votes.first.tolist(),
        votes.second.tolist(),
        stored.first_on_left.tolist(),
        stored.choices.tolist(),
        votes.raters.tolist(),
        votes.prompts.tolist(),
        stored.response_ms.tolist(),
        stored.voted_at.tolist(),
        stored.n_given.tolist(),
    )
    for criterion, first, second, first_on_left, choice, rater, prompt, ms, at, n_given in zip(
        *columns, strict=True
    ):
        left, right = (first, second) if first_on_left else (second, first)
        yield [
            design.criteria[criterion].key,
            raters[rater],
            names[prompt],
            systems[left],
            systems[right],
            winners[outcome_of_first(choice, first_on_left=True)],  # of a, and a is on the left
            "a",
            prompts[prompt].category,
            prompts[prompt].challenge,
            prompts[prompt].text,
            ms,
            timestamp(at),
            n_given,
            design.study.simulated,
        ]


def pairs_csv(summary: Summary, *, simulated: bool) -> bytes:
    """One line a pair and criterion: the pairs of report.json as a table."""
    return _table(
        [(c.key, pair_json(pair)) for c in summary.criteria for pair in c.pairs], simulated
    )


def systems_csv(summary: Summary, *, simulated: bool) -> bytes:
    """One line a system and criterion: the systems of report.json as a table."""
    return _table(
        [(c.key, system_json(system)) for c in summary.criteria for system in c.systems], simulated
    )


def claims_csv(summary: Summary, *, simulated: bool) -> bytes:
    """One line a claim: the table that the adjusted p-values are of."""
    return _table(
        [(c.key, claim_json(claim)) for c in summary.criteria for claim in c.claims], simulated
    )


def declared_claims_csv(summary: Summary, *, simulated: bool) -> bytes:
    """One line a claim that was declared beforehand, with its verdict."""
    rows = [verdict_json(verdict, summary) for verdict in summary.verdicts]
    return _table([(row["criterion"], row) for row in rows], simulated)


def slices_csv(summary: Summary, *, simulated: bool) -> bytes:
    """One line a slice, pair and criterion: the slices of report.json as a table."""
    rows = [
        (c.key, {"slicing": name, **row})
        for c in summary.criteria
        for name, slicing in c.slices
        for row in slicing_json(slicing, summary.design.systems)["win_rates"]
    ]
    return _table(rows, simulated)


LATENCY_COLUMNS = (
    "system",
    "device",
    "options",
    "latency_ms",
    "n_paints",
    "batch_size",
    "images_per_s",
    "versions",
    "measured_at",
)


def latencies_csv(report: Json) -> bytes:
    """One line a system and device that it was timed on; of one that nobody timed, its key."""
    latencies = report["study"]["latencies"]
    timed = {row["system"] for row in latencies}
    untimed = [
        {"system": system["key"]}
        for system in report["study"]["design"]["systems"]
        if system["key"] not in timed
    ]
    rows = [
        {
            **row,
            "options": "; ".join(row["options"]),
            "versions": "; ".join(f"{name} {one}" for name, one in row["versions"].items()),
        }
        for row in latencies
    ]
    return _csv(
        LATENCY_COLUMNS, ([row.get(name) for name in LATENCY_COLUMNS] for row in rows + untimed)
    )


def _table(rows: Sequence[tuple[str, Json]], simulated: bool) -> bytes:
    lines = [{"criterion": key, **row, "simulated": simulated} for key, row in rows]
    for line in lines:
        for name, value in line.items():
            if isinstance(value, list):
                line[name] = "; ".join(value)
    return _csv(
        tuple(lines[0]) if lines else ("criterion",), (list(line.values()) for line in lines)
    )


def _csv(columns: tuple[str, ...], rows: Iterable[list[Cell]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def cell(value: Cell) -> str:
    """A value as text that no spreadsheet runs: texts that begin like a formula get an
    apostrophe before them. Numbers are ours and stay as they are, in full precision."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{value}" if _needs_apostrophe(value) else value
    return repr(value)


def text_in(cell: str) -> str:
    """The text that such a cell was written for."""
    return cell[1:] if cell[:1] == "'" and _needs_apostrophe(cell[1:]) else cell


def _needs_apostrophe(text: str) -> bool:
    """Texts that have one already get another, so that every cell is of one text alone."""
    return text.lstrip("'").startswith(FORMULA_STARTS)


def timestamp(at: datetime) -> str:
    """UTC to the millisecond, always in the same form."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
