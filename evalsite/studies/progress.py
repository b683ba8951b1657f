"""How far the painting of a study is, how fast it goes, and why images failed."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Min, Q
from django.db.models.functions import Left, Right

from evalsite.studies.models import Entry, Study
from generation.failures import gist, without_numbers
from generation.models import Image

WINDOW = timedelta(minutes=10)  # what was painted before says nothing about now
PAUSE = timedelta(minutes=1)  # without an image, and nobody knows whether one will come
PERIODS = 5  # such a pause is longer than so many batches take
N_ERRORS = 5000  # different texts that are read
ERROR_LENGTH = 300  # characters of either end that are read

READY, FAILED = Image.Status.READY, Image.Status.FAILED
QUEUED, CLAIMED = Image.Status.QUEUED, Image.Status.CLAIMED


@dataclass(frozen=True)
class Failure:
    """A reason for which images failed, and one of them."""

    words: str  # the error itself; "…" stands where the errors differ
    n: int
    image_id: int | None  # None: of more reasons than are read
    prompt: str


@dataclass(frozen=True)
class SystemProgress:
    """How far the images of one system are."""

    key: str
    label: str
    wanted: int  # one for each prompt
    ready: int
    queued: int
    claimed: int  # a worker paints them now, or did so when it died
    failed: int
    displayed: int
    cancelled_at: datetime | None  # its painting was cancelled, and nobody has prepared since
    rate: float | None  # images a second, while some are pending; None: not known
    failures: tuple[Failure, ...] = ()  # the most frequent first

    @property
    def pending(self) -> int:
        """To be painted still, for this study or for another that wants the same images."""
        return self.queued + self.claimed

    @property
    def unasked(self) -> int:
        """Asked for by nobody: not prepared yet, or cancelled."""
        return self.wanted - self.ready - self.failed - self.pending

    @property
    def time_left(self) -> timedelta | None:
        """At the rate of the last minutes. None where that is not known, or nothing is pending."""
        return timedelta(seconds=self.pending / self.rate) if self.rate and self.pending else None


def progress(study: Study, *, at: datetime) -> tuple[SystemProgress, ...]:
    """How far each system is. Six queries at most, whatever the size; two where all is painted."""
    n_prompts = study.prompts.count()
    counts = _counts(study)
    rates = _rates([row for row in counts if row["asked_at"]], at=at)
    n_failed = {row["pk"]: row["failed"] for row in counts}
    failures = _failures({pk: n for pk, n in n_failed.items() if n})
    return tuple(
        SystemProgress(
            key=row["key"],
            label=row["label"],
            wanted=n_prompts,
            ready=row["ready"],
            queued=row["queued"],
            claimed=row["claimed"],
            failed=row["failed"],
            displayed=row["displayed"],
            cancelled_at=row["painting_cancelled_at"],
            rate=rates.get(row["pk"]),
            failures=tuple(failures.get(row["pk"], ())),
        )
        for row in counts
    )


def _counts(study: Study) -> list[dict[str, Any]]:
    """Images by status for each system, and when the oldest that is pending was asked for."""

    def count(status: str) -> Count:
        return Count("entries", filter=Q(entries__image__status=status))

    pending = Q(entries__image__status__in=(QUEUED, CLAIMED))
    rows = (
        study.systems.values("pk", "key", "label", "painting_cancelled_at")
        .annotate(
            ready=count(READY),
            queued=count(QUEUED),
            claimed=count(CLAIMED),
            failed=count(FAILED),
            displayed=Count("entries", filter=~Q(entries__display="")),
            asked_at=Min("entries__image__requested_at", filter=pending),
        )
        .order_by("position", "pk")
    )
    return [dict(row) for row in rows]


# How fast.


def _rates(pending: Collection[Mapping[str, Any]], *, at: datetime) -> dict[int, float]:
    """Images a second by system, where that is known. Two queries at most.

    Counted are images that came in the last minutes, and since the oldest of those still pending
    was asked for: what was there before, shared with another study, was not painted now.
    """
    recent = Q()
    for row in pending:
        since = max(row["asked_at"], at - WINDOW)
        recent |= Q(system=row["pk"], image__finished_at__gte=since)
    if not recent:
        return {}
    painted = Entry.objects.filter(
        recent,
        system__in=[row["pk"] for row in pending],
        image__status=READY,
        image__finished_at__lte=at,
    )
    rows = painted.values("system_id").annotate(
        n=Count("pk"), first=Min("image__finished_at"), last=Max("image__finished_at")
    )
    spans = {row["system_id"]: row for row in rows if row["last"] > row["first"]}
    batches = _first_batches({pk: row["first"] for pk, row in spans.items()})
    rates = {
        pk: _rate(row["n"], batches[pk], row["first"], row["last"], at=at)
        for pk, row in spans.items()
    }
    return {pk: rate for pk, rate in rates.items() if rate}


def _first_batches(firsts: Mapping[int, datetime]) -> dict[int, int]:
    """How many images were painted together with the first of each system; one query.

    Several batches that were stored together count as one.
    """
    sizes = dict.fromkeys(firsts, 1)
    n_together: Counter[int] = Counter()
    earliest = Q()
    for system_id, first in firsts.items():
        earliest |= Q(system=system_id, image__finished_at=first)
    if earliest:
        rows = Entry.objects.filter(earliest, system__in=list(firsts), image__status=READY)
        for system_id, size in rows.values_list("system_id", "image__provenance__batch_size"):
            sizes[system_id] = max(sizes[system_id], int(size or 1))
            n_together[system_id] += 1
    return {pk: max(size, n_together[pk]) for pk, size in sizes.items()}


def _rate(n: int, n_first: int, first: datetime, last: datetime, *, at: datetime) -> float | None:
    """Images a second since the first batch came, which says nothing about how long it took.

    Up to now, so that it falls while nothing comes; None once nothing came for long.
    """
    n_later = n - n_first
    if n_later <= 0:
        return None
    period = (last - first) * n_first / n_later
    if at - last > max(PAUSE, PERIODS * period):
        return None
    return n_later / (at - first).total_seconds()


# Why images failed.


def _failures(n_failed: Mapping[int, int]) -> dict[int, list[Failure]]:
    """By system, errors that differ in numbers and identifiers alone as one. Two queries, or none.

    Of very many different errors the most frequent are read; the others are counted.
    """
    if not n_failed:
        return {}
    rows = (
        Entry.objects.filter(system__in=list(n_failed), image__status=FAILED)
        .values("system_id")
        .annotate(
            head=Left("image__error", ERROR_LENGTH),
            tail=Right("image__error", ERROR_LENGTH),
            n=Count("pk"),
            example=Min("image_id"),
        )
        .order_by("-n", "example")
    )
    groups: dict[int, dict[str, list[tuple[str, int, int]]]] = {}
    for row in rows[:N_ERRORS]:
        text = _telling(row["head"], row["tail"])
        of_system = groups.setdefault(row["system_id"], {})
        of_system.setdefault(without_numbers(text), []).append((text, row["n"], row["example"]))
    examples = [min(one[2] for one in same) for of in groups.values() for same in of.values()]
    prompts = dict(Image.objects.filter(pk__in=examples).values_list("pk", "prompt"))
    return {
        system_id: _with_rest(
            [_failure(kind, same, prompts) for kind, same in groups.get(system_id, {}).items()], n
        )
        for system_id, n in n_failed.items()
    }


def _telling(head: str, tail: str) -> str:
    """An error's telling line, from both its ends; an ellipsis where the line goes on."""
    if head.startswith("Traceback"):
        return gist(tail)
    text = gist(head)
    is_cut = head != tail and head.rstrip().endswith(text)
    return f"{text}…" if is_cut else text


def _failure(kind: str, same: list[tuple[str, int, int]], prompts: Mapping[int, str]) -> Failure:
    texts = {text for text, _, _ in same}
    example = min(image_id for _, _, image_id in same)
    words = texts.pop() if len(texts) == 1 else kind
    return Failure(words, sum(n for _, n, _ in same), example, prompts.get(example, ""))


def _with_rest(failures: list[Failure], n_failed: int) -> list[Failure]:
    ordered = sorted(failures, key=lambda failure: -failure.n)
    n_rest = n_failed - sum(failure.n for failure in failures)
    if n_rest > 0:
        ordered.append(Failure("further failures, too many to read", n_rest, None, ""))
    return ordered
