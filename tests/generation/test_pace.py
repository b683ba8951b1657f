"""How fast a recipe is painted, and how many at once: found out once, and never in the way."""

import threading
import time
from functools import partial
from typing import Any

import pytest
from django.core.management import call_command

from generation import pace, services, tasks
from generation.easel import Easel, Studio
from generation.models import Image, Pace
from generation.pace import BatchSize
from generation.pipelines import DeviceLostError, MemoryFullError, Painting
from tests.generation.studio import Sketcher, attempts, queued, recipe, statuses
from tests.generation.studio import paint as paint_unremembered
from tests.races import race, settled
from tests.world import NOON

pytestmark = [pytest.mark.django_db, pytest.mark.database]
SECOND_LOT = 100  # seeds from here on were not asked for before


def work(ids: list[int], painter: Sketcher | None = None, **options: Any) -> Sketcher:
    """What a worker does that has just started."""
    used = painter or Sketcher()
    studio = Studio(lambda _recipe: used, remembers=True)
    stored = Image.objects.get(pk=ids[0]).recipe
    tasks.paint_chunk(stored, ids, studio=studio, task_id="task", now=lambda: NOON, **options)
    return used


class Steady(Sketcher):
    """Every batch takes the same time, so twice as many at once are twice as fast."""

    def paint(self, prompts: Any, seeds: Any) -> list[Painting]:
        time.sleep(0.05)
        return super().paint(prompts, seeds)


def on_timing(error: BaseException) -> Sketcher:
    """A painter whom this befalls while it is timed, and never else."""

    def check(prompt: str) -> None:
        if not prompt.startswith("prompt "):
            raise error

    return Sketcher(on_prompt=check)


# Latency


def test_a_worker_times_single_images_and_says_where_how_and_when():
    painter = work(queued(2))
    row = Pace.objects.get()
    assert (row.recipe_digest, row.device, row.options) == (recipe().digest, "paper", "")
    assert row.latency_ms > 0
    assert (row.n_paints, row.measured_at) == (5, NOON)
    timed, (images,) = painter.batches[:6], painter.batches[6:]
    assert images == ["prompt 0", "prompt 1"]
    assert len({prompt for (prompt,) in timed}) == 6  # each is new: nothing of it is encoded yet


def test_what_is_timed_is_an_image_alone_and_warm():
    class SlowAtFirst(Sketcher):
        def paint(self, prompts: Any, seeds: Any) -> list[Painting]:
            time.sleep(0.02 if self.batches else 0.3)
            return super().paint(prompts, seeds)

    work(queued(1), SlowAtFirst())
    assert 20 <= Pace.objects.get().latency_ms < 250


def test_a_recipe_is_timed_once_on_a_device_and_anew_on_another():
    work(queued(1))
    first = Pace.objects.get()
    again = work(queued(2)[1:])
    assert again.batches == [["prompt 1"]]
    other = Sketcher()
    other.facts = {"device": "parchment", "options": ["ink"]}
    work(queued(3)[2:], other)
    work(queued(1, recipe(steps=9)))
    rows = list(Pace.objects.order_by("pk").values_list("recipe_digest", "device", "options"))
    one, another = recipe().digest, recipe(steps=9).digest
    assert rows == [(one, "paper", ""), (one, "parchment", "ink"), (another, "paper", "")]
    assert Pace.objects.get(pk=first.pk).latency_ms == first.latency_ms


def test_what_other_versions_of_the_libraries_took_is_no_news_of_these():
    def painted(torch: str, ids: list[int]) -> list[int]:
        painter = Sketcher(batch_size=8, largest=4 if torch == "2.11" else 99)
        painter.facts = {"device": "paper", "torch": torch, "diffusers": "0.42"}
        return [len(batch) for batch in work(ids, painter).batches]

    alone = [1] * 6
    assert painted("2.11", queued(8)) == [*alone, 8, 4, 4]
    assert painted("2.13", more(8)) == [*alone, 8]
    assert painted("2.11", more(16)[8:]) == [4, 4]  # it is known still
    versions = Pace.objects.order_by("pk").values_list("versions", flat=True)
    assert list(versions) == [{"torch": one, "diffusers": "0.42"} for one in ("2.11", "2.13")]


def test_what_is_known_is_found_in_whatever_order_libraries_are_named(monkeypatch):
    facts = {"device": "paper", "torch": "2.11", "diffusers": "0.42"}
    for libraries in (pace.LIBRARIES, pace.LIBRARIES[::-1]):
        monkeypatch.setattr(pace, "LIBRARIES", libraries)
        painter = Sketcher()
        painter.facts = facts
        work(queued(1), painter)
    assert Pace.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_what_was_kept_without_versions_is_forgotten_by_the_migration():
    versions = {"torch": "2.11", "diffusers": "0.42"}
    Pace.objects.create(recipe_digest="a", device="paper", versions=versions, batch_size=8)
    Pace.objects.create(recipe_digest="b", device="paper", batch_size=8)
    try:
        call_command("migrate", "generation", "0005", verbosity=0)
    finally:
        call_command("migrate", "generation", verbosity=0)
    in_order = dict(sorted(versions.items()))
    assert Pace.objects.get() == Pace.objects.get(recipe_digest="a", versions=in_order)


def test_a_slow_recipe_is_timed_by_one_image(monkeypatch):
    monkeypatch.setattr(pace, "PATIENCE_S", 0)
    painter = work(queued(1))
    assert Pace.objects.get().n_paints == 1
    assert len(painter.batches) == 2 + 1


def test_nothing_is_timed_where_that_is_switched_off(settings):
    settings.PAINTING_LATENCY = False
    assert work(queued(1)).batches == [["prompt 0"]]
    assert not Pace.objects.exists()


def test_nothing_is_timed_outside_a_worker():
    assert paint_unremembered(queued(1)).batches == [["prompt 0"]]
    assert not Pace.objects.exists()


@pytest.mark.parametrize("error", [MemoryFullError("full"), ValueError("what?"), OSError("gone")])
def test_what_fails_while_timing_fails_no_image_and_costs_no_attempt(error):
    ids = queued(2)
    painter = work(ids, on_timing(error))
    assert statuses(ids) == ["READY"] * 2
    assert attempts(ids) == [1, 1]
    assert Pace.objects.get().latency_ms is None
    assert len(painter.batches) == 2  # it is not tried again and again


def test_no_image_is_claimed_while_a_recipe_is_timed():
    ids = queued(2)
    seen = set()
    work(ids, Sketcher(on_prompt=lambda prompt: seen.add((prompt[:6], *statuses(ids)))))
    assert ("a red ", "QUEUED", "QUEUED") in seen
    assert {states for prompt, *states in seen if prompt == "prompt" for states in states} == {
        "CLAIMED"
    }


def test_after_a_device_is_lost_while_timing_images_are_painted_first():
    ids = queued(2)
    with pytest.raises(DeviceLostError):
        work(ids, on_timing(DeviceLostError("gone")))
    assert (statuses(ids), attempts(ids)) == (["QUEUED"] * 2, [0, 0])
    fragile = work(ids, on_timing(DeviceLostError("gone")), died_before=True)
    assert statuses(ids) == ["READY"] * 2
    assert fragile.batches == [["prompt 0", "prompt 1"]]


def test_a_recipe_whose_timing_kills_is_timed_no_third_time():
    """By processes that come later, each with a message of its own; until the row is deleted."""
    deadly = DeviceLostError("gone")  # a process that is killed leaves the same behind
    for n in (1, 2):
        with pytest.raises(DeviceLostError):
            work(queued(n), on_timing(deadly))
    assert Pace.objects.get().n_timings == 2
    ids = queued(3)
    assert work(ids, on_timing(deadly)).batches == [["prompt 0", "prompt 1", "prompt 2"]]
    assert (statuses(ids), attempts(ids)) == (["READY"] * 3, [1] * 3)
    Pace.objects.all().delete()
    work(queued(4)[3:])
    assert Pace.objects.get().latency_ms > 0


def test_that_timing_begins_is_known_before_it_does():
    seen = []
    rows = Pace.objects.values_list("n_timings", "latency_ms")
    work(queued(1), Sketcher(on_prompt=lambda _: seen.append(rows.get())))
    assert set(seen[:-1]) == {(1, None)}


def test_a_worker_asked_to_stop_times_nothing():
    ids = queued(1)
    painter = Sketcher()
    with pytest.raises(tasks.StoppedError):
        work(ids, painter, stop=lambda: True)
    assert painter.batches == []


@pytest.mark.django_db(transaction=True)
def test_of_workers_that_come_at_once_each_paints_and_one_row_is_made():
    ids = queued(4)
    barrier = threading.Barrier(4)

    def start(number: int) -> None:
        painter = Sketcher(on_prompt=lambda _: barrier.wait() if first.pop(number, 0) else 0)
        work(ids[number : number + 1], painter)

    first = dict.fromkeys(range(4), True)
    settled(race([partial(start, number) for number in range(4)]))
    assert statuses(ids) == ["READY"] * 4
    assert Pace.objects.count() == 1


# Batches


def sizes(painter: Sketcher) -> list[int]:
    """Of the batches of images that were asked for."""
    return [len(batch) for batch in painter.batches if batch[0].startswith("prompt ")]


@pytest.mark.parametrize(
    ("largest", "batches", "expected"),
    [
        # (images, seconds) a batch, and the size that comes of them; a size's first is not timed
        (32, [(4, 9)], 4),
        (32, [(4, 9), (4, 1)], 8),
        (32, [(4, 9), (4, 1), (3, 1), (8, 9), (5, 1)], 8),
        (32, [(4, 9), (4, 1), (8, 9), (8, 1.5)], 16),
        (32, [(4, 9), (4, 1), (8, 9), (8, 1.95)], 4),  # no faster worth the name
        (32, [(4, 9), (4, 1), (8, 9), (8, 3), (4, 0.1), (4, 0.1)], 4),  # and settled
        (8, [(4, 9), (4, 1), (8, 9), (8, 1), (8, 1)], 8),
        (4, [(4, 9), (4, 1), (4, 0.1)], 4),  # a CPU
        (32, [(4, 99), (4, 31)], 4),  # slow enough
    ],
)
def test_a_batch_is_doubled_while_that_is_faster(largest, batches, expected):
    batch = BatchSize(4, largest)
    for n, seconds in batches:
        batch.painted(n, seconds)
    assert batch.size == expected


def test_memory_that_is_full_sends_back_to_what_fitted():
    batch = BatchSize(4, 32)
    for n, seconds in [(4, 9), (4, 1), (8, 9), (8, 1.5)]:
        batch.painted(n, seconds)
    batch.too_large(12)
    assert (batch.size, batch.is_settled) == (8, True)
    batch.too_large(8)  # somebody else took memory
    assert batch.size == 4


@pytest.mark.parametrize(
    ("n", "expected"), [(32, 16), (16, 8), (12, 8), (9, 8), (8, 4), (3, 2), (2, 1), (1, 1)]
)
def test_an_odd_batch_that_does_not_fit_leaves_no_odd_size_behind(n, expected):
    """Twelve are painted as sixteen where graphs are recorded, so that eight may fit; of six, each
    batch to come would be painted as eight."""
    batch = BatchSize(16, 32)
    batch.too_large(n)
    assert batch.size == expected


def test_a_larger_batch_is_tried_found_faster_and_remembered_by_the_next_worker():
    painter = work(queued(30), Steady(largest_batch=16))
    assert sizes(painter) == [4, 4, 8, 8, 6]
    row = Pace.objects.get()
    assert (row.batch_size, row.is_settled) == (8, False)
    assert row.images_per_s == pytest.approx(8 / 0.05, rel=0.5)
    assert row.latency_ms > 50
    # The next one goes on with what was to be tried, and that is the end of it.
    assert sizes(work(more(32), Steady(largest_batch=16))) == [16, 16]
    row.refresh_from_db()
    assert (row.batch_size, row.is_settled) == (16, True)


def test_images_that_take_long_alone_are_not_painted_many_at_once(monkeypatch):
    monkeypatch.setattr(pace, "LONGEST_S", 0.25)  # of images that take a twentieth of a second
    slow = {"batch_size": 8, "largest_batch": 8}
    assert sizes(work(queued(4), Linear(**slow))) == [4]
    assert sizes(work(more(8), Linear(**slow))) == [4, 4]  # nor by a worker that finds it known


class Linear(Sketcher):
    """Every image takes its time, so many at once are as fast as one."""

    def paint(self, prompts: Any, seeds: Any) -> list[Painting]:
        time.sleep(0.05 * len(prompts))
        return super().paint(prompts, seeds)


@pytest.mark.parametrize(
    ("alone_s", "size"), [(0, 8), (3.7, 8), (3.8, 4), (8, 2), (16, 1), (600, 1)]
)
def test_the_first_batch_takes_half_a_minute_at_most_or_is_one_image(alone_s, size):
    batch = BatchSize(8, 8)
    batch.begin_small(alone_s)
    assert batch.size == size
    for _ in range(2):
        batch.painted(size, size * alone_s * 0.9)
    assert batch.size == (2 * size if 3.8 <= alone_s <= 16 else size)  # it may grow all the same


def test_a_batch_that_was_timed_is_not_made_smaller():
    batch = BatchSize(8, 16)
    for _ in range(2):
        batch.painted(8, 1)
    batch.begin_small(100)
    assert batch.size == 16


def more(n: int) -> list[int]:
    new = [services.Want(recipe(), f"prompt {i}", i) for i in range(SECOND_LOT, SECOND_LOT + n)]
    return list(services.request_images(new, at=NOON).values())


def test_a_batch_that_did_not_fit_is_not_tried_again_by_the_next_worker():
    first = work(queued(8), Sketcher(batch_size=8, largest=2, largest_batch=16))
    assert sizes(first) == [8, 4, 2, 2, 2, 2]
    row = Pace.objects.get()
    assert (row.batch_size, row.is_settled) == (2, True)
    second = work(more(6), Sketcher(batch_size=8, largest=2, largest_batch=16))
    assert sizes(second) == [2, 2, 2]


@pytest.mark.parametrize("seconds_alone", [0.05, 600])
def test_the_first_lease_is_made_for_images_as_slow_as_the_one_that_was_timed(seconds_alone):
    work(queued(1))
    Pace.objects.update(latency_ms=1000 * seconds_alone)
    ids, ends = more(4), []
    rows = Image.objects.filter(pk__in=ids)
    work(ids, Sketcher(on_prompt=lambda _: ends.extend(rows.values_list("lease_expires_at"))))
    lease_s = (ends[0][0] - NOON).total_seconds()
    assert lease_s == max(15 * 60, 12 * seconds_alone)


def test_a_lease_is_made_for_the_larger_batch():
    easel = Easel(Sketcher(), BatchSize(4, 8))
    easel.learn(4, 20)
    easel.learn(4, 20)
    assert easel.batch_size == 8
    assert easel.lease.total_seconds() > 10 * 2 * 20
