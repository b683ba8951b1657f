"""Claims: one holder at a time, and what a lost claim painted is not stored."""

import hashlib
from functools import partial
from pathlib import Path

import pytest
from PIL import Image as Pictures

from generation import services
from generation.encoding import encode
from generation.models import Image, ImageEvent
from tests.generation.studio import attempts, claim, queued, statuses, stored_files
from tests.races import race, settled
from tests.world import MINUTE, NOON, SECOND

pytestmark = [pytest.mark.django_db, pytest.mark.database]
PICTURE = encode(Pictures.new("RGB", (8, 8), "red"))


def store(held: services.Claim, image: Image) -> bool:
    written = services.write_painting(image, PICTURE, provenance={"seed": 1})
    return services.store_paintings(held, [written], at=NOON) == 1


def test_who_comes_second_gets_nothing():
    ids = queued(3)
    assert [image.pk for image in claim(ids, task_id="one").images] == ids
    assert claim(ids, task_id="two").images == ()


@pytest.mark.django_db(transaction=True)
def test_of_many_workers_at_once_each_image_goes_to_one():
    ids = queued(20)
    for _ in range(3):
        claims = settled(race([partial(claim, ids, task_id=f"task-{n}") for n in range(8)]))
        held = [image.pk for one in claims for image in one.images]
        assert sorted(held) == ids
        for one in claims:
            services.release(one, [])


def test_a_claim_whose_lease_is_over_can_be_taken():
    ids = queued(2)
    claim(ids, task_id="one")
    assert claim(ids, task_id="two", at=NOON + MINUTE).images == ()
    assert len(claim(ids, task_id="two", at=NOON + MINUTE + SECOND).images) == 2


def test_a_renewed_claim_lasts_from_then_on():
    ids = queued(2)
    held = claim(ids, task_id="one")
    services.renew(held, held.images[:1], lease=MINUTE, at=NOON + 50 * SECOND)
    assert claim(ids, task_id="two", at=NOON + 100 * SECOND).images == ()


def test_a_message_delivered_again_takes_over_its_own_rows_at_once():
    ids = queued(2)
    former = claim(ids, task_id="one")
    assert len(claim(ids, task_id="one").images) == 2
    assert not store(former, former.images[0])


def test_a_task_id_that_begins_like_another_is_another():
    ids = queued(1)
    claim(ids, task_id="task-1")
    assert claim(ids, task_id="task").images == ()


def test_a_stored_painting_is_ready_with_its_file_and_provenance():
    held = claim(queued(1))
    assert store(held, held.images[0])
    row = Image.objects.get()
    assert (row.status, row.width, row.height, row.sha256) == ("READY", 8, 8, PICTURE.sha256)
    assert row.provenance == {"seed": 1}
    assert row.file.read() == PICTURE.content
    assert (row.claim_token, row.lease_expires_at, row.finished_at) == ("", None, NOON)


def test_a_lost_claim_stores_nothing_and_leaves_no_file():
    ids = queued(1)
    late = claim(ids, task_id="one")
    claim(ids, task_id="two", at=NOON + 2 * MINUTE)
    before = stored_files()
    assert not store(late, late.images[0])
    assert statuses(ids) == ["CLAIMED"]
    assert stored_files() == before


def test_a_lost_claim_fails_counts_renews_and_frees_nothing():
    ids = queued(2)
    late = claim(ids, task_id="one")
    holder = claim(ids, task_id="two", at=NOON + 2 * MINUTE)
    assert services.renew(late, late.images, lease=MINUTE, at=NOON) == []
    assert not services.store_failure(late, late.images[0], reason="no", at=NOON)
    services.release(late, late.images)
    assert attempts(ids) == [0, 0]
    assert holder.rows().count() == 2


@pytest.mark.django_db(transaction=True)
def test_of_two_who_store_one_image_one_is_kept_with_its_file():
    ids = queued(1)
    early = claim(ids, task_id="one")
    late = claim(ids, task_id="one")  # the message came again while the first still painted
    before = stored_files()
    answers = settled(race([partial(store, one, late.images[0]) for one in (early, late)]))
    assert sorted(answers) == [False, True]
    assert len(stored_files() - before) == 1


def test_a_painting_is_stored_once():
    held = claim(queued(1))
    assert store(held, held.images[0])
    assert not store(held, held.images[0])
    assert not ImageEvent.objects.exists()


def test_a_damaged_image_is_painted_anew_and_its_old_file_goes():
    held = claim(queued(1))
    store(held, held.images[0])
    row = Image.objects.get()
    Path(row.file.path).write_bytes(PICTURE.content[:-9])
    before = stored_files()
    with pytest.raises(services.DamagedFileError):
        services.read_stored(row, at=NOON)
    assert statuses([row.pk]) == ["FAILED"]
    services.retry_failed(Image.objects.all(), at=NOON)
    held = claim([row.pk])
    assert store(held, held.images[0])
    assert services.read_stored(Image.objects.get(), at=NOON) == PICTURE.content
    assert len(stored_files()) == len(before)
    events = list(ImageEvent.objects.values_list("kind", "sha256_before", "sha256_after"))
    cut = hashlib.sha256(PICTURE.content[:-9]).hexdigest()
    assert events == [
        ("DAMAGED", PICTURE.sha256, cut),
        ("REPAINTED", PICTURE.sha256, PICTURE.sha256),
    ]


def test_file_names_tell_nothing():
    held = claim(queued(2))
    for image in held.images:
        store(held, image)
    for row in Image.objects.all():
        stem = row.file.name.removeprefix("images/").removesuffix(".webp")
        assert len(bytes.fromhex(stem)) == 16


def test_attempts_count_only_what_is_about_to_be_painted():
    ids = queued(3)
    held = claim(ids)
    batch = services.renew(held, held.images[:2], lease=MINUTE, at=NOON)
    assert [image.attempts for image in batch] == [1, 1]
    assert attempts(ids) == [1, 1, 0]


def test_an_image_under_which_the_worker_died_three_times_has_failed():
    ids = queued(2)
    for _ in range(3):
        held = claim(ids)
        services.renew(held, held.images[:1], lease=MINUTE, at=NOON)
    assert [image.pk for image in claim(ids).images] == ids[1:]
    assert statuses(ids) == ["FAILED", "CLAIMED"]
    assert "3 times while it painted" in Image.objects.get(pk=ids[0]).error


def test_a_claim_of_many_images_takes_few_queries(django_assert_max_num_queries):
    ids = queued(30)
    with django_assert_max_num_queries(5):  # lock, write, read; and a transaction's begin and end
        claim(ids)
