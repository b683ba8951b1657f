"""Files that no row points at: left by a process that was killed while it stored."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.apps import apps
from django.core.files.storage import default_storage
from django.db.models import FileField, Q, QuerySet

from generation.models import Image, Writing
from generation.writing import LONGEST

OURS = re.compile(r"[0-9a-f]{32}(_\w+)?\.webp|\.new-.+")  # of other files we know nothing
ROWS = 500  # names a query


@dataclass(frozen=True)
class Leftovers:
    """What one look at the store found."""

    names: list[str]
    n_kept: int  # files that rows point at
    claims: set[tuple[int, str]]  # images held since before the files were looked for, by token
    writings: set[int]  # and announcements of files whose rows come last


def find(folders: Sequence[str], *, before: datetime) -> Leftovers:
    """Files of these folders, last written before then, that no row points at.

    Of those, only a claim in `claims` or an announcement in `writings` can still store one: none
    of them comes back once it is lost, and they were read after the files were. (Of a token alone
    one can't say that: a worker that paints on claims more under the same.) Raises
    NotImplementedError where the store cannot list its files.
    """
    names = [
        f"{folder}/{name}" for folder in folders for name in _listed(folder) if OURS.fullmatch(name)
    ]
    held = Image.objects.filter(status=Image.Status.CLAIMED)
    claims = set(held.values_list("pk", "claim_token"))
    writings = set(Writing.objects.values_list("pk", flat=True))
    bare = list(_without_row(names))
    old = [name for name in bare if _is_older(name, before)]
    return Leftovers(old, len(names) - len(bare), claims, writings)


def end_overdue(found: Leftovers, *, at: datetime) -> None:
    """End announcements older than any process lives. One that lives all the same is refused its
    rows: see `writing.finish`.
    """
    _writings(found).filter(began_at__lt=at - LONGEST).delete()


def n_claimed(found: Leftovers) -> int:
    """How many images the claims of that time still hold."""
    held = Image.objects.filter(status=Image.Status.CLAIMED)
    return len(found.claims.intersection(held.values_list("pk", "claim_token")))


def n_writing(found: Leftovers) -> int:
    """How many processes of that time are still writing files whose rows come last."""
    return _writings(found).count() if found.writings else 0


def _writings(found: Leftovers) -> QuerySet[Writing]:
    return Writing.objects.filter(pk__in=found.writings)


def remove(found: Leftovers) -> int:
    """Delete what still no row points at, once nothing of that time is held or written."""
    n_removed = 0
    for name in _without_row(found.names):
        default_storage.delete(name)
        n_removed += 1
    return n_removed


def _listed(folder: str) -> list[str]:
    try:
        return list(default_storage.listdir(folder)[1])
    except FileNotFoundError:  # nothing was ever stored
        return []


def _without_row(names: Sequence[str]) -> Iterator[str]:
    """Names that no file field of any table holds, whichever room the table is in."""
    fields = [
        (model, field.name)
        for model in apps.get_models()
        for field in model._meta.local_fields
        if isinstance(field, FileField)
    ]
    for first in range(0, len(names), ROWS):
        some = names[first : first + ROWS]
        pointed_at: set[str] = set()
        for model, field in fields:
            rows = model._default_manager.filter(Q((f"{field}__in", some)))
            pointed_at.update(rows.values_list(field, flat=True))
        yield from (name for name in some if name not in pointed_at)


def _is_older(name: str, before: datetime) -> bool:
    try:
        return bool(default_storage.get_modified_time(name) < before)
    except FileNotFoundError:  # a temporary file that has its name by now
        return False
