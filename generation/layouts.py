"""Folders as other programs leave them, read into the rows of our own manifest.

What is read here are names and lists of prompts; `generation.manifest` looks at the files. A path
is never made from what a list says: the folder is walked, and no link is followed.
"""

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from generation.encoding import FORMATS
from generation.manifest import (
    A_KEY,
    KEY,
    MAX_ROWS,
    NAMES,
    REQUIRED,
    ManifestError,
    link_problem,
    listed,
    raw_rows,
    shown,
)

SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
OTHER_IMAGES = (".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".jxl", ".jfif", ".svg")
MAX_LIST_BYTES = 64 * 1024 * 1024
TEXT_COLUMNS = ("prompt", "text", "caption")
LOOKUP = "dataset_lookup.json"
NUMBERED = re.compile(r"(?P<prompt>.+)_(?P<number>\d{6,})\.png", re.IGNORECASE | re.DOTALL)
SAMPLED = re.compile(r"(?P<id>.+)_(?P<sample>\d{1,5})\.(png|jpe?g|webp)", re.IGNORECASE)


class Row(dict[str, Any]):
    """file_name, prompt, system, sample and perhaps the manifest's other columns."""

    line = 0  # in the file that names the images, where there is one

    def of(self, system: str) -> "Row":
        """The same row with the key of its system."""
        row = Row(self, system=system)
        row.line = self.line
        return row


@dataclass
class Folder:
    """A folder that somebody brings: the plain files in it, and what else was asked."""

    root: Path
    system: str = ""  # the key to use, or the one model to take
    prompts: Path | None = None  # a list of prompts, or a folder of them, where it lies elsewhere
    files: list[str] = field(default_factory=list)  # below the root, sorted
    problems: list[str] = field(default_factory=list)
    told: set[str] = field(default_factory=set)  # images that a problem is about already

    @property
    def images(self) -> list[str]:
        return [name for name in self.files if name.lower().endswith(SUFFIXES)]

    def walk(self) -> None:
        """List the files. A link, or something that is no file, is a problem by its name."""
        for here, folders, names in os.walk(self.root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted([*folders, *names]):
                path = Path(here, name)
                relative = path.relative_to(self.root).as_posix()
                if path.is_symlink():
                    self.problems.append(link_problem(relative))
                elif name in folders or name.startswith("."):
                    continue
                elif not path.is_file():
                    self.problems.append(f"{relative}: no plain file")
                elif name.lower().endswith(OTHER_IMAGES):
                    known = ", ".join(FORMATS)
                    self.problems.append(f"{relative}: expected one of {known}")
                else:
                    self.files.append(relative)
            folders[:] = [name for name in folders if not Path(here, name).is_symlink()]
            if len(self.files) > MAX_ROWS:
                raise ManifestError([f"{self.root}: more than {MAX_ROWS:,} files, split it"])

    def lists(self) -> list[Path]:
        """The JSON files that may hold prompts: where `prompts` says, else in the root."""
        place = self.prompts or self.root
        if place.is_file():
            return [place]
        return sorted(path for path in place.glob("*.json") if path.is_file())


Reader = Callable[[Folder], Iterator[Row]]


def read_layout(
    root: Path,
    *,
    layout: str = "",
    system: str = "",
    prompts: Path | None = None,
    replace: bool = False,
) -> tuple[str, list[Row], list[str]]:
    """The layout, as named or as found, a row for every image in it, and every problem with the
    file that it is about. With `replace`, a manifest of ours is not what the layout is found by.
    Raises ManifestError where no row can be told.
    """
    if not root.is_dir():
        raise ManifestError([f"{root}: there is no such folder"])
    if system and not KEY.fullmatch(system):
        raise ManifestError([f"system: expected {A_KEY}, got {system!r}"])
    if prompts is not None and not prompts.exists():
        raise ManifestError([f"{prompts}: there is no such file or folder of prompts"])
    folder = Folder(root, system, prompts)
    folder.walk()
    layout = layout or detect(folder, replace)
    rows = list(LAYOUTS[layout](folder))
    if layout == "manifest" and system:
        rows = [row for row in rows if _may_be_of(row, system)]
    taken = {str(row.get("file_name")) for row in rows} | folder.told
    if layout in STRICT:
        spare = [name for name in folder.images if name not in taken and not _is_grid(name)]
        folder.problems += [f"{name}: has no place in the layout {layout}" for name in spare]
    if not rows and not folder.problems:
        folder.problems.append(f"{root}: no image in the layout {layout}")
    if layout != "manifest":
        rows = list(_of_system(folder, rows))
    return layout, rows, folder.problems


def detect(folder: Folder, replace: bool = False) -> str:
    """The layout that the names in a folder speak of. Raises ManifestError where none does."""
    if any((folder.root / name).is_file() for name in NAMES):
        if not _is_ours(folder.root):
            return "imagefolder"
        if not replace:
            return "manifest"
    if any(re.fullmatch(r"\d+/metadata\.jsonl", name) for name in folder.files):
        return "geneval"
    if LOOKUP in folder.files or (folder.prompts and folder.prompts.name == LOOKUP):
        return "imagenhub"
    styles = {path.stem for path in folder.lists()}
    if any(
        re.fullmatch(r"[^/]+/\d{5}\.jpg", n) and n.split("/")[0] in styles for n in folder.files
    ):
        return "hpsv2"
    flat = [name for name in folder.images if name.count("/") == 0 or name.startswith("samples/")]
    if flat and all(NUMBERED.fullmatch(Path(name).name) or _is_grid(name) for name in flat):
        return "t2i-compbench"
    deep = [name for name in folder.images if name.count("/") == 1]
    if deep and styles and all(SAMPLED.fullmatch(Path(name).name) for name in deep):
        return "imagereward"
    raise ManifestError(
        [
            f"{folder.root}: its layout is not one that is known; name it with --layout "
            f"({', '.join(LAYOUTS)}), and with --prompts where the list of prompts lies elsewhere"
        ]
    )


def _is_ours(root: Path) -> bool:
    """Whether the manifest's first row names a prompt and a system: else it is somebody's own."""
    path = next(root / name for name in NAMES if (root / name).is_file())
    first = next((row for _, row in raw_rows(path)), None)
    return not isinstance(first, dict) or set(REQUIRED) <= set(first)


def _may_be_of(row: Row, system: str) -> bool:
    """Whether it is this system's row, or one whose system cannot be told: that is a problem."""
    named = row.get("system")
    return named == system or not isinstance(named, str) or not KEY.fullmatch(named)


def _is_grid(name: str) -> bool:
    """An overview that GenEval and T2I-CompBench write beside their samples."""
    return bool(re.search(r"(^|/)grid\.png$|-grid-\d+\.png$", name))


def _of_system(folder: Folder, rows: list[Row]) -> Iterator[Row]:
    """Rows with a key for a system: the model's folder made one, or the one that was asked for."""
    models = {row["system"] for row in rows}
    if models == {""}:
        if not folder.system:
            told = "system: this layout names none, give its key with --system"
            raise ManifestError(listed([told, *folder.problems]))
        yield from (row.of(folder.system) for row in rows)
        return
    keys = {model: key_of(model) for model in models}
    twice = [key for key, n in Counter(keys.values()).items() if n > 1 or not key]
    if twice:
        told = f"system: the folders {sorted(models)} do not give a key each, rename them"
        raise ManifestError(listed([told, *folder.problems]))
    chosen = {model for model, key in keys.items() if folder.system in ("", model, key)}
    if rows and not chosen:
        told = f"system: there is no {folder.system}, expected one of {keys}"
        raise ManifestError(listed([told, *folder.problems]))
    yield from (row.of(keys[row["system"]]) for row in rows if row["system"] in chosen)


def key_of(name: str) -> str:
    """A folder's name as a system's key: `SD v1.5` is `sd-v1-5`."""
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:60]


# The layouts.


def _manifest(folder: Folder) -> Iterator[Row]:
    yield from _table(folder)


def _imagefolder(folder: Folder) -> Iterator[Row]:
    """A hub's imagefolder: file_name, and the prompt in a column of a usual name.

    Without a column `sample`, the images of a prompt are numbered in the order of the file.
    """
    seen: Counter[tuple[str, str]] = Counter()
    for row in _table(folder):
        column = next((name for name in TEXT_COLUMNS if row.get(name)), "")
        if not column or not isinstance(row[column], str) or not row.get("file_name"):
            folder.problems.append(
                f"line {row.line} of the metadata: expected file_name and a prompt in one of "
                f"{', '.join(TEXT_COLUMNS)}, found {', '.join(map(str, row))}"
            )
            continue
        system = "" if row.get("system") is None else row["system"]
        if not isinstance(system, str):
            folder.problems.append(
                f"line {row.line} of the metadata: system: expected text, got {shown(system)}"
            )
            continue
        place = (system, row[column])
        found = _row(row["file_name"], row[column], system, row.get("sample"))
        if found["sample"] in (None, ""):
            found["sample"] = seen[place]
        found.update({name: row[name] for name in ("seed", "sha256", "licence") if row.get(name)})
        found.line = row.line
        yield found
        seen[place] += 1


def _table(folder: Folder) -> Iterator[Row]:
    found = [folder.root / name for name in NAMES if (folder.root / name).is_file()]
    if len(found) != 1:
        what = "both are there" if found else "neither is there"
        folder.problems.append(f"expected one of {' or '.join(NAMES)}, {what}")
        return
    for line, row in raw_rows(found[0]):
        if isinstance(row, dict):
            named = Row(row)
            named.line = line
            yield named
        else:
            folder.problems.append(f"{found[0].name} line {line}: {row}")


def _geneval(folder: Folder) -> Iterator[Row]:
    """`00000/metadata.jsonl` with the prompt, `00000/samples/00000.png` and so on."""
    by_prompt: dict[str, list[str]] = defaultdict(list)
    for name in folder.images:
        if match := re.fullmatch(r"(\d+)/samples/\d+\.(png|jpe?g|webp)", name, re.IGNORECASE):
            by_prompt[match[1]].append(name)
    heads = [name for name in folder.files if re.fullmatch(r"\d+/metadata\.jsonl", name)]
    numbers = {name.split("/")[0] for name in heads}
    folder.problems += [
        f"{number}: images without their metadata.jsonl"
        for number in sorted(set(by_prompt) - numbers)
    ]
    for head in heads:
        number = head.split("/")[0]
        prompt = _prompt_in(folder, head)
        if not by_prompt[number]:
            folder.problems.append(f"{number}/samples: no image")
        if not prompt:
            folder.told.update(by_prompt[number])
            continue
        for name in by_prompt[number]:
            yield _row(name, prompt, "", int(Path(name).stem))


def _prompt_in(folder: Folder, name: str) -> str:
    """The prompt in a file of one JSON object; else a problem."""
    found = _json(folder, folder.root / name, name)
    prompt = found.get("prompt") if isinstance(found, dict) else None
    if isinstance(prompt, str) and prompt:
        return prompt
    if found is not None:
        folder.problems.append(f'{name}: expected a JSON object with a text "prompt"')
    return ""


def _hpsv2(folder: Folder) -> Iterator[Row]:
    """`{style}/00000.jpg`, whose number is the prompt's place in the list `{style}.json`."""
    lists = {path.stem: path for path in folder.lists()}
    texts: dict[str, list[Any]] = {}
    for name in folder.images:
        match = re.fullmatch(r"([^/]+)/(\d{5})\.(png|jpe?g|webp)", name, re.IGNORECASE)
        if not match:
            continue
        style, place = match[1], int(match[2])
        if style not in texts:
            texts[style] = _list_of(folder, lists.get(style), f"{style}.json")
        if place < len(texts[style]) and isinstance(texts[style][place], str):
            yield _row(name, texts[style][place], "", 0)
        elif texts[style]:
            folder.problems.append(f"{name}: {style}.json has no prompt number {place}")


def _imagereward(folder: Folder) -> Iterator[Row]:
    """`{model}/{prompt id}_{sample}.png`, and a list of objects with `id` and `prompt`."""
    found = folder.lists()
    if len(found) != 1:
        folder.problems.append(
            f"expected one JSON list of prompts, found {len(found)}; name it with --prompts"
        )
        return
    prompts = {
        str(one["id"]): one["prompt"]
        for one in _list_of(folder, found[0], found[0].name)
        if isinstance(one, dict) and "id" in one and isinstance(one.get("prompt"), str)
    }
    for name in folder.images:
        match = SAMPLED.fullmatch(Path(name).name)
        if name.count("/") != 1 or not match:
            continue
        if match["id"] in prompts:
            yield _row(name, prompts[match["id"]], name.split("/")[0], int(match["sample"]))
        else:
            folder.problems.append(f"{name}: {found[0].name} has no prompt of id {match['id']}")


def _t2i_compbench(folder: Folder) -> Iterator[Row]:
    """`{prompt}_{number}.png`, at the top or in `samples`; numbers run over all prompts, so the
    images of one prompt are numbered anew, in their order."""
    inside = any(name.startswith("samples/") for name in folder.images)
    numbered: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in folder.images:
        match = NUMBERED.fullmatch(Path(name).name)
        if match and name.startswith("samples/") == inside and name.count("/") == inside:
            numbered[match["prompt"]].append((int(match["number"]), name))
    for prompt, images in numbered.items():
        for sample, (_, name) in enumerate(sorted(images)):
            yield _row(name, prompt, "", sample)


def _imagenhub(folder: Folder) -> Iterator[Row]:
    """`{model}/{name}.jpg`, and a lookup from names of files to objects with `prompt`."""
    place = folder.prompts or folder.root / LOOKUP
    path = place / LOOKUP if place.is_dir() else place
    lookup = _json(folder, path, path.name)
    if not isinstance(lookup, Mapping):
        if lookup is not None:
            folder.problems.append(f"{path.name}: expected an object of names and prompts")
        return
    prompts = {Path(name).stem: one for name, one in lookup.items()}
    for name in folder.images:
        if name.count("/") != 1:
            continue
        found = prompts.get(Path(name).stem)
        text = found.get("prompt") if isinstance(found, Mapping) else None
        if isinstance(text, str):
            yield _row(name, text, name.split("/")[0], 0)
        else:
            folder.problems.append(f"{name}: {path.name} has no prompt for it")


LAYOUTS: dict[str, Reader] = {
    "manifest": _manifest,
    "imagefolder": _imagefolder,
    "geneval": _geneval,
    "hpsv2": _hpsv2,
    "imagereward": _imagereward,
    "t2i-compbench": _t2i_compbench,
    "imagenhub": _imagenhub,
}
TABLES = ("manifest", "imagefolder")  # a file names the images
STRICT = ("geneval", "hpsv2", "imagereward", "t2i-compbench", "imagenhub")  # names say all


def _row(name: str, prompt: str, system: str, sample: Any) -> Row:
    return Row(file_name=name, prompt=prompt, system=system, sample=sample)


def _list_of(folder: Folder, path: Path | None, name: str) -> list[Any]:
    found = _json(folder, path, name)
    if found is not None and not isinstance(found, list):
        folder.problems.append(f"{name}: expected a JSON list")
    return found if isinstance(found, list) else []


def _json(folder: Folder, path: Path | None, name: str) -> Any:
    """What a JSON file holds; None, and a problem, where it cannot be read."""
    try:
        if path is None or not path.is_file():
            raise ValueError("is not there; say where with --prompts")
        if path.stat().st_size > MAX_LIST_BYTES:
            raise ValueError(f"expected at most {MAX_LIST_BYTES >> 20} MiB")
        found = json.loads(path.read_text(encoding="utf-8-sig"))
        if found is None:
            raise ValueError("holds nothing but null")
        return found
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        folder.problems.append(f"{name}: not readable as JSON: {error}")
        return None
    except (OSError, ValueError) as error:
        folder.problems.append(f"{name}: {error}")
        return None
