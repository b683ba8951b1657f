"""Votes from elsewhere: a CSV, TSV, JSONL or Parquet file, checked whole before it is used.

Nothing here knows a database: a path comes in, numbered columns or a readable error go out.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from evalsite.results.summary import Column
from evalsite.results.votes_text import SHOWN_PROBLEMS, Lines, VotesFileError, read_columns
from evalsite.stats.clusters import UNLABELLED, Codes, Floats

__all__ = ["Lines", "VoteTable", "VotesFileError", "number_votes", "read_columns", "read_votes"]

# Our name of a column -> what others call it, in lower case.
COLUMNS = {
    "criterion": ("criterion", "question", "task"),
    "rater_id": ("rater_id", "rater", "judge", "worker", "worker_id", "annotator", "user_id"),
    "prompt_id": ("prompt_id", "prompt", "question_id", "item", "item_id"),
    "system_a": ("system_a", "model_a"),
    "system_b": ("system_b", "model_b"),
    "winner": ("winner", "preference", "label"),
    "left": ("left", "left_side"),
    "category": ("category",),
    "challenge": ("challenge",),
    "rater_group": ("rater_group", "group"),
    "voted_at": ("voted_at", "time", "timestamp", "tstamp"),
}
REQUIRED = ("system_a", "system_b", "winner")
DEFAULT_CRITERION = "overall"
NO_LABELS = {"none", ""}
WINNERS = {
    **dict.fromkeys(("a", "model_a", "system_a"), 1.0),
    **dict.fromkeys(("b", "model_b", "system_b"), 0.0),
    **dict.fromkeys(
        ("tie", "tie (bothbad)", "tie (both bad)", "bothbad", "both_bad", "both", "draw"), 0.5
    ),
}
LEFTS = {
    **dict.fromkeys(("a", "model_a", "system_a"), True),
    **dict.fromkeys(("b", "model_b", "system_b"), False),
}


@dataclass(frozen=True, slots=True, eq=False)
class VoteTable:
    """Checked votes, one per row of every column; systems and criteria in alphabetical order."""

    criteria: tuple[str, ...]
    systems: tuple[str, ...]
    criterion: Codes  # index in criteria
    first: Codes  # index in systems: system_a as the file has it
    second: Codes
    outcomes: Floats  # of system_a: 1 won, 0 lost, 0.5 tie
    raters: Column | None  # None: the file has no such column
    prompts: Column | None
    a_on_left: NDArray[np.bool_] | None
    categories: Column | None
    challenges: Column | None
    rater_groups: Column | None
    unused: tuple[str, ...]  # columns of the file that say nothing here

    def __len__(self) -> int:
        return self.outcomes.size

    def only(self, criterion: str) -> "VoteTable":
        """The votes of one criterion, and the systems that they compare."""
        rows = self.criterion == self.criteria.index(criterion)
        first, second = self.first[rows], self.second[rows]
        kept = np.union1d(first, second)
        return VoteTable(
            criteria=(criterion,),
            systems=tuple(self.systems[i] for i in kept.tolist()),
            criterion=np.zeros(first.size, dtype=np.intp),
            first=np.searchsorted(kept, first),
            second=np.searchsorted(kept, second),
            outcomes=self.outcomes[rows],
            raters=_of_rows(self.raters, rows),
            prompts=_of_rows(self.prompts, rows),
            a_on_left=None if self.a_on_left is None else self.a_on_left[rows],
            categories=_of_rows(self.categories, rows),
            challenges=_of_rows(self.challenges, rows),
            rater_groups=_of_rows(self.rater_groups, rows),
            unused=self.unused,
        )


def _of_rows(column: Column | None, rows: NDArray[np.bool_]) -> Column | None:
    return None if column is None else column.rows(rows)


def read_votes(path: Path, *, a_is_left: bool = False) -> tuple[VoteTable, str]:
    """The votes of a file, and the sha256 of its bytes. Raises VotesFileError."""
    table = number_votes(read_columns(path), Lines(path), a_is_left=a_is_left)
    with path.open("rb") as file:
        return table, hashlib.file_digest(file, "sha256").hexdigest()


# Checking and numbering


def number_votes(frame: pl.DataFrame, lines: Lines, *, a_is_left: bool = False) -> VoteTable:
    """Text columns as numbers, every row checked. Raises VotesFileError with all that is wrong."""
    theirs = _find_columns(frame.columns, lines.path.name)
    unused = tuple(name for name in frame.columns if name not in theirs.values())
    columns = {ours: number(frame[name]) for ours, name in theirs.items()}
    del frame  # the text takes much more room than its numbers
    first, second, systems = _merge(columns["system_a"], columns["system_b"])
    outcomes = _meaning(columns["winner"], WINNERS, first, second, systems)
    sides = None
    if "left" in columns:
        sides = _meaning(columns["left"], LEFTS, first, second, systems)
    _refuse_bad_rows(columns, first == second, outcomes, sides, lines)
    criterion = columns.get("criterion")
    return VoteTable(
        criteria=criterion.names if criterion else (DEFAULT_CRITERION,),
        systems=systems,
        criterion=criterion.codes.astype(np.intp) if criterion else np.broadcast_to(0, first.size),
        first=first,
        second=second,
        outcomes=outcomes,
        raters=_labels(columns.get("rater_id")),
        prompts=_labels(columns.get("prompt_id")),
        a_on_left=np.ones(first.size, dtype=bool) if a_is_left else _as_sides(sides),
        categories=_labels(columns.get("category")),
        challenges=_labels(columns.get("challenge")),
        rater_groups=_labels(columns.get("rater_group")),
        unused=unused,
    )


def _find_columns(names: Sequence[str], file: str) -> dict[str, str]:
    """Our name -> the file's own, for every column that is there."""
    by_lower = {name.strip().lower(): name for name in reversed(names)}
    found = {}
    for ours, spellings in COLUMNS.items():
        known = [by_lower[spelling] for spelling in spellings if spelling in by_lower]
        if known:
            found[ours] = known[0]
    missing = [" or ".join(COLUMNS[name]) for name in REQUIRED if name not in found]
    if missing:
        there = ", ".join(names)
        raise VotesFileError([f"{file}: no column {name}; found {there}" for name in missing])
    return found


def number(column: pl.Series) -> Column:
    """Text as codes into its sorted distinct values, blanks around them cut off.

    The codes are no wider than it takes: columns may be long.
    """
    numbered = column.cast(pl.Categorical)
    distinct = numbered.unique()
    texts = [text.strip() for text in distinct.cast(pl.String)]
    names = sorted(set(texts))
    place = {name: i for i, name in enumerate(names)}
    physical = distinct.to_physical().to_numpy()
    code_of = np.zeros(int(physical.max()) + 1, dtype=np.min_scalar_type(len(names)))
    code_of[physical] = [place[text] for text in texts]
    return Column(code_of[numbered.to_physical().to_numpy()], tuple(names))


def _labels(column: Column | None) -> Column | None:
    """The word `none` is no label, nor is nothing at all: UNLABELLED."""
    if column is None:
        return None
    codes = np.arange(len(column.names))
    codes[[name in NO_LABELS for name in column.names]] = UNLABELLED
    return Column(codes[column.codes], column.names)


def _merge(one: Column, two: Column) -> tuple[Codes, Codes, tuple[str, ...]]:
    """Two columns over one list of names."""
    names = sorted({*one.names, *two.names})
    place = {name: i for i, name in enumerate(names)}
    first, second = (np.array([place[n] for n in c.names])[c.codes] for c in (one, two))
    return first, second, tuple(names)


def _meaning(
    column: Column,
    words: Mapping[str, float],
    first: Codes,
    second: Codes,
    systems: tuple[str, ...],
) -> Floats:
    """What each row's word says of system_a, 1 or 0 or between; NaN where it says nothing.

    A word is one of `words`, in any case, or the name of one of the row's two systems.
    """
    values = np.array([words.get(name.lower(), np.nan) for name in column.names])[column.codes]
    rows = np.flatnonzero(np.isnan(values))
    place = {name: i for i, name in enumerate(systems) if name}
    named = np.array([place.get(name, -1) for name in column.names])[column.codes[rows]]
    values[rows[named == first[rows]]] = 1.0
    values[rows[named == second[rows]]] = 0.0
    return values


def _as_sides(sides: Floats | None) -> NDArray[np.bool_] | None:
    return None if sides is None else sides == 1


def _refuse_bad_rows(
    columns: dict[str, Column],
    same: NDArray[np.bool_],
    outcomes: Floats,
    sides: Floats | None,
    lines: Lines,
) -> None:
    """Raises VotesFileError that names the line, column and reason of every bad row."""
    bad: list[tuple[int, str]] = []
    n_bad = 0

    def look(wrong: NDArray[np.bool_], column: str, expected: str) -> None:
        nonlocal n_bad
        rows = np.flatnonzero(wrong)
        n_bad += rows.size
        found = columns[column]
        for row in rows[:SHOWN_PROBLEMS].tolist():
            value = found.names[found.codes[row]]
            bad.append((row, f"{column}: expected {expected}, found {value or 'nothing'}"))

    for name in ("criterion", "rater_id", "prompt_id", "system_a", "system_b"):
        if name in columns and "" in columns[name].names:
            hint = ", or none where there is none" if name in ("rater_id", "prompt_id") else ""
            look(columns[name].codes == columns[name].names.index(""), name, f"a name{hint}")
    empty = np.array([not name for name in columns["system_a"].names])[columns["system_a"].codes]
    look(same & ~empty, "system_b", "another system than system_a")
    look(np.isnan(outcomes), "winner", "a, b or tie")
    if sides is not None:
        look(np.isnan(sides), "left", "a or b")
    if bad:
        shown = sorted(bad)[:SHOWN_PROBLEMS]
        places = lines.name([row for row, _ in shown])
        texts = [f"{place}: {text}" for place, (_, text) in zip(places, shown, strict=True)]
        raise VotesFileError(texts, n_bad - len(texts))
