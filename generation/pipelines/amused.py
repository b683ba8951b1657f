"""aMUSEd: masked image tokens, filled in over a few steps. It follows OpenMUSE, and is not it."""

from diffusers import AmusedPipeline

from generation.pipelines.loading import device_for, load_pipeline
from generation.pipelines.painter import PipelinePainter
from generation.pipelines.schedulers import RowwiseAmused
from generation.spec import Recipe
from generation.weights import Weights


def load(recipe: Recipe, weights: Weights, *, device: str) -> PipelinePainter:
    """Load weights as the recipe says."""
    pipeline = load_pipeline(
        AmusedPipeline,
        weights.checkpoint,
        recipe.revision,
        dtype=recipe.dtype,
        variant=recipe.variant,
    )
    pipeline.scheduler = RowwiseAmused.from_config(pipeline.scheduler.config)
    return PipelinePainter(recipe, pipeline.to(device_for(device)), model="aMUSEd")
