"""The painter's loop: whatever breaks, each image is painted once or fails with its reason."""

import multiprocessing
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from datetime import timedelta
from signal import SIGKILL
from typing import Any, NoReturn

import pytest
from django.db import connections

from generation import services, tasks
from generation.easel import Easel, Studio
from generation.models import Image
from generation.pace import BatchSize
from generation.pipelines import DeviceLostError, MemoryFullError, Painting
from generation.sitting import StoppedError
from generation.spec import Recipe
from tests.generation.studio import (
    Sketcher,
    attempts,
    claim,
    paint,
    queued,
    recipe,
    statuses,
)
from tests.world import NOON

pytestmark = pytest.mark.django_db


def raise_on(poison: str, error: BaseException) -> Callable[[str], None]:
    def check(prompt: str) -> None:
        if prompt == poison:
            raise error

    return check


def test_a_chunk_is_painted_in_batches_each_image_with_its_own_seed():
    ids = queued(6)
    painter = paint(ids, Sketcher(batch_size=4))
    assert statuses(ids) == ["READY"] * 6
    assert [len(batch) for batch in painter.batches] == [4, 2]
    row = Image.objects.get(pk=ids[5])
    assert row.provenance["seed"] == 5
    assert row.provenance["batch_size"] == 2
    assert row.provenance["device"] == "paper"
    assert row.provenance["truncated"] is False
    assert row.provenance["ms"] >= 0


def test_painting_twice_paints_once():
    ids = queued(3)
    paint(ids)
    assert paint(ids, task_id="again").batches == []


def test_a_poisonous_prompt_fails_alone():
    ids = queued(6)
    paint(ids, Sketcher(on_prompt=raise_on("prompt 1", ValueError("poison"))))
    assert statuses(ids) == ["READY", "FAILED", "READY", "READY", "READY", "READY"]
    assert Image.objects.get(pk=ids[1]).error == "Painting failed. ValueError: poison"
    assert attempts(ids)[1] == services.MAX_ATTEMPTS


def die() -> NoReturn:
    os.kill(os.getpid(), SIGKILL)
    raise AssertionError


def in_a_process(act: Callable[[], None]) -> int | None:
    """Do this in a child, as Celery does, and say how that ended."""
    connections.close_all()
    child = multiprocessing.get_context("fork").Process(target=act)
    child.start()
    child.join()
    return child.exitcode


@pytest.mark.django_db(transaction=True)
def test_a_prompt_that_kills_the_worker_fails_alone_after_three_deaths():
    ids = queued(6)

    def deliver(died_before: bool) -> None:
        killer = Sketcher(on_prompt=lambda prompt: die() if prompt == "prompt 1" else None)
        paint(ids, killer, died_before=died_before)

    codes = [in_a_process(lambda n=n: deliver(n > 0)) for n in range(4)]
    assert codes == [-SIGKILL] * 3 + [0]
    assert statuses(ids) == ["READY", "FAILED", "READY", "READY", "READY", "READY"]
    assert "3 times while it painted" in Image.objects.get(pk=ids[1]).error


def test_after_a_death_images_are_tried_alone_and_the_untried_first():
    ids = queued(6)
    killer = Sketcher(on_prompt=raise_on("prompt 1", DeviceLostError("gone")))
    with pytest.raises(DeviceLostError):
        paint(ids, killer)
    assert attempts(ids) == [1, 1, 1, 1, 0, 0]
    painter = paint(ids, died_before=True)
    assert painter.batches == [["prompt 4", "prompt 5"], *([f"prompt {n}"] for n in range(4))]


def test_a_batch_that_does_not_fit_is_halved_and_no_attempt_is_lost():
    ids = queued(8)
    painter = paint(ids, Sketcher(largest=2, batch_size=8))
    assert statuses(ids) == ["READY"] * 8
    assert [len(batch) for batch in painter.batches] == [8, 4, 2, 2, 2, 2]
    assert attempts(ids) == [1] * 8


def test_the_size_that_fitted_is_remembered_even_when_another_pipeline_came_between():
    painter = Sketcher(largest=2, batch_size=8)
    studio = Studio(lambda _recipe: painter)
    for steps in (2, 3, 2):
        ids = queued(8, recipe(steps=steps)) if steps == 3 or not painter.batches else more()
        tasks.paint_chunk(
            Image.objects.get(pk=ids[0]).recipe, ids, studio=studio, task_id="t", now=lambda: NOON
        )
    assert [len(batch) for batch in painter.batches[-4:]] == [2, 2, 2, 2]
    assert statuses(ids) == ["READY"] * 8


def more() -> list[int]:
    wants = [services.Want(recipe(), f"another prompt {n}", n) for n in range(8)]
    return list(services.request_images(wants, at=NOON).values())


class Late(Sketcher):
    """Of what goes wrong on the device one hears when one waits for it."""

    def begin(self, prompts: Sequence[str], seeds: Sequence[int]) -> Callable[[], list[Painting]]:
        return lambda: self.paint(prompts, seeds)


def test_what_goes_wrong_is_heard_of_late_and_treated_alike():
    poison = raise_on("prompt 5", ValueError("poison"))
    painter = Late(batch_size=4, largest=2, on_prompt=poison)
    ids = queued(6)
    paint(ids, painter)
    assert statuses(ids) == [*["READY"] * 5, "FAILED"]
    assert [len(batch) for batch in painter.batches] == [4, 2, 2, 2, 1, 1, 1]
    assert "poison" in Image.objects.get(pk=ids[5]).error


class Pixels:
    """What takes room on a device."""


class Hoarder(Sketcher):
    """Notes whether anything of a batch that failed is held when memory is handed back."""

    last: Any = None
    was_held: bool | None = None
    fails = ""

    def begin(self, prompts: Sequence[str], seeds: Sequence[int]) -> Callable[[], list[Painting]]:
        pixels = Pixels()
        self.last = weakref.ref(pixels)
        if self.fails == "begin":
            raise MemoryFullError("paper is full")

        def wait() -> list[Painting]:
            raise MemoryFullError(f"no room for {pixels}")

        return wait

    def free(self) -> None:
        self.was_held = self.last() is not None


@pytest.mark.parametrize("fails", ["begin", "wait"])
def test_memory_is_handed_back_when_nothing_of_a_failed_batch_is_held(fails):
    painter = Hoarder()
    painter.fails = fails
    paint(queued(2), painter)
    assert painter.was_held is False


def test_an_image_too_large_for_the_device_fails_with_that_reason():
    ids = queued(2)
    paint(ids, Sketcher(largest=0))
    assert statuses(ids) == ["FAILED", "FAILED"]
    assert "too small for one image" in Image.objects.get(pk=ids[0]).error


@pytest.mark.parametrize("ending", [SystemExit, KeyboardInterrupt])
def test_a_clean_stop_keeps_what_is_done_and_gives_the_attempt_back(ending):
    ids = queued(6)
    with pytest.raises(ending):
        paint(ids, Sketcher(on_prompt=raise_on("prompt 4", ending())))
    assert statuses(ids) == ["READY"] * 4 + ["QUEUED"] * 2
    assert attempts(ids) == [1, 1, 1, 1, 0, 0]


def test_a_store_that_takes_nothing_costs_no_image_an_attempt(settings, tmp_path):
    ids = queued(6)
    stored_at, settings.MEDIA_ROOT = settings.MEDIA_ROOT, tmp_path / "full"
    settings.MEDIA_ROOT.write_text("where a folder should be")
    for _ in range(services.MAX_ATTEMPTS + 2):
        with pytest.raises(OSError, match="full"):
            paint(ids)
        assert statuses(ids) == ["QUEUED"] * 6
    assert attempts(ids) == [0] * 6
    settings.MEDIA_ROOT = stored_at
    paint(ids)
    assert statuses(ids) == ["READY"] * 6


def test_a_worker_asked_to_stop_does_so_between_two_batches():
    ids = queued(6)
    painter = Sketcher()
    with pytest.raises(tasks.StoppedError):
        paint(ids, painter, stop=lambda: len(painter.batches) == 1)
    assert statuses(ids) == ["READY"] * 4 + ["QUEUED"] * 2
    assert attempts(ids) == [1, 1, 1, 1, 0, 0]


def test_a_claim_lost_while_painting_stores_nothing_more():
    ids = queued(6)
    thief = []

    def steal(prompt: str) -> None:
        if prompt == "prompt 4":  # the same message was delivered to another worker
            thief.append(claim(ids, task_id="task"))

    paint(ids, Sketcher(on_prompt=steal))
    assert statuses(ids)[4:] == ["CLAIMED", "CLAIMED"]
    assert thief[0].rows().filter(pk__in=ids[4:]).count() == 2


def test_weights_that_cannot_be_loaded_fail_every_image_with_the_reason():
    ids = queued(3)

    def load(_recipe: object) -> Sketcher:
        raise OSError("unet is not there")

    tasks.paint_chunk(
        recipe().as_json(), ids, studio=Studio(load), task_id="task", now=lambda: NOON
    )
    assert statuses(ids) == ["FAILED"] * 3
    error = Image.objects.get(pk=ids[0]).error
    assert error == "The pipeline could not be loaded. OSError: unet is not there"
    assert attempts(ids) == [0, 0, 0]


def test_a_recipe_of_an_unknown_family_fails_with_the_reason():
    ids = queued(1)
    stored = Image.objects.get().recipe | {"family": "sculpture"}
    tasks.paint_chunk(
        stored, ids, studio=Studio(lambda _r: Sketcher()), task_id="t", now=lambda: NOON
    )
    assert statuses(ids) == ["FAILED"]
    assert "family" in Image.objects.get().error


@pytest.mark.django_db(transaction=True)
def test_a_model_whose_loading_kills_is_not_loaded_without_end():
    ids = queued(2)

    def deliver(died_before: bool) -> None:
        tasks.paint_chunk(
            recipe().as_json(), ids, studio=Studio(lambda _recipe: die()), task_id="task",
            died_before=died_before, now=lambda: NOON,
        )  # fmt: skip

    codes = [in_a_process(lambda n=n: deliver(n > 0)) for n in range(5)]
    assert codes == [-SIGKILL] * 4 + [0]
    assert statuses(ids) == ["FAILED"] * 2


def test_one_pipeline_is_loaded_at_a_time_and_the_former_let_go_first():
    painters: list[Sketcher] = []

    def load(_recipe: object) -> Sketcher:
        assert all(painter.closed for painter in painters)
        painters.append(Sketcher())
        return painters[-1]

    studio = Studio(load)
    for steps in (1, 1, 2, 1):
        studio.easel(recipe(steps=steps))
    assert len(painters) == 3


def loads_of(messages: list[list[int]]) -> list[int]:
    """The steps of the pipelines that one worker loads for some messages, in order."""
    loads: list[int] = []

    def load(loaded: Recipe) -> Sketcher:
        loads.append(loaded.steps or 0)
        return Sketcher()

    studio = Studio(load)
    for number, ids in enumerate(messages):
        tasks.paint_message(ids, studio=studio, task_id=f"message {number}", now=lambda: NOON)
    return loads


def test_what_waits_for_the_loaded_pipeline_is_painted_before_another_is_loaded():
    one, two = queued(4, recipe(steps=1)), queued(4, recipe(steps=2))
    # As two drafts ask for them in turns.
    assert loads_of([one[:2], two[:2], one[2:], two[2:]]) == [1, 2]
    assert statuses([*one, *two]) == ["READY"] * 8
    assert attempts([*one, *two]) == [1] * 8


class Device(Sketcher):
    """Works on while its caller does something else; `n_ready` says how much that was."""

    n_ready: list[int]

    def begin(self, prompts: Sequence[str], seeds: Sequence[int]) -> Callable[[], list[Painting]]:
        wait = super().begin(prompts, seeds)

        def waited() -> list[Painting]:
            self.n_ready.append(Image.objects.filter(status=Image.Status.READY).count())
            return wait()

        return waited


def message(ids: list[int], painter: Sketcher, **options: Any) -> None:
    """What a worker does that has just started, and loads this painter for all recipes."""
    how: dict[str, Any] = {"task_id": "task", "now": lambda: NOON, **options}
    tasks.paint_message(ids, studio=Studio(lambda _recipe: painter), **how)


def test_a_worker_paints_on_and_stores_the_last_batch_of_a_message_meanwhile(monkeypatch):
    monkeypatch.setattr(services, "CHUNK", 4)
    ids, others = queued(10), queued(1, recipe(steps=3))
    painter = Device(batch_size=2, largest_batch=2)
    painter.n_ready = []
    message(ids[:4], painter)
    assert painter.n_ready == [0, 2, 4, 6, 8]
    assert statuses(ids) == ["READY"] * 10
    assert attempts(ids) == [1] * 10
    assert statuses(others) == ["QUEUED"]


def test_a_worker_asked_to_stop_claims_nothing_more(monkeypatch):
    monkeypatch.setattr(services, "CHUNK", 4)
    ids = queued(8)
    painter = Sketcher(largest_batch=4)
    message(ids[:4], painter, stop=lambda: bool(painter.batches))
    assert statuses(ids) == ["READY"] * 4 + ["QUEUED"] * 4


def test_a_clean_stop_while_painting_on_keeps_what_is_done(monkeypatch):
    monkeypatch.setattr(services, "CHUNK", 4)
    ids = queued(12)
    painter = Sketcher(batch_size=2, largest_batch=2)
    with pytest.raises(StoppedError):
        message(ids[:4], painter, stop=lambda: len(painter.batches) == 3)
    assert statuses(ids) == ["READY"] * 6 + ["QUEUED"] * 6
    assert attempts(ids) == [1] * 6 + [0] * 6


@pytest.mark.django_db(transaction=True)
def test_who_dies_while_painting_on_is_followed_at_once(monkeypatch):
    """The message comes again, and with it what the dead had claimed beside it."""
    monkeypatch.setattr(services, "CHUNK", 4)
    ids = queued(8)

    def kill(prompt: str) -> None:
        if prompt == "prompt 6":
            die()

    painter = Sketcher(batch_size=2, largest_batch=2, on_prompt=kill)
    assert in_a_process(lambda: message(ids[:4], painter)) == -SIGKILL
    assert statuses(ids) == ["READY"] * 4 + ["CLAIMED"] * 4
    message(ids[:4], Sketcher(), died_before=True)
    assert statuses(ids) == ["READY"] * 8


def test_what_was_tried_before_waits_for_its_own_message():
    one, two = queued(4, recipe(steps=1)), queued(2, recipe(steps=2))
    Image.objects.filter(pk=one[3]).update(attempts=1)
    assert loads_of([one[:2], two]) == [1, 2]
    assert statuses(one) == ["READY"] * 3 + ["QUEUED"]


def test_a_lease_outlasts_ten_of_the_slowest_batch_and_a_minute():
    easel = Easel(Sketcher(), BatchSize(4, 4))
    assert easel.lease >= timedelta(minutes=15)  # nobody knows yet how long a batch takes
    easel.slowest_s = 0.1
    assert easel.lease == services.MIN_LEASE
    easel.slowest_s = 30.0
    assert easel.lease.total_seconds() > 10 * 30


def test_the_worker_s_parent_process_never_loads_torch():
    code = (
        "import sys, celery\n"
        "from celery.app.utils import find_app\n"
        "app = find_app('generation'); app.loader.import_default_modules()\n"
        "assert 'generation.tasks.paint_images' in app.tasks\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
