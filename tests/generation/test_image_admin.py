"""Staff see every image and its evidence, and can change none of it."""

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from generation import services
from generation.models import Image, ImageEvent, Pace
from tests.generation.studio import claim, paint, queued, recipe, statuses
from tests.world import NOON

pytestmark = pytest.mark.django_db
LIST = "/admin/generation/image/"


@pytest.fixture
def failed() -> list[int]:
    ids = queued(2)
    held = claim(ids)
    for image in held.images:
        services.store_failure(held, image, reason="out of paint", at=NOON)
    return ids


def staff(*permissions: str) -> Client:
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def test_images_are_listed_and_can_be_filtered_by_status(admin_client, failed):
    paint(queued(1, recipe(steps=9)))
    assert admin_client.get(LIST).content.count(b"random-sdxl") == 3
    page = admin_client.get(LIST, {"status__exact": "READY"})
    assert page.content.count(b"random-sdxl") == 1


def test_a_page_of_images_takes_few_queries(admin_client, django_assert_max_num_queries):
    queued(30)
    with django_assert_max_num_queries(7):
        admin_client.get(LIST)


def test_an_image_shows_its_evidence_and_nothing_to_edit(admin_client):
    ids = queued(1)
    paint(ids)
    page = admin_client.get(f"{LIST}{ids[0]}/change/").content.decode()
    assert "paper" in page
    assert "data:image/webp;base64," in page
    assert 'name="_save"' not in page
    assert "images/" not in page


def test_evidence_cannot_be_written_by_hand(admin_client, failed):
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert admin_client.post(f"{LIST}{failed[0]}/change/", {"status": "READY"}).status_code == 403
    assert admin_client.post(f"{LIST}{failed[0]}/delete/", {"post": "yes"}).status_code == 403
    admin_client.post(LIST, {"action": "delete_selected", "_selected_action": failed})
    assert statuses(failed) == ["FAILED", "FAILED"]


def test_what_befell_images_is_listed_and_cannot_be_written_by_hand(admin_client):
    (image,) = queued(1)
    event = ImageEvent.objects.create(
        image_id=image, kind="DAMAGED", sha256_before="a" * 64, sha256_after="b" * 64, at=NOON
    )
    events = LIST.replace("image/", "imageevent/")
    assert b"a" * 64 in admin_client.get(events).content
    page = admin_client.get(f"{events}{event.pk}/change/")
    assert b"b" * 64 in page.content
    assert b'name="_save"' not in page.content
    assert admin_client.get(f"{events}add/").status_code == 403
    for act in ("change", "delete"):
        assert admin_client.post(f"{events}{event.pk}/{act}/", {"post": "yes"}).status_code == 403


def test_failed_images_are_retried_from_the_list(admin_client, failed):
    answer = admin_client.post(
        LIST, {"action": "retry_failed", "_selected_action": failed}, follow=True
    )
    assert b"Failed images queued again: 2." in answer.content
    assert statuses(failed) == ["QUEUED", "QUEUED"]
    assert Image.objects.get(pk=failed[0]).error == ""


def test_retrying_takes_the_right_to_change_images(failed):
    reader = staff("view_image")
    assert reader.get(LIST).status_code == 200
    reader.post(LIST, {"action": "retry_failed", "_selected_action": failed})
    assert statuses(failed) == ["FAILED", "FAILED"]


def test_paces_are_listed_to_three_digits_and_each_says_what_it_paints(admin_client):
    queued(1)
    row = Pace.objects.create(
        recipe_digest=recipe().digest,
        device="paper",
        latency_ms=17.365858002449386,
        n_paints=5,
        measured_at=NOON,
        images_per_s=1234.5678,
    )
    unknown = Pace.objects.create(recipe_digest="0" * 64, device="paper")
    listed = admin_client.get("/admin/generation/pace/").content.decode()
    assert ">17.4 ms<" in listed
    assert ">1,235 a second<" in listed
    assert "17.36" not in listed
    page = admin_client.get(f"/admin/generation/pace/{row.pk}/change/").content.decode()
    assert "checkpoint: random-sdxl" in page
    assert "guidance: 0.0" in page
    page = admin_client.get(f"/admin/generation/pace/{unknown.pk}/change/").content.decode()
    assert "no image has it any more" in page


def test_a_pace_may_be_deleted_so_that_it_is_found_out_anew(admin_client):
    row = Pace.objects.create(recipe_digest="0" * 64, device="paper", batch_size=2)
    address = f"/admin/generation/pace/{row.pk}"
    assert "paper" in admin_client.get("/admin/generation/pace/").content.decode()
    assert admin_client.post(f"{address}/change/", {"batch_size": "9"}).status_code == 403
    assert staff("view_pace").post(f"{address}/delete/", {"post": "yes"}).status_code == 403
    admin_client.post(f"{address}/delete/", {"post": "yes"})
    assert not Pace.objects.exists()
