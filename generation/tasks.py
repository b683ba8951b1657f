"""The worker's side: ids in; claim, paint, store. With `pace`, the only importer of pipelines."""

import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from multiprocessing.sharedctypes import RawValue
from typing import Any, TypedDict

from celery import Task, shared_task
from celery.exceptions import Reject
from celery.signals import worker_shutting_down
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from generation import pipelines, queries, services, weights
from generation.celery import PAINT_IMAGES
from generation.encoding import encode
from generation.models import Image
from generation.pace import BatchSize, Memory
from generation.pipelines import DeviceLostError, MemoryFullError, Painter, Painting
from generation.services import Claim, Written
from generation.spec import Recipe

logger = logging.getLogger(__name__)

LEASE_IN_BATCHES = 12  # a lease outlasts this many of the slowest batch seen
LOADING_LEASE = timedelta(minutes=30)
FIRST_LEASE = timedelta(minutes=15)  # sixteen images of a large model on a small card
STORING_LEASE = timedelta(minutes=15)  # for a store that is slow: see `_Sitting._store_dry`
SLOW_STORE_S = 10.0  # far less than any lease
DRYERS = max(4, min(16, os.cpu_count() or 4))  # threads: more than cores, they wait for the disk

# Shared with the child that is forked later. Raw, so that a child killed at the wrong moment
# cannot leave a lock behind.
_stopping = RawValue("b", 0)

# This worker: the parent, and every child that it forks.
_WORKER = secrets.token_hex(4)

Clock = Callable[[], datetime]

if unknown := sorted(set(settings.PAINTING_OPTIONS) - {*pipelines.OPTIONS, "none"}):
    expected = ", ".join((*pipelines.OPTIONS, "none"))
    raise ImproperlyConfigured(
        f"PAINTING_OPTIONS names {', '.join(unknown)}; expected one or more of {expected}"
    )


class StoppedError(Exception):
    """The worker was asked to stop, and did so between two batches."""


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _ask_to_stop(**_signal: Any) -> None:
    _stopping.value = 1


@shared_task(bind=True, name=PAINT_IMAGES)  # type: ignore[untyped-decorator]
def paint_images(self: "Task[Any, Any]", image_ids: list[int]) -> None:
    """Claim, paint, store. Running it twice paints once.

    Celery delivers a message again when a child dies, and when a worker merely lost its broker.
    Only what a child of this very worker had claimed is surely painted by nobody.
    """
    task_id = f"{self.request.id}:{_WORKER}"
    died_before = bool((self.request.delivery_info or {}).get("redelivered"))
    try:
        paint_message(
            image_ids,
            studio=_studio,
            task_id=task_id,
            died_before=died_before,
            stop=lambda: bool(_stopping.value),
            now=timezone.now,
        )
    except StoppedError:
        raise Reject("the worker stops", requeue=True) from None
    except DeviceLostError:
        # Counts as a death, and is one: Celery hands the message to a fresh process.
        logger.exception("The device is lost to this process, which ends")
        os._exit(1)


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


def _load(recipe: Recipe) -> Painter:
    found = weights.locate(recipe, settings.CHECKPOINT_DIRS)
    device, options = settings.PAINTING_DEVICE, settings.PAINTING_OPTIONS
    return pipelines.load(recipe, found, device=device, options=options)


def new_studio() -> Studio:
    """A studio for whoever paints outside a worker: see `generation.verifying`."""
    return Studio(_load)


_studio = Studio(_load, remembers=True)


def paint_message(
    image_ids: Sequence[int],
    *,
    studio: Studio,
    task_id: str,
    now: Clock,
    died_before: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Paint a message's images, a recipe at a time.

    Loading is dear. So whatever waits for the pipeline that is loaded is painted before another
    takes its place, whichever message speaks of it. What was tried before stays with its own.
    """
    how: _How = {"studio": studio, "task_id": task_id, "now": now, "stop": stop}
    for recipe, ids in queries.wanted_by_recipe(image_ids, task_id=task_id, at=now()):
        resident = studio.resident
        if resident and resident.as_json() != recipe:
            while fresh := queries.never_tried(resident, most=services.CHUNK, at=now()):
                paint_chunk(resident.as_json(), fresh, **how)
        paint_chunk(recipe, ids, died_before=died_before, **how)


class _How(TypedDict):
    studio: Studio
    task_id: str
    now: Clock
    stop: Callable[[], bool]


def paint_chunk(
    recipe: dict[str, Any],
    image_ids: Sequence[int],
    *,
    studio: Studio,
    task_id: str,
    now: Clock,
    died_before: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Paint those of some images that can be claimed; the pipeline is loaded first."""
    suspects = image_ids if died_before else ()
    loading = services.claim_images(suspects, task_id=task_id, lease=LOADING_LEASE, at=now())
    if died_before and not loading.images:  # all failed by now, or others paint them
        return
    easel, reason = _set_up(recipe, loading, studio=studio, now=now)
    if easel is None:
        claim = services.claim_images(image_ids, task_id=task_id, at=now())
        logger.error("%d images fail: %s", len(claim.images), reason)
        for image in claim.images:
            services.store_failure(claim, image, reason=reason, at=now())
        return
    if easel.memory is not None:
        easel.memory.recall(easel.batch)
        # Perhaps it was this that killed: then the images come first.
        if settings.PAINTING_LATENCY and not died_before and not stop():
            easel.memory.time(easel.painter, easel.batch, at=now())
    claim = services.claim_images(image_ids, task_id=task_id, lease=easel.lease, at=now())
    try:
        _Sitting(easel, claim, now, studio.dryers).paint_all(stop)
    finally:
        if easel.memory is not None:
            easel.memory.keep(easel.batch)


def _set_up(
    recipe: dict[str, Any], loading: Claim, *, studio: Studio, now: Clock
) -> tuple[Easel | None, str]:
    """Load a recipe's pipeline, or say why that cannot be.

    After a death, perhaps it was loading that killed: then this attempt counts for the images
    too, and is given back once it went well. Else a model too large for the machine would be
    loaded without end.
    """
    services.renew(loading, loading.images, lease=LOADING_LEASE, at=now())
    try:
        return studio.easel(Recipe.model_validate(recipe)), ""
    except Exception as error:  # whatever it is, it is the images' reason for failing
        return None, f"The pipeline could not be loaded. {_in_words(error)}"
    finally:
        services.release(loading, loading.images)


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


@dataclass
class _Attempt:
    """What came of a batch, in plain values: no traceback that keeps tensors alive."""

    easel: Easel
    batch: list[Image]
    paintings: list[Painting] = field(default_factory=list)
    reason: str = ""
    too_large: bool = False
    seconds: float = 0.0  # of painting, without what was done between begin and end
    _wait: Callable[[], list[Painting]] = list

    def begin(self) -> None:
        """Tell the device to paint."""
        prompts, seeds = zip(*((image.prompt, image.seed) for image in self.batch))
        with self._minded():
            self._wait = self.easel.painter.begin(prompts, seeds)

    def end(self) -> None:
        """Wait until it is painted."""
        wait, self._wait = self._wait, list  # and lets go of what it holds on the device
        with self._minded():
            self.paintings = wait()
        if not self.reason:
            self.easel.learn(len(self.batch), self.seconds)

    @contextmanager
    def _minded(self) -> Iterator[None]:
        """Note the time, and what went wrong. Memory is freed after the except blocks, when no
        frame holds it any more."""
        started = time.perf_counter()
        try:
            yield
            self.seconds += time.perf_counter() - started
            return
        except DeviceLostError:
            raise
        except MemoryFullError as error:
            self.reason, self.too_large = str(error), True
        except Exception as error:  # a prompt can break a painter in ways nobody listed
            self.reason = f"Painting failed. {_in_words(error)}"
        self._wait = list
        self.easel.painter.free()


@dataclass
class _Sitting:
    """One claim, painted batch by batch.

    While a batch is painted, the one before dries: other threads encode it and write its files.
    Once they are whole, this thread points its rows at them, while the device is at work. So the
    database is asked by one thread alone, no more than two batches are in memory, and painting
    waits where storing is slower.
    """

    easel: Easel
    claim: Claim
    now: Clock
    dryers: ThreadPoolExecutor
    todo: deque[Image] = field(default_factory=deque)
    at_hand: list[Image] = field(default_factory=list)
    drying: list[tuple[Image, Future[Written | str]]] = field(default_factory=list)

    def paint_all(self, stop: Callable[[], bool]) -> None:
        """Paint until nothing is left. A clean stop hands back what is not stored.

        Only a death leaves the claim as it is, and the attempts counted.
        """
        # Those under which the painter died before come last, and alone: see `_next_batch`.
        self.todo.extend(sorted(self.claim.images, key=lambda image: image.attempts > 0))
        try:
            while self.todo:
                if stop():
                    raise StoppedError
                self._paint_batch()
            self._store_dry()
        except DeviceLostError as lost:
            try:
                self._store_dry()  # it was painted before, and left the device
            finally:
                raise lost
        except BaseException:
            try:
                self._store_dry()
            finally:
                services.release(self.claim, [*self.at_hand, *self._unstored()])
            raise

    def _paint_batch(self) -> None:
        chosen = self._next_batch()
        lease = self.easel.lease
        batch = services.renew(self.claim, chosen, lease=lease, at=self.now())
        if not batch:  # the claim was lost
            return
        self.at_hand = batch
        if batch[0].attempts > 1:  # it may kill: what is painted must not be lost with it
            self._store_dry()
        attempt = _Attempt(self.easel, batch)
        attempt.begin()
        self._store_dry()
        attempt.end()
        self.at_hand = []
        if attempt.too_large:
            self._split(batch, attempt.reason)
        elif attempt.reason:
            self._try_again(batch, attempt.reason)
        else:
            for image, painting in zip(batch, attempt.paintings):
                provenance = self._provenance(image, painting, attempt, len(batch))
                file = self.dryers.submit(_dry, image, painting, provenance)
                self.drying.append((image, file))

    def _next_batch(self) -> list[Image]:
        """As many fresh images as fit, or one that was tried before."""
        batch = [self.todo.popleft()]
        while (
            self.todo
            and len(batch) < self.easel.batch_size
            and not batch[0].attempts
            and not self.todo[0].attempts
        ):
            batch.append(self.todo.popleft())
        return batch

    def _split(self, batch: list[Image], reason: str) -> None:
        """Halve a batch that did not fit, and remember the half. It was no image's fault."""
        images = services.give_back(self.claim, batch)
        if len(batch) > 1:
            self.easel.batch.too_large(len(batch))
            self.todo.extendleft(reversed(images))
            logger.info("Out of memory: from now on %d at once", self.easel.batch_size)
        for image in images[: len(batch) == 1]:
            why = f"The device's memory is too small for one image. {reason}"
            services.store_failure(self.claim, image, reason=why, at=self.now())

    def _try_again(self, batch: list[Image], reason: str) -> None:
        """After an error each image is tried alone, so that the one at fault fails alone."""
        for image in batch:
            if image.attempts < services.MAX_ATTEMPTS:
                self.todo.append(image)
            else:
                services.store_failure(self.claim, image, reason=reason, at=self.now())

    def _provenance(
        self, image: Image, painting: Painting, attempt: _Attempt, batch_size: int
    ) -> dict[str, Any]:
        return {
            **self.easel.painter.facts,
            "seed": image.seed,
            "batch_size": batch_size,
            "ms": round(1000 * attempt.seconds / batch_size, 1),
            "truncated": painting.truncated,
        }

    def _unstored(self) -> list[Image]:
        """Painted, and then not stored (a full disk, a bucket that is away): no fault of theirs."""
        return [image for image, _ in self.drying]

    def _store_dry(self) -> None:
        """Point rows at what was painted before, once its files are written.

        What could be written is stored, whatever the rest met; then the first error is raised.
        """
        if wait([file for _, file in self.drying], SLOW_STORE_S).not_done:
            # A store that is slow must not cost the claim; one that hangs must not keep it.
            services.renew(self.claim, [], lease=STORING_LEASE, at=self.now())
        wet = [(image, file) for image, file in self.drying if file.exception()]
        dry = [(image, file.result()) for image, file in self.drying if not file.exception()]
        written = [one for _, one in dry if isinstance(one, Written)]
        services.store_paintings(self.claim, written, at=self.now())
        for image, reason in dry:
            if isinstance(reason, str):
                services.store_failure(self.claim, image, reason=reason, at=self.now())
        self.drying = wet
        for _, file in wet:
            file.result()


def _dry(image: Image, painting: Painting, provenance: dict[str, Any]) -> Written | str:
    """Encode, hash and write, or say why this picture has no file. Speaks to no database."""
    try:
        encoded = encode(painting.picture)
    except MemoryError:
        raise
    except Exception as error:  # a side too long for the format, among others
        return f"The picture cannot be stored. {_in_words(error)}"
    return services.write_painting(image, encoded, provenance=provenance)
