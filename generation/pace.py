"""How soon a recipe's image comes on this device, and how many at once serve best.

Found out by the workers themselves, once for each recipe, kind of device, options and versions of
the libraries, and kept in the `Pace` rows. None of it is needed to paint: whatever goes wrong here
costs a line in the log.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from statistics import median
from typing import Any

from django.db.models import F

from generation import machine
from generation.models import Pace
from generation.pipelines import DeviceLostError, Painter

logger = logging.getLogger(__name__)

PAINTS = 5  # single images to time, after one that is not
PATIENCE_S = 5.0  # once these are over, no further one is begun
TIMINGS = 2  # of a recipe: what came to nothing so often is not begun again
WORTH = 0.95  # twice as many at once must take at most this much of the time an image
LONGEST_S = 30.0  # a batch that takes longer is made no larger: leases and stops wait for it
LIBRARIES = ("torch", "diffusers", "transformers")


@dataclass
class BatchSize:
    """How many images to paint at once: doubled while that is faster, halved where memory is full.

    A size is timed by its second full batch in this process: the first one prepares the device.
    """

    size: int  # for the next batch
    largest: int  # beyond which nothing is tried
    best: int = 0  # the fastest size that was timed, and the seconds an image that it takes
    seconds: float = inf
    is_settled: bool = False
    is_news: bool = False  # to be kept in the database
    _prepared: set[int] = field(default_factory=set)

    def painted(self, n: int, seconds: float) -> None:
        """A batch of n came out well in so many seconds."""
        if n != self.size or (self.is_settled and self.best == n):
            return
        if n not in self._prepared:
            self._prepared.add(n)
            return
        self.is_news = True
        if seconds / n > WORTH * self.seconds:
            self.size, self.is_settled = self.best, True
            return
        self.best, self.seconds = n, seconds / n
        self.is_settled |= 2 * n > self.largest or seconds > LONGEST_S
        if not self.is_settled:
            self.size = 2 * n

    def too_large(self, n: int) -> None:
        """A batch of n did not fit: go back to what did, or try half of it.

        Half of n filled up to a power of two: where graphs are recorded so many were painted, and
        a size between would be filled up in every batch to come.
        """
        if self.best >= n:
            self.best, self.seconds = 0, inf
        self.size = self.best or (1 << (n - 1).bit_length()) // 2 or 1
        self.is_settled = self.is_news = True

    def recall(self, row: Pace) -> None:
        """Go on from where another process got to."""
        if row.batch_size is None:
            return
        size = min(row.batch_size, self.largest)
        self.is_settled = row.is_settled or 2 * size > self.largest
        self.size = size if self.is_settled else 2 * size
        if row.images_per_s and size == row.batch_size:
            self.best, self.seconds = size, 1 / row.images_per_s

    def begin_small(self, alone_s: float) -> None:
        """Where no batch was timed, begin with no more than are painted in LONGEST_S one by one."""
        if self.best or self.is_settled:
            return
        while self.size > 1 and self.size * alone_s > LONGEST_S:
            self.size //= 2

    def found(self) -> dict[str, Any]:
        """What is known, as the row has it."""
        rate = 1 / self.seconds if 0 < self.seconds < inf else None
        size = self.best or self.size
        return {"batch_size": size, "images_per_s": rate, "is_settled": self.is_settled}


@dataclass
class Memory:
    """What the database knows of one recipe on this device. `facts` are those of its painter."""

    recipe_digest: str
    facts: dict[str, Any]
    is_asked: bool = False
    is_timed: bool = False  # or it was tried in vain
    alone_s: float = 0.0  # seconds of a single image, where it was timed

    def recall(self, batch: BatchSize) -> None:
        """Ask the database, once."""
        if self.is_asked:
            return
        self.is_asked = True
        with _mere_attempt("recall how fast this recipe is painted"):
            row = Pace.objects.filter(**self._key()).first()
            if row is not None:
                self.is_timed = row.latency_ms is not None
                self.alone_s = (row.latency_ms or 0) / 1000
                batch.recall(row)
                batch.begin_small(self.alone_s)

    def time(self, painter: Painter, batch: BatchSize, *, at: datetime) -> None:
        """Time single images, unless anybody did or it came to nothing twice. Raises
        DeviceLostError alone.

        To be called while no image is claimed: it takes two images' time or more, and a process
        that dies of it must cost no image an attempt.
        """
        if self.is_timed:
            return
        self.is_timed = True
        with _mere_attempt("time single images"):
            if not self._begin():
                return
            seconds = _time_single_images(painter)
            self.alone_s = median(seconds)
            batch.begin_small(self.alone_s)
            latency_ms = 1000 * self.alone_s
            self._store(
                latency_ms=latency_ms,
                n_paints=len(seconds),
                measured_at=at,
            )
            logger.info("One image takes %.1f ms, median of %d", latency_ms, len(seconds))
        painter.free()  # after the error, if there was one, has let go of its frames

    def keep(self, batch: BatchSize) -> None:
        """Store what was learnt of batches since the last time."""
        if batch.is_news:
            batch.is_news = False
            with _mere_attempt("remember how many images at once serve best"):
                self._store(**batch.found())
                logger.info("From now on %d at once", batch.size)

    def _begin(self) -> bool:
        """Count a timing that is about to begin, unless there were enough."""
        Pace.objects.get_or_create(**self._key())
        untimed = Pace.objects.filter(**self._key(), latency_ms=None, n_timings__lt=TIMINGS)
        return bool(untimed.update(n_timings=F("n_timings") + 1))

    def _key(self) -> dict[str, Any]:
        return {
            "recipe_digest": self.recipe_digest,
            "device": machine.device_name(str(self.facts["device"])),
            "options": ",".join(self.facts.get("options", ())),
            # In one order: SQLite compares JSON as a text.
            "versions": {
                name: self.facts[name] for name in sorted(LIBRARIES) if name in self.facts
            },
        }

    def _store(self, **found: Any) -> None:
        """Of two workers that come at once both write, into one row."""
        Pace.objects.update_or_create(defaults=found, **self._key())


def _time_single_images(painter: Painter) -> list[float]:
    """Seconds from a prompt to its pixels, for new prompts: nothing of them was encoded before."""
    seconds: list[float] = []
    _seconds_of_one(painter, 0)
    begun = time.perf_counter()
    while len(seconds) < PAINTS and (not seconds or time.perf_counter() - begun < PATIENCE_S):
        seconds.append(_seconds_of_one(painter, len(seconds) + 1))
    return seconds


def prompt(number: int) -> str:
    """What the n-th image shows that is painted for its time alone."""
    return f"a red circle to the left of a blue star, number {number}"


def _seconds_of_one(painter: Painter, number: int) -> float:
    started = time.perf_counter()
    painter.paint([prompt(number)], [number])
    return time.perf_counter() - started  # the pixels are in the machine's own memory by now


@contextmanager
def _mere_attempt(to: str) -> Iterator[None]:
    """What fails in here is no image's fault, and keeps none from being painted."""
    try:
        yield
    except DeviceLostError:
        raise
    except Exception:
        logger.warning("Could not %s", to, exc_info=True)
