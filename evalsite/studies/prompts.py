"""Prompts from a file: TSV, CSV, TXT or JSONL, filtered, and drawn by a seed.

Nothing here knows Django: a path and settings come in, rows or a readable error go out.
"""

import csv
import hashlib
import io
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from evalsite.studies.wording import counted

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_PROMPT_LENGTH = 4000
MAX_NAME_LENGTH = 80  # of a category or a challenge
TEXT_NAMES = ("prompt", "text")  # what a text column is usually called
SHOWN_PROBLEMS = 20

Filters = Mapping[str, Sequence[str]]
Share = Literal["proportional", "equal"]


class PromptFileError(ValueError):
    """A prompt file cannot be used as asked. `problems` lists all that was found."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        shown = self.problems[:SHOWN_PROBLEMS]
        if len(self.problems) > len(shown):
            shown.append(f"... and {len(self.problems) - len(shown)} more")
        super().__init__("\n".join(shown))


@dataclass(frozen=True)
class PromptRow:
    """One prompt as the file gives it; `line` counts from 1, `columns` holds every cell."""

    text: str
    category: str = ""
    challenge: str = ""
    line: int = 0
    columns: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class PromptQuery:
    """Which columns to read, which rows to keep, and how many to draw."""

    text: str = ""  # empty: the column called prompt or text
    category: str = ""  # empty: the column called category, if there is one
    challenge: str = ""
    include: Filters = field(default_factory=dict)
    exclude: Filters = field(default_factory=dict)
    draw: int | None = None
    stratify: str = ""
    share: Share = "proportional"


def read_prompts(path: Path, query: PromptQuery, *, seed: int) -> list[PromptRow]:
    """The rows that a study asks for: read, filtered, drawn. Raises PromptFileError."""
    rows = _parse(path, query)
    rows = _filter(path, rows, query)
    if query.draw is None:
        return rows
    if query.draw > len(rows):
        are = "is" if len(rows) == 1 else "are"
        left = f"only {counted(len(rows), 'prompt')} {are} left to draw from"
        raise PromptFileError([f"{path.name}: draw = {query.draw}, but {left}"])
    if query.stratify:
        return _draw_stratified(path, rows, query, query.draw, seed)
    return draw_order(rows, seed)[: query.draw]


def draw_order(rows: Iterable[PromptRow], seed: int) -> list[PromptRow]:
    """The rows in the seed's own order, which is that of sha256(seed, text).

    It does not depend on the order of lines in the file, and a longer draw begins with the
    shorter one.
    """

    def key(row: PromptRow) -> bytes:
        return hashlib.sha256(f"{seed}\n{row.text}".encode()).digest()

    return sorted(rows, key=key)


def allocate(sizes: Mapping[str, int], draw: int, share: Share) -> dict[str, int]:
    """How many to draw from each stratum.

    Proportional: each stratum's exact quota rounded down, and what is left over goes to the
    largest remainders (equal remainders: by name). It never asks a stratum for more than it
    has. Equal: the same number from each. Raises ValueError where that is impossible.
    """
    if share == "equal":
        each, left = divmod(draw, len(sizes))
        if left:
            raise ValueError(
                f"a draw of {draw} cannot be split evenly over {len(sizes)} strata; expected "
                f'a multiple of {len(sizes)}, or share = "proportional"'
            )
        short = [f"{name!r} has {size}" for name, size in sizes.items() if size < each]
        if short:
            raise ValueError(f"{each} are wanted from each stratum, but {', '.join(short)}")
        return dict.fromkeys(sizes, each)
    total = sum(sizes.values())
    counts = {name: draw * size // total for name, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda name: (-(draw * sizes[name] % total), name))
    for name in by_remainder[: draw - sum(counts.values())]:
        counts[name] += 1
    return counts


def _draw_stratified(
    path: Path, rows: list[PromptRow], query: PromptQuery, draw: int, seed: int
) -> list[PromptRow]:
    column = _known_column(path, rows, query.stratify, "stratify", query)
    strata: dict[str, list[PromptRow]] = {}
    for row in rows:
        strata.setdefault(_cell(row, column), []).append(row)
    if "" in strata:
        lines = ", ".join(str(row.line) for row in strata[""][:5])
        raise PromptFileError(
            [f"{path.name}: stratify = {query.stratify!r}: the column is empty on line {lines}"]
        )
    try:
        counts = allocate({name: len(of) for name, of in strata.items()}, draw, query.share)
    except ValueError as error:
        raise PromptFileError([f"{path.name}: stratify = {query.stratify!r}: {error}"]) from error
    drawn = [row for name, of in strata.items() for row in draw_order(of, seed)[: counts[name]]]
    return draw_order(drawn, seed)


def _filter(path: Path, rows: list[PromptRow], query: PromptQuery) -> list[PromptRow]:
    problems: list[str] = []
    kept = rows
    for word, filters in (("include", query.include), ("exclude", query.exclude)):
        for name, values in filters.items():
            try:
                column = _known_column(path, rows, name, word, query)
            except PromptFileError as error:
                problems += error.problems
                continue
            found = {_cell(row, column) for row in rows}
            problems += [
                f'{path.name}: {word}: no row has {column} "{value}"; found {_listed(found)}'
                for value in values
                if value not in found
            ]
            wanted = word == "include"
            kept = [row for row in kept if (_cell(row, column) in values) == wanted]
    if problems:
        raise PromptFileError(problems)
    if not kept:
        raise PromptFileError([f"{path.name}: no prompt is left after include and exclude"])
    return kept


def _known_column(
    path: Path, rows: list[PromptRow], name: str, setting: str, query: PromptQuery
) -> str:
    """The column's own name; `category` and `challenge` also stand for the columns chosen."""
    columns = rows[0].columns if rows else {}
    if name in columns or not rows:
        return name
    if name in ("category", "challenge"):
        chosen = _find_column(columns, getattr(query, name), (name,))
        if chosen:
            return chosen
    raise PromptFileError(
        [f'{path.name}: {setting}: there is no column "{name}"; found {_listed(columns)}']
    )


def _cell(row: PromptRow, column: str) -> str:
    return row.columns.get(column, "")


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(name or "(empty)" for name in names)
    return ", ".join(ordered[:30]) + (" ..." if len(ordered) > 30 else "") or "none"


# Reading


def _parse(path: Path, query: PromptQuery) -> list[PromptRow]:
    reader = {".tsv": _tsv, ".csv": _csv, ".txt": _txt, ".jsonl": _jsonl}.get(path.suffix.lower())
    if reader is None:
        raise PromptFileError(
            [f"{path.name}: expected a file ending in .tsv, .csv, .txt or .jsonl"]
        )
    text = _decode(path)
    problems: list[str] = []
    records = list(reader(text, problems))
    if not records and not problems:
        problems.append("expected at least one prompt, found none")
    if problems:
        raise PromptFileError([f"{path.name}: {problem}" for problem in problems])
    return _rows(path, records, query)


def _decode(path: Path) -> str:
    if not path.is_file():
        raise PromptFileError([f"{path.name}: there is no such file (looked for {path})"])
    if path.stat().st_size > MAX_FILE_BYTES:
        raise PromptFileError([f"{path.name}: expected at most {MAX_FILE_BYTES >> 20} MiB"])
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PromptFileError([f"{path.name}: cannot be read: {error.strerror}"]) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PromptFileError(
            [
                f"{path.name}: line {line}: expected UTF-8 text, "
                f"found the byte 0x{data[error.start]:02x}; save the file as UTF-8"
            ]
        ) from error


Record = tuple[int, dict[str, str]]


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their number. Only line ends split: U+2028 and its like are text."""
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if line.strip():
            yield number, line


def _tsv(text: str, problems: list[str]) -> Iterator[Record]:
    """Tabs separate, and every other character is text: quotes too, as in PartiPrompts."""
    yield from _table(((number, line.split("\t")) for number, line in _lines(text)), problems)


def _csv(text: str, problems: list[str]) -> Iterator[Record]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)

    def numbered() -> Iterator[tuple[int, list[str]]]:
        start = 1
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield start, cells
                start = reader.line_num + 1
        except csv.Error as error:
            problems.append(f"line {start}: expected CSV with quotes in pairs ({error})")

    yield from _table(numbered(), problems)


def _table(numbered: Iterator[tuple[int, list[str]]], problems: list[str]) -> Iterator[Record]:
    _, header = next(numbered, (0, []))
    header = [name.strip() for name in header]
    twice = [name for name, n in Counter(header).items() if n > 1]
    if twice:
        problems.append(f'line 1: expected every column name once, found "{twice[0]}" twice')
        return
    for number, cells in numbered:
        if len(cells) > len(header):
            columns = counted(len(header), "column")
            problems.append(f"line {number}: expected {columns}, found {len(cells)}")
            continue
        padded = cells + [""] * (len(header) - len(cells))
        yield number, dict(zip(header, (cell.strip() for cell in padded)))


def _txt(text: str, problems: list[str]) -> Iterator[Record]:
    for number, line in _lines(text):
        yield number, {"text": line.strip()}


def _jsonl(text: str, problems: list[str]) -> Iterator[Record]:
    for number, line in _lines(text):
        try:
            record = json.loads(line)
        except ValueError:
            problems.append(f"line {number}: expected one JSON object on the line")
            continue
        if not isinstance(record, dict):
            problems.append(f"line {number}: expected a JSON object, found {_kind(record)}")
            continue
        yield (
            number,
            {
                name: "" if value is None else str(value).strip()
                for name, value in record.items()
                if value is None or isinstance(value, str | int | float)
            },
        )


def _kind(value: object) -> str:
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, list) else "a bare value"


def _rows(path: Path, records: list[Record], query: PromptQuery) -> list[PromptRow]:
    """Records into rows: columns found, texts checked, duplicates refused."""
    names: dict[str, None] = {name: None for _, cells in records for name in cells}
    text, category, challenge = _columns(path, names, query)
    problems: list[str] = []
    seen: dict[str, int] = {}
    rows = []
    for line, cells in records:
        row = PromptRow(
            text=cells.get(text, ""),
            category=cells.get(category, "") if category else "",
            challenge=cells.get(challenge, "") if challenge else "",
            line=line,
            columns={name: cells.get(name, "") for name in names},
        )
        problem = _problem(row, seen)
        if problem:
            problems.append(f'{path.name}: line {line}, column "{text}": {problem}')
        problems += [
            f'{path.name}: line {line}, column "{column}": {problem}'
            for column in (category, challenge)
            if column and (problem := _name_problem(cells.get(column, "")))
        ]
        seen.setdefault(row.text, line)
        rows.append(row)
    if problems:
        raise PromptFileError(problems)
    return rows


def _columns(path: Path, names: Mapping[str, None], query: PromptQuery) -> tuple[str, str, str]:
    """The columns that hold text, category and challenge, or every problem in finding them."""
    problems = []
    found = []
    for setting, usual in (
        ("text", TEXT_NAMES),
        ("category", ("category",)),
        ("challenge", ("challenge",)),
    ):
        asked = getattr(query, setting)
        column = _find_column(names, asked, usual)
        if asked and not column:
            problems.append(
                f'{path.name}: {setting} = "{asked}": there is no such column; '
                f"found {_listed(names)}"
            )
        elif setting == "text" and not column:
            problems.append(
                f'{path.name}: expected a column "Prompt" or "text", or `text = "NAME"` in the '
                f"study file; found {_listed(names)}"
            )
        found.append(column)
    if problems:
        raise PromptFileError(problems)
    return found[0], found[1], found[2]


def _find_column(names: Iterable[str], asked: str, usual: Sequence[str]) -> str:
    """The column asked for by its exact name, else the one with a usual name in any case."""
    if asked:
        return asked if asked in names else ""
    by_lower = {name.lower(): name for name in names}
    return next((by_lower[name] for name in usual if name in by_lower), "")


def _problem(row: PromptRow, seen: Mapping[str, int]) -> str:
    if not row.text:
        return "expected a prompt, found nothing"
    if len(row.text) > MAX_PROMPT_LENGTH:
        return f"expected at most {MAX_PROMPT_LENGTH} characters, found {len(row.text)}"
    if row.text in seen:
        return f"the same prompt stands on line {seen[row.text]}; each may stand once"
    return control_problem(row.text)


def _name_problem(name: str) -> str:
    """Of a category or a challenge."""
    if len(name) > MAX_NAME_LENGTH:
        return f"expected at most {MAX_NAME_LENGTH} characters, found {len(name)}"
    return control_problem(name)


def control_problem(text: str) -> str:
    """What is wrong with a text that holds a control character other than tabs and line ends, or
    half a surrogate pair, as JSON may; "" where none is there. Not every database stores them, and
    no reader means one."""
    bad = next((c for c in text if _is_unwritable(c)), "")
    if not bad:
        return ""
    what = "half a character," if unicodedata.category(bad) == "Cs" else "the control character"
    return f"expected text, found {what} U+{ord(bad):04X}"


def _is_unwritable(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n\r"
