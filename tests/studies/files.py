"""Study files and image folders for tests: what a user would bring, as small as it can be."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from evalsite.studies.models import Study
from evalsite.studies.services import apply_spec
from evalsite.studies.spec import load_spec
from tests.world import NOON

PROMPTS = ("a red kite", "two blue doors", "rain over a harbour")
COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30))


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> bytes:
    """A picture of one colour with a lighter upper left quarter, encoded as PNG."""
    image = Image.new("RGB", size, colour)
    light = tuple(min(255, c + 40) for c in colour)
    image.paste(light, (0, 0, size[0] // 2, size[1] // 2))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def image_folder(
    folder: Path,
    systems: Sequence[str] = ("alpha", "beta"),
    prompts: Sequence[str] = PROMPTS,
    size: tuple[int, int] = (64, 64),
) -> Path:
    """Images of several systems with their manifest, as somebody would import them."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for s, system in enumerate(systems):
        for p, prompt in enumerate(prompts):
            name = f"{system}-{p}.png"
            red, green, blue = COLOURS[s % len(COLOURS)]
            (folder / name).write_bytes(picture((red, green, (blue + 31 * p) % 200), size))
            line = {"file_name": name, "prompt": prompt, "system": system, "sample": 0}
            lines.append(json.dumps(line))
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def imported(key: str, folder: str = "images", **changes: Any) -> dict[str, Any]:
    """A system whose images come from a folder."""
    return {
        "key": key,
        "label": f"System {key}",
        "family": "imported",
        "folder": folder,
        "licence": "CC0-1.0",
        **changes,
    }


def painted(key: str, **changes: Any) -> dict[str, Any]:
    """A system that would be painted; its checkpoint is a commit on the hub."""
    return {
        "key": key,
        "label": f"System {key}",
        "family": "sdxl",
        "checkpoint": "org/model",
        "revision": "0123456789" * 4,
        "steps": 4,
        "guidance": 0.0,
        "size": 64,
        "dtype": "float32",
        "licence": "CC0-1.0",
        **changes,
    }


def tables(**changes: Any) -> dict[str, Any]:
    """The tables of a whole study file: two imported systems on three prompts."""
    return {
        "title": "A small study",
        "seed": 7,
        "votes_per_comparison": 2,
        "prompts": list(PROMPTS),
        "display": {"size": 64},
        "systems": [imported("alpha"), imported("beta")],
        "criteria": [{"key": "quality", "question": "Which image is better?"}],
        **changes,
    }


def write_toml(path: Path, data: Mapping[str, Any]) -> Path:
    """The tables as a TOML file: plain keys first, then tables."""
    plain = [f"{key} = {_value(value)}" for key, value in data.items() if not _is_table(value)]
    for key, value in data.items():
        if isinstance(value, Mapping):
            plain += ["", f"[{key}]", *(f"{_key(k)} = {_value(v)}" for k, v in value.items())]
        elif _is_table(value):
            for row in value:
                plain += ["", f"[[{key}]]", *(f"{k} = {_value(v)}" for k, v in row.items())]
    path.write_text("\n".join(plain) + "\n", encoding="utf-8")
    return path


def _is_table(value: Any) -> bool:
    is_rows = isinstance(value, list) and value and all(isinstance(row, dict) for row in value)
    return isinstance(value, Mapping) or bool(is_rows)


def _key(key: str) -> str:
    return key if key.replace("_", "a").isalnum() else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def study_file(folder: Path, name: str = "small.toml", **changes: Any) -> Path:
    """A study file with its images beside it, ready to be applied and prepared."""
    data = tables(**changes)
    keys = [system["key"] for system in data["systems"]]
    if not (folder / "images").exists():
        texts = [p if isinstance(p, str) else p["text"] for p in data["prompts"]]
        image_folder(folder / "images", keys, texts)
    return write_toml(folder / name, data)


def draft(folder: Path, **changes: Any) -> Study:
    """A draft made of such a file."""
    return apply_spec(load_spec(study_file(folder, **changes)), at=NOON)
