"""Every family on small random weights: loaded as any checkpoint, and no image depends on its
batch mates."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers as d
import numpy as np
import pytest

from generation import pipelines, weights
from generation.pipelines import FAMILIES, Painter
from generation.spec import USES, Recipe, folder_revision
from tests.generation.random_families import save_random

PROMPTS = ["a cat", "a dog", "a red bus"]
SEEDS = [1, 2, 2**63 - 1]
TOO_LONG = {"sd1": 15, "sd3": 256, "flux": 512, "pixart": 300, "sana": 300, "amused": 15, "if": 77}
CLASSES = {
    "sd1": "StableDiffusionPipeline",
    "sd3": "StableDiffusion3Pipeline",
    "flux": "FluxPipeline",
    "pixart": "PixArtSigmaPipeline",
    "sana": "SanaPipeline",
    "amused": "AmusedPipeline",
    "if": "IFPipeline",
}


def pinned(folder: Path) -> dict[str, str]:
    return {"checkpoint": str(folder), "revision": folder_revision(folder)}


def recipe_for(name: str, folder: Path, **changes: Any) -> Recipe:
    """A recipe and, in `folder`, all the weights it names."""
    fields: dict[str, Any] = {"steps": 2, "guidance": 3, "width": 32, "height": 32}
    fields |= {"dtype": "float32", "family": "amused" if name == "amused" else "diffusers"}
    if name == "if":
        stages = [save_random("if-second", folder), save_random("upscaler", folder)]
        settings = {"steps": 2, "guidance": 4}
        fields |= {"family": "deepfloyd-if", "width": 128, "height": 128}
        fields["stages"] = [pinned(stage) | settings for stage in stages]
    checkpoint = save_random("if-first" if name == "if" else name, folder)
    return Recipe.model_validate(fields | pinned(checkpoint) | changes)


def load(recipe: Recipe) -> Painter:
    assert weights.problems(recipe, []) == []
    return pipelines.load(recipe, weights.locate(recipe, []), device="cpu")


def pixels(painter: Painter, prompts: list[str], seeds: list[int]) -> np.ndarray:
    paintings = painter.paint(prompts, seeds)
    return np.stack([np.asarray(one.picture, dtype=int) for one in paintings])


@pytest.fixture(scope="module", params=CLASSES)
def model(request, tmp_path_factory) -> Iterator[tuple[str, Recipe, Painter]]:
    recipe = recipe_for(request.param, tmp_path_factory.mktemp("models"))
    painter = load(recipe)
    yield request.param, recipe, painter
    painter.close()


def test_an_image_does_not_depend_on_its_batch_mates(model):
    _, _, painter = model
    together = pixels(painter, PROMPTS, SEEDS)
    alone = np.concatenate([pixels(painter, [p], [s]) for p, s in zip(PROMPTS, SEEDS)])
    assert np.abs(together - alone).max() <= 1
    assert np.abs(together[0] - together[1]).max() > 1  # or the line above would say nothing


def test_seed_and_prompt_reach_the_pixels(model):
    _, _, painter = model
    images = pixels(painter, ["a cat", "a cat", "a red bus"], [1, 2, 1])
    assert np.abs(images[0] - images[1]).max() > 1
    assert np.abs(images[0] - images[2]).max() > 0


def test_an_image_has_the_size_of_its_recipe_and_facts_that_say_how_it_was_made(model):
    name, recipe, painter = model
    assert pixels(painter, ["a cat"], [1]).shape == (1, recipe.height, recipe.width, 3)
    assert painter.facts["pipeline"] == CLASSES[name]
    assert (painter.facts["safety_checker"], painter.facts["watermark"]) == ("off", "off")
    # What a recipe leaves to diffusers, and another version of it may change.
    if name in ("sd3", "flux", "pixart", "sana"):
        assert painter.facts["max_sequence_length"] == TOO_LONG[name]
    if name == "if":
        assert painter.facts["noise_levels"] == [250, 20]


def test_a_prompt_that_no_encoder_reads_to_its_end_is_marked(model):
    name, _, painter = model
    fits = ("xy " * 512)[: TOO_LONG[name] // 3]
    marks = [one.truncated for one in painter.paint([fits, "x y " * TOO_LONG[name]], [1, 1])]
    assert marks == [False, True]


def test_a_recipe_of_any_family_is_the_same_after_it_was_stored(model):
    _, recipe, _ = model
    again = Recipe.model_validate(recipe.as_json())
    assert (again, again.digest) == (recipe, recipe.digest)


def test_every_family_that_paints_has_its_fields_and_its_module():
    assert FAMILIES.keys() == USES.keys() == weights.PIPELINES.keys() - {"stages"}


def test_stages_reach_the_pixels_and_their_absence_is_named(tmp_path):
    recipe = recipe_for("if", tmp_path)
    plain = pixels(load(recipe), ["a cat"], [1])
    solver = {"scheduler": "DPMSolverMultistepScheduler"}
    for change in ({"steps": 3}, {"guidance": 1}, {"noise_level": 100}, solver):
        stages = [stage.model_dump() for stage in recipe.stages]
        stages[0] |= change
        other = Recipe.model_validate(recipe.as_json() | {"stages": stages})
        assert other.digest != recipe.digest
        assert np.abs(pixels(load(other), ["a cat"], [1]) - plain).max() > 0, change
    stages[0]["checkpoint"] = str(tmp_path / "gone")
    lost = Recipe.model_validate(recipe.as_json() | {"stages": stages})
    (problem,) = weights.problems(lost, [])
    assert problem.startswith(f"stages 1: checkpoint {tmp_path}/gone: no such folder")


def test_every_stage_of_if_has_its_scheduler(tmp_path):
    recipe = recipe_for("if", tmp_path)
    stages = [stage.model_dump() for stage in recipe.stages]
    stages[0]["scheduler"] = solver = "DPMSolverMultistepScheduler"
    stages[1]["scheduler"] = "EulerDiscreteScheduler"  # the upscaler's: it predicts no variance
    other = Recipe.model_validate(recipe.as_json() | {"stages": stages, "scheduler": solver})
    painter = load(other)
    parts = [painter._pipeline, *painter._later]
    assert [type(one.scheduler).__name__ for one in parts] == [
        solver,
        solver,
        "EulerDiscreteScheduler",
    ]
    assert painter.facts["scheduler"] == solver
    together = pixels(painter, PROMPTS, SEEDS)
    assert np.abs(together[1] - pixels(painter, PROMPTS[1:2], SEEDS[1:2])[0]).max() <= 1
    stages[0]["scheduler"] = "EulerDiscreteScheduler"
    wrong = Recipe.model_validate(recipe.as_json() | {"stages": stages})
    (problem,) = weights.problems(wrong, [])
    assert problem.startswith("stages 1: scheduler: IF predicts a variance, which 'Euler")
    with pytest.raises(RuntimeError, match="size of tensor"):  # why it is refused
        pipelines.load(wrong, weights.locate(wrong, []), device="cpu").paint(["a cat"], [1])


def test_a_prompt_of_if_is_encoded_once_for_its_two_stages(tmp_path):
    painter = load(recipe_for("if", tmp_path))
    read: list[int] = []
    encoder = painter._pipeline.text_encoder
    encoder.register_forward_pre_hook(lambda _, args: read.append(len(args[0])))
    painter.paint(PROMPTS, SEEDS)
    assert read == [3, 3]  # the prompts, and as many times nothing, for guidance
    assert painter._later[0].text_encoder is None


def test_two_stages_of_if_end_before_the_upscaler(tmp_path):
    recipe = recipe_for("if", tmp_path)
    fields = recipe.as_json() | {"stages": recipe.as_json()["stages"][:1]}
    short = Recipe.model_validate(fields | {"width": 32, "height": 32})
    assert pixels(load(short), ["a cat"], [1]).shape == (1, 32, 32, 3)


def test_a_stock_scheduler_would_refuse_a_generator_for_each_image(tmp_path):
    # The broken variant of aMUSEd's batch: what our own scheduler is for.
    from diffusers import AmusedScheduler

    painter = load(recipe_for("amused", tmp_path))
    painter._pipeline.scheduler = AmusedScheduler(mask_token_id=31)
    with pytest.raises(AttributeError, match="device"):
        painter.paint(PROMPTS, SEEDS)


def test_a_pipeline_that_needs_an_image_is_refused_by_what_it_lacks(tmp_path):
    upscaler = save_random("upscaler", tmp_path)
    fields = {"family": "diffusers", "steps": 1, "guidance": 0, "width": 32, "height": 32}
    recipe = Recipe.model_validate(fields | {"dtype": "float32"} | pinned(upscaler))
    with pytest.raises(ValueError, match="does not take height, width: the family diffusers"):
        load(recipe)


@pytest.mark.parametrize(
    ("name", "own", "changes", "message"),
    [
        ("sd3", {}, {"scheduler": "EulerDiscreteScheduler"}, "follows a flow with its own FlowM"),
        ("sd3", {}, {"timestep_spacing": "trailing"}, "own FlowMatchEulerDiscreteScheduler has"),
        (
            "pixart",
            {"prediction_type": "flow_prediction", "use_flow_sigmas": True},
            {"scheduler": "DDIMScheduler"},
            "follows a flow with its own DPMSolverMultistepScheduler, which DDIMScheduler does not",
        ),
    ],
)
def test_a_schedule_that_a_model_cannot_follow_is_refused_before_painting(
    tmp_path, name, own, changes, message
):
    folder = save_random(name, tmp_path)
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | own))
    fields = {"family": "diffusers", "steps": 2, "guidance": 3, "width": 32, "height": 32}
    fields |= pinned(folder) | {"dtype": "float32"}
    load(Recipe.model_validate(fields)).close()
    recipe = Recipe.model_validate(fields | changes)
    (problem,) = weights.problems(recipe, [])
    assert message in problem
    with pytest.raises(ValueError, match=message):
        pipelines.load(recipe, weights.locate(recipe, []), device="cpu")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("amused", {"scheduler": "LCMScheduler"}, "scheduler: the family amused does not use this"),
        ("sd1", {"unet": "x"}, "unet: the family diffusers does not use this"),
        ("sd1", {"lora_scale": 2}, "lora_scale: expected a lora beside it"),
        ("sd1", {"lora": "org/x", "lora_revision": "main"}, "lora_revision: org/x is a hub id"),
        ("sd1", {"vae": "x"}, "vae_revision: x is a folder, expected the hash"),
        ("if", {"stages": ()}, "stages: 0 given, expected 1 or 2"),
        ("if", {"width": 64}, "width: expected a multiple of 128"),
        ("if", {"scheduler": "LCMScheduler"}, "scheduler: IF predicts a variance, which 'LCMSch"),
        ("if", {"lora": "x"}, "lora: the family deepfloyd-if does not use this"),
    ],
)
def test_a_field_that_a_family_cannot_use_is_refused_by_name(tmp_path, name, changes, message):
    with pytest.raises(ValueError, match=message):
        recipe_for(name, tmp_path, **changes)


@pytest.mark.parametrize(
    ("family", "kind"), [("amused", "AmusedPipeline"), ("deepfloyd-if", "IFPipeline")]
)
def test_another_kind_of_checkpoint_is_refused_before_it_is_loaded(tmp_path, family, kind):
    recipe = recipe_for("if" if family == "deepfloyd-if" else "amused", tmp_path)
    wrong = save_random("sd1", tmp_path)
    (problem,) = weights.problems(Recipe.model_validate(recipe.as_json() | pinned(wrong)), [])
    expected = f"holds a StableDiffusionPipeline, the family {family} paints with {kind}"
    assert expected in problem


def test_models_in_several_files_of_a_variant_are_found_and_loaded(tmp_path):
    recipe = recipe_for("sd1", tmp_path)
    split = tmp_path / "split"
    whole = d.StableDiffusionPipeline.from_pretrained(recipe.checkpoint, safety_checker=None)
    whole.save_pretrained(split, variant="fp16", max_shard_size="50KB")
    shards = sorted(split.rglob("*.fp16-00002-of-*.safetensors"))
    assert {file.parent.name for file in shards} == {"text_encoder", "unet", "vae"}
    sharded = Recipe.model_validate(recipe.as_json() | pinned(split) | {"variant": "fp16"})
    assert (pixels(load(sharded), ["a cat"], [1]) == pixels(load(recipe), ["a cat"], [1])).all()
    shards[0].unlink()
    lacking = Recipe.model_validate(sharded.as_json() | pinned(split))
    (problem,) = weights.problems(lacking, [])
    assert problem.startswith(f"checkpoint: {shards[0]} is not there; ")
    with pytest.raises(OSError, match=shards[0].name):
        pipelines.load(lacking, weights.locate(lacking, []), device="cpu")
