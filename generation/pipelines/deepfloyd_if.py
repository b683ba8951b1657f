"""DeepFloyd IF: an image of 64 pixels, enlarged fourfold by one or two further models."""

import inspect
from typing import Any

import diffusers
import torch
from diffusers import (
    IFPipeline,
    IFSuperResolutionPipeline,
    StableDiffusionUpscalePipeline,
)

from generation.pipelines.loading import device_for, load_pipeline, pipeline_class
from generation.pipelines.painter import PipelinePainter
from generation.spec import STAGE_FACTOR, Recipe, Stage
from generation.weights import Weights

TOKENS = 77  # what IF's encoder was trained with, whatever its tokenizer says
BLIND = {"text_encoder": None, "tokenizer": None}  # embeddings come from the first stage


def load(recipe: Recipe, weights: Weights, *, device: str) -> "IfPainter":
    """Load all stages at once: one image goes through them without waiting."""
    device = device_for(device)
    first = load_pipeline(
        IFPipeline,
        weights.checkpoint,
        recipe.revision,
        dtype=recipe.dtype,
        variant=recipe.variant,
    )
    _schedule(first, recipe.scheduler)
    later = [
        _load_stage(stage, place, dtype=recipe.dtype, device=device)
        for stage, place in zip(recipe.stages, weights.stages)
    ]
    return IfPainter(recipe, first.to(device), later)


def _load_stage(stage: Stage, place: str, *, dtype: str, device: str) -> Any:
    kind = pipeline_class(place, stage.revision)
    if kind not in (IFSuperResolutionPipeline, StableDiffusionUpscalePipeline):
        raise ValueError(f"stages: {place} holds a {kind.__name__}, which does not enlarge images")
    blind = BLIND if kind is IFSuperResolutionPipeline else {}
    pipeline = load_pipeline(
        kind, place, stage.revision, dtype=dtype, variant=stage.variant, **blind
    )
    _schedule(pipeline, stage.scheduler)
    return pipeline.to(device)


def _schedule(pipeline: Any, scheduler: str) -> None:
    """Another scheduler with the settings of the checkpoint's own, where a recipe names one."""
    if scheduler:
        kind = getattr(diffusers, scheduler)
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config)


def _noise_level(stage: Stage, pipeline: Any) -> int:
    """The stage's own, or that of its pipeline, which another version of diffusers may change."""
    if stage.noise_level is not None:
        return stage.noise_level
    default: int = inspect.signature(type(pipeline).__call__).parameters["noise_level"].default
    return default


class IfPainter(PipelinePainter):
    """The loaded stages. Each goes on with the image's own generator."""

    def __init__(self, recipe: Recipe, first: Any, later: list[Any]) -> None:
        stages = [type(one).__name__ for one in later]
        self._noise = [_noise_level(stage, one) for stage, one in zip(recipe.stages, later)]
        super().__init__(recipe, first, stages=stages, noise_levels=self._noise)
        self._later = later

    def close(self) -> None:
        self._later = []
        super().close()

    def _sample(self, prompts: list[str], generators: list[torch.Generator], **more: Any) -> Any:
        recipe = self._recipe
        # Both for all stages: one without guidance passes over the second.
        embeddings, empty = self._pipeline.encode_prompt(prompts, clean_caption=False)
        encoded = {"prompt_embeds": embeddings, "negative_prompt_embeds": empty}
        factor = STAGE_FACTOR ** len(recipe.stages)
        width, height = recipe.width // factor, recipe.height // factor
        images = self._pipeline(
            num_inference_steps=recipe.steps,
            guidance_scale=recipe.guidance,
            width=width,
            height=height,
            generator=generators,
            output_type="pt",
            **encoded,
        ).images
        for stage, pipeline, noise in zip(recipe.stages, self._later, self._noise):
            width, height = width * STAGE_FACTOR, height * STAGE_FACTOR
            settings = {
                "num_inference_steps": stage.steps,
                "guidance_scale": stage.guidance,
                "generator": generators,
                "output_type": "pt",
                "noise_level": noise,
            }
            if isinstance(pipeline, IFSuperResolutionPipeline):
                settings |= {"width": width, "height": height, **encoded}
                images = pipeline(image=images, **settings).images
            else:  # reads the prompt with an encoder of its own, and takes and gives 0 to 1
                small = (images / 2 + 0.5).clamp(0, 1)
                images = pipeline(prompt=prompts, image=small, **settings).images * 2 - 1
        return (images / 2 + 0.5).clamp(0, 1).cpu().permute(0, 2, 3, 1).float().numpy()

    def _limits(self) -> list[tuple[Any, int]]:
        return [(self._pipeline.tokenizer, TOKENS)]
