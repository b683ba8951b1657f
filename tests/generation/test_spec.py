"""A recipe names everything that changes a pixel, and refuses what it cannot mean."""

import inspect
import os
from pathlib import Path

import pytest

from generation.spec import (
    SCHEDULERS,
    SPACELESS,
    Recipe,
    find_checkpoint,
    folder_revision,
    image_digest,
)
from tests.generation.studio import recipe

COMMIT = "a" * 40
CONTENT = "sha256:" + "b" * 64


def test_equal_recipes_have_one_digest_however_they_were_written():
    written = recipe(guidance=2, unet="", timesteps=[])
    assert written.digest == recipe(guidance=2.0).digest
    assert Recipe.model_validate(written.as_json()) == written


@pytest.mark.parametrize(
    "change",
    [
        {"checkpoint": "other"},
        {"revision": CONTENT},
        {"variant": "fp16"},
        {"unet": "other", "unet_revision": CONTENT},
        {"scheduler": "LCMScheduler"},
        {"timestep_spacing": "trailing"},
        {"scheduler": "LCMScheduler", "timesteps": (999, 499)},
        {"steps": 3},
        {"guidance": 0.5},
        {"width": 40},
        {"height": 40},
        {"dtype": "bfloat16"},
    ],
)
def test_whatever_changes_a_pixel_changes_the_digest(change):
    assert recipe(**change).digest != recipe().digest


def test_digests_of_this_version_are_those_of_every_later_one():
    # Evidence points at digests for ever. If this fails, give a new field an empty default.
    assert recipe().digest == ("790952688d04d02c44ea0e5dd6ea09f8a2430bc4778de4b916f3d621994ebf83")


def test_digests_of_other_recipes_stay_as_well():
    lcm = recipe(
        variant="fp16",
        unet="other",
        unet_revision=CONTENT,
        scheduler="LCMScheduler",
        timesteps=(999, 499),
    )
    assert lcm.digest == "c888fdc20fc32b9dee297389dd2ba778f679936b2aab80c7fd0a016271dcb17c"
    theirs = Recipe(family="imported", checkpoint="theirs", revision=CONTENT)
    assert theirs.digest == "085b5da9e138f277e3a0e941466ab8cec3902e100eeee329849defbe966f5ea8"


def test_prompt_and_seed_are_part_of_an_image_s_name():
    names = {
        image_digest(recipe(), prompt, seed) for prompt in ("a cat", "a cat ") for seed in (1, 2)
    }
    assert len(names) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoint": "org/name", "revision": "main"}, "org/name is a hub id, expected its"),
        ({"checkpoint": "org/name", "revision": CONTENT}, "expected its commit"),
        ({"revision": COMMIT}, "random-sdxl is a folder, expected the hash of its content"),
        ({"checkpoint": "../elsewhere"}, "expected a folder's name, an absolute path or a hub id"),
        ({"unet": "org/unet"}, "unet_revision: org/unet is a hub id"),
        ({"scheduler": "MagicScheduler"}, "'MagicScheduler' is not known, expected one of DDIM"),
        ({"timesteps": (999,), "scheduler": "LCMScheduler"}, "1 given, expected as many as steps"),
        ({"timesteps": (1, 999), "scheduler": "LCMScheduler"}, "from high to low"),
        ({"timesteps": (999, 1)}, "explicit timesteps need a scheduler by name"),
        ({"timesteps": (999, 1), "scheduler": "DDIMScheduler"}, "does not accept explicit ones"),
        (
            {"timesteps": (9, 1), "scheduler": "DDPMScheduler", "timestep_spacing": "leading"},
            "timesteps already say",
        ),
        ({"timestep_spacing": "trailing", "scheduler": "LCMScheduler"}, "LCMScheduler has none"),
        ({"steps": 0}, "steps: missing"),
        ({"guidance": None}, "guidance: missing, expected a number, 0 for none"),
        ({"width": 500}, "multiple of 8"),
        ({"dtype": "int8"}, "dtype"),
        ({"negative_prompt": "ugly"}, "Extra inputs"),
        ({"guidance": float("nan")}, "guidance"),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_be_meant_is_refused_in_words(change, message):
    with pytest.raises(ValueError, match=message):
        recipe(**change)


def test_an_imported_recipe_takes_no_sampling_settings():
    assert Recipe(family="imported", checkpoint="theirs", revision=CONTENT).digest
    with pytest.raises(ValueError, match="steps: an imported system is not painted"):
        Recipe(family="imported", checkpoint="theirs", revision=CONTENT, steps=1)


def test_the_table_of_schedulers_is_true_of_diffusers():
    import diffusers

    from generation.pipelines.schedulers import ExplicitEulerAncestral

    for name, takes_timesteps in SCHEDULERS.items():
        kind = getattr(diffusers, name)
        if name == "EulerAncestralDiscreteScheduler":
            kind = ExplicitEulerAncestral
        accepted = "timesteps" in inspect.signature(kind.set_timesteps).parameters
        assert accepted == takes_timesteps, name


def test_the_schedulers_without_a_spacing_are_those_that_never_look_at_it():
    import diffusers

    looking = {
        name
        for name in SCHEDULERS
        if "config.timestep_spacing" in inspect.getsource(getattr(diffusers, name))
    }
    assert set(SCHEDULERS) - looking == set(SPACELESS)


def make_checkpoint(folder: Path) -> Path:
    for name in ("model_index.json", "unet/model.safetensors", "tokenizer/merges.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_a_folder_s_revision_is_that_of_its_content_and_of_nothing_else(tmp_path):
    one, other = make_checkpoint(tmp_path / "one"), make_checkpoint(tmp_path / "other")
    (other / "README.md").write_text("read me")
    (other / ".cache").mkdir()
    (other / ".cache" / "notes.json").write_text("{}")
    assert folder_revision(one) == folder_revision(other)


@pytest.mark.parametrize("name", ["unet/model.safetensors", "tokenizer/merges.txt"])
def test_a_folder_s_revision_changes_with_any_of_its_files(tmp_path, name):
    folder = make_checkpoint(tmp_path / "one")
    before = folder_revision(folder)
    (folder / name).write_text("changed")
    assert folder_revision(folder) != before


def test_a_file_that_moves_within_a_folder_changes_its_revision(tmp_path):
    folder = make_checkpoint(tmp_path / "one")
    before = folder_revision(folder)
    os.rename(folder / "unet", folder / "unit")
    assert folder_revision(folder) != before


def test_a_checkpoint_is_found_in_the_first_folder_that_has_it(tmp_path):
    for place in ("first", "second"):
        (tmp_path / place / "both").mkdir(parents=True)
    (tmp_path / "second" / "one").mkdir()
    folders = [tmp_path / "none", tmp_path / "first", tmp_path / "second"]
    assert find_checkpoint("both", folders) == tmp_path / "first" / "both"
    assert find_checkpoint("one", folders) == tmp_path / "second" / "one"
    assert find_checkpoint(str(tmp_path / "first"), folders) == tmp_path / "first"
    assert find_checkpoint("../second/one", [tmp_path / "first"]) is None
    assert find_checkpoint("absent", folders) is None


def test_a_recipe_for_others_names_a_folder_and_not_where_it_lies():
    here = recipe(
        checkpoint="/srv/anna/models/mine",
        unet="/srv/anna/faster",
        revision=CONTENT,
        unet_revision=CONTENT,
    )
    told = here.as_public_json()
    assert (told["checkpoint"], told["unet"]) == ("mine", "faster")
    same = {"checkpoint": here.checkpoint, "unet": here.unet}
    assert {**told, **same} == here.as_json()
    for place, revision in (("org/model", COMMIT), ("tiny-base", CONTENT)):
        elsewhere = recipe(checkpoint=place, revision=revision)
        assert elsewhere.as_public_json() == elsewhere.as_json()
