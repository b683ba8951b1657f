"""The worker's side: a message's ids in; load, claim, have painted."""

import logging
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.sharedctypes import RawValue
from typing import Any, TypedDict

from celery import Task, shared_task
from celery.exceptions import Reject
from celery.signals import worker_init, worker_shutting_down
from django.conf import settings
from django.utils import timezone

from generation import machine, queries, services
from generation.celery import PAINT_IMAGES
from generation.easel import Easel, Studio, load_painter
from generation.pipelines import DeviceLostError
from generation.services import Claim
from generation.sitting import Clock, Sitting, StoppedError, in_words
from generation.spec import Recipe

logger = logging.getLogger(__name__)

LOADING_LEASE = timedelta(minutes=30)

# Shared with the child that is forked later. Raw, so that a child killed at the wrong moment
# cannot leave a lock behind.
_stopping = RawValue("b", 0)

# This worker: the parent, and every child that it forks.
_WORKER = secrets.token_hex(4)


@worker_init.connect  # type: ignore[untyped-decorator]
def _refuse_a_missing_device(**_signal: Any) -> None:
    """A worker whose own settings are at fault would fail one image after another."""
    if problem := machine.missing_device(settings.PAINTING_DEVICE):
        sys.exit(problem)


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


_studio = Studio(load_painter, remembers=True)


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

    Loading is dear, and so is waiting until the last batch is stored. So whatever else waits for
    the pipeline that is loaded is painted with them, whichever message speaks of it, and before
    another pipeline takes its place. What was tried before stays with its own message.
    """

    def fresh() -> list[int]:
        resident = studio.resident
        return queries.never_tried(resident, most=services.CHUNK, at=now()) if resident else []

    how: _How = {"studio": studio, "task_id": task_id, "now": now, "stop": stop, "more": fresh}
    suspects = queries.left_by(task_id) if died_before else []
    asked = [*image_ids, *suspects]
    for recipe, ids in queries.wanted_by_recipe(asked, task_id=task_id, at=now()):
        resident = studio.resident
        if resident and resident.as_json() != recipe and (waiting := fresh()):
            paint_chunk(resident.as_json(), waiting, **how)
        paint_chunk(recipe, ids, died_before=died_before, **how)


class _How(TypedDict):
    studio: Studio
    task_id: str
    now: Clock
    stop: Callable[[], bool]
    more: Callable[[], Sequence[int]]


def paint_chunk(
    recipe: dict[str, Any],
    image_ids: Sequence[int],
    *,
    studio: Studio,
    task_id: str,
    now: Clock,
    died_before: bool = False,
    stop: Callable[[], bool] = lambda: False,
    more: Callable[[], Sequence[int]] = list,
) -> None:
    """Paint those of some images that can be claimed, then `more`; the pipeline is loaded first."""
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
        Sitting(easel, claim, now, studio.dryers, more).paint_all(stop)
    finally:
        easel.keep()


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
        return None, f"The pipeline could not be loaded. {in_words(error)}"
    finally:
        services.release(loading, loading.images)
