"""A folder of images from elsewhere, made into one that a study file can name.

Whatever its layout, the outcome is our own manifest: beside the images, or beside copies of them.
Every problem is found first, and nothing is written where there is one.
"""

import difflib
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evalsite.studies.models import Study
from evalsite.studies.resolve import read_prompts_of
from evalsite.studies.spec import load_spec, names_a_file
from evalsite.studies.spec_problems import SpecError
from evalsite.studies.wording import counted
from generation.encoding import file_sha256
from generation.layouts import TABLES, Row, read_layout
from generation.manifest import (
    KEY,
    MAX_SHOWN,
    NAMES,
    ImportedImage,
    ManifestError,
    check_rows,
    listed,
    printable,
    sample_of,
    write_manifest,
)

N_HINTS = 20  # near prompts are looked for so often: it takes a while among thousands


@dataclass(frozen=True)
class Asked:
    """What a study, or its file, asks of images."""

    texts: tuple[str, ...]
    display_size: int
    may_enlarge: bool


@dataclass(frozen=True)
class Brought:
    """Images that are now described by a manifest."""

    layout: str
    folder: Path
    images: tuple[ImportedImage, ...]
    n_left: int  # of prompts that the study does not have
    is_written: bool  # False: the manifest was ours, and there already

    @property
    def systems(self) -> list[str]:
        return list(dict.fromkeys(image.system for image in self.images))


def asked_by(name: str) -> Asked:
    """What the study of this slug, file or preset asks. Raises ManifestError, SpecError."""
    if names_a_file(name):
        spec = load_spec(name)
        rows, _, problems = read_prompts_of(spec)
        if problems:
            raise SpecError(problems)
        texts = tuple(row.text for row in rows)
        return Asked(texts, spec.display.size, spec.display.upscaler is not None)
    study = Study.objects.filter(slug=name).first()
    if study is None:
        raise ManifestError(
            [f"there is no study {name}; name its slug, or its file (./{name}.toml)"]
        )
    texts = tuple(study.prompts.values_list("text", flat=True))
    return Asked(texts, study.display_size, bool(study.upscaler))


def bring(
    root: Path,
    *,
    layout: str = "",
    system: str = "",
    prompts: Path | None = None,
    asked: Asked | None = None,
    pick: bool = False,
    size: tuple[int, int] | None = None,
    out: Path | None = None,
    replace: bool = False,
) -> Brought:
    """Read a folder in any layout, check every image, and write the manifest.

    With `asked`, prompts must be the study's and every one answered by every system; with `pick`,
    images of other prompts are left out instead. `out` gets copies. Raises ManifestError with all
    problems; then nothing is written.
    """
    layout, rows, problems = read_layout(
        root, layout=layout, system=system, prompts=prompts, replace=replace
    )
    n_rows = len(rows)
    if pick and asked:
        rows = [row for row in rows if not _is_of_another_prompt(row, set(asked.texts))]
    ours = layout == "manifest" and out is None and len(rows) == n_rows
    if not ours:
        _check_place(root, layout, out, replace)
    if n_rows and not rows:
        problems.append(f"{root}: {counted(n_rows, 'image')}, none of a prompt of the study")
    if not rows:
        raise ManifestError(listed(problems))
    images, of_files = _checked(root, rows)
    problems = _without(problems, of_files)
    problems += of_files + [
        f"{image.file_name}: {_shape(image.size)} pixels, expected {_shape(size)}"
        for image in images
        if size and image.size != size
    ]
    if asked:
        problems += _against_study(images, rows, asked)
    if problems:
        raise ManifestError(listed(problems))
    if not ours and out is None:
        write_manifest(root, images, replace=replace)
    elif out is not None:
        _copy(images, out)
    return Brought(layout, out or root, images, n_rows - len(rows), is_written=not ours)


def _is_of_another_prompt(row: Row, texts: set[str]) -> bool:
    """A row whose prompt is missing, or no text, is none: that is a problem."""
    prompt = row.get("prompt")
    return isinstance(prompt, str) and bool(prompt) and prompt.strip() not in texts


def _shape(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _check_place(root: Path, layout: str, out: Path | None, replace: bool) -> None:
    """Before images are looked at, which takes time: is there a place for the manifest?"""
    there = [name for name in NAMES if (root / name).exists()]
    if out is None and there and not (replace and there == [NAMES[0]]):
        if layout in TABLES:
            told = "is where the prompts stand; name another folder with --out"
        else:
            told = "is there already; take it away, or name another folder with --out"
        raise ManifestError([f"{root / there[0]} {told}"])
    if out is not None and out.resolve().is_relative_to(root.resolve()):
        raise ManifestError([f"{out}: expected a folder outside {root}, which stays as it is"])
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ManifestError([f"{out}: expected a new or an empty folder for the copies"])


def _checked(root: Path, rows: Sequence[Row]) -> tuple[tuple[ImportedImage, ...], list[str]]:
    places = [_place(row, number) for number, row in enumerate(rows, 1)]
    return check_rows(
        root,
        enumerate(rows, 1),
        name=str(root),
        place=lambda number: places[number - 1],
    )


def _without(problems: Sequence[str], of_files: Sequence[str]) -> list[str]:
    """Problems by name, without those that the line of a row tells as well."""
    told = {problem.rpartition(": file_name: ")[2] for problem in of_files}
    return [problem for problem in problems if printable(problem) not in told]


def _place(row: Row, number: int) -> str:
    """Where a row stands, in words: a line where a file names the images, else the image."""
    name = str(row.get("file_name", ""))[:MAX_SHOWN]
    if row.line:
        return f"line {row.line}, {name}" if name else f"line {row.line}"
    return name or f"row {number}"


def _against_study(images: Sequence[ImportedImage], rows: Sequence[Row], asked: Asked) -> list[str]:
    """What the study lacks, or does not ask. A prompt whose file or sample is no good has its row,
    and its problem already."""
    texts = set(asked.texts)
    strange = [image for image in images if image.prompt.strip() not in texts]
    problems = [
        f'{image.file_name}: prompt "{image.prompt[:80]}" is none of the study\'s'
        + (_nearest(image.prompt, asked.texts) if number < N_HINTS else "")
        for number, image in enumerate(strange)
    ]
    if strange:
        problems.append("(images of prompts that the study does not have are left out by --pick)")
    named = [row.get("system") for row in rows]
    systems = dict.fromkeys(name for name in named if isinstance(name, str))
    for system in filter(KEY.fullmatch, systems):  # what is no key is a problem already
        own = [image for image in images if image.system == system]
        found = {
            str(row.get("prompt", "")).strip()
            for row in rows
            if row.get("system") == system and sample_of(row) in (0, None)
        }
        problems += [
            f'{system}: no image (sample 0) for prompt "{text[:80]}"'
            for text in asked.texts
            if text not in found
        ]
        problems += _repeated(own)
    if not asked.may_enlarge:
        problems += [
            f"{image.file_name}: {_shape(image.size)} pixels, below the study's display size of "
            f"{asked.display_size}; choose a smaller one or declare an upscaler"
            for image in images
            if max(image.size) < asked.display_size
        ]
    return problems


def _nearest(prompt: str, texts: Sequence[str]) -> str:
    near = difflib.get_close_matches(prompt.strip(), texts, n=1, cutoff=0.8)
    return f'; did you mean "{near[0][:80]}"?' if near else ""


def _repeated(images: Iterable[ImportedImage]) -> list[str]:
    """Prompts that differ by spaces around them only are one to a study."""
    first: dict[tuple[str, int], str] = {}
    problems = []
    for image in images:
        key = (image.prompt.strip(), image.sample)
        if key in first:
            problems.append(f"{image.file_name}: answers the same prompt as {first[key]}")
        first.setdefault(key, image.file_name)
    return problems


def _copy(images: Sequence[ImportedImage], out: Path) -> None:
    """Copies under plain names, and their manifest, made aside and moved into place whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=out.parent, prefix=".new-"))
    try:
        copies = []
        for number, image in enumerate(images):
            name = f"{image.system}/{number:06d}{image.path.suffix.lower()}"
            (aside / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(image.path, aside / name, follow_symlinks=False)
            if file_sha256(aside / name) != image.sha256:
                raise ManifestError([f"{image.file_name}: was changed while it was read"])
            copies.append(_renamed(image, name))
        write_manifest(aside, copies)
        aside.chmod(0o755)
        aside.replace(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _renamed(image: ImportedImage, name: str) -> ImportedImage:
    fields = {**vars(image), "file_name": name}
    fields["source"] = image.source or image.file_name  # where the copy came from
    return ImportedImage(**fields)
