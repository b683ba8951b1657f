"""`manage.py import_images`: what is wrong is told all at once, and nothing is written."""

import json
import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tests.studies.files import PROMPTS, image_folder, picture, study_file
from tests.studies.layouts import (
    geneval,
    hpsv2,
    imagenhub,
    imagereward,
    put,
    refused,
    run,
    write_json,
)

pytestmark = pytest.mark.django_db


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
