"""`manage.py study check`: what a study file says, lacks and gets wrong."""

import io
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from evalsite.studies.models import Study
from tests.desk.study_command import refused, run
from tests.studies.files import (
    PROMPTS,
    imported,
    painted,
    picture,
    study_file,
)

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("is_applied", [False, True])
def test_check_speaks_of_a_gate_only_where_there_is_one_or_may_be_one(
    tmp_path, monkeypatch, is_applied
):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    systems = [
        painted("unknown"),
        painted("open", checkpoint="stabilityai/sdxl-turbo"),
        painted("gated", checkpoint="DeepFloyd/IF-I-XL-v1.0"),
    ]
    checked: Path | str = study_file(tmp_path, systems=systems)
    if is_applied:
        run("apply", checked)
        checked = "small"
    out = io.StringIO()
    with pytest.raises(CommandError):
        call_command("study", "check", str(checked), stdout=out)
    said = out.getvalue()
    assert [line.strip() for line in said.splitlines() if "is gated" in line] == [
        "if https://huggingface.co/org/model is gated: accept the licence there, then type: "
        "hf auth login",
        "DeepFloyd/IF-I-XL-v1.0 is gated: log in to the hub and accept the licence "
        "(https://huggingface.co/DeepFloyd/IF-I-XL-v1.0), then type: hf auth login",
    ]


def test_check_lists_what_is_wrong_with_a_file(tmp_path):
    path = study_file(tmp_path, seed=-1, pairs="some")
    assert refused("check", path).splitlines() == [
        f"Cannot check {path}:",
        "  - small.toml: seed: expected a whole number from 0 to 2^53 - 1, found -1",
        '  - small.toml: pairs: expected "all" or "baseline", found "some"',
    ]


def test_check_looks_at_what_is_sound_in_a_file_with_problems(tmp_path):
    path = study_file(
        tmp_path,
        title="",
        prompts={"file": "gone.txt"},
        systems=[
            imported("alpha", folder="gone"),
            painted("beta", checkpoint="./none", revision=""),
            painted("delta", steps=0, checkpoint="./none", revision=""),
            painted("gamma", timesteps=[9, 5]),
        ],
    )
    assert refused("check", path).splitlines() == [
        f"Cannot check {path}:",
        '  - small.toml: title: expected a text of 1 to 200 characters, found ""',
        '  - small.toml: [[systems]] number 3 (key "delta"), steps: expected a whole number from '
        "1 to 1,000, found 0",
        f"  - gone.txt: there is no such file (looked for {tmp_path / 'gone.txt'})",
        f"  - alpha: folder: there is no folder {tmp_path / 'gone'}; put its images and manifest "
        "there",
        f"  - beta: checkpoint: there is no folder {tmp_path / 'none'}",
        "  - gamma: timesteps: 2 given, expected as many as steps (4)",
        "  - gamma: scheduler: explicit timesteps need a scheduler by name",
    ]


def test_check_reads_the_prompts_of_a_file_whose_seed_is_none(tmp_path):
    seed = '  - small.toml: seed: expected a whole number from 0 to 2^53 - 1, found "a"'
    study_file(tmp_path)  # and its images
    path = study_file(tmp_path, seed="a", prompts={"file": "nix.txt"})
    assert refused("check", path).splitlines()[1:] == [
        seed,
        f"  - nix.txt: there is no such file (looked for {tmp_path / 'nix.txt'})",
    ]
    (tmp_path / "p.txt").write_text("\n".join([*PROMPTS, "a wall", "a hill"]))
    path = study_file(tmp_path, seed="a", prompts={"file": "p.txt", "draw": 9})
    assert refused("check", path).splitlines()[1:] == [
        seed,
        "  - p.txt: draw = 9, but only 5 prompts are left to draw from",
    ]
    path = study_file(tmp_path, seed="a", prompts={"file": "p.txt"})
    lacking = 'no image (sample 0) for 2 of the study\'s prompts: "a wall"; "a hill"'
    assert refused("check", path).splitlines()[1:] == [
        seed,
        f"  - alpha: {lacking}",
        f"  - beta: {lacking}",
    ]
    path = study_file(tmp_path, seed="a", prompts={"file": "p.txt", "draw": 3})
    assert refused("check", path).splitlines()[1:] == [seed]  # which are drawn nobody knows


def test_check_says_a_rule_of_the_painter_s_once(tmp_path):
    path = study_file(tmp_path, systems=[imported("alpha"), painted("beta", timesteps=[9, 5])])
    told = refused("check", path)
    assert told.count("expected as many as steps") == 1
    assert "alpha" not in told


def test_check_says_per_system_what_is_missing(tmp_path):
    systems = [imported("alpha"), imported("beta", folder="nowhere"), painted("hub", licence="")]
    path = study_file(tmp_path, systems=systems)
    out = io.StringIO()
    with pytest.raises(CommandError, match="Not everything is here"):
        call_command("study", "check", str(path), stdout=out)
    text = out.getvalue()
    assert f"System beta\n    folder: there is no folder {tmp_path / 'nowhere'}" in text
    assert "licence: expected the licence" in text
    assert "org/model at 0123456789" in text
    assert not Study.objects.exists()


CLAIMS = [
    {"kind": "superiority", "first": "beta", "second": "alpha", "criterion": "quality"},
    {
        "kind": "non_inferiority",
        "first": "alpha",
        "second": "beta",
        "criterion": "quality",
        "margin": 0.075,
    },
]


def test_check_says_what_the_study_sets_out_to_show(tmp_path):
    path = study_file(tmp_path, claims=CLAIMS, looks={"at": [0.25, 0.5, 0.75]})
    expected = """\
  Declared
    quality: System beta is preferred over System alpha.
    quality: System alpha is as good as System beta, to within 7.5 points: preferred in more than \
42.5% of votes.
    Results may be read once 25%, 50% and 75% of the planned votes are in.
"""
    assert expected in run("check", path)
    run("apply", path)
    assert expected in run("check", "small")
    assert "Declared" not in run("check", study_file(tmp_path, name="plain.toml"))


def test_check_counts_nothing_while_the_prompts_cannot_be_read(tmp_path):
    path = study_file(tmp_path)
    path = study_file(tmp_path, prompts={"file": "nowhere.tsv"})
    out = io.StringIO()
    with pytest.raises(CommandError, match="Not everything is here"):
        call_command("study", "check", str(path), stdout=out)
    assert "nowhere.tsv: there is no such file" in out.getvalue()
    assert "0 prompts" not in out.getvalue()


def test_check_warns_where_the_shape_of_an_image_tells_its_system(tmp_path):
    path = study_file(tmp_path)
    assert "Worth a look" not in run("check", path)
    for image in (tmp_path / "images").glob("beta-*.png"):
        image.write_bytes(picture((30, 30, 200), size=(64, 36)))
    said = run("check", path)
    assert "Worth a look" in said
    assert "64 x 64 pixels: alpha 64 x 64, beta 64 x 36; raters can tell the systems" in said
    assert "Everything is here." in said  # it stops nothing


def test_check_of_the_published_study_says_what_to_bring():
    out = io.StringIO()
    with pytest.raises(CommandError):
        call_command("study", "check", "sdxl-turbo", stdout=out)
    text = out.getvalue()
    for expected in (
        "PartiPrompts.tsv: there is no such file",
        "stages 1: checkpoint DeepFloyd/IF-II-L-v1.0 at 609476",
        "StyleGAN-T++ (imported)",
        "hf download stabilityai/sdxl-turbo",
        "Non-Commercial",
    ):
        assert expected in text
    for problem in ("hf download stabilityai/stable-diffusion-xl-base-1.0", "licence: expected"):
        assert text.count(problem) == 1  # whoever shares it
    assert "LCM-XL, 4 steps and SDXL base 1.0, 50 steps\n" in text
