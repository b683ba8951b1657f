"""Stable Diffusion XL and all that is made like it: Turbo, LCM-XL, and our own tiny family.

What tells these systems apart is in the recipe: scheduler, steps, guidance, another UNet, a LoRA.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline

from generation.pipelines.loading import device_for, load_whole
from generation.pipelines.painter import PipelinePainter
from generation.pipelines.speed import PromptMemory
from generation.spec import Recipe
from generation.weights import Weights


def load(recipe: Recipe, weights: Weights, *, device: str) -> "SdxlPainter":
    """Load weights as the recipe says."""
    pipeline = load_whole(recipe, weights, StableDiffusionXLPipeline, device=device_for(device))
    return SdxlPainter(recipe, pipeline)


class SdxlPainter(PipelinePainter):
    """A loaded pipeline of this family."""

    def hasten(self, asked: Sequence[str]) -> None:
        super().hasten(asked)
        self._memory = PromptMemory(self._encode)

    def close(self) -> None:
        self._memory = PromptMemory(self._encode)  # what is remembered lies on the device too
        super().close()

    def _encode(self, prompts: list[str]) -> tuple[torch.Tensor, ...]:
        """States (n, tokens, width) and pooled (n, width) of n prompts, or more: see `_filled`."""
        states, _, pooled, _ = self._pipeline.encode_prompt(
            self._filled(prompts), device=self._pipeline.device, do_classifier_free_guidance=False
        )
        return states, pooled

    def _said(self, prompts: list[str]) -> dict[str, Any]:
        if "prompt-memory" not in self._options:
            return super()._said(prompts)
        states, pooled = self._memory(prompts)
        said = {"prompt_embeds": states, "pooled_prompt_embeds": pooled}
        if not self._recipe.guidance or self._recipe.guidance <= 1:
            return said
        if self._pipeline.config.force_zeros_for_empty_prompt:
            without, without_pooled = torch.zeros_like(states), torch.zeros_like(pooled)
        else:
            without, without_pooled = self._memory([""] * len(prompts))
        return {
            **said,
            "negative_prompt_embeds": without,
            "negative_pooled_prompt_embeds": without_pooled,
        }
