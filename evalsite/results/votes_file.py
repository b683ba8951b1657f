"""Votes from elsewhere: a CSV, TSV, JSONL or Parquet file, checked whole before it is used.

Nothing here knows a database: a path comes in, numbered columns or a readable error go out.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from evalsite.results.summary import Column, Rows
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
    "simulated": ("simulated",),
}
# Columns of whole numbers in a study's own votes.csv, with the least that each may hold. They are
# read where that study's report says what they count.
OWN_COLUMNS = {"n_given": 1, "response_ms": 0}
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
AMBIGUOUS = -1.0  # what such a word says where it is also the name of the other system
TRUTHS = {
    **dict.fromkeys(("true", "yes", "1"), 1.0),
    **dict.fromkeys(("false", "no", "0", *NO_LABELS), 0.0),
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
    simulated: NDArray[np.bool_] | None  # whether a program gave the vote
    counts: Mapping[str, NDArray[np.int64]]  # OWN_COLUMNS by name, of a study's own votes
    unused: tuple[str, ...]  # columns of the file that say nothing here

    def __len__(self) -> int:
        return self.outcomes.size

    def rows(self, kept: Rows) -> "VoteTable":
        """Some of the votes, or all in another order."""

        def of(column: Any) -> Any:
            match column:
                case Column():
                    return column.rows(kept)
                case np.ndarray():
                    return column[kept]
                case dict():
                    return {name: of(values) for name, values in column.items()}
            return column

        return VoteTable(**{field.name: of(getattr(self, field.name)) for field in fields(self)})

    def only(self, criterion: str) -> "VoteTable":
        """The votes of one criterion, and the systems that they compare."""
        part = self.rows(self.criterion == self.criteria.index(criterion))
        kept = np.union1d(part.first, part.second)
        return replace(
            part,
            criteria=(criterion,),
            systems=tuple(self.systems[i] for i in kept.tolist()),
            criterion=np.zeros(len(part), dtype=np.intp),
            first=np.searchsorted(kept, part.first),
            second=np.searchsorted(kept, part.second),
        )


def read_votes(
    path: Path, *, a_is_left: bool = False, are_own: bool = False
) -> tuple[VoteTable, str]:
    """The votes of a file, and the sha256 of its bytes. Raises VotesFileError.

    are_own : the file is a study's own votes.csv, and has OWN_COLUMNS as well.
    """
    table = number_votes(read_columns(path), Lines(path), a_is_left=a_is_left, are_own=are_own)
    with path.open("rb") as file:
        return table, hashlib.file_digest(file, "sha256").hexdigest()


# Checking and numbering


def number_votes(
    frame: pl.DataFrame, lines: Lines, *, a_is_left: bool = False, are_own: bool = False
) -> VoteTable:
    """Text columns as numbers, every row checked. Raises VotesFileError with all that is wrong."""
    theirs = _find_columns(frame.columns, lines.path.name, are_own)
    unused = tuple(name for name in frame.columns if name not in theirs.values())
    columns = {ours: number(frame[name]) for ours, name in theirs.items()}
    del frame  # the text takes much more room than its numbers
    first, second, systems = _merge(columns["system_a"], columns["system_b"])
    names = () if are_own else systems  # a study's own file never names a winner
    outcomes = _meaning(columns["winner"], WINNERS, first, second, names)
    sides = simulated = None
    if "left" in columns:
        sides = _meaning(columns["left"], LEFTS, first, second, names)
    if "simulated" in columns:
        simulated = _values(columns["simulated"], TRUTHS)
    counts = {name: _counts(columns[name]) for name in OWN_COLUMNS if name in columns}
    _refuse_bad_rows(columns, first == second, outcomes, sides, simulated, counts, lines)
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
        a_on_left=_as_sides(sides, first.size, lines, a_is_left=a_is_left),
        categories=_labels(columns.get("category")),
        challenges=_labels(columns.get("challenge")),
        rater_groups=_labels(columns.get("rater_group")),
        simulated=_as_truths(simulated),
        counts=counts,
        unused=unused,
    )


def _find_columns(names: Sequence[str], file: str, are_own: bool) -> dict[str, str]:
    """Our name -> the file's own, for every column that is there."""
    by_lower = {name.strip().lower(): name for name in reversed(names)}
    own = {name: (name,) for name in OWN_COLUMNS if are_own}
    found, twice = {}, []
    for ours, spellings in (COLUMNS | own).items():
        known = [by_lower[spelling] for spelling in spellings if spelling in by_lower]
        if known:
            found[ours] = known[0]
        # `prompt` beside `prompt_id` is its text, and not another name of it.
        known = [name for name in known if f"{name.strip().lower()}_id" not in by_lower]
        if len(known) > 1:
            twice.append(f"{' and '.join(known)} are both read as {ours}: leave one out")
    if twice:
        raise VotesFileError([f"{file}: columns {problem}" for problem in twice])
    required = [(name, COLUMNS[name]) for name in REQUIRED]
    missing = [" or ".join(words) for name, words in (*required, *own.items()) if name not in found]
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


def _counts(column: Column) -> NDArray[np.int64]:
    """Whole numbers; -1 where there is none."""
    is_one = [name.isascii() and name.isdigit() and len(name) < 16 for name in column.names]
    values = [int(name) if good else -1 for name, good in zip(column.names, is_one, strict=True)]
    return np.array(values, dtype=np.int64)[column.codes]


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

    A word is one of `words`, in any case, or the name of one of the row's two systems; AMBIGUOUS
    where it is both and they say different things.
    """
    values = _values(column, words)
    place = {name: i for i, name in enumerate(systems) if name}
    is_name = np.array([name in place or name.lower() not in words for name in column.names])
    rows = np.flatnonzero(is_name[column.codes])
    named = np.array([place.get(name, -1) for name in column.names])[column.codes[rows]]
    for system, value in ((first, 1.0), (second, 0.0)):
        own = rows[named == system[rows]]
        values[own] = np.where(np.isnan(values[own]) | (values[own] == value), value, AMBIGUOUS)
    return values


def _as_sides(
    sides: Floats | None, n_votes: int, lines: Lines, *, a_is_left: bool
) -> NDArray[np.bool_] | None:
    if a_is_left and sides is not None:
        against = np.flatnonzero(sides != 1)
        if against.size:
            (place,) = lines.name([int(against[0])])
            raise VotesFileError(
                [f"{place}: left: expected a on every row, as --a-is-left says, found b"],
                against.size - 1,
            )
    if a_is_left:
        return np.ones(n_votes, dtype=bool)
    return _as_truths(sides)


def _values(column: Column, words: Mapping[str, float]) -> Floats:
    """What each row's word says, in any case; NaN where it is none of these."""
    values = [words.get(name.lower(), np.nan) for name in column.names]
    return np.array(values, dtype=np.float64)[column.codes]  # of True and False alone, too


def _as_truths(values: Floats | None) -> NDArray[np.bool_] | None:
    return None if values is None else values == 1


def _refuse_bad_rows(
    columns: Mapping[str, Column],
    same: NDArray[np.bool_],
    outcomes: Floats,
    sides: Floats | None,
    simulated: Floats | None,
    counts: Mapping[str, NDArray[np.int64]],
    lines: Lines,
) -> None:
    """Raises VotesFileError that names the line, column and reason of every bad row."""
    bad = _BadRows(columns)
    for name in ("criterion", "rater_id", "prompt_id", "system_a", "system_b"):
        if name in columns and "" in columns[name].names:
            hint = ", or none where there is none" if name in ("rater_id", "prompt_id") else ""
            bad.look(columns[name].codes == columns[name].names.index(""), name, f"a name{hint}")
    empty = np.array([not name for name in columns["system_a"].names])[columns["system_a"].codes]
    bad.look(same & ~empty, "system_b", "another system than system_a")
    bad.look(np.isnan(outcomes), "winner", "a, b or tie")
    bad.look(outcomes == AMBIGUOUS, "winner", "a word that cannot also mean another system")
    if sides is not None:
        bad.look(np.isnan(sides), "left", "a, b or the name of one of the two systems")
        bad.look(sides == AMBIGUOUS, "left", "a word that cannot also mean another system")
    if simulated is not None:
        bad.look(np.isnan(simulated), "simulated", "true or false")
    for name, least in OWN_COLUMNS.items():
        if name in counts:
            bad.look(counts[name] < least, name, f"a whole number of at least {least}")
    _look_for_contradictions(columns, bad)
    bad.refuse(lines)


class _BadRows:
    """What is wrong with rows, to be told all at once."""

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self.columns = columns
        self.found: list[tuple[int, str, int]] = []  # row, what is wrong, the row it goes against
        self.n = 0

    def look(self, wrong: NDArray[np.bool_], column: str, expected: str) -> None:
        """Rows whose value is none of those expected."""
        for row in self._some(wrong):
            value = self.value(column, row) or "nothing"
            self.found.append((row, f"{column}: expected {expected}, found {value}", row))

    def compare(self, wrong: NDArray[np.bool_], column: str, like: Codes, whose: str) -> None:
        """Rows with another value than the row `like`, which has the same `whose`."""
        for row in self._some(wrong):
            other = int(like[row])
            one = f"{whose.removesuffix('_id')} {self.value(whose, row)}"
            expected = self.value(column, other)
            text = f"found {self.value(column, row)} for {one}, expected {expected}"
            self.found.append((row, f"{column}: {text} as on", other))

    def value(self, column: str, row: int) -> str:
        found = self.columns[column]
        return found.names[int(found.codes[row])]

    def _some(self, wrong: NDArray[np.bool_]) -> list[int]:
        rows: list[int] = np.flatnonzero(wrong).tolist()
        self.n += len(rows)
        return rows[:SHOWN_PROBLEMS]

    def refuse(self, lines: Lines) -> None:
        """Raises VotesFileError that names the line, column and reason of every bad row."""
        if not self.found:
            return
        shown = sorted(self.found)[:SHOWN_PROBLEMS]
        rows = sorted({row for found in shown for row in (found[0], found[2])})
        places = dict(zip(rows, lines.name(rows), strict=True))
        texts = [
            f"{places[row]}: {text}" + ("" if like == row else places[like].rpartition(":")[2])
            for row, text, like in shown
        ]
        raise VotesFileError(texts, self.n - len(texts))


def _look_for_contradictions(columns: Mapping[str, Column], bad: _BadRows) -> None:
    """A slice is a property of prompts, or else of raters: under one criterion it must not change
    from row to row of both. Where it does, the rows are told of what it is usually a property of.
    Where raters or prompts are not known it may be a property of theirs."""
    known = {name: _labels(columns.get(name)) for name in ("prompt_id", "rater_id")}
    prompts, raters = known["prompt_id"], known["rater_id"]
    if prompts is None or raters is None:
        return
    criterion = columns.get("criterion")
    asked = criterion.codes if criterion else np.zeros(prompts.codes.size, dtype=np.intp)
    for name in ("category", "challenge", "rater_group"):
        labels = _labels(columns.get(name))
        if labels is None:
            continue
        of_prompt = _first_alike(asked, prompts, labels)
        of_rater = _first_alike(asked, raters, labels)
        differing = [labels.codes != labels.codes[like] for like in (of_prompt, of_rater)]
        in_both = np.intersect1d(*(asked[differs] for differs in differing))
        like, differs, whose = (of_prompt, differing[0], "prompt_id")
        if name == "rater_group":
            like, differs, whose = (of_rater, differing[1], "rater_id")
        bad.compare(differs & np.isin(asked, in_both), name, like, whose)


def _first_alike(asked: Codes, carriers: Column, labels: Column) -> Codes:
    """For each row the first that has a label, of the same criterion and carrier; itself where
    carrier or label is not known."""
    first = np.arange(asked.size)
    rows = np.flatnonzero((carriers.codes != UNLABELLED) & (labels.codes != UNLABELLED))
    keys = asked[rows].astype(np.intp) * len(carriers.names) + carriers.codes[rows]
    place = np.empty(int(keys.max()) + 1 if keys.size else 0, dtype=np.intp)
    place[keys[::-1]] = rows[::-1]
    first[rows] = place[keys]
    return first
