"""Stable Diffusion XL and all that is made like it: Turbo, LCM-XL, and our own tiny family.

What tells these systems apart is in the recipe: scheduler, steps, guidance, another UNet, a LoRA.
"""

from diffusers import StableDiffusionXLPipeline

from generation.pipelines.loading import device_for, load_whole
from generation.pipelines.painter import PipelinePainter
from generation.spec import Recipe
from generation.weights import Weights


def load(recipe: Recipe, weights: Weights, *, device: str) -> "SdxlPainter":
    """Load weights as the recipe says."""
    pipeline = load_whole(recipe, weights, StableDiffusionXLPipeline, device=device_for(device))
    return SdxlPainter(recipe, pipeline)


class SdxlPainter(PipelinePainter):
    """A loaded pipeline of this family."""
