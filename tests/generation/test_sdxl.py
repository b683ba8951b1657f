"""The real pipeline on small random weights: what is painted depends on the recipe, the prompt
and the seed alone."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from generation import pipelines, weights
from generation.easel import Studio
from generation.models import Image, Pace
from generation.pipelines import Painter
from generation.spec import Recipe, folder_revision
from generation.tasks import paint_chunk
from tests.generation.random_sdxl import random_unet
from tests.generation.studio import queued, recipe, statuses
from tests.world import NOON

PROMPTS = ["a cat", "a dog", "a red bus"]
SEEDS = [1, 2, 2**63 - 1]


@pytest.fixture(scope="module")
def base(tiny_checkpoint: Path) -> Recipe:
    return recipe(checkpoint="random-sdxl", revision=folder_revision(tiny_checkpoint), guidance=2)


@pytest.fixture(scope="module")
def painter(base: Recipe, tiny_checkpoint: Path) -> Iterator[Painter]:
    loaded = load(base, tiny_checkpoint)
    yield loaded
    loaded.close()


def load(of: Recipe, checkpoint: Path) -> Painter:
    return pipelines.load(of, weights.locate(of, [checkpoint.parent]), device="cpu")


def pixels(painter: Painter, prompts: list[str], seeds: list[int]) -> np.ndarray:
    paintings = painter.paint(prompts, seeds)
    return np.stack([np.asarray(one.picture, dtype=int) for one in paintings])


def changed(recipe: Recipe, **changes: Any) -> Recipe:
    return Recipe.model_validate(recipe.as_json() | changes)


def test_an_image_does_not_depend_on_its_batch_mates(painter):
    together = pixels(painter, PROMPTS, SEEDS)
    alone = np.concatenate(
        [pixels(painter, [prompt], [seed]) for prompt, seed in zip(PROMPTS, SEEDS)]
    )
    assert np.abs(together - alone).max() <= 1
    assert np.abs(together[0] - together[1]).max() > 1  # or the line above would say nothing


def test_a_shared_generator_would_be_noticed(painter):
    # The broken variant of the test above: seeds given to other batch mates.
    one, other = pixels(painter, ["a cat", "a cat"], [1, 2]), pixels(painter, ["a cat"], [1])
    assert np.abs(one[0] - other[0]).max() <= 1
    assert np.abs(one[1] - other[0]).max() > 1


def test_the_same_seed_gives_the_same_pixels_again(painter):
    assert (pixels(painter, PROMPTS, SEEDS) == pixels(painter, PROMPTS, SEEDS)).all()


def test_the_facts_name_versions_device_and_precision(painter, base):
    import torch

    assert painter.facts["torch"] == torch.__version__
    assert painter.facts["device"] == "cpu"
    assert painter.facts["dtype"] == "float32"
    assert painter.facts["scheduler"] == "EulerDiscreteScheduler"
    assert painter.facts["revision"] == base.revision
    assert {"diffusers", "transformers", "pipeline"} <= painter.facts.keys()
    assert torch.get_num_threads() == 1
    json.dumps(painter.facts)


def test_a_prompt_longer_than_the_encoder_reads_is_marked(painter):
    marks = [one.truncated for one in painter.paint(["a cat", "x" * 14, "x" * 15], [1, 1, 1])]
    assert marks == [False, False, True]


def test_an_empty_prompt_is_painted(painter):
    assert pixels(painter, [""], [1]).shape == (1, 32, 32, 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"guidance": 0},
        {"steps": 3},
        {"scheduler": "DDIMScheduler", "timestep_spacing": "trailing"},
        {"scheduler": "LCMScheduler", "steps": 1},
        {"timestep_spacing": "leading"},
        {"width": 48, "height": 24},
        {"dtype": "bfloat16"},
        {"scheduler": "EulerAncestralDiscreteScheduler", "timesteps": (999, 899)},
    ],
)
def test_every_setting_reaches_the_pixels(painter, base, tiny_checkpoint, changes):
    other = load(changed(base, **changes), tiny_checkpoint)
    got, plain = pixels(other, ["a cat"], [1]), pixels(painter, ["a cat"], [1])
    assert got.shape != plain.shape or np.abs(got - plain).max() > 0


@pytest.mark.parametrize(
    "name", ["EulerAncestralDiscreteScheduler", "LCMScheduler", "DDPMScheduler"]
)
def test_schedulers_that_add_noise_keep_batch_mates_apart(base, tiny_checkpoint, name):
    painter = load(changed(base, scheduler=name, steps=3), tiny_checkpoint)
    together = pixels(painter, ["a cat", "a dog"], [1, 2])
    assert np.abs(together[1] - pixels(painter, ["a dog"], [2])[0]).max() <= 1


def test_explicit_timesteps_of_euler_ancestral_are_the_ones_taken():
    # Where a spacing takes the same steps, the explicit ones must give the same sigmas.
    from diffusers import EulerAncestralDiscreteScheduler

    from generation.pipelines.schedulers import ExplicitEulerAncestral

    config = {"beta_schedule": "scaled_linear", "timestep_spacing": "trailing"}
    spaced = EulerAncestralDiscreteScheduler(**config)
    spaced.set_timesteps(4)
    explicit = ExplicitEulerAncestral(**config)
    explicit.set_timesteps(timesteps=[999, 749, 499, 249])
    assert explicit.timesteps.tolist() == spaced.timesteps.tolist()
    assert explicit.sigmas.tolist() == pytest.approx(spaced.sigmas.tolist(), rel=1e-6)
    explicit.set_timesteps(timesteps=[999, 899, 799, 699])
    assert explicit.timesteps.tolist() == [999, 899, 799, 699]
    spaced.set_timesteps(10)  # the first four of ten trailing steps, and then the end
    expected = [*spaced.sigmas[:4].tolist(), 0.0]
    assert explicit.sigmas.tolist() == pytest.approx(expected, rel=1e-6)


def test_another_unet_replaces_the_checkpoint_s_own(painter, base, tiny_checkpoint, tmp_path):
    folder = tmp_path / "unet-alone"
    random_unet().save_pretrained(folder)
    swapped = changed(base, unet=str(folder), unet_revision=folder_revision(folder))
    other = load(swapped, tiny_checkpoint)
    assert np.abs(pixels(other, ["a cat"], [1]) - pixels(painter, ["a cat"], [1])).max() > 0


def test_an_lcm_unet_takes_guidance_as_a_number_and_not_by_a_second_pass(
    base, tiny_checkpoint, tmp_path
):
    # As LCM-XL: the UNet that replaces the checkpoint's own embeds the guidance.
    folder = tmp_path / "lcm-unet"
    random_unet(time_cond_proj_dim=32).save_pretrained(folder)
    lcm = changed(
        base,
        unet=str(folder),
        unet_revision=folder_revision(folder),
        scheduler="LCMScheduler",
        guidance=8,
    )
    painter, weaker = load(lcm, tiny_checkpoint), load(changed(lcm, guidance=2), tiny_checkpoint)
    seen: list[int] = []
    unet = painter._pipeline.unet
    unet.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    together = pixels(painter, PROMPTS, SEEDS)
    assert seen == [3, 3]  # and not six: nothing is painted without the prompt beside
    assert np.abs(together[0] - pixels(weaker, PROMPTS[:1], SEEDS[:1])[0]).max() > 0
    for place, (prompt, seed) in enumerate(zip(PROMPTS, SEEDS)):
        assert np.abs(together[place] - pixels(painter, [prompt], [seed])[0]).max() <= 1


def test_a_hub_repository_is_loaded_at_its_commit_from_the_cache(
    painter, base, tiny_checkpoint, tmp_path, monkeypatch
):
    # Offline, as every test is: what is not in the cache at this commit cannot be loaded.
    commit = "d" * 40
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    shutil.copytree(tiny_checkpoint, tmp_path / "models--org--name" / "snapshots" / commit)
    hub = changed(base, checkpoint="org/name", revision=commit)
    loaded = load(hub, tiny_checkpoint)
    assert (pixels(loaded, ["a cat"], [1]) == pixels(painter, ["a cat"], [1])).all()
    assert loaded.facts["revision"] == commit
    with pytest.raises(OSError, match="org/name"):
        load(changed(hub, revision="e" * 40), tiny_checkpoint)


def test_pixels_that_overflow_are_an_error_and_not_a_black_image(base, tiny_checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "overflowing"
    shutil.copytree(tiny_checkpoint, folder)
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    save_file(
        {name: value * float("inf") for name, value in tensors.items()}, file, {"format": "pt"}
    )
    broken = changed(base, checkpoint=str(folder), revision=folder_revision(folder))
    with pytest.raises(ArithmeticError, match="not numbers"):
        load(broken, tiny_checkpoint).paint(["a cat"], [1])


def test_pickled_weights_are_not_loaded(base, tiny_checkpoint, tmp_path):
    import torch

    folder = tmp_path / "pickled"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, folder / "unet" / "diffusion_pytorch_model.bin")
    pickled = changed(base, checkpoint=str(folder), revision=folder_revision(folder))
    with pytest.raises(OSError, match="safetensors"):
        load(pickled, tiny_checkpoint)


@pytest.mark.django_db
def test_a_message_is_painted_by_the_real_pipeline_and_its_evidence_stored(base, tiny_checkpoint):
    ids = queued(2, base)
    studio = Studio(lambda of: load(of, tiny_checkpoint), remembers=True)
    paint_chunk(base.as_json(), ids, studio=studio, task_id="task", now=lambda: NOON)
    assert statuses(ids) == ["READY", "READY"]
    row = Image.objects.get(pk=ids[1])
    assert (row.width, row.height) == (32, 32)
    assert row.provenance["batch_size"] == 2
    assert row.provenance["seed"] == row.seed == 1
    assert row.provenance["ms"] > 0
    pace = Pace.objects.get()
    assert (pace.recipe_digest, pace.n_paints) == (base.digest, 5)
    assert pace.device.endswith(", 1 thread")  # of a processor that has a name
    assert set(pace.versions) == {"torch", "diffusers", "transformers"}


@pytest.mark.django_db
def test_a_checkpoint_changed_since_the_recipe_was_written_fails_its_images(
    base, tiny_checkpoint, tmp_path
):
    folder = tmp_path / "changed"
    shutil.copytree(tiny_checkpoint, folder)
    other = changed(base, checkpoint=str(folder))
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    ids = queued(1, other)
    studio = Studio(lambda of: load(of, tiny_checkpoint))
    paint_chunk(other.as_json(), ids, studio=studio, task_id="task", now=lambda: NOON)
    assert statuses(ids) == ["FAILED"]
    assert "the files were changed" in Image.objects.get().error
