"""Image files that no row points at: left by a process that was killed while it stored."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.core.files.storage import default_storage

from generation.models import IMAGES, Image

OURS = re.compile(r"[0-9a-f]{32}(_\w+)?\.webp|\.new-.+")  # of other files we know nothing
ROWS = 500  # names a query


@dataclass(frozen=True)
class Leftovers:
    """What one look at the store found."""

    names: list[str]
    n_kept: int  # image files that rows point at
    tokens: set[str]  # claims held since before the files were looked for


def find(*, before: datetime) -> Leftovers:
    """Image files last written before then that no row points at.

    Of those, only a claim in `tokens` can still store one: a token never gets rows again that it
    lost, and was read after the files were. Raises NotImplementedError where the store cannot list
    its files.
    """
    names = [f"{IMAGES}/{name}" for name in _listed() if OURS.fullmatch(name)]
    held = Image.objects.filter(status=Image.Status.CLAIMED)
    tokens = set(held.values_list("claim_token", flat=True))
    bare = list(_without_row(names))
    return Leftovers(
        [name for name in bare if _is_older(name, before)], len(names) - len(bare), tokens
    )


def n_held(found: Leftovers) -> int:
    """How many images the claims of that time still hold."""
    held = Image.objects.filter(status=Image.Status.CLAIMED, claim_token__in=found.tokens)
    return held.count() if found.tokens else 0


def remove(found: Leftovers) -> int:
    """Delete what still no row points at, once none of the claims of that time is held."""
    n_removed = 0
    for name in _without_row(found.names):
        default_storage.delete(name)
        n_removed += 1
    return n_removed


def _listed() -> list[str]:
    try:
        return list(default_storage.listdir(IMAGES)[1])
    except FileNotFoundError:  # nothing was ever stored
        return []


def _without_row(names: Sequence[str]) -> Iterator[str]:
    for first in range(0, len(names), ROWS):
        some = names[first : first + ROWS]
        pointed_at = set(Image.objects.filter(file__in=some).values_list("file", flat=True))
        yield from (name for name in some if name not in pointed_at)


def _is_older(name: str, before: datetime) -> bool:
    try:
        return bool(default_storage.get_modified_time(name) < before)
    except FileNotFoundError:  # a temporary file that has its name by now
        return False
