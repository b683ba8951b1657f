"""What raters see of a prompt, made as a whole once none of its images is pending."""

import logging
from datetime import datetime

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from PIL.Image import Image as Picture

from evalsite.studies import display, queries
from evalsite.studies.defects import drop_defects, take_out
from evalsite.studies.models import Entry, Prompt, Study, display_path
from generation.failures import gist
from generation.models import Image
from generation.services import DamagedFileError, read_stored
from generation.writing import WritingOverError, announced, finish

logger = logging.getLogger(__name__)

Unshowable = dict[int, str]  # entry -> why it cannot be shown


def make_display_files(*, at: datetime, study: Study | None = None, limit: int = 100) -> int:
    """Make the display files of prompts whose images are all painted or failed.

    Takes prompts until `limit` files are made, and says how many were. A prompt is one
    transaction, so either all its files are there or none. What cannot be read now (a store
    that is away) is logged and left for the next time.
    """
    n_made = 0
    for prompt in list(queries.prompts_to_finish(study)[:limit]):
        if n_made >= limit:
            break
        try:
            n_made += _finish(prompt, at)
        except OSError as error:
            logger.warning("Display files of prompt %s must wait: %s", prompt.pk, error)
    return n_made


def _finish(prompt: Prompt, at: datetime) -> int:
    """Deal with what failed or is none, then show the rest. Returns the number of files made."""
    entries = list(
        prompt.entries.select_related("image", "system").order_by("system__position", "sample")
    )
    if any(entry.image.status not in queries.DONE_WITH for entry in entries):
        return 0  # asked for again, or cancelled, since the prompt was found
    pictures, unshowable = _read(entries, at)
    if unshowable:
        take_out(prompt.study, prompt.pk, _reasons(entries, unshowable), at=at)
    drop_defects(prompt.study, at=at, of=prompt)
    if not Prompt.objects.filter(pk=prompt.pk, removed_at=None).exists():
        return 0
    shown = [entry for entry in entries if entry.pk in pictures]
    if not shown:
        return 0
    frame = _frame_of(prompt.study)
    files = display.display_files([pictures[entry.pk] for entry in shown], frame)
    return _store(shown, files, frame, at=at)


def _read(entries: list[Entry], at: datetime) -> tuple[dict[int, Picture], Unshowable]:
    """Pictures by entry, and what failed to be painted, was damaged or cannot be decoded."""
    pictures: dict[int, Picture] = {}
    unshowable: Unshowable = {}
    for entry in entries:
        if entry.image.status != Image.Status.READY:
            unshowable[entry.pk] = gist(entry.image.error)
            continue
        try:
            pictures[entry.pk] = display.decode(read_stored(entry.image, at=at))
        except (DamagedFileError, display.UnreadableImageError) as error:
            unshowable[entry.pk] = str(error)
    return pictures, unshowable


def _reasons(entries: list[Entry], unshowable: Unshowable) -> dict[int, str]:
    return {
        e.pk: f"no image of {e.system.key}: {unshowable[e.pk]}"
        for e in entries
        if e.pk in unshowable
    }


def _frame_of(study: Study) -> display.Frame:
    return display.Frame(study.display_size, study.resampler, study.upscaler)


def _store(entries: list[Entry], files: list[bytes], frame: display.Frame, *, at: datetime) -> int:
    """Files first, then the rows, all or none; whoever comes second deletes its files.

    The study's row is locked, so that no draft whose display settings were edited in the
    meantime keeps files of the old ones.
    """
    with announced(at=at) as writing:
        names = [
            default_storage.save(display_path(entry, display.SUFFIX), ContentFile(data))
            for entry, data in zip(entries, files)
        ]
        try:
            with transaction.atomic():
                finish(writing)
                _point_at(entries, names, frame)
        except (_ComeSecondError, WritingOverError):
            for name in names:
                default_storage.delete(name)
            return 0
    for entry in entries:
        if entry.display.name:  # made before an image of the prompt changed
            default_storage.delete(entry.display.name)
    return len(entries)


def _point_at(entries: list[Entry], names: list[str], frame: display.Frame) -> None:
    study = Study.objects.select_for_update().get(pk=entries[0].prompt.study_id)
    if study.state != Study.State.DRAFT or _frame_of(study) != frame:
        raise _ComeSecondError
    for entry, name in zip(entries, names):
        rows = Entry.objects.filter(pk=entry.pk, image=entry.image, display=entry.display)
        if not rows.update(display=name):
            raise _ComeSecondError


class _ComeSecondError(Exception):
    """Another process made these files, or the draft has changed since."""
