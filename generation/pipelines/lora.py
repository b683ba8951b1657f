"""A LoRA added into the weights once, when they are loaded: W + scale * (alpha / rank) * up @ down.

diffusers reads the formats; its own way of applying them needs another package, and would keep
the additions apart from the weights, which costs time at every step.
"""

from typing import Any

import torch
from diffusers.utils.state_dict_utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)

DOWN, UP = ".lora_A.weight", ".lora_B.weight"


def fuse_lora(pipeline: Any, place: str, scale: float, **source: Any) -> int:
    """Add a LoRA to a pipeline's models, and say to how many layers.

    Raises ValueError, before any weight changed, when a tensor of it would have no effect here.
    """
    tensors, alphas = _read(pipeline, place, source)
    additions = []
    for part in sorted({key.partition(".")[0] for key in tensors}):
        model = pipeline.components.get(part)
        if model is None:
            raise ValueError(f"lora: {place} changes {part}, which this pipeline does not have")
        own = _in_one_form(part, _below(part, tensors))
        strengths = {name.removesuffix(".alpha"): value for name, value in _alphas(part, alphas)}
        additions += [
            (layer, up, down, strengths.get(name, down.shape[0]) / down.shape[0])
            for name, layer, up, down in _pairs(place, part, model, own)
        ]
    if not additions:
        raise ValueError(f"lora: {place} holds no LoRA")
    for layer, up, down, strength in additions:
        _add(layer.weight, up, down, scale * strength)
    return len(additions)


def _read(pipeline: Any, place: str, source: Any) -> tuple[dict[str, Any], dict[str, float]]:
    unet = pipeline.components.get("unet")
    shape = {"unet_config": unet.config} if unet is not None else {"return_alphas": True}
    if not hasattr(pipeline, "lora_state_dict"):
        raise ValueError(f"lora: {type(pipeline).__name__} takes none")
    read = pipeline.lora_state_dict(
        place, use_safetensors=True, return_lora_metadata=True, **shape, **source
    )
    tensors, *rest = read
    if rest and rest[-1]:  # strengths in a header: rarely there, and easily misread
        raise ValueError(f"lora: {place} keeps its strengths in a header, which is not read here")
    alphas: dict[str, float] = next((one for one in rest if one), {})
    return dict(tensors), alphas


def _below(part: str, tensors: dict[str, Any]) -> dict[str, Any]:
    prefix = f"{part}."
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }


def _in_one_form(part: str, tensors: dict[str, Any]) -> dict[str, Any]:
    if part.startswith("text_encoder"):
        tensors = convert_state_dict_to_peft(convert_state_dict_to_diffusers(tensors))
        return {key.replace("..", "."): value for key, value in tensors.items()}
    if any("lora_A" in key for key in tensors):
        return tensors
    return dict(convert_unet_state_dict_to_peft(tensors))


def _alphas(part: str, alphas: dict[str, float]) -> list[tuple[str, float]]:
    return [(_layer_name(part, key), float(value)) for key, value in _below(part, alphas).items()]


def _layer_name(part: str, key: str) -> str:
    """The layer that an alpha is for: alphas are renamed as tensors are."""
    stem = key.removesuffix(".alpha").removesuffix(".down.weight").removesuffix(".lora")
    as_tensor = f"{stem}.lora_A.weight" if "_lora" not in stem else f"{stem}.down.weight"
    (renamed,) = _in_one_form(part, {as_tensor: 0})
    return renamed.removesuffix(DOWN)


def _pairs(place: str, part: str, model: Any, tensors: dict[str, Any]) -> list[tuple[Any, ...]]:
    layers = dict(model.named_modules())
    pairs = []
    for key in sorted(tensors):
        name = key.removesuffix(DOWN).removesuffix(UP)
        # Text encoders lost a level of names in newer versions of transformers.
        layer = layers.get(name) or layers.get(name.removeprefix("text_model."))
        partner = f"{name}{UP if key.endswith(DOWN) else DOWN}"
        if name == key or layer is None or partner not in tensors:
            raise ValueError(f"lora: {place} has {part}.{key}, for which this model has no layer")
        if key.endswith(DOWN):
            pairs.append((name, layer, tensors[partner], tensors[key]))
    return pairs


def _add(weight: Any, up: Any, down: Any, strength: float) -> None:
    """In float32, rounded once to the weight's own precision."""
    product = up.float().flatten(1) @ down.float().flatten(1)
    with torch.no_grad():
        added = weight.float() + strength * product.reshape(weight.shape).to(weight.device)
        weight.copy_(added.to(weight.dtype))
