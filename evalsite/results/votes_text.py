"""A file of votes as columns of text, and where each row stands in it: CSV, TSV, JSONL, Parquet."""

import codecs
import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import polars as pl

SHOWN_PROBLEMS = 20


class VotesFileError(ValueError):
    """A file of votes cannot be used. `problems` lists what was found, a line each."""

    def __init__(self, problems: Sequence[str], n_more: int = 0) -> None:
        self.problems = list(problems)
        more = [f"... and {n_more} more"] if n_more else []
        super().__init__("\n".join([*self.problems, *more]))


def read_columns(path: Path) -> pl.DataFrame:
    """Every column of the file as text, under the file's own names. Raises VotesFileError."""
    readers = {
        ".csv": _read_separated,
        ".tsv": _read_separated,
        ".jsonl": _read_jsonl,
        ".ndjson": _read_jsonl,
        ".parquet": _read_parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        endings = ", ".join(readers)
        raise VotesFileError(
            [f"{path.name or path}: expected a file that ends in one of {endings}"]
        )
    try:
        frame = reader(path)
    except OSError as error:
        raise VotesFileError([f"{path.name}: cannot be read: {error.strerror or error}"]) from error
    except pl.exceptions.NoDataError as error:
        raise VotesFileError([f"{path.name}: holds no votes"]) from error
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise VotesFileError(list(_unreadable(path, error))) from error
    _check_names(frame.columns, path)
    if frame.is_empty():
        raise VotesFileError([f"{path.name}: holds no votes"])
    return frame


def _read_separated(path: Path) -> pl.DataFrame:
    _check_head(path)
    frame = _as_text(pl.read_csv(path, separator=_separator(path), infer_schema=False))
    return frame.filter(pl.any_horizontal(pl.all() != ""))  # an empty line is no vote


def _check_head(path: Path) -> None:
    """Refuse what would be read, but not as it was meant: two columns of one name, UTF-16."""
    with path.open("rb") as file:
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise VotesFileError([f"{path.name}: expected UTF-8 text, found UTF-16"])
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        head = next(csv.reader(text, delimiter=_separator(path)), [])
    _check_names(head, path)


def _check_names(names: Sequence[str], path: Path) -> None:
    plain = [name.strip().lower() for name in names]
    twice = sorted({name for name in plain if name and plain.count(name) > 1})
    if twice:
        raise VotesFileError([f"{path.name}: two columns are called {name}" for name in twice])


def _separator(path: Path) -> str:
    """A tab in TSV; in CSV a comma, or the semicolon that some spreadsheets write."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    with path.open("rb") as file:
        head = file.readline()
    return ";" if b";" in head and b"," not in head else ","


def _read_jsonl(path: Path) -> pl.DataFrame:
    with path.open("rb") as file:  # polars takes a byte order mark for a part of the first row
        source = io.BytesIO(file.read()) if file.read(3) == codecs.BOM_UTF8 else path
    return _as_text(pl.read_ndjson(source, infer_schema_length=None))


def _read_parquet(path: Path) -> pl.DataFrame:
    return _as_text(pl.read_parquet(path))


def _as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Lists, records and bytes are passed over: no vote is written with them."""
    plain = [
        name for name, kind in frame.schema.items() if not kind.is_nested() and kind != pl.Binary
    ]
    numbers = [name for name in plain if frame.schema[name].is_float()]
    frame = frame.with_columns(pl.col(numbers).fill_nan(None))  # a hole in a table, and no name
    return frame.select(pl.col(plain).cast(pl.String).fill_null(""))


def _unreadable(path: Path, error: Exception) -> Iterator[str]:
    """Where a text file breaks off its form: the line, found by reading it once more, slowly."""
    if path.suffix.lower() == ".parquet":
        yield f"{path.name}: expected a Parquet file: {str(error).splitlines()[0]}"
        return
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as broken:
        line = data.count(b"\n", 0, broken.start) + 1
        yield f"{path.name}: line {line}: expected UTF-8 text"
        return
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        found = list(_broken_json(text))
    else:
        found = list(_broken_rows(text, _separator(path))) or list(_lone_quotes(text))
    for line, reason in found[:SHOWN_PROBLEMS]:
        yield f"{path.name}: line {line}: {reason}"
    if not found:
        yield f"{path.name}: {str(error).splitlines()[0]}"


def _broken_rows(text: str, separator: str) -> Iterator[tuple[int, str]]:
    rows = csv.reader(text.splitlines(keepends=True), delimiter=separator)
    width = len(next(rows, []))
    last = rows.line_num
    for row in rows:
        if row and len(row) != width:
            goes_on = f" up to line {rows.line_num}: is a quote left open?"
            several = goes_on * (rows.line_num > last + 1)
            yield last + 1, f"expected {width} cells, found {len(row)}{several}"
        last = rows.line_num


def _lone_quotes(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.count('"') % 2:
            yield number, 'expected each " inside a cell doubled, and the cell in quotes'


def _broken_json(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            row = json.loads(line, parse_constant=_no_number) if line.strip() else {}
        except json.JSONDecodeError as error:
            yield number, f"expected JSON: {error.msg}"
        else:
            if not isinstance(row, dict):
                yield number, "expected an object"


def _no_number(word: str) -> NoReturn:
    raise json.JSONDecodeError(f"{word} is no number of JSON", word, 0)


class Lines:
    """The line of a row in its file, for messages; read only when there is something to say."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def name(self, rows: Sequence[int]) -> list[str]:
        """How to call these rows, given in ascending order from 0."""
        suffix = self.path.suffix.lower()
        if suffix == ".parquet":
            return [f"{self.path.name}: row {row + 1}" for row in rows]
        lines = self._of_json() if suffix in (".jsonl", ".ndjson") else self._of_separated()
        found = dict.fromkeys(rows, 0)
        for row, line in enumerate(lines):
            if row in found:
                found[row] = line
            if row >= rows[-1]:
                break
        return [f"{self.path.name}: line {found[row]}" for row in rows]

    def _of_json(self) -> Iterator[int]:
        with self.path.open(encoding="utf-8-sig") as file:
            yield from (number for number, line in enumerate(file, start=1) if line.strip())

    def _of_separated(self) -> Iterator[int]:
        """The first line of each row: a quoted cell may hold line breaks."""
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=_separator(self.path))
            next(reader, None)
            last = reader.line_num
            for row in reader:
                if any(row):
                    yield last + 1
                last = reader.line_num
