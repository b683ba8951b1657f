"""The admin in plain words: what its lists hold, what a study's settings mean, what an act asks."""

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib import admin
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, Page

from evalsite.desk.wording import STUDY_HELP
from evalsite.studies.models import Study
from evalsite.voting.services import close_study
from generation.models import Pace
from tests import world

pytestmark = pytest.mark.django_db
OURS = [model for model in admin.site._registry if model._meta.app_label != "auth"]


def words_of(client: Client, name: str, *args: object, **query: str) -> str:
    html = client.get(reverse(f"admin:{name}", args=args), query).content.decode()
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)))


def test_every_list_says_what_its_rows_are(admin_client: Client):
    assert len(OURS) == 15
    for model in OURS:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
        html = admin_client.get(reverse(name)).content.decode()
        (meaning,) = re.findall(r'<p class="meaning">([^<]+)</p>', html)
        assert meaning.endswith("."), name


@pytest.mark.parametrize("state", ["draft", "open"])
def test_a_study_s_settings_are_explained_beside_them(admin_client: Client, state: str):
    study = world.study() if state == "draft" else world.open_study()
    said = words_of(admin_client, "studies_study_change", study.pk)
    assert [field for field, text in STUDY_HELP.items() if text not in said] == []


def test_a_study_s_page_leads_to_where_raters_start(admin_client: Client):
    study = world.open_study()
    html = admin_client.get(reverse("admin:studies_study_change", args=[study.pk])).content.decode()
    assert f'<a href="/s/{study.code}/">' in html


def test_an_act_asks_about_what_it_acts_on(admin_client: Client):
    study = world.study(slug="mine")
    for act, system, question in (
        ("prepare", "", "Prepare study mine?"),
        ("cancel", "", "Cancel painting of mine?"),
        ("cancel", "system-1", "Cancel painting of system-1 in mine?"),
    ):
        said = words_of(admin_client, "studies_study_act", study.pk, act, system=system)
        assert question in said


def test_a_pace_without_options_can_be_filtered_by_that(admin_client: Client):
    Pace.objects.create(recipe_digest="0" * 64, device="paper")
    Pace.objects.create(recipe_digest="0" * 64, device="paper", options="graphs")
    html = admin_client.get(reverse("admin:generation_pace_changelist")).content.decode()
    assert re.search(r'<a href="\?options=">\s*none\s*</a>', html)
    kept = admin_client.get(reverse("admin:generation_pace_changelist"), {"options": ""})
    assert kept.context["cl"].result_count == 1


def test_speeds_are_listed_by_the_systems_that_have_the_recipe(
    admin_client: Client, django_assert_max_num_queries: Any
):
    for slug in ("one", "two"):
        world.study(slug=slug)
    Pace.objects.create(recipe_digest=world.recipe(0).digest, device="paper")
    row = Pace.objects.create(recipe_digest=world.recipe(1).digest, device="paper")
    Pace.objects.create(recipe_digest="abcdef" * 10 + "0000", device="paper")
    with django_assert_max_num_queries(8):
        html = admin_client.get(reverse("admin:generation_pace_changelist")).content.decode()
    told = re.findall(r'field-systems"><a[^>]*>([^<]*)<', html)
    assert told == ["of no study: abcdefabcdef", "system-1", "system-0"]
    assert "system-1" in words_of(admin_client, "generation_pace_change", row.pk)


def test_a_row_of_speeds_says_on_what_it_was_measured_and_with_what(admin_client: Client):
    facts = {"recipe_digest": "0" * 64, "device": "paper", "versions": {"torch": "2.9.1"}}
    timed = {"latency_ms": 12345.6, "n_paints": 5, "measured_at": world.NOON}
    Pace.objects.create(**facts, options="graphs,compile", **timed)
    Pace.objects.create(**facts, batch_size=4)
    Pace.objects.create(**facts, options="compile", batch_size=128, images_per_s=1234.5)
    said = words_of(admin_client, "generation_pace_changelist")
    assert "paper graphs, compile torch 2.9.1 12,346 ms median of 5 - " in said
    assert "paper torch 2.9.1 - 4 at once - " in said
    assert "paper compile torch 2.9.1 - 1,234 a second 128 at once - " in said


def test_a_speed_s_page_says_how_many_images_were_timed(admin_client: Client):
    timed = {"latency_ms": 12345.6, "n_paints": 1005, "measured_at": world.NOON}
    pace = Pace.objects.create(recipe_digest="0" * 64, device="paper", **timed)
    said = words_of(admin_client, "generation_pace_change", pace.pk)
    assert "Images timed: 1,005 How many images that median is of." in said


def test_counts_have_their_thousands_set_apart(admin_client: Client):
    draft, opened = world.study(n_systems=0, n_prompts=0), world.open_study()
    Study.objects.filter(pk=opened.pk).update(n_planned=1440)
    assert "Votes planned: 1,440 " in words_of(admin_client, "studies_study_change", opened.pk)
    assert "Votes planned: - " in words_of(admin_client, "studies_study_change", draft.pk)


def test_a_vote_s_page_says_how_long_it_took_as_the_list_does(admin_client: Client):
    study = world.open_study()
    vote = world.vote(world.showing(world.rater(study)))
    close_study(study=study, at=world.NOON)
    for name, *args in (("changelist",), ("change", vote.pk)):
        assert "1,500" in words_of(admin_client, f"voting_vote_{name}", *args), name


def test_the_menu_says_what_its_lists_hold(admin_client: Client):
    said = words_of(admin_client, "index")
    assert "Speeds of recipes" in said
    assert "Files being written" in said


@pytest.fixture
def page(browser: Browser, live_server: Any, admin_client: Any) -> Iterator[Page]:
    """Signed in, on the narrowest phone."""
    context = browser.new_context(
        base_url=live_server.url, viewport={"width": 320, "height": 640}, reduced_motion="reduce"
    )
    session = admin_client.cookies["sessionid"].value
    context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
    yield context.new_page()
    context.close()


@pytest.mark.django_db(transaction=True)
def test_pages_fit_a_phone_and_can_be_read_in_light_and_dark(page: Page):
    draft, opened = world.study(), world.open_study()
    Pace.objects.create(recipe_digest="0" * 64, device="paper")
    Pace.objects.create(recipe_digest="0" * 64, device="paper", options="graphs")
    for address in (
        reverse("admin:studies_study_act", args=[draft.pk, "prepare"]),  # with long names of files
        reverse("admin:studies_study_act", args=[opened.pk, "close"]),
        reverse("admin:studies_study_changelist"),
        reverse("admin:voting_ballot_changelist"),
        reverse("admin:generation_pace_changelist"),
    ):
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.goto(address)  # anew: colours change slowly
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
            found = Axe().run(page).response["violations"]
            assert [(one["id"], one["nodes"][0]["html"]) for one in found] == [], address


def list_fits(page: Page, name: str) -> bool:
    """Whether a list needs no scrolling on a desk, beside its filter and the menu."""
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(reverse(f"admin:{name}_changelist"))
    page.get_by_role("heading", name="Filter").wait_for()
    return bool(
        page.evaluate(
            "(list => list.scrollWidth <= list.clientWidth)(document.querySelector('.results'))"
        )
    )


@pytest.mark.django_db(transaction=True)
def test_the_list_of_speeds_fits_a_desk(page: Page):
    versions = {"torch": "2.9.1+cu128", "diffusers": "0.35.2", "transformers": "4.57.3"}
    options = "graphs,channels-last,fused-qkv,autotune,compile,prompt-memory"
    study = world.study()
    study.systems.filter(position=0).update(key="some-model-of-images-at-fifty-steps")
    study.systems.filter(position=1).update(key="a" * 60)
    for position in (0, 1):
        Pace.objects.create(
            recipe_digest=world.recipe(position).digest,
            device="NVIDIA H100 80GB HBM3",
            options=options,
            versions=versions,
            latency_ms=12345.6,
            n_paints=5,
            measured_at=world.NOON.replace(minute=59, month=11, day=30),
            batch_size=128,
            images_per_s=1234.5,
        )
    assert list_fits(page, "generation_pace")


@pytest.mark.django_db(transaction=True)
def test_the_list_of_studies_fits_a_desk(page: Page):
    for slug in ("sdxl-turbo", "how-many-steps-does-turbo-need"):
        study = world.open_study(slug=slug, title="How many steps does SDXL Turbo need? " * 2)
        close_study(study=study, at=world.NOON)
    assert list_fits(page, "studies_study")
    days = page.locator(".results td:is(.field-opened, .field-closed)")
    assert days.all_inner_texts() == [world.NOON.date().isoformat()] * 4
    n_lines = """cells => cells.map(cell => {
        const range = document.createRange();
        range.selectNodeContents(cell);
        return range.getClientRects().length;
    })"""
    assert days.evaluate_all(n_lines) == [1] * 4


@pytest.mark.django_db(transaction=True)
def test_no_word_of_a_table_is_broken_on_a_desk(page: Page):
    study = world.study()
    study.systems.update(licence="Apache-2.0", label="Some model of images, fifty steps")
    study.criteria.update(question="Which of the two images shows better what is asked? " * 3)
    page.set_viewport_size({"width": 1100, "height": 800})
    page.goto(reverse("admin:studies_study_change", args=[study.pk]))
    broken = page.evaluate(
        """() => [...document.querySelectorAll(".tabular td:not(.field-recipe_as_set) p")].flatMap(
            cell => [...(cell.firstChild?.data ?? "").matchAll(/[\\w.]+/g)].filter(word => {
                const range = document.createRange();
                range.setStart(cell.firstChild, word.index);
                range.setEnd(cell.firstChild, word.index + word[0].length);
                return range.getClientRects().length > 1;
            }).map(word => word[0]))"""
    )
    assert broken == []
    assert page.get_by_text("Apache-2.0").count() == 2
