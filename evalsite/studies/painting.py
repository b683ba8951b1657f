"""What a draft wants to have painted, and no longer: cancelled, and asked for again.

An image belongs to its recipe, prompt and seed, and studies share it. It is wanted as long as an
entry of a draft points at it whose system's painting was not cancelled.
"""

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from evalsite.studies import queries
from evalsite.studies.defects import drop_defects
from evalsite.studies.locks import lock_draft
from evalsite.studies.models import Entry, Study, System
from generation.services import PENDING, ask_again, retry_failed, withdraw


class NoSuchSystem(Exception):
    """The study has no system of this key."""

    def __init__(self, study: Study, key: str) -> None:
        known = ", ".join(study.systems.values_list("key", flat=True)) or "none yet"
        super().__init__(f"study {study.slug} has no system {key}. Its systems: {known}.")


@dataclass(frozen=True)
class Cancelled:
    """What came of cancelling: images that are painted no more, and those that are after all."""

    n_images: int
    n_shared: int  # another draft wants them too


@transaction.atomic
def cancel(study: Study, *, system: str = "", at: datetime) -> Cancelled:
    """Want no more of what is still to be painted for a draft, or for one system of it.

    What is READY or FAILED stays. An image that another draft wants is painted all the same. A
    worker that paints one of the others loses its claim, so nothing comes of it. `prepare` asks
    for everything again, `retry` for one system or for all. Raises StudyNotDraft: opening needs
    every file that raters see, so an opened study waits for nothing. Raises NoSuchSystem.
    """
    draft = lock_draft(study, instead="It waits for no image, so there is nothing to cancel.")
    systems = _systems(draft, system)
    entries = Entry.objects.filter(system=OuterRef("pk"), image__status__in=PENDING)
    ids = list(systems.filter(Exists(entries)).values_list("pk", flat=True))
    System.objects.filter(pk__in=ids).update(painting_cancelled_at=at)
    images = queries.images_of(ids)
    n_images = withdraw(queries.unwanted(images))
    return Cancelled(n_images, n_shared=images.filter(status__in=PENDING).count())


@transaction.atomic
def retry(study: Study, *, system: str = "", at: datetime) -> int:
    """Ask again for what failed or was cancelled, of a draft or of one system; how many images.

    Prompts that left for a failed image come back. Nothing is laid out: where entries are
    missing, or images were imported, that is for `prepare` to do. Raises StudyNotDraft (an
    opened study goes without what failed: its design stands) and NoSuchSystem.
    """
    draft = lock_draft(study, instead="It goes without the images that failed.")
    ids = list(_systems(draft, system).values_list("pk", flat=True))
    System.objects.filter(pk__in=ids).update(painting_cancelled_at=None)
    images = queries.images_of(ids)
    n_asked = retry_failed(images, at=at) + ask_again(images, at=at)
    bring_back(draft, at=at)
    return n_asked


def bring_back(study: Study, *, at: datetime) -> None:
    """What left for a failed image returns once its images are there or asked for again.

    So does what left for a defect: the rules may be others now, and are applied next.
    """
    back = {"removed_at": None, "removed_reason": ""}
    for rows in (queries.recovered_prompts(study), queries.recovered_comparisons(study)):
        rows.update(**back)
    drop_defects(study, at=at)


def _systems(study: Study, key: str) -> QuerySet[System]:
    """All of them where no key is given."""
    if not key:
        return study.systems.all()
    found = study.systems.filter(key=key)
    if not found.exists():
        raise NoSuchSystem(study, key)
    return found
