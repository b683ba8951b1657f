"""Asking for images: each is painted once, whoever asks, and messages are nudges."""

import base64
import json
import logging
import threading
from datetime import timedelta
from functools import partial

import pytest
from django.db import transaction

from evalsite.studies.management.commands.sweep import Sweep
from generation import messages, services
from generation.models import Image
from generation.services import Want
from generation.spec import Recipe
from tests.generation.studio import paint, queued, recipe, statuses, wants
from tests.races import race, settled
from tests.world import MINUTE, NOON, SECOND

pytestmark = pytest.mark.django_db
LATER = NOON + 2 * MINUTE


def bodies(valkey) -> list[list]:
    raw = valkey.client().lrange("painting", 0, -1)
    return [json.loads(base64.b64decode(json.loads(one)["body"])) for one in reversed(raw)]


def test_what_was_asked_for_before_is_shared(django_capture_on_commit_callbacks):
    first = services.request_images(wants(3), at=NOON)
    again = services.request_images(wants(4), at=LATER)
    assert again.items() > first.items()
    assert Image.objects.count() == 4
    assert Image.objects.get(pk=first[wants(1)[0].digest]).requested_at == NOON


def test_one_call_may_ask_twice_for_the_same():
    ids = services.request_images([*wants(2), *wants(2)], at=NOON)
    assert len(ids) == Image.objects.count() == 2


def test_the_answer_names_every_image_by_its_digest():
    ids = services.request_images(wants(3), at=NOON)
    assert ids == dict(Image.objects.values_list("digest", "pk"))
    assert list(ids) == [want.digest for want in wants(3)]


def test_a_ready_image_is_not_queued_again():
    ids = queued(1)
    paint(ids)
    assert queued(1) == ids
    assert statuses(ids) == ["READY"]


def test_messages_carry_ids_alone_in_full_chunks_of_one_recipe(
    broker, valkey, django_capture_on_commit_callbacks
):
    other = recipe(steps=3)
    with django_capture_on_commit_callbacks(execute=True):
        one, two = queued(80), queued(5, other)
    assert [body[0] for body in bodies(valkey)] == [[one[:64]], [one[64:]], [two]]
    assert all(body[1] == {} for body in bodies(valkey))
    assert not Image.objects.filter(nudged_at=None).exists()


def test_nothing_is_sent_when_the_rows_are_rolled_back(
    broker, valkey, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True) as callbacks, transaction.atomic():
        queued(2)
        transaction.set_rollback(True)
    assert callbacks == []
    assert not Image.objects.exists()
    assert bodies(valkey) == []


def test_a_broker_that_is_away_costs_one_line_and_no_error(
    caplog, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        ids = queued(100)
    assert statuses(ids) == ["QUEUED"] * 100
    assert Image.objects.filter(nudged_at=None).count() == 100
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "The broker is away" in caplog.text


def test_imported_images_cannot_be_asked_for():
    theirs = Recipe(family="imported", checkpoint="theirs", revision="sha256:" + "1" * 64)
    with pytest.raises(ValueError, match="imported images are not painted"):
        services.request_images([*wants(1), Want(theirs, "a cat", 0)], at=NOON)
    assert not Image.objects.exists()


@pytest.mark.parametrize(
    ("prompt", "seed", "message"),
    [("a cat", -1, "seed"), ("a cat", 2**63, "seed"), ("a\0cat", 1, "NUL")],
)
def test_what_no_database_can_hold_is_refused_at_once(prompt, seed, message):
    with pytest.raises(ValueError, match=message):
        Want(recipe(), prompt, seed)


@pytest.mark.database
@pytest.mark.django_db(transaction=True)
def test_two_studies_that_ask_at_once_share_every_image():
    answers = settled(race([partial(services.request_images, wants(30), at=NOON)] * 4))
    assert all(answer == answers[0] for answer in answers)
    assert Image.objects.count() == 30


# The sweep.


def test_the_sweep_sends_again_what_a_broker_forgot(broker, valkey):
    ids = queued(3)
    assert services.nudge_stale(at=NOON) == 3
    valkey.client().flushall()
    assert services.nudge_stale(at=NOON + 59 * SECOND) == 0
    assert services.nudge_stale(at=LATER) == 3
    assert [body[0] for body in bodies(valkey)] == [[ids]]


def test_the_sweep_sends_nothing_that_a_message_still_speaks_of(broker, valkey):
    told = queued(2)
    services.nudge_stale(at=NOON)
    forgotten = queued(1, recipe(steps=9))
    assert services.nudge_stale(at=LATER) == 1
    assert [body[0] for body in bodies(valkey)] == [[told], [forgotten]]


def test_the_sweep_sends_what_a_dead_worker_had_claimed_once_its_lease_is_over(broker):
    ids = queued(2)
    services.claim_images(ids, task_id="dead", at=NOON)
    assert services.nudge_stale(at=NOON + 59 * SECOND) == 0
    assert services.nudge_stale(at=NOON + 61 * SECOND) == 2


def test_the_sweep_leaves_finished_images_alone(broker):
    ids = queued(2)
    paint(ids[:1])
    claim = services.claim_images(ids, task_id="other", at=NOON)
    services.store_failure(claim, claim.images[0], reason="no", at=NOON)
    assert statuses(ids) == ["READY", "FAILED"]
    assert services.nudge_stale(at=NOON + timedelta(days=1)) == 0


def test_a_broker_that_is_away_is_the_sweep_s_to_report():
    queued(2)
    with pytest.raises(messages.BrokerAwayError):
        services.nudge_stale(at=LATER)
    assert Image.objects.filter(nudged_at=None).count() == 2


def test_the_sweep_says_once_that_the_broker_is_away_and_once_that_it_is_back(caplog, request):
    ids = queued(2)
    sweep = Sweep(threading.Event())
    with caplog.at_level(logging.INFO, logger="evalsite.studies"):
        for _ in range(3):
            sweep.round()
        request.getfixturevalue("broker")
        for _ in range(2):
            sweep.round()
    away, *others = caplog.messages
    assert away.startswith("The broker is away, trying again: ")
    assert others == ["The broker is back", "Sent 2 images again, made 0 display files"]
    assert messages.waiting() == set(ids)


def test_the_sweep_reads_little_when_nothing_waits(django_assert_num_queries):
    paint(queued(2))
    with django_assert_num_queries(1):
        assert services.nudge_stale(at=LATER) == 0


def test_failed_images_get_three_new_attempts_when_asked(
    broker, django_capture_on_commit_callbacks
):
    ids = queued(2)
    claim = services.claim_images(ids[:1], task_id="task", at=NOON)
    services.renew(claim, claim.images, lease=MINUTE, at=NOON)
    services.store_failure(claim, claim.images[0], reason="no", at=NOON)
    with django_capture_on_commit_callbacks(execute=True):
        assert services.retry_failed(Image.objects.all(), at=LATER) == 1
    row = Image.objects.get(pk=ids[0])
    assert (row.status, row.attempts, row.error, row.nudged_at) == ("QUEUED", 0, "", LATER)
    assert messages.waiting() == {ids[0]}
