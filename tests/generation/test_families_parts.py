"""What a recipe adds to a checkpoint or replaces in it: a LoRA, a VAE, its precision."""

import inspect
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from generation import decoders, pipelines, weights
from generation.spec import Recipe, folder_revision
from tests.generation import random_families
from tests.generation.studio import recipe
from tests.generation.test_families import pixels

LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v"
KOHYA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_v"
TEXT = "lora_te2_text_model_encoder_layers_0_self_attn_q_proj"


@pytest.fixture(scope="module")
def base(tiny_checkpoint: Path) -> Recipe:
    revision = folder_revision(tiny_checkpoint)
    return recipe(checkpoint=str(tiny_checkpoint), revision=revision, guidance=2)


def load(base: Recipe, **changes: Any) -> Any:
    of = Recipe.model_validate(base.as_json() | changes)
    assert weights.problems(of, []) == []
    return pipelines.load(of, weights.locate(of, []), device="cpu")


def lora(folder: Path, tensors: dict[str, Any]) -> dict[str, str]:
    folder.mkdir()
    save_file(tensors, folder / "pytorch_lora_weights.safetensors")
    return {"lora": str(folder), "lora_revision": folder_revision(folder)}


def pair(name: str, *, down: str = "lora_down", up: str = "lora_up") -> dict[str, Any]:
    draw = torch.Generator().manual_seed(5)
    return {
        f"{name}.{down}.weight": torch.randn(2, 32, generator=draw),
        f"{name}.{up}.weight": torch.randn(32, 2, generator=draw),
    }


def weight(painter: Any, layer: str = LAYER) -> Any:
    return painter._pipeline.unet.get_submodule(layer).weight


def test_a_lora_is_added_with_its_own_strength_and_the_recipe_s(base, tmp_path):
    # In the form of lcm-lora-sdxl: names with underscores, an alpha for each layer.
    tensors = pair(KOHYA) | pair(TEXT)
    alphas = {f"{KOHYA}.alpha": torch.tensor(1.0), f"{TEXT}.alpha": torch.tensor(4.0)}
    plain = load(base)
    full = lora(tmp_path / "lora", tensors | alphas)
    once, half = load(base, **full), load(base, **full, lora_scale=0.5)
    product = tensors[f"{KOHYA}.lora_up.weight"] @ tensors[f"{KOHYA}.lora_down.weight"]
    expected = weight(plain) + 1.0 / 2 * product  # alpha / rank
    assert torch.allclose(weight(once), expected, atol=1e-6)
    assert torch.allclose(weight(half), weight(plain) + 0.25 * product, atol=1e-6)
    queries = [one._pipeline.text_encoder_2.state_dict() for one in (plain, once)]
    (key,) = (name for name in queries[0] if name.endswith("layers.0.self_attn.q_proj.weight"))
    product = tensors[f"{TEXT}.lora_up.weight"] @ tensors[f"{TEXT}.lora_down.weight"]
    assert torch.allclose(queries[1][key], queries[0][key] + 4.0 / 2 * product, atol=1e-6)
    shift = pixels(once, ["a cat"], [1]) - pixels(plain, ["a cat"], [1])
    assert np.abs(shift).max() > 0


@pytest.mark.parametrize("names", [("lora_A", "lora_B"), ("lora.down", "lora.up")])
def test_a_lora_in_other_forms_is_read(base, tmp_path, names):
    down, up = names
    tensors = pair(f"unet.{LAYER}", down=down, up=up)
    painter = load(base, **lora(tmp_path / "lora", tensors))
    product = tensors[f"unet.{LAYER}.{up}.weight"] @ tensors[f"unet.{LAYER}.{down}.weight"]
    assert torch.allclose(weight(painter), weight(load(base)) + product, atol=1e-6)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            pair("unet.nowhere.attn1.to_q", down="lora_A", up="lora_B"),
            "for which this model has no layer",
        ),
        (
            {"unet.conv_in.lora_A.weight": torch.ones(1, 4)},
            "only half of what changes unet.conv_in",
        ),
        (pair("prior.attn1.to_q", down="lora_A", up="lora_B"), "changes prior, which this"),
    ],
)
def test_a_lora_that_would_have_no_effect_is_refused(base, tmp_path, tensors, message):
    with pytest.raises(ValueError, match=message):
        load(base, **lora(tmp_path / "lora", tensors))


NO_LORA = {
    "a DoRA of kohya's": (pair(KOHYA) | {f"{KOHYA}.dora_scale": torch.ones(1)}, "is a DoRA"),
    "a DoRA of peft's": (
        pair(f"unet.{LAYER}", down="lora_A", up="lora_B")
        | {f"unet.{LAYER}.lora_magnitude_vector": torch.ones(32)},
        "is a DoRA",
    ),
    "a LoHa": ({f"{KOHYA}.hada_w1_a": torch.ones(1)}, "is a LoHa"),
    "a LoKr": ({f"{KOHYA}.lokr_w1": torch.ones(1)}, "is a LoKr"),
    "neither": ({"unet.conv_in.lora_bias": torch.ones(1)}, "is no LoRA known here"),
}


@pytest.mark.parametrize("kind", NO_LORA)
def test_what_is_no_lora_is_refused_before_painting_and_by_the_worker(base, tmp_path, kind):
    tensors, message = NO_LORA[kind]
    named = lora(tmp_path / "lora", tensors)
    of = Recipe.model_validate(base.as_json() | named)
    (problem,) = weights.problems(of, [])
    assert problem.startswith(f"lora: {tmp_path}/lora/pytorch_lora_weights.safetensors {message}")
    assert f"it holds {list(tensors)[-1]}; expected a LoRA alone" in problem
    with pytest.raises(ValueError, match=message):
        pipelines.load(of, weights.locate(of, []), device="cpu")


def test_diffusers_alone_would_take_a_dora_for_a_lora(tmp_path):
    # Why its reader is not asked first: what it leaves out it does not tell.
    tensors, _ = NO_LORA["a DoRA of kohya's"]
    lora(tmp_path / "lora", tensors)
    kind = diffusers.StableDiffusionXLPipeline
    read, _ = kind.lora_state_dict(tmp_path / "lora")
    assert len(read) == 2


def test_a_lora_with_its_strengths_in_the_header_is_refused(base, tmp_path):
    named = lora(tmp_path / "lora", pair(KOHYA))
    file = tmp_path / "lora" / "pytorch_lora_weights.safetensors"
    save_file(pair(KOHYA), file, {"lora_adapter_metadata": '{"unet.lora_alpha": 4}'})
    named["lora_revision"] = folder_revision(tmp_path / "lora")
    (problem,) = weights.problems(Recipe.model_validate(base.as_json() | named), [])
    assert problem.startswith(f"lora: {file} keeps its strengths in its header")


def test_a_lora_in_the_hub_s_cache_is_read_without_the_hub(base, tmp_path, monkeypatch):
    commit = "c" * 40
    lora(tmp_path / "lora", pair(KOHYA))
    snapshots = tmp_path / "models--org--lora" / "snapshots"
    snapshots.mkdir(parents=True)
    (tmp_path / "lora").rename(snapshots / commit)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))  # read at import
    painter = load(base, lora="org/lora", lora_revision=commit)
    assert not torch.equal(weight(painter), weight(load(base)))


def test_a_lora_without_its_file_is_a_problem_before_painting(base, tmp_path):
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter.json").write_text("{}")
    named = {"lora": str(tmp_path / "lora"), "lora_revision": folder_revision(tmp_path / "lora")}
    (problem,) = weights.problems(Recipe.model_validate(base.as_json() | named), [])
    assert "lora: expected pytorch_lora_weights.safetensors alone in" in problem
    assert "pickled weights are not loaded" in problem


def test_another_vae_replaces_the_checkpoint_s_own(base, tmp_path):
    torch.manual_seed(9)
    random_families.vae().save_pretrained(tmp_path / "vae-fix")
    named = {"vae": str(tmp_path / "vae-fix")}
    named["vae_revision"] = folder_revision(tmp_path / "vae-fix")
    other = pixels(load(base, **named), ["a cat"], [1])
    assert np.abs(other - pixels(load(base), ["a cat"], [1])).max() > 1
    (tmp_path / "vae-fix" / "config.json").write_text("{}")
    (problem,) = weights.problems(Recipe.model_validate(base.as_json() | named), [])
    assert problem.startswith("vae: the content of")
    assert "the files were changed" in problem
    named["vae_revision"] = folder_revision(tmp_path / "vae-fix")
    (problem,) = weights.problems(Recipe.model_validate(base.as_json() | named), [])
    assert "config.json cannot be read; expected one that names the VAE's class" in problem


def test_a_part_may_lie_in_a_whole_repository_and_have_no_variant(base, tmp_path, monkeypatch):
    commit = "c" * 40
    snapshot = tmp_path / "models--org--whole" / "snapshots" / commit
    torch.manual_seed(9)
    random_families.vae().save_pretrained(snapshot / "vae")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))  # read at import
    halves = tmp_path / "halves"
    kind = diffusers.StableDiffusionXLPipeline
    kind.from_pretrained(base.checkpoint).save_pretrained(halves, variant="fp16")
    of_halves = {"checkpoint": str(halves), "revision": folder_revision(halves), "variant": "fp16"}
    there = load(base, vae=str(snapshot), vae_revision=folder_revision(snapshot))
    painter = load(base, **of_halves, vae="org/whole", vae_revision=commit)
    assert (pixels(painter, ["a cat"], [1]) == pixels(there, ["a cat"], [1])).all()
    (snapshot / "vae" / "diffusion_pytorch_model.safetensors").rename(snapshot / "vae" / "x.bin")
    of = Recipe.model_validate(
        base.as_json() | of_halves | {"vae": "org/whole", "vae_revision": commit}
    )
    (problem,) = weights.problems(of, [])
    assert problem.startswith(f"vae: expected *.fp16.safetensors in {snapshot}/vae, found none")


def vae(folder: Path, model: Any) -> dict[str, str]:
    model.save_pretrained(folder)
    return {"vae": str(folder), "vae_revision": folder_revision(folder)}


@pytest.mark.parametrize("name", ["sdxl", "sd1", "flux"])
def test_a_tiny_vae_decodes_the_same_latents(base, tmp_path, name):
    if name != "sdxl":
        folder = random_families.save_random(name, tmp_path)
        changes = {"family": "diffusers", "checkpoint": str(folder)}
        base = Recipe.model_validate(
            base.as_json() | changes | {"revision": folder_revision(folder)}
        )
    plain = load(base)
    painter = load(base, **vae(tmp_path / "taesd", random_families.tiny_vae()))
    assert type(painter._pipeline.vae) is diffusers.AutoencoderTiny
    latents = [caught_latents(one) for one in (plain, painter)]
    own, scale = plain._pipeline.vae.config, painter._pipeline.vae.config.scaling_factor
    # What the model painted, before each pipeline undid what its own VAE does to it.
    painted = (latents[0] - (own.shift_factor or 0)) * own.scaling_factor
    assert torch.allclose(latents[1] * scale, painted, atol=1e-5)
    assert pixels(painter, ["a cat"], [1]).shape == (1, 32, 32, 3)


def caught_latents(painter: Any) -> Any:
    caught: list[Any] = []
    decode = painter._pipeline.vae.decode

    def watched(latents: Any, *args: Any, **options: Any) -> Any:
        caught.append(latents.clone())
        return decode(latents, *args, **options)

    painter._pipeline.vae.decode = watched
    painter.paint(["a cat"], [1])
    return caught[0]


def another_decoder() -> Any:
    return diffusers.AsymmetricAutoencoderKL(
        down_block_out_channels=(8,), up_block_out_channels=(8,), norm_num_groups=8
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            another_decoder,
            "holds a AsymmetricAutoencoderKL, expected AutoencoderKL or AutoencoderTiny",
        ),
        (lambda: random_families.vae(scaling_factor=0.13025), "expected scaling_factor 0.18215"),
        (lambda: random_families.vae(shift_factor=0.1), "expected shift_factor None, found 0.1"),
        (lambda: random_families.vae(16), "expected latent_channels 4, found 16"),
        (lambda: random_families.tiny_vae(16), "expected latent_channels 4, found 16"),
        (lambda: random_families.vae(levels=2), "expected levels 3, found 2"),
        (lambda: random_families.tiny_vae(levels=2), "expected levels 3, found 2"),
    ],
)
def test_a_vae_that_was_made_for_other_latents_is_refused(base, tmp_path, model, message):
    named = vae(tmp_path / "other", model())
    found = weights.problems(Recipe.model_validate(base.as_json() | named), [])
    assert [line for line in found if line.startswith(f"vae: {tmp_path}/other") and message in line]


def test_the_worker_refuses_a_kind_of_vae_that_cannot_stand_in(base, tmp_path):
    named = vae(tmp_path / "other", another_decoder())
    of = Recipe.model_validate(base.as_json() | named)
    with pytest.raises(ValueError, match="holds a AsymmetricAutoencoderKL"):
        pipelines.load(of, weights.locate(of, []), device="cpu")


@pytest.mark.parametrize("kind", decoders.DEFAULTS)
def test_what_a_vae_takes_where_its_settings_are_silent_is_known(kind):
    parameters = inspect.signature(getattr(diffusers, kind).__init__).parameters
    for key in decoders.SAME:
        default = parameters[key].default if key in parameters else None
        assert decoders.DEFAULTS[kind].get(key) == default, key


def test_decoding_in_another_precision_changes_pixels_by_rounding_only(base):
    exact = pixels(load(base), ["a cat", "a dog"], [1, 2])
    rounded = pixels(load(base, vae_dtype="bfloat16"), ["a cat", "a dog"], [1, 2])
    assert 0 < np.abs(rounded - exact).mean() < 2
    halves = load(base, dtype="bfloat16", vae_dtype="float32")
    assert pixels(halves, ["a cat"], [1]).shape == (1, 32, 32, 3)


def test_both_schedules_of_turbo_can_be_said(base):
    euler = {"scheduler": "EulerAncestralDiscreteScheduler", "steps": 4, "guidance": 0}
    trailing = load(base, **euler, timestep_spacing="trailing")
    demo = load(base, **euler, timesteps=(999, 899, 799, 699))
    images = [pixels(one, ["a cat"], [1]) for one in (trailing, demo)]
    taken = [one._pipeline.scheduler.timesteps.tolist() for one in (trailing, demo)]
    assert taken == [[999, 749, 499, 249], [999, 899, 799, 699]]
    assert np.abs(images[0] - images[1]).max() > 1
