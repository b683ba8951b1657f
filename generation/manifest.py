"""Images that others made: a folder of files with a manifest, one line an image.

The manifest is `metadata.jsonl` or `metadata.csv`, as in an imagefolder of the hub. It is read
whole, every problem is listed with its line, and nothing is taken from one that has any.
"""

import csv
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from generation.encoding import PictureError, file_sha256, open_picture
from generation.spec import MAX_SEED

NAMES = ("metadata.jsonl", "metadata.csv")
REQUIRED = ("file_name", "prompt", "system", "sample")
OPTIONAL = ("seed", "sha256", "recipe", "source", "licence")
MAX_ROWS = 200_000
MAX_LINE = 100_000  # characters
MAX_PROBLEMS = 200
MAX_SHOWN = 200  # characters of a value in a problem
DRIVE = re.compile("[A-Za-z]:")
KEY = re.compile("[a-z0-9][a-z0-9_-]{0,59}")  # of a system, as in a study file
A_KEY = "a key of small letters, digits, - and _, at most 60"


class ManifestError(ValueError):
    """A manifest that cannot be taken, with every problem found."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = [printable(problem) for problem in problems]
        super().__init__("\n".join(self.problems))


def printable(text: str) -> str:
    """Names of files and texts of others may hold what moves a terminal's cursor, or no text."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@dataclass(frozen=True)
class ImportedImage:
    """One line of a manifest, checked."""

    line: int
    path: Path
    file_name: str
    prompt: str
    system: str
    sample: int
    seed: int  # the sample's number where the manifest names none
    sha256: str  # of the file as it came
    size: tuple[int, int]  # width and height in pixels
    recipe: str = ""  # how it was made, in the words of whoever made it
    source: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Manifest:
    """A folder of images from elsewhere, all of them readable."""

    path: Path
    images: tuple[ImportedImage, ...]

    @property
    def systems(self) -> tuple[str, ...]:
        """Systems in the order in which they first appear."""
        return tuple(dict.fromkeys(image.system for image in self.images))

    def of_system(self, system: str) -> tuple[ImportedImage, ...]:
        """The images of one system, in the manifest's order."""
        return tuple(image for image in self.images if image.system == system)

    def revision(self, system: str) -> str:
        """`sha256:` and the hash of what one system answers: prompts, samples, seeds and files."""
        total = hashlib.sha256()
        for image in sorted(self.of_system(system), key=lambda one: (one.prompt, one.sample)):
            total.update(json.dumps([image.prompt, image.sample, image.seed]).encode())
            total.update(f"\0{image.sha256}\n".encode())
        return f"sha256:{total.hexdigest()}"


def read_manifest(folder: Path) -> Manifest:
    """Read and check a folder's manifest and every file it lists.

    Raises ManifestError, which lists all problems; nothing is half taken.
    """
    found = [folder / name for name in NAMES if (folder / name).is_file()]
    if len(found) != 1:
        what = "both are there" if found else "neither is there"
        raise ManifestError([f"{folder}: expected one of {' or '.join(NAMES)}, {what}"])
    path = found[0]
    images, problems = check_rows(
        folder, raw_rows(path), name=path.name, place=lambda line: f"{path.name} line {line}"
    )
    if problems:
        raise ManifestError(listed(problems))
    return Manifest(path, images)


def check_rows(
    folder: Path, rows: Iterable[tuple[int, Any]], *, name: str, place: Callable[[int], str]
) -> tuple[tuple[ImportedImage, ...], list[str]]:
    """Rows by their line, each checked with the file that it names: those that are well, and
    every problem of the others.

    `place` says in words where a line stands, `name` where all of them do.
    """
    problems, images = list[str](), list[ImportedImage]()
    for n_rows, (line, row) in enumerate(rows, 1):
        if n_rows > MAX_ROWS:
            problems.append(f"{name}: more than {MAX_ROWS:,} rows, split it")
            break
        try:
            images.append(_read_row(folder, line, row))
        except ManifestError as error:
            problems += [f"{place(line)}: {problem}" for problem in error.problems]
    problems += _repeats(images, place)
    if not images and not problems:
        problems.append(f"{name}: no rows")
    return tuple(images), problems


def listed(problems: list[str]) -> list[str]:
    """As many problems as anybody reads, and how many more there are."""
    more = len(problems) - MAX_PROBLEMS
    return problems[:MAX_PROBLEMS] + [f"and {more} more"] * (more > 0)


def write_manifest(folder: Path, images: Iterable[ImportedImage], *, replace: bool = False) -> Path:
    """Write a folder's manifest whole or not at all: to the side, then moved into place.

    Files are named with their hashes, so that a change is noticed. One that is there already is
    kept, and FileExistsError raised, unless it is to be replaced.
    """
    path = folder / NAMES[0]
    lines = [json.dumps(_as_row(image), ensure_ascii=False) + "\n" for image in images]
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".new-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        if path.exists() and not replace:
            raise FileExistsError(f"{path} is there already")
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def _as_row(image: ImportedImage) -> dict[str, Any]:
    row = {name: getattr(image, name) for name in (*REQUIRED, "sha256")}
    if image.seed != image.sample:
        row["seed"] = image.seed
    return row | {name: text for name in OPTIONAL[2:] if (text := getattr(image, name))}


def raw_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Line numbers and raw rows, or the problem in place of a row."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".jsonl":
                for line, text in enumerate(file, 1):
                    if text.strip():
                        yield line, _json_row(text)
            else:
                reader = csv.DictReader(file, strict=True)
                for row in reader:
                    yield reader.line_num, row
    except UnicodeDecodeError as error:
        raise ManifestError([f"{path.name}: expected UTF-8 text, {error}"]) from error
    except csv.Error as error:
        raise ManifestError([f"{path.name}: not readable as CSV: {error}"]) from error


def _json_row(text: str) -> Any:
    if len(text) > MAX_LINE:
        return f"longer than {MAX_LINE:,} characters"
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of too many digits among them
        return f"not a JSON object: {error}"
    return row if isinstance(row, dict) else "expected a JSON object"


def _read_row(folder: Path, line: int, row: Any) -> ImportedImage:
    if isinstance(row, str):
        raise ManifestError([row])
    problems = _column_problems(row)
    if problems:
        raise ManifestError(problems)
    texts = {name: _text(row, name, problems) for name in REQUIRED + OPTIONAL}
    if texts["system"] and not KEY.fullmatch(texts["system"]):
        problems.append(f"system: expected {A_KEY}, got {shown(texts['system'])}")
    sample = _number(row, "sample", problems) or 0
    seed = _number(row, "seed", problems)
    path = _inside(folder, texts["file_name"], problems) if texts["file_name"] else None
    sha256, size = _check_file(path, texts["sha256"], problems) if path else ("", (0, 0))
    if problems or path is None:
        raise ManifestError(problems)
    return ImportedImage(
        line=line,
        path=path,
        file_name=texts["file_name"],
        prompt=texts["prompt"],
        system=texts["system"],
        sample=sample,
        seed=sample if seed is None else seed,
        sha256=sha256,
        size=size,
        recipe=texts["recipe"],
        source=texts["source"],
        licence=texts["licence"],
    )


def _column_problems(row: dict[Any, Any]) -> list[str]:
    known = REQUIRED + OPTIONAL
    problems = [
        "more cells than columns"
        if name is None
        else f"unknown column {name!r}, expected "
        f"{', '.join(REQUIRED)} and perhaps {', '.join(OPTIONAL)}"
        for name in row
        if name not in known
    ]
    return problems + [f"{name}: missing" for name in REQUIRED if row.get(name) in (None, "")]


def _text(row: dict[str, Any], name: str, problems: list[str]) -> str:
    value = row.get(name)
    if value is None or name in ("sample", "seed"):
        return ""
    if not isinstance(value, str) or "\0" in value or not _is_utf8(value):
        problems.append(f"{name}: expected text, got {shown(value)}")
        return ""
    return value


def _is_utf8(text: str) -> bool:
    """Half a surrogate pair is none: it comes out of JSON, and of file names in other codes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def link_problem(name: str) -> str:
    """The same words wherever a link is found, so that it is told once."""
    return f"{_cut_short(name)}: a symbolic link, expected the file itself"


def shown(value: Any) -> str:
    """A value as a problem shows it, whatever it is."""
    return _cut_short(repr(value))


def _cut_short(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def sample_of(row: dict[str, Any]) -> int | None:
    """The sample that a raw row names; None where it names none."""
    return _number(row, "sample", [])


def _number(row: dict[str, Any], name: str, problems: list[str]) -> int | None:
    value = row.get(name)
    if value is None or value == "":
        return None
    text = str(value)
    most = MAX_SEED if name == "seed" else 32767
    if isinstance(value, bool) or not (text.isascii() and text.isdigit()) or int(text[:20]) > most:
        problems.append(f"{name}: expected a whole number from 0 to {most}, got {value!r}")
        return None
    return int(text)


def _inside(folder: Path, name: str, problems: list[str]) -> Path | None:
    """The file that a row names, if it is a plain file below the folder and no link."""
    parts = PurePosixPath(name).parts
    if not name or name.startswith("/") or ".." in parts or "\\" in name or DRIVE.match(name):
        problems.append(f"file_name: expected a path below the folder, got {shown(name)}")
        return None
    path, told = folder.joinpath(*parts), _cut_short(name)
    steps = [folder.joinpath(*parts[: n + 1]) for n in range(len(parts))]
    try:
        if any(step.is_symlink() for step in steps):
            problems.append(f"file_name: {link_problem('/'.join(parts))}")
        elif not path.is_file():
            problems.append(f"file_name: {told} is not there")
        else:
            return path
    except OSError as error:  # a name too long for any file
        problems.append(f"file_name: {told} cannot be looked for: {error.strerror}")
    return None


def _check_file(path: Path, expected: str, problems: list[str]) -> tuple[str, tuple[int, int]]:
    """The file's sha256 and size, once it is what the row says and can be shown."""
    sha256 = file_sha256(path)
    if expected and expected.lower() != sha256:
        problems.append(f"sha256: {path.name} has {sha256}, the manifest says {expected}")
    try:
        return sha256, open_picture(path).size
    except PictureError as error:
        problems.append(f"file_name: {path.name}: {error}")
    return sha256, (0, 0)


def _repeats(images: list[ImportedImage], place: Callable[[int], str]) -> Iterator[str]:
    """One answer per prompt, system and sample, and no seed twice among them."""
    first: dict[tuple[str, str, str, int], int] = {}
    for image in images:
        for what in ("sample", "seed"):
            key = (what, image.prompt, image.system, getattr(image, what))
            if key in first:
                note = " (a row without a seed has its sample's number)" if what == "seed" else ""
                yield (
                    f"{place(image.line)}: prompt, system and {what} are those of "
                    f"{place(first[key])}{note}"
                )
                break
            first[key] = image.line
