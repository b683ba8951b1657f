"""The admin's painting page: it tells how far images are, renews itself, and leads to acts."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from evalsite.desk import painting_page
from evalsite.studies import painting, services
from evalsite.studies.display_files import make_display_files
from evalsite.studies.models import Entry, Study
from generation.models import Image
from tests import world
from tests.world import NOON

pytestmark = pytest.mark.django_db
LOOKS = ((1280, 800, "light"), (390, 844, "dark"))


def signed_in(*permissions: str) -> Client:
    """Staff with these rights only; with none named, a superuser."""
    user = User.objects.create_user("staff", is_staff=True, is_superuser=not permissions)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def asked(n_prompts: int = 4, **options: Any) -> Study:
    study = world.study(n_prompts=n_prompts, **options)
    services.prepare(study, at=NOON)
    return study


def fail(study: Study, n: int, error: str, system: str = "system-0") -> None:
    waiting = Image.objects.filter(
        entries__system__study=study, entries__system__key=system, status="QUEUED"
    )
    for image in waiting.order_by("pk")[:n]:
        image.status, image.error = "FAILED", error
        image.save()


def address(study: Study) -> str:
    return reverse("admin:studies_study_painting", args=[study.pk])


def act(study: Study, name: str, system: str = "") -> str:
    page = reverse("admin:studies_study_act", args=[study.pk, name])
    return f"{page}?system={system}" if system else page


def status(study: Study) -> str:
    """What `study status` says."""
    out = io.StringIO()
    call_command("study", "status", study.slug, stdout=out)
    return out.getvalue()


def shown(client: Client, study: Study) -> str:
    return " ".join(client.get(address(study)).content.decode().split())


def statuses() -> dict[str, int]:
    names = list(Image.objects.values_list("status", flat=True))
    return {name: names.count(name) for name in sorted(set(names))}


def test_a_single_image_is_told_as_one():
    study = asked(n_prompts=1, n_systems=1)
    assert "0 of 1 image is ready" in shown(signed_in(), study)


def test_it_says_how_far_each_system_is_and_why_images_failed():
    study = asked()
    world.paint(study, world.plain_picture, limit=1)
    fail(study, 2, "OSError: disk full")
    fail(study, 1, "ValueError: <b>odd</b> prompt", system="system-1")
    text = shown(signed_in(), study)
    assert "1 of 8 images are ready" in text
    assert "<strong>1 of 4</strong>, 2 failed, waits for a worker" in text
    assert 'aria-label="1 of 4 ready, 2 failed"' in text
    assert '<rect class="failed" x="25.00" width="50.00"' in text
    assert "2 x OSError: disk full" in text
    assert "“prompt number 1”" in text
    assert "1 x ValueError: &lt;b&gt;odd&lt;/b&gt; prompt" in text


def test_the_study_s_page_leads_to_it():
    study = asked()
    page = signed_in().get(reverse("admin:studies_study_change", args=[study.pk]))
    assert f'href="{address(study)}"' in page.content.decode()


def test_one_system_or_all_are_retried_at_a_click():
    study = asked()
    fail(study, 2, "no")
    fail(study, 3, "no", system="system-1")
    client = signed_in()
    answer = client.post(act(study, "retry", "system-1"), follow=True)
    assert answer.redirect_chain[-1][0] == address(study)
    assert "Asked for again: 3 images." in answer.content.decode()
    assert statuses() == {"FAILED": 2, "QUEUED": 6}
    client.post(act(study, "retry"))
    assert statuses() == {"QUEUED": 8}
    answer = client.post(act(study, "retry"), follow=True)
    assert "No image was asked for again." in answer.content.decode()


def test_cancelling_asks_first_and_then_says_what_came_of_it():
    study = asked()
    client = signed_in()
    question = client.get(act(study, "cancel", "system-0")).content.decode()
    assert "Images that are there stay" in question
    assert f'href="{address(study)}"' in question
    assert statuses() == {"QUEUED": 8}
    answer = client.post(act(study, "cancel", "system-0"), follow=True).content.decode()
    assert "Cancelled: 4 images." in answer
    assert "cancelled, 4 not asked for" in answer
    assert statuses() == {"CANCELLED": 4, "QUEUED": 4}
    client.post(act(study, "cancel"))
    assert statuses() == {"CANCELLED": 8}
    client.post(act(study, "retry"))
    assert statuses() == {"QUEUED": 8}


def test_acts_that_can_do_nothing_are_not_offered():
    study = asked()
    client = signed_in()
    assert "Retry" not in shown(client, study)
    assert "Cancel all" in shown(client, study)
    painting.cancel(study, at=NOON)
    assert "Retry all" in shown(client, study)
    assert "Cancel" not in shown(client, study).replace("Cancelled", "")


@pytest.mark.parametrize(
    ("n_prompts", "words"),
    [
        (4, "2 of 4 prompts left the study, for all systems."),
        (1, "1 of 1 prompt left the study, for all systems."),
    ],
)
def test_it_says_how_many_prompts_left_in_the_words_of_the_terminal(n_prompts, words):
    study, client = asked(n_prompts=n_prompts), signed_in()
    assert "left the study" not in shown(client, study)
    assert "left the study" not in status(study)
    study.prompts.filter(position__lt=2).update(removed_at=NOON, removed_reason="an image failed")
    assert f"<p>{words}</p>" in shown(client, study)
    assert words in status(study)


def test_it_says_what_a_painted_draft_waits_for():
    study = asked()
    client = signed_in()
    form = "8 images are painted, but not yet in the form that raters see: the sweep makes that"
    assert "the form that raters see" not in shown(client, study)
    world.paint(study, world.plain_picture)
    Entry.objects.update(display="")
    assert f"<p>{form}, or: study prepare {study.slug}.</p>" in shown(client, study)
    make_display_files(at=NOON)
    assert "the form that raters see" not in shown(client, study)


def test_an_opened_study_is_only_looked_at():
    study = world.open_study()
    Image.objects.filter(pk=Image.objects.first().pk).update(status="FAILED", error="damaged")
    client = signed_in()
    text = shown(client, study)
    assert "1 x damaged" in text
    assert "Retry" not in text
    assert "nothing more is painted for it" in text
    answer = client.post(act(study, "retry"), follow=True)
    assert "its design stands" in answer.content.decode()


def test_whoever_may_only_look_finds_no_acts_and_no_way_to_images():
    study = asked()
    fail(study, 1, "no")
    client = signed_in("view_study")
    text = shown(client, study)
    assert "1 x no" in text
    assert "Retry" not in text
    assert "/admin/generation/image/" not in text
    for name in ("retry", "cancel"):
        assert client.post(act(study, name)).status_code == 403
        assert client.get(act(study, name)).status_code == 403
    assert statuses() == {"FAILED": 1, "QUEUED": 7}


def test_strangers_and_staff_without_rights_see_nothing():
    study = asked()
    assert "/login/" in Client().get(address(study))["Location"]
    assert "/login/" in Client().post(act(study, "cancel"))["Location"]
    assert signed_in("view_image").get(address(study)).status_code == 403
    assert statuses() == {"QUEUED": 8}


def test_posts_need_a_token_and_a_system_that_is_there():
    study = asked()
    staff = signed_in()
    answer = staff.post(act(study, "cancel", "nine"), follow=True)
    assert "has no system nine. Its systems: system-0, system-1." in answer.content.decode()
    careless = Client(enforce_csrf_checks=True)
    careless.force_login(User.objects.get())
    assert careless.post(act(study, "cancel")).status_code == 403
    assert statuses() == {"QUEUED": 8}


def test_the_part_that_is_renewed_uses_up_no_message():
    study = asked()
    client = signed_in()
    client.post(act(study, "cancel"))
    part = client.get(address(study), {"part": "1"}).content.decode()
    assert part.count('id="painting"') == 1
    assert "<html" not in part
    assert "Cancelled: 8 images" in client.get(address(study)).content.decode()


def test_it_takes_the_same_few_queries_at_any_size(django_assert_max_num_queries):
    client = signed_in()
    for n_prompts in (4, 40):
        study = asked(n_prompts, seed=n_prompts)
        fail(study, 3, "no")
        with django_assert_max_num_queries(10):  # of them six for the progress
            client.get(address(study), {"part": "1"})


# In a browser.


@pytest.fixture
def page(browser: Browser, live_server: Any, admin_client: Any) -> Iterator[Page]:
    """Signed in."""
    context = browser.new_context(base_url=live_server.url)
    session = admin_client.cookies["sessionid"].value
    context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
    yield context.new_page()
    context.close()


@pytest.mark.django_db(transaction=True)
def test_it_renews_itself_until_nothing_is_to_come_and_keeps_the_focus(page, monkeypatch):
    monkeypatch.setattr(painting_page, "REFRESH_S", 0.1)
    said: list[str] = []
    page.on("console", lambda line: said.append(line.text))
    study = asked(1)
    fail(study, 1, "no")
    page.goto(address(study))
    page.evaluate("window.sameDocument = true")
    page.focus("#cancel-system-1")
    world.paint(study, world.plain_picture)
    expect(page.get_by_text("1 of 2 images are ready")).to_be_visible()
    assert page.evaluate("document.activeElement.tagName") == "BODY"  # nothing left to cancel
    assert page.get_attribute("#painting", "data-refresh-s") == "0"
    page.get_by_role("button", name="Retry System 0").click()
    expect(page.get_by_text("Asked for again: 1 image.")).to_be_visible()
    page.evaluate("window.sameDocument = true")
    page.focus("#cancel-system-0")
    before = page.inner_text("#painting p")
    expect(page.locator("#painting p").first).not_to_have_text(before)  # a second later
    assert page.evaluate("document.activeElement.id") == "cancel-system-0"
    assert page.evaluate("window.sameDocument")
    assert said == []


@pytest.mark.django_db(transaction=True)
def test_it_works_without_a_script_and_nothing_is_cut_off(browser, live_server, page):
    study = asked()
    fail(study, 2, "OSError: no file " + "diffusion_pytorch_model/" * 9)
    for width, height, scheme in LOOKS:
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)
        page.goto(address(study))
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found = Axe().run(page, context="#content").response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
    plain = browser.new_context(
        base_url=live_server.url,
        java_script_enabled=False,
        storage_state=page.context.storage_state(),
    )
    quiet = plain.new_page()
    quiet.goto(address(study))
    assert quiet.locator('noscript meta[http-equiv="refresh"]').count() == 1
    quiet.get_by_role("button", name="Retry System 0").click()
    quiet.get_by_text("Asked for again: 2 images.").wait_for()
    quiet.get_by_role("link", name="Cancel all").click()
    quiet.get_by_role("button", name="Cancel painting").click()
    quiet.get_by_text("Cancelled: 8 images.").wait_for()
    assert quiet.locator('noscript meta[http-equiv="refresh"]').count() == 0
    plain.close()
