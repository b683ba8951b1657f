"""Families of models, one file each. This registry loads none of them until it must: torch is
imported by a family's own module, in the worker's child, and nowhere else.
"""

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

from PIL.Image import Image as Picture

from generation.spec import Recipe
from generation.weights import Weights

FAMILIES = {
    "sdxl": "generation.pipelines.sdxl",
    "deepfloyd-if": "generation.pipelines.deepfloyd_if",
    "amused": "generation.pipelines.amused",
    "diffusers": "generation.pipelines.generic",
}

# Ways to paint the same sooner: `generation.pipelines.speed`.
OPTIONS = ("graphs", "channels-last", "fused-qkv", "autotune", "compile", "prompt-memory")

# A worker's log is for its own lines. Read by these libraries when they are first imported.
QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


class MemoryFullError(Exception):
    """The batch does not fit in the device's memory; a smaller one may."""


class DeviceLostError(Exception):
    """The device is in a state that only a new process can leave."""


@dataclass(frozen=True)
class Painting:
    """What a painter makes of one prompt."""

    picture: Picture
    truncated: bool  # no text encoder saw the whole prompt


class Painter(Protocol):
    """A loaded pipeline."""

    facts: dict[str, Any]  # how it paints, for the provenance of every image
    batch_size: int  # what to try first
    largest_batch: int  # and up to which more may be faster

    def begin(self, prompts: Sequence[str], seeds: Sequence[int]) -> Callable[[], list[Painting]]:
        """Tell the device to paint, which goes on by itself where it can; what comes back waits
        for it, and hands over one painting per prompt, each from its own seed. Before that nothing
        else may be begun. Both raise MemoryFullError."""

    def paint(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Painting]:
        """Begin, and wait."""

    def hasten(self, asked: Sequence[str]) -> None:
        """Paint the same sooner, by those of OPTIONS, or by what suits the device."""

    def free(self) -> None:
        """Hand unused memory back to the device."""

    def close(self) -> None:
        """Let go of the weights."""


def load(recipe: Recipe, weights: Weights, *, device: str, options: Sequence[str] = ()) -> Painter:
    """Load a recipe's pipeline. `device` is torch's name for one; empty: cuda where there is one.

    `options` are of OPTIONS, or none for what suits the device. Whatever is wrong with the weights
    is raised as it comes.
    """
    painter: Painter = family(recipe.family).load(recipe, weights, device=device)
    painter.hasten(options)
    return painter


def family(name: str) -> ModuleType:
    """A family's module, and with it the libraries that paint, told to be quiet."""
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    return importlib.import_module(FAMILIES[name])
