"""Stable Diffusion XL and all that is made like it: Turbo, LCM-XL, and our own tiny family.

What tells these systems apart is in the recipe: scheduler, steps, guidance, another UNet.
"""

import gc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from diffusers import (
    EulerAncestralDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)

from generation.pipelines import DeviceLostError, MemoryFullError, Painting
from generation.spec import Recipe, is_commit
from generation.weights import Weights


def load(recipe: Recipe, weights: Weights, *, device: str) -> "SdxlPainter":
    """Load weights as the recipe says: safetensors only, and never code from a checkpoint."""
    for library in (diffusers, transformers):  # no progress bars in a worker's log
        library.utils.logging.disable_progress_bar()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":  # more threads than cores is ten times slower, so it must be asked for
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
    parts = {"unet": _load_unet(recipe, weights.unet)} if weights.unet else {}
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        weights.checkpoint,
        add_watermarker=False,  # else present only where a certain package is installed
        **_source(recipe.revision),
        **_format(recipe),
        **parts,
    )
    pipeline.scheduler = _scheduler(recipe, pipeline.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return SdxlPainter(recipe, pipeline.to(device))


class SdxlPainter:
    """A loaded pipeline of this family."""

    def __init__(self, recipe: Recipe, pipeline: Any) -> None:
        self._recipe = recipe
        self._pipeline = pipeline
        self.batch_size = 16 if pipeline.device.type == "cuda" else 8
        self.facts = {
            "pipeline": type(pipeline).__name__,
            "scheduler": recipe.scheduler or type(pipeline.scheduler).__name__,
            "revision": recipe.revision,
            "dtype": recipe.dtype,
            "device": _device_name(pipeline.device),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
        }

    def paint(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Painting]:
        """Paint prompts together, each from its own noise, so that batch mates do not matter."""
        try:
            arrays = self._sample(prompts, seeds)
        except torch.OutOfMemoryError as error:
            raise MemoryFullError(str(error)) from None
        except MemoryError:
            raise MemoryFullError("no memory left on this machine") from None
        except torch.AcceleratorError as error:
            if "out of memory" in str(error):
                raise MemoryFullError(str(error)) from None
            raise DeviceLostError(str(error)) from error
        except RuntimeError as error:
            if "can't allocate memory" in str(error):  # how the CPU's allocator says it
                raise MemoryFullError(str(error)) from None
            raise
        if not np.isfinite(arrays).all():
            raise ArithmeticError(
                f"pixels that are not numbers: this model overflows in {self._recipe.dtype}"
            )
        pictures = self._pipeline.image_processor.numpy_to_pil(arrays)
        cut = [self._is_truncated(prompt) for prompt in prompts]
        return [Painting(picture, truncated) for picture, truncated in zip(pictures, cut)]

    def free(self) -> None:
        """Hand unused memory back to the device."""
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def close(self) -> None:
        """Let go of the weights."""
        self._pipeline = None
        self.free()

    def _sample(self, prompts: Sequence[str], seeds: Sequence[int]) -> Any:
        recipe = self._recipe
        explicit = {"timesteps": list(recipe.timesteps)} if recipe.timesteps else {}
        return self._pipeline(
            prompt=list(prompts),
            num_inference_steps=recipe.steps,
            guidance_scale=recipe.guidance,
            width=recipe.width,
            height=recipe.height,
            # On the CPU and one an image: the same noise on every device and in every batch.
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            output_type="np",
            **explicit,
        ).images

    def _is_truncated(self, prompt: str) -> bool:
        tokenizers = (self._pipeline.tokenizer, self._pipeline.tokenizer_2)
        return any(
            len(tokenizer(prompt).input_ids) > tokenizer.model_max_length
            for tokenizer in tokenizers
            if tokenizer is not None
        )


class ExplicitEulerAncestral(EulerAncestralDiscreteScheduler):  # type: ignore[misc]
    """Euler ancestral at timesteps of one's choice, which diffusers offers for Euler alone.

    SDXL Turbo's own demonstration takes 999, 899, 799, 699: no spacing gives these.
    """

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        timesteps: list[int] | None = None,
    ) -> None:
        super().set_timesteps(num_inference_steps or len(timesteps or ()), device)
        if timesteps is None:
            return
        sigmas = np.array(((1 - self.alphas_cumprod) / self.alphas_cumprod) ** 0.5)
        chosen = np.append(sigmas[list(timesteps)], 0.0).astype(np.float32)
        self.sigmas = torch.from_numpy(chosen)
        self.timesteps = torch.tensor(timesteps, dtype=torch.float32, device=device)


def _scheduler(recipe: Recipe, own: Any) -> Any:
    kind = getattr(diffusers, recipe.scheduler) if recipe.scheduler else type(own)
    if recipe.timesteps and kind is EulerAncestralDiscreteScheduler:
        kind = ExplicitEulerAncestral
    spacing = {"timestep_spacing": recipe.timestep_spacing} if recipe.timestep_spacing else {}
    return kind.from_config(own.config, **spacing)


def _load_unet(recipe: Recipe, place: str) -> Any:
    inside = {"subfolder": "unet"} if (Path(place) / "unet").is_dir() else {}
    return UNet2DConditionModel.from_pretrained(
        place, **inside, **_source(recipe.unet_revision), **_format(recipe)
    )


def _source(revision: str) -> dict[str, Any]:
    """A hub repository at its commit (HF_HUB_OFFLINE is honoured), or a folder and nothing else."""
    return {"revision": revision} if is_commit(revision) else {"local_files_only": True}


def _format(recipe: Recipe) -> dict[str, Any]:
    return {
        "dtype": getattr(torch, recipe.dtype),
        "variant": recipe.variant or None,
        "use_safetensors": True,
    }


def _device_name(device: Any) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device.type)
