"""The life of an image: wanted, claimed, painted or failed.

The row is the truth and a message only a nudge: losing, doubling or delaying messages loses and
doubles nothing. A claim is a conditional UPDATE, and what a lost claim painted is not stored.
"""

import hashlib
import logging
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Case, F, Q, QuerySet, When

from generation import messages, queries, weights
from generation.encoding import Encoded
from generation.models import Image, ImageEvent, image_path
from generation.spec import MAX_SEED, Recipe, image_digest

logger = logging.getLogger(__name__)

CHUNK = 64  # images a message: one recipe, loaded once; room for two of the largest batches
MAX_ATTEMPTS = 3
MIN_LEASE = timedelta(minutes=1)
PENDING = (Image.Status.QUEUED, Image.Status.CLAIMED)


@dataclass(frozen=True)
class Want:
    """One image that somebody asks for."""

    recipe: Recipe
    prompt: str
    seed: int

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"seed: expected 0 to {MAX_SEED}, got {self.seed}")
        if "\0" in self.prompt:
            raise ValueError(f"prompt: holds a NUL character: {self.prompt!r}")

    @property
    def digest(self) -> str:
        return image_digest(self.recipe, self.prompt, self.seed)


# Asking.


@transaction.atomic
def request_images(wants: Iterable[Want], *, at: datetime) -> dict[str, int]:
    """Ask for images: digest -> id. Those already asked for, by whichever study, are shared.

    Workers are told once the rows are committed. A CANCELLED image is wanted again; a FAILED one
    stays so: see `retry_failed`.
    """
    wanted = {want.digest: want for want in wants}
    for want in wanted.values():
        if want.recipe.family == "imported":
            raise ValueError(f"{want.recipe.checkpoint}: imported images are not painted")
    known = queries.ids_of(wanted)
    rows = [new_row(digest, want, at) for digest, want in wanted.items() if digest not in known]
    Image.objects.bulk_create(rows, ignore_conflicts=True, batch_size=queries.ROWS)
    ids = {**known, **queries.ids_of(row.digest for row in rows)}
    new = [ids[row.digest] for row in rows]
    transaction.on_commit(partial(_nudge_now_or_later, new, at=at))
    _queue_again(list(known.values()), Image.Status.CANCELLED, at=at)
    return {digest: ids[digest] for digest in wanted}


def retry_failed(images: QuerySet[Image], *, at: datetime) -> int:
    """Give failed images three new attempts, and say how many there are.

    Imported images are not painted: importing them again is what helps.
    """
    rows = images.filter(status=Image.Status.FAILED).exclude(recipe__family="imported")
    return _queue_again(list(rows.values_list("pk", flat=True)), Image.Status.FAILED, at=at)


def ask_again(images: QuerySet[Image], *, at: datetime) -> int:
    """Want again those of some images that nobody wanted any more, and say how many there are."""
    rows = images.filter(status=Image.Status.CANCELLED)
    return _queue_again(list(rows.values_list("pk", flat=True)), Image.Status.CANCELLED, at=at)


@transaction.atomic
def _queue_again(image_ids: Sequence[int], status: Image.Status, *, at: datetime) -> int:
    """Queue those of some images that have this status, with three new attempts; how many."""
    found: list[int] = []
    n_queued = 0
    for chunk in queries.cut(sorted(image_ids)):
        rows = Image.objects.filter(pk__in=chunk, status=status)
        found += rows.values_list("pk", flat=True)
        n_queued += _change(
            rows, status=Image.Status.QUEUED, attempts=0, error="", finished_at=None, nudged_at=None
        )
    if found:
        transaction.on_commit(partial(_nudge_now_or_later, found, at=at))
    return n_queued


def withdraw(images: QuerySet[Image]) -> int:
    """Cancel those of some images that are still to be painted; how many there were.

    Which of them nobody else wants is the caller's to know. A claim on them is lost with its
    token, so that what its worker paints of them is not stored. READY and FAILED ones stay.
    """
    return _change(
        images.filter(status__in=PENDING),
        status=Image.Status.CANCELLED,
        claim_token="",
        lease_expires_at=None,
    )


@transaction.atomic
def _change(rows: QuerySet[Image], **fields: Any) -> int:
    """Write the same into some images, whose rows are locked by number first; how many.

    An UPDATE alone locks rows in the order in which it comes upon them. Of two that come from
    two sides, each would wait for the other, until the database breaks one off. The lock is none
    on keys: entries that are laid meanwhile may point at these rows.
    """
    locked = rows.select_for_update(of=("self",), no_key=True).order_by("pk")
    ids = list(locked.values_list("pk", flat=True))
    return sum(rows.filter(pk__in=chunk).update(**fields) for chunk in queries.cut(ids))


def preflight(recipe: Recipe) -> list[str]:
    """What keeps a recipe from being painted on this machine, in words, before anything is."""
    return weights.problems(recipe, settings.CHECKPOINT_DIRS)


def new_row(digest: str, want: Want, at: datetime) -> Image:
    return Image(
        digest=digest,
        recipe_digest=want.recipe.digest,
        recipe=want.recipe.as_json(),
        prompt=want.prompt,
        seed=want.seed,
        requested_at=at,
    )


# Telling the workers.


def _nudge(image_ids: Sequence[int], *, at: datetime) -> int:
    """Send messages for images, in chunks of one recipe; how many images were sent.

    All chunks but a recipe's last are full, so that whole batches fill them. Raises
    messages.BrokerAwayError.
    """
    n_sent = 0
    by_recipe: dict[str, list[int]] = {}
    for ids in queries.cut(image_ids):
        rows = Image.objects.filter(pk__in=ids).order_by("pk")
        for pk, digest in rows.values_list("pk", "recipe_digest"):
            by_recipe.setdefault(digest, []).append(pk)
    for same_recipe in by_recipe.values():
        for first in range(0, len(same_recipe), CHUNK):
            chunk = same_recipe[first : first + CHUNK]
            messages.send(chunk)
            _change(Image.objects.filter(pk__in=chunk, status__in=PENDING), nudged_at=at)
            n_sent += len(chunk)
    return n_sent


def _nudge_now_or_later(image_ids: Sequence[int], *, at: datetime) -> None:
    """A broker that is away costs one line in the log: the sweep sends again."""
    try:
        _nudge(image_ids, at=at)
    except messages.BrokerAwayError as error:
        logger.warning("The broker is away, the sweep will tell the workers later: %s", error)


def nudge_stale(*, at: datetime) -> int:
    """Send again what nobody paints and no message speaks of; how many images were sent.

    Raises messages.BrokerAwayError where something is to be sent: the caller comes again.
    """
    waiting = list(queries.stale(at=at).order_by("pk").values_list("pk", flat=True))
    if not waiting:
        return 0
    told = messages.waiting()
    return _nudge([pk for pk in waiting if pk not in told], at=at)


# Painting.


@dataclass(frozen=True)
class Claim:
    """Images that one run of one task may paint, until its lease is over."""

    token: str
    images: tuple[Image, ...]

    def rows(self, of: Sequence[Image] | None = None) -> QuerySet[Image]:
        """Those of them, or of some of them, that are still this claim's: the condition of every
        write under it."""
        ids = [image.pk for image in (self.images if of is None else of)]
        return Image.objects.filter(pk__in=ids, status=Image.Status.CLAIMED, claim_token=self.token)


def claim_images(
    image_ids: Sequence[int], *, task_id: str, lease: timedelta = MIN_LEASE, at: datetime
) -> Claim:
    """Claim those images of a message that are free. Whoever comes second gets none of them.

    An image under which the painter died three times is FAILED here and now.
    """
    token = f"{task_id}:{secrets.token_hex(8)}"
    free = queries.claimable(at=at, task_id=task_id)
    claim = Claim(token, _claimed(image_ids, free, token, until=at + lease))
    for image in claim.images:
        if image.attempts >= MAX_ATTEMPTS:
            reason = (
                f"The worker died, or lost its database, {image.attempts} times while it painted "
                "this image."
            )
            store_failure(claim, image, reason=reason, at=at)
    return Claim(token, tuple(one for one in claim.images if one.attempts < MAX_ATTEMPTS))


def claim_more(
    claim: Claim, image_ids: Sequence[int], *, lease: timedelta, at: datetime
) -> tuple[Image, ...]:
    """Claim further images under the same token, those that are free."""
    return _claimed(image_ids, queries.claimable(at=at), claim.token, until=at + lease)


def _claimed(
    image_ids: Sequence[int], free: Q, token: str, *, until: datetime
) -> tuple[Image, ...]:
    rows = Image.objects.filter(pk__in=image_ids)
    _change(
        rows.filter(free),
        status=Image.Status.CLAIMED,
        claim_token=token,
        lease_expires_at=until,
    )
    return tuple(rows.filter(claim_token=token).order_by("pk"))


def renew(claim: Claim, batch: Sequence[Image], *, lease: timedelta, at: datetime) -> list[Image]:
    """Prolong a claim and count an attempt for the images about to be painted.

    Counted before painting, so that a death leaves its mark. Only images still claimed come back.
    """
    ids = [image.pk for image in batch]
    one_more = Case(When(pk__in=ids, then=1), default=0)
    _change(claim.rows(), lease_expires_at=at + lease, attempts=F("attempts") + one_more)
    return list(claim.rows(batch).order_by("pk"))


def give_back(claim: Claim, batch: Sequence[Image]) -> list[Image]:
    """Take back an attempt that was no fault of these images: the batch was too large."""
    _change(claim.rows(batch).filter(attempts__gt=0), attempts=F("attempts") - 1)
    return list(claim.rows(batch).order_by("pk"))


def release(claim: Claim, batch: Sequence[Image]) -> None:
    """Stop cleanly: the batch at hand gets its attempt back, what is not stored waits again."""
    ids = [image.pk for image in batch]
    one_less = Case(When(pk__in=ids, attempts__gt=0, then=1), default=0)
    _change(
        claim.rows(),
        status=Image.Status.QUEUED,
        claim_token="",
        lease_expires_at=None,
        attempts=F("attempts") - one_less,
    )


@dataclass(frozen=True)
class Written:
    """A painted image whose file is whole in the storage; no row points at it yet."""

    image: Image
    file: dict[str, Any]  # the row's fields that speak of it
    provenance: dict[str, Any]


def write_painting(image: Image, encoded: Encoded, *, provenance: dict[str, Any]) -> Written:
    """Write a painted image's file. Asks no database: threads that only write call this."""
    return Written(image, write_file(image, encoded), provenance)


def store_paintings(claim: Claim, paintings: Sequence[Written], *, at: datetime) -> int:
    """Point rows at files, in one transaction; how many of them were still this claim's.

    A lost claim stores nothing, and its files go. When the database fails, they stay: rows may
    already point at them, and storing them again changes nothing. An image that was finished
    before, and is painted anew, leaves an event.
    """
    if not paintings:
        return 0
    lost, replaced = list[Written](), list[str]()
    with transaction.atomic():
        # In the order in which `_change` locks rows, so that neither waits for the other.
        for one in sorted(paintings, key=lambda one: one.image.pk):
            if not _store(claim, one, at):
                lost.append(one)
            elif one.image.file:  # one that was damaged
                replaced.append(str(one.image.file))
                before, after = one.image.sha256, one.file["sha256"]
                note_event(one.image, ImageEvent.Kind.REPAINTED, before, after, at)
    # Not lost, if they are stored already: a commit may seem to fail, and be tried again.
    kept = queries.files_of([one.image.pk for one in lost])
    for name in [*replaced, *(one.file["file"] for one in lost)]:
        if name not in kept:
            default_storage.delete(name)
    return len(paintings) - len(lost)


def _store(claim: Claim, painting: Written, at: datetime) -> int:
    return claim.rows([painting.image]).update(
        status=Image.Status.READY,
        claim_token="",
        lease_expires_at=None,
        error="",
        finished_at=at,
        provenance=painting.provenance,
        **painting.file,
    )


def store_failure(claim: Claim, image: Image, *, reason: str, at: datetime) -> bool:
    """Give an image up, and say why; a lost claim fails nothing."""
    failed = claim.rows([image]).update(
        status=Image.Status.FAILED,
        claim_token="",
        lease_expires_at=None,
        error=reason.replace("\0", "") or "no reason was given",
        finished_at=at,
    )
    return bool(failed)


class DamagedFileError(Exception):
    """A stored image's file is not what was stored. Its row is FAILED, and says so."""


def read_stored(image: Image, *, at: datetime) -> bytes:
    """The file of a READY image, byte for byte as it was stored; else DamagedFileError.

    A file that cannot be read at all (a store that is away) is an OSError, and nobody's failure.
    """
    with image.file.open("rb") as file:
        content: bytes = file.read()
    found = hashlib.sha256(content).hexdigest()
    if found == image.sha256:
        return content
    reason = "Its file is not what was stored: it was cut short or changed."
    same = Image.objects.filter(pk=image.pk, status=Image.Status.READY, file=image.file.name)
    with transaction.atomic():
        if same.update(status=Image.Status.FAILED, error=reason, finished_at=at):
            note_event(image, ImageEvent.Kind.DAMAGED, image.sha256, found, at)
    raise DamagedFileError(reason)


def note_event(image: Image, kind: str, before: str, after: str, at: datetime) -> None:
    ImageEvent.objects.create(
        image=image, kind=kind, sha256_before=before, sha256_after=after, at=at
    )


def write_file(image: Image, encoded: Encoded) -> dict[str, Any]:
    """Write an image's file under a random name, and the fields that speak of it."""
    name = default_storage.save(image_path(image, encoded.suffix), ContentFile(encoded.content))
    return {
        "file": name,
        "sha256": encoded.sha256,
        "width": encoded.width,
        "height": encoded.height,
        "flat_colour": encoded.flat_colour,
    }
