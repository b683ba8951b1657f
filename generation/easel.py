"""A device's pipelines: one is loaded at a time, and what was learnt of each outlasts it."""

import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from generation import pipelines, services, weights
from generation.pace import BatchSize, Memory
from generation.pipelines import Painter
from generation.spec import Recipe

logger = logging.getLogger(__name__)

LEASE_IN_BATCHES = 12  # a lease outlasts this many of the slowest batch seen
FIRST_LEASE = timedelta(minutes=15)  # sixteen images of a large model on a small card
DRYERS = max(4, min(16, os.cpu_count() or 4))  # threads: more than cores, they wait for the disk

if "none" in settings.PAINTING_OPTIONS and len(settings.PAINTING_OPTIONS) > 1:
    raise ImproperlyConfigured("PAINTING_OPTIONS names none beside others; expected it alone")
if unknown := sorted(set(settings.PAINTING_OPTIONS) - {*pipelines.OPTIONS, "none"}):
    expected = ", ".join((*pipelines.OPTIONS, "none"))
    raise ImproperlyConfigured(
        f"PAINTING_OPTIONS names {', '.join(unknown)}; expected one or more of {expected}"
    )


@dataclass
class Easel:
    """A recipe's pipeline while it is loaded, and what was learnt about it."""

    painter: Painter
    batch: BatchSize
    memory: Memory | None = None
    slowest_s: float = 0.0

    @property
    def batch_size(self) -> int:
        return self.batch.size

    def learn(self, n: int, seconds: float) -> None:
        """A batch of n was painted in so many seconds: how many next, and how long it may take."""
        before = self.batch_size
        self.batch.painted(n, seconds)
        larger = max(1.0, self.batch_size / before)
        self.slowest_s = max(self.slowest_s, seconds * larger)

    def keep(self) -> None:
        """Let other processes know what was learnt."""
        if self.memory is not None:
            self.memory.keep(self.batch)

    @property
    def lease(self) -> timedelta:
        """How long a claim holds: far longer than a batch, so that only the dead lose it.

        How long the first batch takes nobody knows yet; at most as long as its images one by one,
        and what prepares the device.
        """
        if self.slowest_s:
            return max(services.MIN_LEASE, timedelta(seconds=LEASE_IN_BATCHES * self.slowest_s))
        alone_s = self.memory.alone_s if self.memory else 0
        return max(FIRST_LEASE, timedelta(seconds=LEASE_IN_BATCHES * self.batch_size * alone_s))


class Studio:
    """This process's device: one pipeline at a time, the one before freed first."""

    def __init__(self, load: Callable[[Recipe], Painter], *, remembers: bool = False) -> None:
        # Its threads start with the first picture, since no fork takes them along. They stay,
        # since each has a connection of its own to a bucket.
        self.dryers = ThreadPoolExecutor(DRYERS, "dryer")
        self._load = load
        self._remembers = remembers  # what is learnt, across processes
        self.resident: Recipe | None = None  # whose pipeline is loaded
        self._easels: dict[str, Easel] = {}  # what was learnt outlasts the pipeline

    def easel(self, recipe: Recipe) -> Easel:
        """The easel with this recipe's pipeline on it. Raises whatever loading raises."""
        if recipe != self.resident:
            if self.resident:
                self._easels[self.resident.digest].painter.close()
                self.resident = None
            started = time.perf_counter()
            painter = self._load(recipe)
            easel = self._easels.setdefault(recipe.digest, self._new_easel(recipe, painter))
            easel.painter = painter
            self.resident = recipe
            took = time.perf_counter() - started
            logger.info("Loaded %s in %.1f s", recipe.checkpoint, took)
        return self._easels[recipe.digest]

    def _new_easel(self, recipe: Recipe, painter: Painter) -> Easel:
        memory = Memory(recipe.digest, painter.facts) if self._remembers else None
        return Easel(painter, BatchSize(painter.batch_size, painter.largest_batch), memory)


def load_painter(recipe: Recipe) -> Painter:
    found = weights.locate(recipe, settings.CHECKPOINT_DIRS)
    device, options = settings.PAINTING_DEVICE, settings.PAINTING_OPTIONS
    return pipelines.load(recipe, found, device=device, options=options)


def new_studio() -> Studio:
    """A studio for whoever paints outside a worker: see `generation.verifying`."""
    return Studio(load_painter)
