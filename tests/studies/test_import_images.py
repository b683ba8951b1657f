"""`manage.py import_images`: whatever layout a folder has, it becomes one that a study names."""

import csv
import io
import json
import os
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from evalsite.studies.models import Study
from generation.manifest import read_manifest
from tests.studies.files import COLOURS, PROMPTS, image_folder, imported, picture, study_file

pytestmark = pytest.mark.django_db


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


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_found_and_becomes_a_manifest(tmp_path, name):
    make, options, systems, n_samples = LAYOUTS[name]
    folder = make(tmp_path / "theirs")
    out = tmp_path / "ours"
    said = run(folder, out=out, **options)
    assert f"(layout {name})" in said
    read = read_manifest(out)
    assert read.systems == systems
    for system in systems:
        places = {(image.prompt, image.sample) for image in read.of_system(system)}
        assert places == {(p, s) for p in PROMPTS for s in range(n_samples)}
    for image in read.images:  # each copy is the file that it says it came from
        assert image.path.read_bytes() == (folder / image.source).read_bytes()


def test_the_right_image_answers_each_prompt(tmp_path):
    folder = geneval(tmp_path / "theirs")
    run(folder, system="mine")
    rows = {(image.prompt, image.sample): image.file_name for image in read_manifest(folder).images}
    assert rows[PROMPTS[2], 1] == "00002/samples/00001.png"
    folder = t2i_compbench(tmp_path / "bench")  # numbers run over all prompts
    run(folder, system="mine")
    rows = {(image.prompt, image.sample): image.file_name for image in read_manifest(folder).images}
    assert rows[PROMPTS[1], 0] == f"samples/{PROMPTS[1]}_000002.png"


def test_a_folder_of_geneval_goes_into_a_study(tmp_path):
    folder = geneval(tmp_path / "outputs")
    systems = [imported("mine", folder="outputs"), imported("beta")]
    image_folder(tmp_path / "images", ["beta"])
    path = study_file(tmp_path, systems=systems)
    said = run(folder, system="mine", study=str(path))
    assert f'folder = "{folder}"' in said
    assert 'key = "mine"' in said
    out = io.StringIO()
    for act, name in (("apply", str(path)), ("prepare", "small"), ("open", "small")):
        call_command("study", act, name, stdout=out)
    assert Study.objects.get().state == "OPEN"


def test_a_manifest_of_ours_is_checked_and_left_alone(tmp_path):
    folder = image_folder(tmp_path / "images")
    before = (folder / "metadata.jsonl").read_bytes()
    assert "Checked" in run(folder)
    assert (folder / "metadata.jsonl").read_bytes() == before


def test_a_manifest_that_is_there_is_written_over_only_when_asked(tmp_path):
    folder = geneval(tmp_path / "theirs")
    run(folder, system="mine")
    put(folder, "00000/samples/00002.png", 3)
    (found,) = refused(folder, system="mine", layout="geneval")
    assert "is there already" in found
    run(folder, system="mine", layout="geneval", replace=True)
    assert len(read_manifest(folder).images) == 7


@pytest.mark.parametrize("name", ["geneval", "hpsv2", "imagereward", "t2i-compbench", "imagenhub"])
def test_a_second_import_finds_the_layout_behind_our_own_manifest(tmp_path, name):
    make, options, _, _ = LAYOUTS[name]
    folder = make(tmp_path / "theirs")
    run(folder, **options)
    changed = read_manifest(folder).images[0].file_name
    put(folder, changed, 7)
    assert f"(layout {name})" in run(folder, replace=True, **options)
    assert read_manifest(folder).images[0].file_name == changed


def test_a_file_that_holds_the_prompts_is_never_to_be_taken_away(tmp_path):
    folder = imagefolder(tmp_path / "theirs")
    assert refused(folder, system="mine") == [
        f"{folder}/metadata.csv is where the prompts stand; name another folder with --out"
    ]


def test_copies_are_not_put_into_the_folder_that_stays_as_it_is(tmp_path):
    folder = imagefolder(tmp_path / "theirs")
    (tmp_path / "link").symlink_to(folder)
    for out in (folder / "sub", tmp_path / "link" / "sub", tmp_path / "new" / ".." / "theirs/sub"):
        (found,) = refused(folder, system="mine", out=out)
        assert found.endswith(f": expected a folder outside {folder}, which stays as it is")


@pytest.mark.parametrize("size", ["0", "0x64", "64x0", "x", "-1"])
def test_a_size_without_pixels_is_no_size(tmp_path, size):
    with pytest.raises(CommandError, match="expected pixels as 512 or 640x480"):
        run(geneval(tmp_path / "theirs", 1), f"--size={size}", system="mine")


def test_a_row_that_stands_twice_is_named_by_its_lines(tmp_path):
    folder = image_folder(tmp_path / "images")
    lines = (folder / "metadata.jsonl").read_text().splitlines()
    (folder / "metadata.jsonl").write_text("\n".join([*lines, "", lines[0]]))
    assert refused(folder) == [
        "line 8, alpha-0.png: prompt, system and sample are those of line 1, alpha-0.png"
    ]


@pytest.mark.parametrize("content", ["{", "null", "[1]", '{"prompt": ""}'])
def test_a_prompt_that_cannot_be_read_is_one_problem_and_not_its_images_too(tmp_path, content):
    folder = geneval(tmp_path / "theirs", n_samples=3)
    (folder / "00001/metadata.jsonl").write_text(content, encoding="utf-16")
    (found,) = refused(folder, system="mine")
    assert found.startswith("00001/metadata.jsonl: not readable as JSON: ")
    (folder / "00001/metadata.jsonl").write_text(content, encoding="utf-8")
    (found,) = refused(folder, system="mine")
    assert found.startswith("00001/metadata.jsonl: ")


def test_one_model_of_several_can_be_taken(tmp_path):
    folder = imagereward(tmp_path / "theirs")
    run(folder, system="sd1-4")
    assert read_manifest(folder).systems == ("sd1-4",)
    (folder / "metadata.jsonl").unlink()
    assert "there is no other" in refused(folder, system="other")[0]


def test_what_a_study_does_not_ask_is_refused_by_name_or_left_out(tmp_path):
    folder = geneval(tmp_path / "theirs", n_samples=1)
    path = study_file(tmp_path, prompts=["a red kites", *PROMPTS[1:]])
    assert refused(folder, system="mine", study=str(path)) == [
        '00000/samples/00000.png: prompt "a red kite" is none of the study\'s; '
        'did you mean "a red kites"?',
        "(images of prompts that the study does not have are left out by --pick)",
        'mine: no image (sample 0) for prompt "a red kites"',
    ]
    path = study_file(tmp_path, prompts=list(PROMPTS[1:]))
    assert "1 image of another prompt was left out" in run(
        folder, system="mine", study=str(path), pick=True
    )
    assert {image.prompt for image in read_manifest(folder).images} == set(PROMPTS[1:])


def test_how_many_images_were_left_out_is_told_in_words(tmp_path):
    folder = geneval(tmp_path / "theirs", n_samples=1)
    path = study_file(tmp_path, prompts=[PROMPTS[1]])
    said = run(folder, system="mine", study=str(path), pick=True, out=tmp_path / "new")
    assert "mine: 1 prompt, images: 1 of 64 x 64" in said
    assert "2 images of other prompts were left out" in said
    path = study_file(tmp_path, prompts=["a grey wall"])
    options = {"system": "mine", "study": str(path), "pick": True}
    assert refused(folder, **options) == [f"{folder}: 3 images, none of a prompt of the study"]
    for place in ("00001", "00002"):
        shutil.rmtree(folder / place)
    assert refused(folder, **options) == [f"{folder}: 1 image, none of a prompt of the study"]


def study_of_manifest(folder: Path, **changes: Any) -> str:
    """A study of a manifest of ours, whose second row is changed so."""
    image_folder(folder)
    file = folder / "metadata.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[1] |= changes
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return str(study_file(folder.parent))


def test_a_sample_may_be_written_with_more_digits_than_it_needs(tmp_path):
    study = study_of_manifest(tmp_path / "images", sample="00")
    assert "Checked" in run(tmp_path / "images", study=study)


def test_a_sample_that_is_no_number_is_told_once(tmp_path):
    study = study_of_manifest(tmp_path / "images", sample=0.0)
    (found,) = refused(tmp_path / "images", study=study)
    assert "sample: expected a whole number from 0 to 32767, got 0.0" in found


def test_a_system_that_is_no_key_is_refused_and_moves_no_cursor(tmp_path):
    study = study_of_manifest(tmp_path / "images", system="ev\x1b[2Jil")
    assert refused(tmp_path / "images", study=study) == [
        "line 2, alpha-1.png: system: expected a key of small letters, digits, - and _, "
        "at most 60, got 'ev\\x1b[2Jil'",
        f'alpha: no image (sample 0) for prompt "{PROMPTS[1]}"',
    ]


@pytest.mark.parametrize(
    ("system", "problem"),
    [
        (4, "expected text, got 4"),
        (["alpha"], "expected text, got ['alpha']"),
        ("Alpha!", "expected a key of small letters, digits, - and _, at most 60, got 'Alpha!'"),
        (None, "missing"),
        ("", "missing"),
    ],
)
def test_a_row_of_no_system_is_refused_when_one_system_is_taken(tmp_path, system, problem):
    folder = tmp_path / "images"
    study = study_of_manifest(folder, system=system)
    (folder / "alpha-2.png").write_text("no picture")
    options = {"layout": "manifest", "system": "alpha", "study": study}
    *told, without = refused(folder, **options)
    assert told[0] == f"line 2, alpha-1.png: system: {problem}"
    assert told[1].startswith("line 3, alpha-2.png: file_name: alpha-2.png: not an image")
    assert without == f'alpha: no image (sample 0) for prompt "{PROMPTS[1]}"'
    with pytest.raises(CommandError, match="Nothing was written"):
        run(folder, system="alpha", out=tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_a_prompt_that_is_no_text_is_not_left_out_as_another(tmp_path):
    study = study_of_manifest(tmp_path / "images", prompt=4)
    options = {"system": "alpha", "study": study, "pick": True}
    assert "line 2, alpha-1.png: prompt: expected text, got 4" in refused(
        tmp_path / "images", **options
    )


def test_a_model_s_name_that_is_no_text_is_refused_by_its_line(tmp_path):
    rows = [
        {"file_name": f"{n}.png", "text": prompt, "system": system}
        for n, (prompt, system) in enumerate(zip(PROMPTS, ("Mine", 0, {"a": 1})))
    ]
    for n in range(len(rows)):
        put(tmp_path / "theirs", f"{n}.png", n)
    (tmp_path / "theirs/metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for system in ("mine", "a-1", ""):
        assert refused(tmp_path / "theirs", system=system, out=tmp_path / "ours")[-2:] == [
            "line 2 of the metadata: system: expected text, got 0",
            "line 3 of the metadata: system: expected text, got {'a': 1}",
        ]


def test_images_too_small_or_of_a_wrong_size_are_named(tmp_path):
    folder = geneval(tmp_path / "theirs", n_samples=1)
    put(folder, "00001/samples/00000.png", side=32)
    assert refused(folder, "--size", "64", system="mine") == [
        "00001/samples/00000.png: 32 x 32 pixels, expected 64 x 64"
    ]
    (found,) = refused(folder, system="mine", study=str(study_file(tmp_path)))
    assert found.startswith("00001/samples/00000.png: 32 x 32 pixels, below the study's display")


def test_one_prompt_twice_is_refused_by_name(tmp_path):
    folder = geneval(tmp_path / "theirs", n_samples=1)
    (folder / "00002" / "metadata.jsonl").write_text(json.dumps({"prompt": PROMPTS[0]}))
    (found,) = refused(folder, system="mine")
    assert found.startswith("00002/samples/00000.png: prompt, system and sample are those of 00000")


def bomb(whole: bytes) -> bytes:
    """A small file whose header promises 400 million pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:]


def test_hostile_and_broken_files_are_all_named_at_once(tmp_path):
    folder = geneval(tmp_path / "theirs", n_samples=5)
    samples = folder / "00000" / "samples"
    whole = (samples / "00000.png").read_bytes()
    (samples / "00001.png").write_bytes(whole[: len(whole) // 2])
    (samples / "00002.png").write_bytes(bomb(whole))
    (samples / "00003.png").write_text("#!/bin/sh")
    Image.new("RGB", (64, 64)).save(samples / "00004.png", "JPEG")
    assert [
        (line.split(": ")[0][-9:], line.split(": ")[-1][:24])
        for line in refused(folder, system="mine")
    ] == [
        ("00001.png", "not an image that can be"),
        ("00002.png", "too many pixels, expecte"),
        ("00003.png", "not an image that can be"),
        ("00004.png", "its content is JPEG, its"),
    ]


def test_links_and_strange_files_are_named_before_any_image_is_opened(tmp_path):
    folder = geneval(tmp_path / "theirs", n_samples=1)
    (tmp_path / "secret.png").write_bytes((folder / "00000/grid.png").read_bytes())
    (folder / "00000/samples/00001.png").symlink_to(tmp_path / "secret.png")
    (folder / "00003").symlink_to(folder / "00000")
    put(folder, "00001/samples/best one.png")
    (folder / "00001/samples/00009.gif").write_bytes(b"GIF89a")
    assert sorted(refused(folder, system="mine", layout="geneval")) == [
        "00000/samples/00001.png: a symbolic link, expected the file itself",
        "00001/samples/00009.gif: expected one of PNG, JPEG, WEBP",
        "00001/samples/best one.png: has no place in the layout geneval",
        "00003: a symbolic link, expected the file itself",
    ]


def test_a_link_is_told_once_by_its_line_where_a_row_names_it(tmp_path):
    folder = image_folder(tmp_path / "images", ("alpha",))
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for place, name in enumerate(["link.png", "./new\nline.png", "untold.png"]):
        (folder / name).symlink_to(folder / "alpha-0.png")
        rows[place]["file_name"] = name
    rows[2] |= {"system": ""}  # of which no file is looked at
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    a_link = "a symbolic link, expected the file itself"
    assert refused(folder, layout="manifest") == [
        f"untold.png: {a_link}",
        f"line 1, link.png: file_name: link.png: {a_link}",
        f"line 2, ./new\\nline.png: file_name: new\\nline.png: {a_link}",
        "line 3, untold.png: system: missing",
    ]


def test_all_that_is_wrong_is_told_at_once_whatever_its_kind(tmp_path):
    folder = geneval(tmp_path / "theirs", n_samples=1)
    (folder / "00000/samples/link.png").symlink_to(folder / "00000/samples/00000.png")
    (folder / "00000/samples/00000.png").write_text("no picture")
    put(folder, "00001/samples/00000.png", side=32)
    (folder / "00002/metadata.jsonl").write_text(json.dumps({"prompt": "a green door"}))
    asked = str(study_file(tmp_path))
    assert [line.split(": ")[:2] for line in refused(folder, system="mine", study=asked)] == [
        ["00000/samples/link.png", "a symbolic link, expected the file itself"],
        ["00000/samples/00000.png", "file_name"],  # and not, besides, as a prompt without an image
        ["00002/samples/00000.png", 'prompt "a green door" is none of the study\'s'],
        ["(images of prompts that the study does not have are left out by --pick)"],
        ["mine", f'no image (sample 0) for prompt "{PROMPTS[2]}"'],
        [
            "00001/samples/00000.png",
            "32 x 32 pixels, below the study's display size of 64; choose a smaller one or "
            "declare an upscaler",
        ],
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"file_name": "a.png", "text": "a \\ud800 cat"}', " text, got 'a \\ud800 cat'"),
        ('{"file_name": "a\\ud800.png", "text": "a cat"}', "file_name: expected text, got 'a\\ud8"),
        ('{"file_name": "a\\u0000.png", "text": "a cat"}', "file_name: expected text, got 'a\\x00"),
        ('{"file_name": "a.png", "text": "a \\u001b[2Jcat"}', "a.png is not there"),
        ('{"file_name": "\\u001b[2J.png", "text": "a cat"}', "\\x1b[2J.png is not there"),
        ('{"file_name": {"a": 1}, "text": "a cat"}', "file_name: expected text, got {'a': 1}"),
        ('{"file_name": "a.png", "text": ["a cat"]}', "expected file_name and a prompt in one of"),
        ('{"file_name": "a.png", "text": "a cat", "sample": %s}' % ("9" * 5000), "not a JSON obj"),
        ('{"file_name": "%s.png", "text": "a cat"}' % ("a" * 5000), "cannot be looked for: File"),
    ],
)  # fmt: skip
def test_texts_and_names_that_are_none_are_told_as_such(tmp_path, row, message):
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "metadata.jsonl").write_text(row)
    found = refused(folder, system="mine", out=tmp_path / "ours")
    assert message in " ".join(found)
    assert all(len(line) < 600 and line.isprintable() for line in found)


def test_a_name_in_another_code_than_utf_8_is_told(tmp_path):
    (tmp_path / "theirs").mkdir()
    Path(os.fsdecode(bytes(tmp_path / "theirs") + b"/caf\xe9_000000.png")).write_bytes(
        picture((1, 2, 3))
    )
    found = refused(tmp_path / "theirs", system="mine")
    assert r"caf\udce9_000000.png: prompt: expected text, got 'caf\udce9'" in found


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "train/../../secret.png"])
def test_a_list_cannot_point_outside_its_folder(tmp_path, name):
    folder = tmp_path / "theirs"
    write_json(folder, "metadata.jsonl", {"file_name": name, "text": "a red kite"})
    (tmp_path / "secret.png").write_bytes(picture((1, 2, 3)))
    (found,) = refused(folder, system="mine", out=tmp_path / "ours")
    assert "expected a path below the folder" in found
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("make", "break_it", "message"),
    [
        (hpsv2, lambda f: put(f, "photo/00007.jpg"), "photo.json has no prompt number 7"),
        (hpsv2, lambda f: (f / "photo.json").write_text("["), "photo.json: not readable as JSON"),
        (
            hpsv2,
            lambda f: (f / "photo.json").write_text("[" * 100_000),
            "photo.json: not readable as JSON",
        ),
        (imagereward, lambda f: put(f, "sd1.4/7_0.png"), "prompts.json has no prompt of id 7"),
        (
            imagereward,
            lambda f: write_json(f, "more.json", []),
            "expected one JSON list of prompts",
        ),
        (imagereward, lambda f: put(f, "SD1-4/x_0.png"), "no prompt of id x"),
        (imagenhub, lambda f: put(f, "SDXL/sample_9.jpg"), "dataset_lookup.json has no prompt"),
        (geneval, lambda f: (f / "00001/metadata.jsonl").unlink(), "00001: images without their"),
        (geneval, lambda f: (f / "00001/samples/00000.png").unlink(), "00001/samples: no image"),
        (geneval, lambda f: (f / "00001/metadata.jsonl").write_text("{}"), 'a text "prompt"'),
    ],
)
def test_what_a_layout_lacks_is_named(tmp_path, make, break_it, message):
    folder = make(tmp_path / "theirs") if make is not geneval else geneval(tmp_path / "theirs", 1)
    break_it(folder)
    assert message in refused(folder, system="" if make in (imagereward, imagenhub) else "mine")[0]


def test_lists_of_prompts_may_lie_elsewhere(tmp_path):
    folder = hpsv2(tmp_path / "theirs")
    lists = tmp_path / "lists"
    lists.mkdir()
    for path in folder.glob("*.json"):
        path.rename(lists / path.name)
    assert "its layout is not one that is known" in refused(folder, system="mine")[0]
    assert "(layout hpsv2)" in run(folder, system="mine", prompts=lists)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "this layout names none, give its key with --system"),
        ({"system": "Mine!"}, "expected a key of small letters"),
        ({"system": "mine", "study": "nowhere"}, "there is no study nowhere"),
        ({"system": "mine", "prompts": Path("nowhere")}, "there is no such file or folder"),
    ],
)
def test_a_wrong_option_says_what_was_expected(tmp_path, options, message):
    assert message in refused(geneval(tmp_path / "theirs", 1), **options)[0]


def test_many_problems_are_cut_off_with_their_number(tmp_path):
    folder = tmp_path / "theirs"
    for number in range(210):
        (folder / f"{number:05d}" / "samples").mkdir(parents=True)
        (folder / f"{number:05d}" / "metadata.jsonl").write_text("{}")
    found = refused(folder, system="mine")
    assert (len(found), found[-1]) == (201, "and 220 more")
