"""Folders of images in every layout that is known, and `import_images` over them."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from tests.studies.files import COLOURS, PROMPTS, picture


def run(folder: Path, *flags: str, **options: Any) -> str:
    out = io.StringIO()
    call_command("import_images", str(folder), *flags, stdout=out, **options)
    return out.getvalue()


def refused(folder: Path, *flags: str, **options: Any) -> list[str]:
    """The problems, each without its dash; nothing was written, whatever they are."""
    before = sorted(folder.rglob("*")) if folder.exists() else []
    with pytest.raises(CommandError, match="Nothing was written") as caught:
        run(folder, *flags, **options)
    assert (sorted(folder.rglob("*")) if folder.exists() else []) == before
    return [line[4:] for line in str(caught.value).splitlines() if line.startswith("  - ")]


def put(folder: Path, name: str, number: int = 0, side: int = 64) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    red, green, blue = COLOURS[number % 4]
    path.write_bytes(picture((red, green, (blue + 17 * number) % 200), (side, side)))
    if path.suffix == ".jpg":
        convert(path)


def convert(path: Path) -> None:
    with Image.open(path) as opened:
        opened.convert("RGB").save(path, "JPEG")


def write_json(folder: Path, name: str, value: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(value), encoding="utf-8")


def geneval(folder: Path, n_samples: int = 2) -> Path:
    for place, prompt in enumerate(PROMPTS):
        for sample in range(n_samples):
            put(folder, f"{place:05d}/samples/{sample:05d}.png", 4 * place + sample)
        (folder / f"{place:05d}" / "metadata.jsonl").write_text(
            json.dumps({"tag": "single_object", "include": [], "prompt": prompt})
        )
        put(folder, f"{place:05d}/grid.png")
    return folder


def imagefolder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file_name", "text", "aesthetic"])
        writer.writeheader()
        for number, prompt in enumerate(PROMPTS * 2):
            put(folder, f"train/{number}.png", number)
            name = f"train/{number}.png"
            writer.writerow({"file_name": name, "text": prompt, "aesthetic": 6})
    return folder


def hpsv2(folder: Path) -> Path:
    write_json(folder, "anime.json", list(PROMPTS[:2]))
    write_json(folder, "photo.json", [PROMPTS[2], "an unpainted one"])
    for number, name in enumerate(("anime/00000.jpg", "anime/00001.jpg", "photo/00000.jpg")):
        put(folder, name, number)
    return folder


def imagereward(folder: Path) -> Path:
    ids = [f"00569{n}-0057" for n in range(3)]
    write_json(folder, "prompts.json", [{"id": i, "prompt": p} for i, p in zip(ids, PROMPTS)])
    for number, model in enumerate(("Open Journey", "sd1.4")):
        for place, one in enumerate(ids):
            put(folder, f"{model}/{one}_0.png", 3 * number + place)
            put(folder, f"{model}/{one}_1.png", 3 * number + place + 6)
    return folder


def t2i_compbench(folder: Path) -> Path:
    for number, prompt in enumerate(prompt for prompt in PROMPTS for _ in range(2)):
        put(folder, f"samples/{prompt}_{number:06d}.png", number)
    put(folder, f"{PROMPTS[0]}-grid-00000.png")
    return folder


def imagenhub(folder: Path) -> Path:
    lookup = {f"sample_{n}.jpg": {"prompt": prompt} for n, prompt in enumerate(PROMPTS)}
    write_json(folder, "dataset_lookup.json", lookup)
    for number, model in enumerate(("DALLE3", "SDXL")):
        for place in range(3):
            put(folder, f"{model}/sample_{place}.jpg", 3 * number + place)
    return folder


LAYOUTS = {  # the folder, options, the systems, images of each prompt
    "geneval": (geneval, {"system": "mine"}, ("mine",), 2),
    "imagefolder": (imagefolder, {"system": "mine"}, ("mine",), 2),
    "hpsv2": (hpsv2, {"system": "mine"}, ("mine",), 1),
    "imagereward": (imagereward, {}, ("open-journey", "sd1-4"), 2),
    "t2i-compbench": (t2i_compbench, {"system": "mine"}, ("mine",), 2),
    "imagenhub": (imagenhub, {}, ("dalle3", "sdxl"), 1),
}
