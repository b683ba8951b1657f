"""What painters of all families do alike. A family says how its pipeline is called."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import diffusers
import torch
import transformers
from PIL import Image as Pictures

from generation.pipelines import DeviceLostError, MemoryFullError, Painting, speed
from generation.spec import LEFT_OUT, Recipe

T = TypeVar("T")


class PipelinePainter:
    """A loaded pipeline. A family overrides `_sample`, and `_limits` where its encoders differ."""

    def __init__(self, recipe: Recipe, pipeline: Any, **facts: Any) -> None:
        self._recipe = recipe
        self._pipeline = pipeline
        self._options: tuple[str, ...] = ()
        on_cuda = pipeline.device.type == "cuda"
        self.batch_size = 16 if on_cuda else 8
        self.largest_batch = 32 if on_cuda else self.batch_size
        self.facts = {
            "pipeline": type(pipeline).__name__,
            "scheduler": recipe.scheduler or type(pipeline.scheduler).__name__,
            "revision": recipe.revision,
            "dtype": recipe.dtype,
            "device": _device_name(pipeline.device),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
            **LEFT_OUT,
            **facts,
        }

    def hasten(self, asked: Sequence[str]) -> None:
        """Use these options of `speed`, or for want of any those of the device."""
        options = speed.options_for(asked, self._pipeline.device.type)
        speed.hasten(self._pipeline, options)
        self._options = options
        self.facts["options"] = list(options)

    def paint(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Painting]:
        """Paint prompts together, each from its own noise, so that batch mates do not matter."""
        return self.begin(prompts, seeds)()

    def begin(self, prompts: Sequence[str], seeds: Sequence[int]) -> Callable[[], list[Painting]]:
        """The same in two steps: a CUDA device still decodes while the caller goes on."""
        # On the CPU and one an image: the same noise on every device and in every batch.
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in self._filled(seeds)]
        with _plain_errors(), torch.no_grad(), speed.nothing_offloaded():
            pixels = torch.as_tensor(self._sample(self._filled(prompts), generators))
            pixels = pixels[: len(prompts)]
            are_finite = torch.isfinite(pixels).all()
            # Where they are: a byte each crosses over in place of four, in a picture's order.
            levels = (pixels.float() * 255).round().to(torch.uint8).contiguous()
        truncated = [self._is_truncated(prompt) for prompt in prompts]

        def wait() -> list[Painting]:
            with _plain_errors():
                pictures = levels.cpu().numpy()
                if not are_finite:
                    dtype = self._recipe.dtype
                    raise ArithmeticError(
                        f"pixels that are not numbers: this model overflows in {dtype}"
                    )
            return [Painting(Pictures.fromarray(one), cut) for one, cut in zip(pictures, truncated)]

        return wait

    def free(self) -> None:
        """Hand unused memory back to the device."""
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def close(self) -> None:
        """Let go of the weights."""
        self._pipeline = None
        self.free()

    def _filled(self, items: Sequence[T]) -> list[T]:
        """With copies of the last up to a power of two, where graphs are recorded: so that six
        recordings do for all numbers up to 32."""
        n = len(items)
        n_wanted = 1 << (n - 1).bit_length() if "graphs" in self._options else n
        return [*items, *[items[-1]] * (n_wanted - n)]

    def _sample(self, prompts: list[str], generators: list[torch.Generator], **more: Any) -> Any:
        """Pixels from 0 to 1, of shape (images, height, width, 3)."""
        recipe = self._recipe
        explicit = {"timesteps": list(recipe.timesteps)} if recipe.timesteps else {}
        images: torch.Tensor = self._pipeline(
            **self._said(prompts),
            num_inference_steps=recipe.steps,
            guidance_scale=recipe.guidance,
            width=recipe.width,
            height=recipe.height,
            generator=generators,
            output_type="pt",
            **explicit,
            **more,
        ).images
        return images.permute(0, 2, 3, 1)

    def _said(self, prompts: list[str]) -> dict[str, Any]:
        """The prompts as the pipeline takes them."""
        return {"prompt": prompts}

    def _limits(self) -> list[tuple[Any, int]]:
        """The tokenizers in use, each with the number of tokens that its encoder is given."""
        names = ("tokenizer", "tokenizer_2", "tokenizer_3")
        found = (getattr(self._pipeline, name, None) for name in names)
        return [(one, one.model_max_length) for one in found if one is not None]

    def _is_truncated(self, prompt: str) -> bool:
        """Whether no text encoder saw the whole prompt. Where there are several, those that read
        further make up for the others."""
        limits = self._limits()
        return bool(limits) and all(
            len(tokenizer(prompt).input_ids) > limit for tokenizer, limit in limits
        )


@contextmanager
def _plain_errors() -> Iterator[None]:
    """What a device and its allocators raise, by what a worker must do about it."""
    try:
        yield
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


def _device_name(device: Any) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device.type)
