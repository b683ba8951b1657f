"""Images that nobody wants any more: a claim on them is lost, READY ones stay, all may return."""

import threading
import time
from collections.abc import Callable

import pytest
from django.db import OperationalError, connection, transaction
from PIL import Image as Pictures

from generation import messages, services
from generation.encoding import encode
from generation.models import Image
from tests.generation.studio import (
    Sketcher,
    attempts,
    claim,
    paint,
    queued,
    statuses,
    stored_files,
)
from tests.races import race, settled
from tests.world import MINUTE, NOON

pytestmark = [pytest.mark.django_db, pytest.mark.database]
LATER = NOON + 2 * MINUTE


def withdraw(ids: list[int]) -> int:
    return services.withdraw(Image.objects.filter(pk__in=ids))


def test_what_waits_and_what_is_being_painted_is_cancelled_and_the_rest_stays():
    ids = queued(5)
    paint(ids[:1])
    held = claim(ids[1:3])
    services.store_failure(held, held.images[0], reason="no", at=NOON)
    assert withdraw(ids) == 3
    assert statuses(ids) == ["READY", "FAILED", "CANCELLED", "CANCELLED", "CANCELLED"]
    assert withdraw(ids) == 0


def test_a_worker_in_the_middle_of_a_batch_stores_nothing_of_what_was_cancelled():
    ids = queued(6)
    painter = Sketcher(
        batch_size=2, on_prompt=lambda prompt: prompt == "prompt 2" and withdraw(ids[1:5])
    )
    before = stored_files()
    paint(ids, painter)
    assert statuses(ids) == ["READY", *["CANCELLED"] * 4, "READY"]
    assert painter.batches == [
        ["prompt 0", "prompt 1"],
        ["prompt 2", "prompt 3"],
        ["prompt 5"],  # of the last two one is wanted
    ]
    assert len(stored_files() - before) == 2


def test_a_batch_that_fails_or_does_not_fit_after_it_was_cancelled_comes_to_nothing():
    ids = queued(4)

    def spoil(prompt: str) -> None:
        withdraw(ids[:3])
        raise ValueError("poison")

    paint(ids, Sketcher(on_prompt=spoil))
    assert statuses(ids) == ["CANCELLED"] * 3 + ["FAILED"]
    assert attempts(ids)[:3] == [1, 1, 1]  # the fourth was tried on, alone


def test_no_message_and_no_sweep_brings_a_cancelled_image_back(broker):
    ids = queued(2)
    services.nudge_stale(at=NOON)
    withdraw(ids)
    assert paint(ids).batches == []
    assert services.nudge_stale(at=LATER) == 0
    assert statuses(ids) == ["CANCELLED"] * 2


def test_a_worker_that_stops_does_not_queue_again_what_was_cancelled():
    ids = queued(2)
    held = claim(ids)
    withdraw(ids[:1])
    services.release(held, held.images)
    assert statuses(ids) == ["CANCELLED", "QUEUED"]


def test_whoever_asks_again_gets_it_painted(broker, django_capture_on_commit_callbacks):
    ids = queued(3)
    services.renew(claim(ids), claim(ids).images, lease=MINUTE, at=NOON)
    withdraw(ids)
    with django_capture_on_commit_callbacks(execute=True):
        assert queued(2, at=LATER) == ids[:2]
    assert statuses(ids) == ["QUEUED", "QUEUED", "CANCELLED"]
    assert messages.waiting() == set(ids[:2])
    assert services.ask_again(Image.objects.all(), at=LATER) == 1
    assert attempts(ids) == [0, 0, 0]
    paint(ids, task_id="another")
    assert statuses(ids) == ["READY"] * 3


def test_asking_again_does_not_touch_what_failed():
    ids = queued(1)
    held = claim(ids)
    services.store_failure(held, held.images[0], reason="no", at=NOON)
    queued(1)
    services.ask_again(Image.objects.all(), at=LATER)
    assert statuses(ids) == ["FAILED"]


@pytest.mark.django_db(transaction=True)
def test_an_image_that_is_cancelled_while_it_is_stored_is_one_or_the_other():
    """Whichever comes first: READY with its file, or CANCELLED without one."""
    ids = queued(6)
    held = claim(ids)
    before = stored_files()
    stored, _ = settled(
        race([lambda: [store(held, image) for image in held.images], lambda: withdraw(ids)])
    )
    assert statuses(ids) == ["READY" if kept else "CANCELLED" for kept in stored]
    assert len(stored_files() - before) == sum(stored)


WORKERS_ACTS = {
    "release": lambda ids: services.release(held_by_worker(ids), []),
    "renew": lambda ids: services.renew(held_by_worker(ids), [], lease=MINUTE, at=NOON),
    "claim": lambda ids: claim(ids, task_id="worker"),  # of the same task: takes it over
}


def held_by_worker(ids: list[int]) -> services.Claim:
    images = list(Image.objects.filter(pk__in=ids))
    return services.Claim(images[0].claim_token, tuple(images))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("act", WORKERS_ACTS)
def test_whoever_cancels_and_a_worker_do_not_wait_for_each_other(act):
    """Both want all rows, of which the first lies last in its table, and somebody holds it for a
    moment: so whoever cancels comes to wait for it first, and then the worker.
    """
    if connection.vendor != "postgresql":
        pytest.skip("cannot go wrong on SQLite: who writes, locks all of it")
    ids = queued(6)
    claim(ids, task_id="worker")
    Image.objects.filter(pk=ids[0]).update(digest="0" * 64)  # indexed: the row is written anew
    errors: list[Exception] = []

    def run(what: Callable[[list[int]], object]) -> None:
        try:
            what(ids)
        except OperationalError as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(one,)) for one in (withdraw, WORKERS_ACTS[act])]
    with transaction.atomic():
        Image.objects.select_for_update().get(pk=ids[0])
        for n_before, thread in enumerate(threads):
            thread.start()
            wait_until(lambda n=n_before + 1: n_waiting() == n)
    for thread in threads:
        thread.join()
    assert errors == []
    assert statuses(ids) == ["CANCELLED"] * 6


def n_waiting() -> int:
    """How many connections to this database wait for a lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # or one transaction sees one state
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return int(cursor.fetchone()[0])


def wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(500):
        if is_so():
            return
        time.sleep(0.02)
    raise AssertionError("ten seconds were not enough")


def store(held: services.Claim, image: Image) -> bool:
    picture = encode(Pictures.new("RGB", (8, 8), (image.pk % 256, 0, 0)))
    written = services.write_painting(image, picture, provenance={})
    return bool(services.store_paintings(held, [written], at=NOON))
