"""Broken variants of the code, each of which a fault must notice. Seeded in the run's processes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mutant:
    """What is broken, the fault that must notice, and the breaking, in a process of its own."""

    name: str
    broken: str
    fault: str
    seed: Callable[[], None]


MUTANTS: dict[str, Mutant] = {}


def _mutant(fault: str, broken: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def register(seed: Callable[[], None]) -> Callable[[], None]:
        name = seed.__name__.replace("_", "-")
        MUTANTS[name] = Mutant(name, broken, fault, seed)
        return seed

    return register


@_mutant("none", "the last batch of a message is not stored")
def last_batch_lost() -> None:
    from generation.sitting import Sitting

    paint = Sitting._paint_batch

    def paint_batch(self: Any) -> None:
        paint(self)
        if not self.todo:
            self.drying = []

    Sitting._paint_batch = paint_batch  # type: ignore[method-assign]


@_mutant("child-killed", "a message is acknowledged before it is dealt with")
def acknowledged_early() -> None:
    from generation.celery import app

    app.conf.task_acks_late = False


@_mutant("worker-killed", "the sweep finds nothing whose lease is over")
def leases_without_end() -> None:
    from django.db.models import Q

    from generation import queries

    queries.claimable = lambda **_: Q(status="QUEUED")


@_mutant("worker-stopped", "a worker that is stopped hands nothing back")
def nothing_released() -> None:
    from generation import services

    services.release = lambda claim, batch: None


@_mutant("cancelled", "the sweep sends what was cancelled, and workers take it")
def cancelled_all_the_same() -> None:
    from django.db.models import Q

    from generation import queries

    queries.claimable = lambda **_: Q(status__in=["QUEUED", "CANCELLED"])


@_mutant("cancelled", "a cancelled image may still be stored")
def cancelled_stored() -> None:
    token_not_checked()


@_mutant("each-step", "the row is written before the file")
def row_before_file() -> None:
    from django.core.files.base import ContentFile
    from django.core.files.storage import default_storage

    from generation import services
    from generation.models import image_path

    point = services.store_paintings
    contents: dict[str, bytes] = {}

    def write(image: Any, encoded: Any, *, provenance: Any) -> services.Written:
        name = image_path(image, encoded.suffix)
        contents[name] = encoded.content
        fields = {"file": name, "sha256": encoded.sha256, "width": encoded.width}
        return services.Written(image, fields | {"height": encoded.height}, provenance)

    def store(claim: Any, paintings: Any, *, at: Any) -> int:
        n_stored = point(claim, paintings, at=at)
        for one in paintings:
            name = one.file["file"]
            default_storage.save(name, ContentFile(contents[name]))
        return n_stored

    services.write_painting, services.store_paintings = write, store


@_mutant("dying-while-drying", "clean_files removes files whatever points at them")
def rows_not_asked() -> None:
    from generation import leftovers

    # Half of them: where all would go, it asks whether this is the right database.
    vars(leftovers)["_without_row"] = lambda names: iter(names[: len(names) // 2])


@_mutant("dying-while-painting-on", "what the dead had claimed beside its message is left")
def only_its_own_taken_over() -> None:
    from generation import queries

    queries.left_by = lambda task_id: []


@_mutant("prompt-kills", "attempts are not counted")
def attempts_not_counted() -> None:
    from generation import services

    def renew(claim: Any, batch: Any, *, lease: Any, at: Any) -> list[Any]:
        claim.rows().update(lease_expires_at=at + lease)
        return list(claim.rows().filter(pk__in=[one.pk for one in batch]).order_by("pk"))

    services.renew = renew


@_mutant("prompt-kills", "after a death the batch is tried together again")
def mates_not_spared() -> None:
    from generation.sitting import Sitting

    def next_batch(self: Any) -> list[Any]:
        return [self.todo.popleft() for _ in range(min(len(self.todo), self.easel.batch_size))]

    Sitting._next_batch = next_batch  # type: ignore[method-assign]


@_mutant("timing-kills", "that timing began is not noted")
def timings_not_counted() -> None:
    from generation.pace import Memory

    Memory._begin = lambda self: True  # type: ignore[method-assign]


@_mutant("memory-full", "a batch that does not fit fails")
def batches_not_halved() -> None:
    from generation import services
    from generation.sitting import Sitting

    def split(self: Any, batch: list[Any], reason: str) -> None:
        for image in batch:
            services.store_failure(self.claim, image, reason=reason, at=self.now())

    Sitting._split = split  # type: ignore[method-assign]


@_mutant("weights-missing", "a failure is not stored")
def failures_not_stored() -> None:
    from generation import services

    services.store_failure = lambda *_, **__: False


@_mutant("disk-full", "what could not be stored keeps its attempt")
def full_disk_counts() -> None:
    from generation.sitting import Sitting

    Sitting._unstored = lambda self: []  # type: ignore[method-assign]


@_mutant("file-damaged", "a stored file is taken for what was stored")
def file_not_checked() -> None:
    from evalsite.studies import display_files

    vars(display_files)["read_stored"] = lambda image, at: image.file.open("rb").read()


@_mutant("broker-killed", "a worker that loses its broker gives up")
def broker_given_up() -> None:
    from generation.celery import app

    app.conf.broker_connection_retry = False


@_mutant("broker-killed", "the sweep says at every round that the broker is away")
def away_at_every_round() -> None:
    from evalsite.studies.management.commands.sweep import Sweep

    found = Sweep._miss

    def miss(self: Any, what: str, error: Exception) -> None:
        self._away.clear()
        found(self, what, error)

    Sweep._miss = miss  # type: ignore[method-assign]


@_mutant("broker-emptied", "the sweep sends nothing again")
def nothing_sent_again() -> None:
    from evalsite.studies.management.commands import sweep

    vars(sweep)["nudge_stale"] = lambda at: 0


@_mutant("connections-cut", "a copy of a message takes over what another worker paints")
def living_taken_over() -> None:
    from generation import tasks

    tasks._WORKER = ""


@_mutant("duplicates", "a message is painted whoever claimed its images")
def claims_not_asked() -> None:
    from django.db.models import Q

    from generation import queries

    queries.claimable = lambda **_: ~Q(status="READY")


@_mutant("late-delivery", "a message is painted whatever became of its images")
def painted_twice() -> None:
    from django.db.models import Q

    from generation import queries

    queries.claimable = lambda **_: Q(pk__gt=0)


@_mutant("worker-stalled", "a lost claim may still store")
def token_not_checked() -> None:
    from generation import services
    from generation.models import Image

    class Loose(services.Claim):
        def rows(self, of: Any = None) -> Any:
            return Image.objects.filter(pk__in=[image.pk for image in of or self.images])

    store = services.store_paintings

    def store_anyway(claim: services.Claim, paintings: Any, *, at: Any) -> int:
        return store(Loose(claim.token, claim.images), paintings, at=at)

    services.store_paintings = store_anyway
