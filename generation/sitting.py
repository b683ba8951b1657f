"""A claim, painted batch by batch: what a worker does between claim and rows."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from generation import services
from generation.easel import Easel
from generation.encoding import encode
from generation.models import Image
from generation.pipelines import DeviceLostError, MemoryFullError, Painting
from generation.services import Claim, Written

logger = logging.getLogger(__name__)

STORING_LEASE = timedelta(minutes=15)  # for a store that is slow: see `Sitting._store_dry`
SLOW_STORE_S = 10.0  # far less than any lease

Clock = Callable[[], datetime]


class StoppedError(Exception):
    """The worker was asked to stop, and did so between two batches."""


@dataclass
class _Attempt:
    """A batch on its way, and what came of it in plain values: no traceback keeps tensors alive."""

    easel: Easel
    batch: list[Image]
    paintings: list[Painting] = field(default_factory=list)
    reason: str = ""
    too_large: bool = False
    seconds: float = 0.0  # of telling and waiting: less than it took, where storing was slower
    _wait: Callable[[], list[Painting]] = list

    def begin(self) -> None:
        """Tell the device to paint."""
        prompts, seeds = zip(*((image.prompt, image.seed) for image in self.batch))
        with self._noted():
            self._wait = self.easel.painter.begin(prompts, seeds)

    def end(self) -> None:
        """Wait until it is painted."""
        with self._noted():
            self.paintings = self._wait()
        self._wait = list  # lets go of what it holds on the device
        if self.reason:
            self.easel.painter.free()  # now that no frame of what failed holds any of it
        else:
            self.easel.learn(len(self.batch), self.seconds)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Note the time, and what went wrong."""
        started = time.perf_counter()
        try:
            yield
            self.seconds += time.perf_counter() - started
        except DeviceLostError:
            raise
        except MemoryFullError as error:
            self.reason, self.too_large = str(error), True
        except Exception as error:  # a prompt can break a painter in ways nobody listed
            self.reason = f"Painting failed. {in_words(error)}"


@dataclass
class Sitting:
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
    more: Callable[[], Sequence[int]] = list  # what else may be claimed, once nothing is left
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
                self._paint_batch(stop)
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

    def _claim_more(self) -> None:
        """Go on with other images, under the same token, while the last batch dries."""
        ids = self.more()
        if not ids:
            return
        images = services.claim_more(self.claim, ids, lease=self.easel.lease, at=self.now())
        self.claim = Claim(self.claim.token, (*self.at_hand, *self._unstored(), *images))
        self.todo.extend(images)
        self.easel.keep()

    def _paint_batch(self, stop: Callable[[], bool]) -> None:
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
        try:
            self._store_dry()
            if not self.todo and not stop():
                self._claim_more()
        finally:
            attempt.end()  # whatever came of that: nothing else may be begun before
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
        return f"The picture cannot be stored. {in_words(error)}"
    return services.write_painting(image, encoded, provenance=provenance)


def in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
