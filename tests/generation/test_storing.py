"""Storing while painting goes on: what a slow, full or failing store costs, and what it may not."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.db import DatabaseError, connection
from PIL import Image as Pictures

from generation import services, sitting, tasks
from generation.easel import Studio
from generation.encoding import encode
from generation.models import Image
from generation.pipelines import DeviceLostError, Painting
from generation.storage import DurableStorage
from tests.generation.studio import (
    Sketcher,
    attempts,
    claim,
    paint,
    queued,
    recipe,
    statuses,
)
from tests.world import MINUTE, NOON

pytestmark = [pytest.mark.django_db, pytest.mark.database]


class Store(DurableStorage):
    """A store that waits before each file, and is full after so many."""

    wait_s, room, n_saved = 0.0, 99, 0
    on_save: Callable[[], None] = staticmethod(lambda: None)
    _lock = threading.Lock()

    def _save(self, name: str, content: Any) -> str:
        time.sleep(self.wait_s)
        self.on_save()
        with self._lock:
            if Store.n_saved >= self.room:
                raise OSError("the store is full")
            Store.n_saved += 1
        return super()._save(name, content)


@pytest.fixture
def store(settings: Any, monkeypatch: pytest.MonkeyPatch) -> type[Store]:
    """Where files go in this test; what it does is the test's to say."""
    settings.STORAGES = settings.STORAGES | {"default": {"BACKEND": f"{__name__}.Store"}}
    for name in ("wait_s", "room", "n_saved", "on_save"):
        monkeypatch.setattr(Store, name, vars(Store)[name])
    return Store


def test_what_could_be_stored_is_stored_though_the_store_is_full_now(store):
    ids = queued(6)
    store.room = 3
    with pytest.raises(OSError, match="full"):
        paint(ids)
    assert sorted(statuses(ids)) == ["QUEUED"] * 3 + ["READY"] * 3
    assert sorted(attempts(ids)) == [0] * 3 + [1] * 3
    store.room = 99
    paint(ids)
    assert statuses(ids) == ["READY"] * 6


def test_painting_waits_for_a_slow_store(store):
    """No more than two batches are ever painted and not stored."""
    ids = queued(16)
    store.wait_s = 0.02
    unsaved = []
    painter = Sketcher(
        batch_size=4,
        on_prompt=lambda _: unsaved.append(4 * (len(painter.batches) - 1) - store.n_saved),
    )
    paint(ids, painter)
    assert statuses(ids) == ["READY"] * 16
    assert max(unsaved) <= 4


@pytest.mark.django_db(transaction=True)
def test_a_store_slower_than_a_lease_does_not_cost_the_claim(store, monkeypatch):
    """Another worker comes while files are written, when the lease of a batch is over."""
    ids = queued(4)
    taken: list[services.Claim] = []

    def come() -> None:
        taken.append(claim(ids, task_id="another", at=NOON + 5 * MINUTE))
        connection.close()

    store.wait_s, store.on_save = 0.1, staticmethod(come)
    monkeypatch.setattr(sitting, "SLOW_STORE_S", 0.01)
    studio = Studio(lambda _recipe: Sketcher())
    studio.easel(recipe()).slowest_s = 0.1  # so that a lease is a minute
    tasks.paint_chunk(recipe().as_json(), ids, studio=studio, task_id="task", now=lambda: NOON)
    assert [one.images for one in taken] == [()] * 4
    assert statuses(ids) == ["READY"] * 4


def test_before_a_suspect_is_painted_all_that_is_painted_is_stored():
    ids = queued(6)
    held = claim(ids)
    services.renew(held, held.images[4:], lease=services.MIN_LEASE, at=NOON)  # and then it died
    seen: list[list[str]] = []
    paint(ids, Sketcher(on_prompt=lambda prompt: seen.append(statuses(ids))))
    assert seen[4] == ["READY"] * 4 + ["CLAIMED"] * 2
    assert seen[5] == ["READY"] * 5 + ["CLAIMED"]


def lose_the_device(prompt: str) -> None:
    if prompt == "prompt 4":
        raise DeviceLostError("gone")


def test_what_was_painted_before_the_device_was_lost_is_stored(store):
    ids = queued(6)
    with pytest.raises(DeviceLostError):
        paint(ids, Sketcher(on_prompt=lose_the_device))
    assert statuses(ids) == ["READY"] * 4 + ["CLAIMED"] * 2
    assert attempts(ids) == [1] * 6


def test_a_batch_that_was_begun_is_waited_for_though_the_store_is_full(store):
    """Nothing else may be begun before, and nobody knows what comes next."""
    ended: list[int] = []

    class Device(Sketcher):
        def begin(self, prompts: Sequence[str], seeds: Sequence[int]) -> Callable[[], Any]:
            wait = super().begin(prompts, seeds)
            return lambda: ended.append(len(prompts)) or wait()

    store.room = 0
    ids = queued(6)
    with pytest.raises(OSError, match="full"):
        paint(ids, Device(batch_size=2, largest_batch=2))
    assert ended == [2, 2]
    assert attempts(ids) == [0] * 6


def test_a_lost_device_is_told_of_though_the_store_is_full_as_well(store):
    store.room = 0
    with pytest.raises(DeviceLostError):
        paint(queued(6), Sketcher(on_prompt=lose_the_device))


class Strip(Sketcher):
    """One picture of a side that the format of stored files does not take."""

    def paint(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Painting]:
        painted = super().paint(prompts, seeds)
        return [Painting(Pictures.new("RGB", (20_000, 1)), False), *painted[1:]]


def test_a_picture_that_no_file_can_hold_fails_alone_and_at_once():
    ids = queued(4)
    paint(ids, Strip())
    assert statuses(ids) == ["FAILED"] + ["READY"] * 3
    assert "16383 pixels" in Image.objects.get(pk=ids[0]).error


def test_a_batch_is_stored_in_one_transaction(django_assert_max_num_queries):
    held = claim(queued(16))
    picture = encode(Pictures.new("RGB", (8, 8)))
    written = [services.write_painting(one, picture, provenance={}) for one in held.images]
    with django_assert_max_num_queries(16 + 2):  # its beginning and its end
        assert services.store_paintings(held, written, at=NOON) == 16


def test_storing_again_what_a_failed_commit_may_have_stored_keeps_its_file():
    ids = queued(2)
    held = claim(ids)
    picture = encode(Pictures.new("RGB", (8, 8)))
    written = [services.write_painting(one, picture, provenance={}) for one in held.images]
    services.store_paintings(held, written, at=NOON)
    services.store_paintings(held, written, at=NOON)
    assert [row.file.read() for row in Image.objects.all()] == [picture.content] * 2


@pytest.mark.django_db(transaction=True)
def test_a_database_that_comes_back_finds_what_was_painted_before(monkeypatch):
    """The first transaction fails; the stop that this leads to stores what was painted."""
    ids = queued(6)
    fail = [True]

    def away(execute: Any, sql: str, *rest: Any) -> Any:
        if fail and '"provenance"' in sql and sql.startswith("UPDATE"):
            fail.clear()
            raise DatabaseError("gone for a moment")
        return execute(sql, *rest)

    with connection.execute_wrapper(away), pytest.raises(DatabaseError):
        paint(ids)
    assert statuses(ids) == ["READY"] * 4 + ["QUEUED"] * 2
