"""A painter by itself: what each option is worth, and how far from the floor it is."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from django.conf import settings
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from generation import pipelines, weights
from generation.pipelines import Painter
from generation.spec import Recipe

WARM_UPS = 2
BATCHES = 3  # to time


def prompts(n: int, first: int) -> list[str]:
    """n prompts that nobody painted before, if `first` goes on from the last."""
    return [f"a red circle to the left of blue star number {first + i}" for i in range(n)]


def load(recipe: Recipe, device: str, options: Sequence[str]) -> Painter:
    found = weights.locate(recipe, [Path(one) for one in settings.CHECKPOINT_DIRS])
    return pipelines.load(recipe, found, device=device, options=options)


def option_sets(device: str) -> list[tuple[str, ...]]:
    """What to compare with no options at all: each that the device has, by itself."""
    names = (
        pipelines.OPTIONS if device == "cuda" else ("channels-last", "fused-qkv", "prompt-memory")
    )
    return [(name,) for name in names]


@dataclass(frozen=True)
class Row:
    """What a set of options comes to."""

    options: tuple[str, ...]
    alone_s: float  # seconds from one prompt to its pixels, warm
    rate: float  # images a second in batches
    pixels: NDArray[np.int16]  # (images, height, width, 3)

    def in_words(self, batch: int, plain: NDArray[np.int16]) -> str:
        """A line of the table, held against the pixels of no options at all."""
        alone, rate = f"{1000 * self.alone_s:.1f} ms alone", f"{self.rate:.2f} a second"
        name = ", ".join(self.options)
        return f"{name:18} {alone:>16} {rate:>17}, {batch} at once; pixels {self.likeness(plain)}"

    def likeness(self, others: NDArray[np.int16]) -> str:
        """How far these pixels are from others, in grey levels of 256."""
        off = np.abs(self.pixels - others)
        if not off.any():
            return "the same to the bit"
        return f"off by {off.max()} at most, {off.mean():.4f} in the mean"


def measure(recipe: Recipe, device: str, options: tuple[str, ...], batch: int, repeats: int) -> Row:
    """Load, warm up and time; every timed prompt is new to the painter."""
    painter = load(recipe, device, options)
    alone = [_seconds(painter, 1, i) for i in range(WARM_UPS + repeats)][WARM_UPS:]
    together = [_seconds(painter, batch, 1000 + batch * i) for i in range(WARM_UPS + BATCHES)][
        WARM_UPS:
    ]
    painted = painter.paint(prompts(batch, 0), range(batch))
    pixels = np.stack([np.asarray(one.picture, np.int16) for one in painted])
    painter.close()
    return Row(options, median(alone), batch / median(together), pixels)


def _seconds(painter: Painter, n: int, first: int) -> float:
    started = time.perf_counter()
    painter.paint(prompts(n, first), range(first, first + n))  # pixels are on the CPU at its end
    return time.perf_counter() - started


@dataclass(frozen=True)
class Floor:
    """What a card would need if it did nothing but multiply, and read each weight once."""

    flops: float  # of one image
    weight_bytes: float
    flops_per_s: float  # measured
    bytes_per_s: float
    batch: int

    @property
    def alone_s(self) -> float:
        return max(self.flops / self.flops_per_s, self.weight_bytes / self.bytes_per_s)

    @property
    def rate(self) -> float:
        arithmetic = self.batch * self.flops / self.flops_per_s
        return self.batch / max(arithmetic, self.weight_bytes / self.bytes_per_s)

    def in_words(self) -> str:
        return (
            f"Floor of this card ({self.flops_per_s / 1e12:.0f} TFLOP/s in bf16, "
            f"{self.bytes_per_s / 1e12:.2f} TB/s, both measured; {self.flops / 1e12:.2f} TFLOP an "
            f"image, counted): {1000 * self.alone_s:.1f} ms for one image, {self.rate:.0f} images "
            f"a second for {self.batch} at once"
        )


def floor(recipe: Recipe, batch: int) -> Floor:
    """Count the arithmetic of one image, and measure what the card can do."""
    painter: Any = load(recipe, "cuda", ("none",))
    with FlopCounterMode(display=False) as counter:
        painter.paint(prompts(1, 0), [0])
    parts = painter._pipeline.components.values()
    modules = [part for part in parts if isinstance(part, torch.nn.Module)]
    held = sum(p.nbytes for module in modules for p in module.parameters())
    painter.close()
    return Floor(counter.get_total_flops(), held, _flops_per_s(), _bytes_per_s(), batch)


def _flops_per_s(side: int = 8192) -> float:
    left, right = torch.randn(2, side, side, device="cuda", dtype=torch.bfloat16)
    return 2 * side**3 / _median_s(lambda: left @ right)


def _bytes_per_s(size: int = 2**31) -> float:
    source, target = torch.empty(2, size, device="cuda", dtype=torch.uint8)
    return 2 * size / _median_s(lambda: target.copy_(source))


def _median_s(act: Any) -> float:
    seconds = []
    for _ in range(10):
        torch.cuda.synchronize()
        started = time.perf_counter()
        act()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return median(seconds[3:])
