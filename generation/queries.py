"""Reading the Image rows: which are there, which are wanted, and by whom they may be claimed."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db.models import Q, QuerySet

from generation.models import Image
from generation.spec import Recipe

T = TypeVar("T")

NUDGE_AGAIN_AFTER = timedelta(minutes=1)
ROWS = 500  # a statement


def cut(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Pieces of nearly equal length, none longer than a statement takes."""
    n_pieces = -(-len(items) // ROWS)
    for n in range(n_pieces):
        yield items[n * len(items) // n_pieces : (n + 1) * len(items) // n_pieces]


def ids_of(digests: Iterable[str]) -> dict[str, int]:
    """Of some digests those that have a row: digest -> id. A query for each ROWS."""
    ids: dict[str, int] = {}
    for chunk in cut(list(digests)):
        ids.update(Image.objects.filter(digest__in=chunk).values_list("digest", "pk"))
    return ids


def files_of(image_ids: Sequence[int]) -> set[str]:
    """The names of some images' files. A query for each ROWS."""
    names: set[str] = set()
    for chunk in cut(image_ids):
        names.update(Image.objects.filter(pk__in=chunk).values_list("file", flat=True))
    return names


def claimable(*, at: datetime, task_id: str = "") -> Q:
    """The whole condition for claiming: waiting, lease over, or a former life's own row.

    A message that Celery delivers again has the id it had: a task of the same id takes over, at
    once, what the process that died had claimed.
    """
    free = Q(status=Image.Status.QUEUED) | Q(status=Image.Status.CLAIMED, lease_expires_at__lt=at)
    return free | _claimed_by(task_id) if task_id else free


def _claimed_by(task_id: str) -> Q:
    return Q(status=Image.Status.CLAIMED, claim_token__startswith=f"{task_id}:")


def left_by(task_id: str) -> list[int]:
    """What a task of this id had claimed when its process died, its message's own or not."""
    return list(Image.objects.filter(_claimed_by(task_id)).values_list("pk", flat=True))


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
