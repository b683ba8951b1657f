"""`manage.py import_images`: whatever layout a folder has, it becomes one that a study names."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from evalsite.studies.models import Study
from generation.manifest import read_manifest
from tests.studies.files import PROMPTS, image_folder, imported, study_file
from tests.studies.layouts import (
    LAYOUTS,
    geneval,
    imagefolder,
    imagereward,
    put,
    refused,
    run,
    t2i_compbench,
)

pytestmark = pytest.mark.django_db


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
