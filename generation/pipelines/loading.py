"""What every family does to get weights into memory: safetensors only, at the recipe's revision,
and never code from a checkpoint."""

import inspect
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel

from generation.decoders import allowed_kinds
from generation.machine import cpu_threads
from generation.pipelines.lora import fuse_lora
from generation.pipelines.schedulers import scheduler_of
from generation.spec import Recipe, is_commit
from generation.weights import Weights, part_subfolder, part_variant, snapshot

# Parts that look at a finished image or stamp it. They are left out, so that no image is blanked
# and no mark tells a rater which system made it; the facts of every image say so.
OFF = {"safety_checker": None, "feature_extractor": None, "watermarker": None}
OFF_FLAGS = {"requires_safety_checker": False, "add_watermarker": False}


def device_for(name: str) -> str:
    """Torch's name of the device to paint on, after this process was made ready for it."""
    for library in (diffusers, transformers):  # no progress bars in a worker's log
        library.utils.logging.disable_progress_bar()
    device = name or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":
        torch.set_num_threads(cpu_threads())
    return device


def load_whole(recipe: Recipe, weights: Weights, kind: Any, *, device: str) -> Any:
    """A pipeline of one checkpoint as its recipe says, with parts replaced and a LoRA added."""
    parts = {}
    if weights.unet:
        parts["unet"] = _load_part(UNet2DConditionModel, "unet", recipe, weights.unet)
    if weights.vae:
        parts["vae"] = _load_part(_vae_class(recipe, weights), "vae", recipe, weights.vae)
    pipeline = load_pipeline(
        kind,
        weights.checkpoint,
        recipe.revision,
        dtype=recipe.dtype,
        variant=recipe.variant,
        **parts,
    )
    if weights.lora:
        scale = 1.0 if recipe.lora_scale is None else recipe.lora_scale
        fuse_lora(pipeline, weights.lora, scale, **source(recipe.lora_revision))
    if recipe.scheduler or recipe.timestep_spacing:
        pipeline.scheduler = scheduler_of(recipe, pipeline.scheduler)
    if recipe.vae_dtype:
        _decode_in(pipeline.vae, getattr(torch, recipe.vae_dtype))
    return pipeline.to(device)


def load_pipeline(
    kind: Any, place: str, revision: str, *, dtype: str, variant: str, **parts: Any
) -> Any:
    """One checkpoint's pipeline, on the CPU, with nothing that judges or marks its images."""
    known = inspect.signature(kind.__init__).parameters
    off = {name: value for name, value in {**OFF, **OFF_FLAGS}.items() if name in known}
    pipeline = kind.from_pretrained(
        place, **source(revision), **_format(dtype, variant), **off, **parts
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def pipeline_class(place: str, revision: str) -> Any:
    """The class that a checkpoint's index names, which must be one of diffusers' own."""
    name = DiffusionPipeline.load_config(place, **source(revision)).get("_class_name", "")
    kind = getattr(diffusers, str(name), None)
    if kind is None:
        raise ValueError(f"{place} names the pipeline {name!r}, which diffusers does not have")
    return kind


def source(revision: str) -> dict[str, Any]:
    """A hub repository at its commit (HF_HUB_OFFLINE is honoured), or a folder and nothing else."""
    return {"revision": revision} if is_commit(revision) else {"local_files_only": True}


def _load_part(kind: Any, part: str, recipe: Recipe, place: str) -> Any:
    folder = _part_folder(part, recipe, place)
    variant = part_variant(folder / part_subfolder(part, folder), recipe.variant)
    return kind.from_pretrained(
        place, **_part_source(part, recipe, place), **_format(recipe.dtype, variant)
    )


def _part_source(part: str, recipe: Recipe, place: str) -> dict[str, Any]:
    subfolder = part_subfolder(part, _part_folder(part, recipe, place))
    inside = {"subfolder": subfolder} if subfolder else {}
    return inside | source(getattr(recipe, f"{part}_revision"))


def _part_folder(part: str, recipe: Recipe, place: str) -> Path:
    revision = getattr(recipe, f"{part}_revision")
    return snapshot(place, revision) if is_commit(revision) else Path(place)


def _vae_class(recipe: Recipe, weights: Weights) -> Any:
    """The class that the VAE's own settings name, which must be able to stand in."""
    settings = AutoencoderKL.load_config(weights.vae, **_part_source("vae", recipe, weights.vae))
    kind = settings.get("_class_name", "")
    index = DiffusionPipeline.load_config(weights.checkpoint, **source(recipe.revision))
    kinds = allowed_kinds(index.get("vae", ("", ""))[1])
    if kind not in kinds:
        raise ValueError(f"vae: {weights.vae} holds a {kind}, expected {' or '.join(kinds)}")
    return getattr(diffusers, kind)


def _format(dtype: str, variant: str) -> dict[str, Any]:
    return {"dtype": getattr(torch, dtype), "variant": variant or None, "use_safetensors": True}


def _decode_in(vae: Any, dtype: torch.dtype) -> None:
    """Decode in a precision of one's own. Pixels come out in float32, so that only the decoding is
    rounded and not the arithmetic on colours behind it."""
    vae.to(dtype)
    vae.register_to_config(force_upcast=False)  # else pipelines undo this
    decode = vae.decode

    def decoded(latents: Any, *args: Any, **options: Any) -> Any:
        out = decode(latents.to(dtype), *args, **options)
        if isinstance(out, tuple):
            return (out[0].float(), *out[1:])
        out.sample = out.sample.float()
        return out

    vae.decode = decoded
