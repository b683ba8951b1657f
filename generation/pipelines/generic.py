"""Any text-to-image pipeline of diffusers that takes a prompt, generators, steps, guidance and a
size: SD 1.x, SD3, Flux, PixArt-Sigma, Sana and others like them."""

import inspect
from typing import Any

from generation.pipelines.loading import device_for, load_whole, pipeline_class
from generation.pipelines.painter import PipelinePainter
from generation.spec import Recipe
from generation.weights import Weights

CALL = ("prompt", "generator", "num_inference_steps", "guidance_scale", "height", "width")
# Captions as written: cleaning them depends on packages that a machine may lack. And the size as
# written, rather than that of the nearest of some shapes.
AS_WRITTEN = {"clean_caption": False, "use_resolution_binning": False}


def load(recipe: Recipe, weights: Weights, *, device: str) -> "GenericPainter":
    """Load weights as the recipe says, into the class that the checkpoint names."""
    kind = pipeline_class(weights.checkpoint, recipe.revision)
    _check_call(recipe, kind)
    return GenericPainter(recipe, load_whole(recipe, weights, kind, device=device_for(device)))


def _check_call(recipe: Recipe, kind: Any) -> None:
    parameters = inspect.signature(kind.__call__).parameters
    needed = (*CALL, "timesteps") if recipe.timesteps else CALL
    lacking = [name for name in needed if name not in parameters]
    if lacking:
        raise ValueError(
            f"{kind.__name__} does not take {', '.join(lacking)}: the family diffusers paints with "
            "pipelines from text to image only"
        )


class GenericPainter(PipelinePainter):
    """A loaded pipeline of this family."""

    def __init__(self, recipe: Recipe, pipeline: Any) -> None:
        self._call = inspect.signature(type(pipeline).__call__).parameters
        longest = self._call.get("max_sequence_length")
        # A default of diffusers, which another version may change.
        read = {"max_sequence_length": longest.default} if longest else {}
        super().__init__(recipe, pipeline, **read)

    def _sample(self, prompts: list[str], generators: list[Any], **more: Any) -> Any:
        as_written = {name: off for name, off in AS_WRITTEN.items() if name in self._call}
        return super()._sample(prompts, generators, **as_written, **more)

    def _limits(self) -> list[tuple[Any, int]]:
        """A pipeline that says how long a sequence may be says so for all encoders but CLIP's."""
        longest = self._call.get("max_sequence_length")
        return [
            (tokenizer, limit if longest is None or _is_clip(tokenizer) else longest.default)
            for tokenizer, limit in super()._limits()
        ]


def _is_clip(tokenizer: Any) -> bool:
    return type(tokenizer).__name__.startswith("CLIP")
