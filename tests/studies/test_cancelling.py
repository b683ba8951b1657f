"""Cancelling a draft's painting, and asking again: studies share images, and none may lose one."""

import random
import threading
from collections.abc import Callable
from functools import partial

import pytest
from django.db import transaction

from evalsite.studies import painting, queries, services
from evalsite.studies.display_files import make_display_files
from evalsite.studies.locks import StudyNotDraft
from evalsite.studies.models import Entry, Study, System
from evalsite.studies.painting import NoSuchSystem
from evalsite.studies.spec import load_spec
from generation.models import Image
from generation.services import PENDING, claim_images, release, renew, store_failure
from tests import world
from tests.races import race, settled
from tests.studies.files import draft, painted, study_file
from tests.world import HOUR, MINUTE, NOON

pytestmark = [pytest.mark.django_db, pytest.mark.database]
LATER = NOON + MINUTE


def asked(*prompts: str, **options: object) -> Study:
    """A draft whose images are asked for; drafts of equal prompts share them."""
    study = world.study(prompts=prompts or ("one", "two"), **options)
    services.prepare(study, at=NOON)
    return study


def states(study: Study, system: str = "") -> str:
    """The first letters of its images' states, by system and prompt: QCRFX, X being cancelled."""
    rows = Entry.objects.filter(prompt__study=study).order_by("system__position", "prompt_id")
    if system:
        rows = rows.filter(system__key=system)
    names = rows.values_list("image__status", flat=True)
    return "".join("X" if name == "CANCELLED" else name[0] for name in names)


def fail(study: Study, n: int, reason: str = "no") -> None:
    images = Image.objects.filter(entries__prompt__study=study, status="QUEUED").order_by("pk")[:n]
    claim = claim_images([image.pk for image in images], task_id="unlucky", at=NOON)
    for image in claim.images:
        store_failure(claim, image, reason=reason, at=NOON)


def test_cancelling_keeps_what_is_done_and_gives_up_the_rest():
    study = asked("one", "two", "three")
    world.paint(study, world.plain_picture, limit=1)
    fail(study, 1)
    held = claim_images(list(Image.objects.values_list("pk", flat=True)), task_id="t", at=NOON)
    assert states(study) == "RFCCCC"
    assert painting.cancel(study, at=LATER) == painting.Cancelled(n_images=4, n_shared=0)
    assert states(study) == "RFXXXX"
    assert held.rows().count() == 0
    assert painting.cancel(study, at=LATER) == painting.Cancelled(0, 0)


def test_one_system_alone_can_be_cancelled_and_the_others_are_painted():
    study = asked(n_systems=3)
    painting.cancel(study, system="system-1", at=LATER)
    assert states(study) == "QQXXQQ"
    world.paint(study, world.plain_picture)
    assert not queries.prompts_to_finish().exists()
    assert make_display_files(at=LATER) == 0  # no prompt leaves for a cancelled image, or is done
    assert queries.live_prompts(study).count() == 2
    first, second, third = queries.preparation(study, at=LATER).systems
    assert (first.cancelled_at, second.cancelled_at, third.cancelled_at) == (None, LATER, None)
    assert (second.pending, second.unasked, first.unasked) == (0, 2, 0)


@pytest.mark.parametrize("again", [services.prepare, painting.retry])
def test_asked_again_a_cancelled_study_goes_on_where_it_was(again: Callable[..., object]):
    study = asked()
    world.paint(study, world.plain_picture, limit=1)
    painting.cancel(study, at=NOON)
    again(study, at=LATER)
    assert states(study) == "RQQQ"
    assert not System.objects.exclude(painting_cancelled_at=None).exists()
    world.paint(study, world.plain_picture)
    make_display_files(at=LATER)
    assert queries.is_prepared(study)


def test_an_image_that_another_draft_wants_is_painted_until_that_one_cancels_too():
    mine, theirs = asked("one", "two"), asked("two", "three")
    assert painting.cancel(mine, at=NOON) == painting.Cancelled(n_images=2, n_shared=2)
    assert (states(mine), states(theirs)) == ("XQXQ", "QQQQ")
    assert painting.cancel(theirs, at=LATER) == painting.Cancelled(n_images=4, n_shared=0)
    assert (states(mine), states(theirs)) == ("XXXX", "XXXX")
    services.prepare(mine, at=LATER)
    assert (states(mine), states(theirs)) == ("QQQQ", "QXQX")
    assert painting.cancel(theirs, at=LATER) == painting.Cancelled(n_images=0, n_shared=2)


def test_an_opened_study_wants_nothing_more_and_cancels_nothing():
    study = world.open_study()
    for act in (painting.cancel, painting.retry):
        with pytest.raises(StudyNotDraft):
            act(study, at=NOON)
    failed = Image.objects.first()
    Image.objects.filter(pk=failed.pk).update(status="FAILED", error="its file was damaged")
    other = asked("prompt number 0", "prompt number 1")
    painting.retry(other, at=NOON)
    painting.cancel(other, at=NOON)
    failed.refresh_from_db()
    assert failed.status == "CANCELLED"  # the opened study points at it, and does not wait for it


def test_a_system_is_named_by_its_key():
    study = asked()
    with pytest.raises(NoSuchSystem, match=r"has no system nine\. Its systems: system-0, system-1"):
        painting.cancel(study, system="nine", at=NOON)
    with pytest.raises(NoSuchSystem):
        painting.retry(study, system="nine", at=NOON)
    assert states(study) == "QQQQ"


def test_retrying_one_system_leaves_the_others_failed_and_cancelled():
    study = asked("one", "two")
    fail(study, 1)
    painting.cancel(study, at=NOON)
    assert states(study) == "FXXX"
    assert painting.retry(study, system="system-1", at=LATER) == 2
    assert states(study) == "FXQQ"
    assert painting.retry(study, at=LATER) == 2
    assert states(study) == "QQQQ"


def test_a_prompt_that_left_for_a_failure_comes_back_when_it_is_retried():
    study = asked()
    fail(study, 1)
    world.paint(study, world.plain_picture)
    make_display_files(at=NOON)
    assert queries.live_prompts(study).count() == 1
    assert painting.retry(study, at=LATER) == 1
    assert queries.live_prompts(study).count() == 2
    assert painting.retry(study, at=LATER) == 0


def test_a_prompt_waits_that_was_asked_for_again_while_its_files_were_made(monkeypatch):
    study = asked("one")
    fail(study, 2)
    found = list(queries.prompts_to_finish(study))
    painting.retry(study, at=LATER)
    monkeypatch.setattr(queries, "prompts_to_finish", lambda _study: found)
    assert make_display_files(study=study, at=LATER) == 0
    assert queries.live_prompts(study).count() == 1


def test_a_deleted_or_replaced_draft_has_nothing_painted_any_more(tmp_path):
    systems = [painted("a"), painted("b", steps=2)]
    study = draft(tmp_path, systems=systems)
    services.prepare(study, at=NOON)
    services.apply_spec(spec_of(tmp_path, systems, title="Another"), replace=True, at=NOON)
    assert {*Image.objects.values_list("status", flat=True)} == {"CANCELLED"}
    services.prepare(Study.objects.get(), at=NOON)
    assert {*Image.objects.values_list("status", flat=True)} == {"QUEUED"}
    services.delete_draft(Study.objects.get())
    assert {*Image.objects.values_list("status", flat=True)} == {"CANCELLED"}


def spec_of(folder, systems, **changes):
    return load_spec(study_file(folder, systems=systems, **changes))


def test_two_systems_that_change_places_lose_no_image():
    study = asked()
    first, second = study.systems.all()
    first.recipe, second.recipe = second.recipe, first.recipe
    for system in (first, second):
        system.save()
    services.prepare(study, at=LATER)
    assert states(study) == "QQQQ"
    assert Image.objects.count() == 4


def test_what_a_draft_no_longer_has_is_painted_no_more():
    study = asked()
    System.objects.filter(key="system-1").update(recipe=world.recipe(7).as_json())
    services.prepare(study, at=LATER)
    assert states(study) == "QQQQ"
    assert Image.objects.filter(status="CANCELLED", recipe=world.recipe(1).as_json()).count() == 2


# Several at once.


def together(holding: Callable[[], object], waiting: Callable[[], object]) -> None:
    """The second begins once the first has done all its work and has not committed yet."""
    worked, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            holding()
            worked.set()
            go_on.wait(0.3)

    def wait() -> None:
        worked.wait(5)
        waiting()
        go_on.set()

    settled(race([hold, wait]))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("first", ["prepare", "cancel"])
def test_a_draft_prepared_while_another_cancels_gets_the_images_that_both_want(first):
    mine, theirs = asked("one", "two"), world.study(prompts=("two", "three"))
    acts = [
        lambda: services.prepare(theirs, at=NOON),
        lambda: painting.cancel(mine, at=NOON),
    ]
    together(*(acts if first == "prepare" else acts[::-1]))
    assert states(theirs) == "QQQQ"
    assert states(mine) == "XQXQ"


@pytest.mark.django_db(transaction=True)
def test_two_drafts_that_cancel_at_once_leave_nothing_to_paint():
    mine, theirs = asked("one", "two"), asked("two", "three")
    together(
        lambda: painting.cancel(mine, at=NOON), lambda: painting.cancel(theirs, at=NOON + HOUR)
    )
    assert {*Image.objects.values_list("status", flat=True)} == {"CANCELLED"}


@pytest.mark.django_db(transaction=True)
def test_whatever_happens_at_once_what_is_pending_is_what_drafts_want():
    mine = asked(*(f"prompt {n}" for n in range(12)))
    theirs = asked(*(f"prompt {n}" for n in range(6, 18)))
    ids = list(Image.objects.order_by("pk").values_list("pk", flat=True))

    def change(study: Study) -> None:
        chance = random.Random(study.pk)
        for _ in range(8):
            act = chance.choice([painting.cancel, painting.cancel, painting.retry])
            act(study, system=chance.choice(["", "system-0", "system-1"]), at=NOON)
        services.prepare(study, at=NOON)
        painting.cancel(study, system=f"system-{study.pk % 2}", at=NOON)

    def work(name: str) -> None:
        for _ in range(15):
            claim = claim_images(ids, task_id=name, at=NOON)
            renew(claim, claim.images[:4], lease=MINUTE, at=NOON)
            release(claim, claim.images[:4])

    changes, works = (
        [partial(change, one) for one in (mine, theirs)],
        [partial(work, "one"), partial(work, "two")],
    )
    settled(race(changes + works))
    entries = Entry.objects.filter(system__painting_cancelled_at=None)
    wanted = set(entries.values_list("image_id", flat=True))
    pending = set(Image.objects.filter(status__in=PENDING).values_list("pk", flat=True))
    assert pending == wanted
    assert 0 < len(wanted) < len(ids)
