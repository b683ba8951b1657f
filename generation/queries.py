"""Reading the Image rows: which are wanted, and by whom they may be claimed."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet

from generation.models import Image
from generation.spec import Recipe

NUDGE_AGAIN_AFTER = timedelta(minutes=1)


def claimable(*, at: datetime, task_id: str = "") -> Q:
    """The whole condition for claiming: waiting, lease over, or a former life's own row.

    A message that Celery delivers again has the id it had: a task of the same id takes over, at
    once, what the process that died had claimed.
    """
    free = Q(status=Image.Status.QUEUED) | Q(status=Image.Status.CLAIMED, lease_expires_at__lt=at)
    if task_id:
        free |= Q(status=Image.Status.CLAIMED, claim_token__startswith=f"{task_id}:")
    return free


def wanted_by_recipe(
    image_ids: Sequence[int], *, task_id: str, at: datetime
) -> list[tuple[dict[str, Any], list[int]]]:
    """Of a message's images those still to paint, a recipe at a time. One query."""
    rows = Image.objects.filter(claimable(at=at, task_id=task_id), pk__in=image_ids)
    groups: dict[str, tuple[dict[str, Any], list[int]]] = {}
    for pk, digest, recipe in rows.order_by("pk").values_list("pk", "recipe_digest", "recipe"):
        groups.setdefault(digest, (recipe, []))[1].append(pk)
    return list(groups.values())


def never_tried(recipe: Recipe, *, most: int, at: datetime) -> list[int]:
    """The oldest images of a recipe that may be claimed and that nobody began to paint."""
    rows = Image.objects.filter(claimable(at=at), recipe_digest=recipe.digest, attempts=0)
    return list(rows.order_by("pk").values_list("pk", flat=True)[:most])


def stale(*, at: datetime) -> QuerySet[Image]:
    """Images that nobody paints and nobody was told of lately."""
    return Image.objects.filter(
        claimable(at=at), Q(nudged_at=None) | Q(nudged_at__lt=at - NUDGE_AGAIN_AFTER)
    )
