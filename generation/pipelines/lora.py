"""A LoRA added into the weights once, when they are loaded: W + scale * (alpha / rank) * up @ down.

diffusers reads the files; its own way of applying them needs another package, and would keep the
additions apart from the weights, which costs time at every step.
"""

import re
from pathlib import Path
from typing import Any

import torch
from transformers.utils import cached_file

from generation.headers import LORA_HALF, lora_problem
from generation.weights import LORA_FILE

DOWN = ("down", "lora_A", "lora_down")


def fuse_lora(pipeline: Any, place: str, scale: float, **source: Any) -> int:
    """Add a LoRA to a pipeline's models, and say to how many layers.

    Raises ValueError, before any weight changed, when a tensor of it would have no effect here.
    """
    tensors, alphas = _read(pipeline, place, source)
    strengths = {_layer_name(key.removesuffix(".alpha")): value for key, value in alphas.items()}
    additions = []
    pairs = _pairs(place, tensors)
    if unknown := sorted(strengths.keys() - pairs.keys()):
        raise ValueError(f"lora: {place} has a strength for {unknown[0]}, and no change of it")
    for name, (up, down) in sorted(pairs.items()):
        rank = down.shape[0]
        layer = _layer(place, pipeline, name)
        additions.append((layer, up, down, strengths.get(name, rank) / rank))
    if not additions:
        raise ValueError(f"lora: {place} holds no LoRA")
    for layer, up, down, strength in additions:
        _add(layer.weight, up, down, scale * strength)
    return len(additions)


def _read(
    pipeline: Any, place: str, source: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, float]]:
    if not hasattr(pipeline, "lora_state_dict"):
        raise ValueError(f"lora: {type(pipeline).__name__} takes none")
    # Before diffusers reads it, which would leave out what it does not know.
    if problem := lora_problem(Path(cached_file(place, LORA_FILE, **source))):
        raise ValueError(f"lora: {problem}")
    unet = pipeline.components.get("unet")
    shape = {"unet_config": unet.config} if unet is not None else {"return_alphas": True}
    tensors, *rest = pipeline.lora_state_dict(
        place,
        weight_name=LORA_FILE,
        use_safetensors=True,
        return_lora_metadata=True,  # so that every pipeline gives a tuple
        **shape,
        **source,
    )
    alphas: dict[str, float] = next((one for one in rest if one), {})
    return dict(tensors), alphas


def _pairs(place: str, tensors: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Layer, with the name of its model before it -> (up, down)."""
    halves: dict[str, dict[bool, Any]] = {}
    for key, value in tensors.items():
        half = LORA_HALF.search(key)
        if half is None:
            raise ValueError(f"lora: {place} holds {key}, which is no part of a LoRA known here")
        name = _layer_name(key[: half.start()])
        halves.setdefault(name, {})[half.group(1) in DOWN] = value
    for name, both in halves.items():
        if len(both) != 2:
            raise ValueError(f"lora: {place} holds only half of what changes {name}")
    return {name: (both[False], both[True]) for name, both in halves.items()}


def _layer_name(name: str) -> str:
    """The layer's name in its model: older files name the parts of attention in other words."""
    name = re.sub(r"\.(down|up)\.weight$", "", name).removesuffix(".lora")
    name = name.removesuffix(".lora_linear_layer")
    if name.startswith("text_encoder"):
        return re.sub(r"\.to_(q|k|v|out)_lora$", r".\1_proj", name)
    name = re.sub(r"(?:\.processor)?\.to_(q|k|v)_lora$", r".to_\1", name)
    return re.sub(r"(?:\.processor)?\.to_out_lora$", ".to_out.0", name)


def _layer(place: str, pipeline: Any, name: str) -> Any:
    part, _, inside = name.partition(".")
    model = pipeline.components.get(part)
    if model is None:
        raise ValueError(f"lora: {place} changes {part}, which this pipeline does not have")
    layers = dict(model.named_modules())
    # Text encoders lost a level of names in newer versions of transformers.
    layer = layers.get(inside) or layers.get(inside.removeprefix("text_model."))
    if layer is None:
        raise ValueError(f"lora: {place} changes {name}, for which this model has no layer")
    return layer


def _add(weight: Any, up: Any, down: Any, strength: float) -> None:
    """In float32, rounded once to the weight's own precision."""
    product = up.float().flatten(1) @ down.float().flatten(1)
    with torch.no_grad():
        added = weight.float() + strength * product.reshape(weight.shape).to(weight.device)
        weight.copy_(added.to(weight.dtype))
