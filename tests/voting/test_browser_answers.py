"""Answering in a real browser: keys, clicks, timing, a lost connection, a change of mind."""

import re
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Route, expect

from evalsite.studies.models import Criterion
from evalsite.voting import queries, services
from evalsite.voting.models import Flag, Rater, Vote
from tests import world
from tests.voting.browsing import box_of, enter, picture_of, until, wait_for_pair, walk_in

AXE = Axe()

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_rater_reads_the_question_and_votes_by_key_and_by_click_to_the_end(live_server, page):
    study = world.open_study(
        n_prompts=3, criteria=("image_quality", "prompt_following"), tie_policy="ALLOWED"
    )
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    loads: list[str] = []
    walk_in(page, live_server, study)
    wait_for_pair(page, "1 of 6")
    page.on("framenavigated", lambda frame: loads.append(frame.url))
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^Which image .*\\?$"))
    expect(page.locator("#prompt")).to_have_text(re.compile(r"prompt number \d"))
    picture_of(page, "pair")
    acts: list[Callable[[], None]] = [
        lambda: page.keyboard.press("ArrowLeft"),
        lambda: page.get_by_role("button", name="Left").click(),
        lambda: page.keyboard.press("ArrowDown"),
        lambda: page.keyboard.press("ArrowRight"),
        lambda: page.get_by_role("button", name="Right").click(),
        lambda: page.get_by_role("button", name="No preference").click(),
    ]
    for number, act in enumerate(acts, 1):
        wait_for_pair(page, f"{number} of 6")
        act()
    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
    assert list(Vote.objects.order_by("pk").values_list("choice", flat=True)) == [
        "LEFT", "LEFT", "TIE", "RIGHT", "RIGHT", "TIE",
    ]  # fmt: skip
    assert queries.counted_votes(study).count() == 6
    assert Vote.objects.first().screen == {"width": 1280, "height": 800, "ratio": 1, "image": 64}
    assert len(loads) == 1, "one page from the first pair to the last"
    assert not errors


def test_results_appear_to_staff_after_closing_and_not_before(live_server, page, django_user_model):
    study = world.open_study(n_prompts=3)
    walk_in(page, live_server, study)
    for number in (1, 2, 3):
        wait_for_pair(page, f"{number} of 3")
        page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()

    django_user_model.objects.create_superuser("staff", password="a long password")
    page.goto(f"{live_server.url}/studies/{study.slug}/")
    page.get_by_label("Username").fill("staff")
    page.get_by_label("Password").fill("a long password")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name=study.title)).to_be_visible()
    expect(page.locator(".forest")).to_have_count(0)
    assert "%" not in page.locator("main").inner_text()

    services.close_study(study=study, at=timezone.now())
    page.reload()
    expect(page.locator(".forest").first).to_be_visible()
    expect(page.locator("main")).to_contain_text("95% interval")
    picture_of(page, "results")


def test_both_pictures_appear_in_one_frame(live_server, page):
    study = world.open_study()
    slow: list[Route] = []
    page.route(re.compile("/right$"), lambda route: slow.append(route))
    page.goto(f"{live_server.url}/r/{world.rater(study).code}", wait_until="commit")
    expect(page.locator("#left-image")).to_have_js_property("complete", True)
    page.wait_for_timeout(300)
    expect(page.locator("#left-image")).not_to_be_visible()
    page.keyboard.press("ArrowLeft")
    for route in slow:
        route.continue_()
    expect(page.locator("#left-image")).to_be_visible()
    expect(page.locator("#right-image")).to_be_visible()
    assert not Vote.objects.exists(), "nobody can answer what they have not seen"


def test_an_answer_sooner_than_400_ms_was_meant_for_the_pair_before(live_server, page):
    study = world.open_study(n_prompts=3)
    page.clock.install()
    enter(page, live_server, study)
    page.clock.pause_at(datetime.now() + timedelta(hours=1))
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#progress")).to_have_text("2 of 3")
    expect(page.locator(".pair:not(.pending)")).to_be_visible()
    page.clock.run_for(350)
    page.keyboard.press("ArrowRight")
    page.clock.run_for(100)
    page.keyboard.press("ArrowLeft")
    until(page, lambda: Vote.objects.count() == 2)
    assert set(Vote.objects.values_list("choice", flat=True)) == {"LEFT"}


def test_a_held_key_answers_once(live_server, page):
    study = world.open_study(n_prompts=3)
    enter(page, live_server, study)
    page.keyboard.down("ArrowRight")
    wait_for_pair(page, "2 of 3")
    for _ in range(5):
        page.keyboard.down("ArrowRight")  # held: the browser repeats it
    page.keyboard.up("ArrowRight")
    until(page, lambda: Vote.objects.count() == 1)
    page.keyboard.press("ArrowLeft")
    wait_for_pair(page, "3 of 3")
    until(page, lambda: Vote.objects.count() == 2)
    assert list(Vote.objects.order_by("pk").values_list("choice", flat=True)) == ["RIGHT", "LEFT"]


def test_answers_given_offline_are_kept_and_sent_in_order(live_server, context, page):
    study = world.open_study(n_prompts=4)
    enter(page, live_server, study)
    expect(page.locator("#outbox")).to_have_text("")
    context.set_offline(True)
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#outbox")).to_have_text("Offline (1 waiting)")
    wait_for_pair(page, "2 of 4")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#outbox")).to_have_text("Offline (2 waiting)")
    expect(page.get_by_text("next pair is on its way")).to_be_visible()
    assert not Vote.objects.exists()
    picture_of(page, "offline")
    context.set_offline(False)
    wait_for_pair(page, "3 of 4")
    expect(page.locator("#outbox")).to_have_text("Saved")
    assert list(Vote.objects.order_by("pk").values_list("choice", flat=True)) == ["LEFT", "RIGHT"]
    assert page.evaluate("localStorage.length") == 0


def test_an_answer_outlives_the_closed_tab(live_server, context, page):
    study = world.open_study(n_prompts=3)
    enter(page, live_server, study)
    page.route(re.compile("/vote$"), lambda route: route.abort())
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#outbox")).to_have_text("Offline (1 waiting)")
    page.close()
    assert not Vote.objects.exists()
    again = context.new_page()
    again.goto(f"{live_server.url}/s/{study.code}/")
    wait_for_pair(again, "2 of 3")
    expect(again.locator("#outbox")).to_have_text("Saved")
    assert Vote.objects.get().choice == "LEFT"


def test_a_busy_server_is_asked_again_after_the_time_it_names(live_server, page):
    study = world.open_study()
    enter(page, live_server, study)
    tries: list[float] = []

    def busy_once(route: Route) -> None:
        tries.append(time.monotonic())
        if len(tries) == 1:
            route.fulfill(status=503, headers={"Retry-After": "2"}, body="busy")
        else:
            route.continue_()

    page.route(re.compile("/vote$"), busy_once)
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#outbox")).to_have_text("Saving")
    wait_for_pair(page, "2 of 2")
    expect(page.locator("#outbox")).to_have_text("Saved")
    assert len(tries) == 2
    assert tries[1] - tries[0] >= 2
    assert Vote.objects.count() == 1


def test_an_answer_finds_its_way_after_the_cookies_are_gone(live_server, context, page):
    study = world.open_study(n_prompts=3)
    enter(page, live_server, study)
    context.clear_cookies()
    page.keyboard.press("ArrowRight")
    wait_for_pair(page, "2 of 3")
    expect(page.locator("#outbox")).to_have_text("Saved")
    assert Vote.objects.get().choice == "RIGHT"
    assert Rater.objects.count() == 1


def test_the_last_answer_stands_until_another_is_given(live_server, page):
    study = world.open_study(n_prompts=4)
    enter(page, live_server, study)
    change = page.get_by_role("button", name="Change last answer")
    notice = page.locator(".changing p")
    expect(change).to_be_hidden()
    page.keyboard.press("ArrowLeft")
    wait_for_pair(page, "2 of 4")
    change.click()
    wait_for_pair(page, "1 of 4")
    expect(notice).to_have_text(
        "You are changing your last answer: Left. It stands until you give another."
    )
    expect(change).to_be_hidden()
    picture_of(page, "changing")
    assert AXE.run(page).violations_count == 0
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    page.keyboard.press("Enter")
    wait_for_pair(page, "2 of 4")
    expect(notice).to_be_hidden()
    page.keyboard.press("Backspace")
    wait_for_pair(page, "1 of 4")
    page.keyboard.press("Escape")
    wait_for_pair(page, "2 of 4")
    assert list(queries.counted_votes(study).values_list("take", "choice")) == [(1, "LEFT")]
    page.keyboard.press("Backspace")
    wait_for_pair(page, "1 of 4")
    page.keyboard.press("ArrowRight")
    wait_for_pair(page, "2 of 4")
    expect(change).to_be_hidden()  # once
    until(page, lambda: Vote.objects.count() == 2)
    assert list(queries.counted_votes(study).values_list("take", "choice")) == [(2, "RIGHT")]
    page.keyboard.press("ArrowLeft")
    wait_for_pair(page, "3 of 4")
    until(page, lambda: Vote.objects.count() == 3)
    page.keyboard.press("Backspace")
    wait_for_pair(page, "2 of 4")
    services.exclude_rater(rater=Rater.objects.get(), reason="a test", at=world.NOON)
    page.keyboard.press("ArrowRight")
    told = page.get_by_role("alert").filter(has_text="can no longer be changed")
    expect(told).to_be_visible()
    expect(page.locator("#progress")).to_have_text("3 of 4")
    assert Vote.objects.count() == 3


def test_help_and_the_way_out_lie_over_the_pair(live_server, page):
    study = world.prepared_study(
        n_prompts=2,
        criteria=("fit", "quality"),
        votes_per_rater=2,
        display_size=512,
        upscaler="LANCZOS",
    )
    Criterion.objects.filter(study=study, key="quality").update(tie_policy="ALLOWED")
    services.open_study(study=study, at=world.NOON)
    enter(page, live_server, study)
    before = box_of(page, "#left-image"), box_of(page, "#right-image")
    way_out = page.get_by_role("button", name="I cannot judge this pair")
    way_out.focus()
    page.keyboard.press("Enter")
    cancel = page.get_by_role("button", name="Cancel")
    expect(cancel).to_be_focused()  # not a reason: Enter twice skips nothing
    assert (box_of(page, "#left-image"), box_of(page, "#right-image")) == before
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    expect(cancel).to_be_hidden()
    expect(way_out).to_be_focused()
    page.keyboard.press("Enter")
    cancel.click()
    expect(cancel).to_be_hidden()
    expect(way_out).to_be_focused()
    tie = page.get_by_role("dialog").get_by_text("no preference")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog").get_by_text("change the last answer")).to_be_visible()
    expect(tie).to_be_hidden()
    page.keyboard.press("Escape")
    assert not Vote.objects.exists()
    page.keyboard.press("ArrowLeft")
    wait_for_pair(page, "2 of 2")  # another question, with ties
    page.get_by_role("link", name="Help").click()
    expect(tie).to_be_visible()


def test_a_pair_that_cannot_be_judged_is_passed_over(live_server, page):
    study = world.open_study()
    enter(page, live_server, study)
    before = page.locator(".pair").get_attribute("data-code")
    page.get_by_role("button", name="I cannot judge this pair").click()
    page.get_by_role("button", name="It is offensive").click()
    until(page, lambda: Flag.objects.count() == 1)
    assert Flag.objects.get().showing.code == before
    expect(page.locator(".pair:not(.pending)")).not_to_have_attribute("data-code", str(before))
    assert not Vote.objects.exists()


def test_a_picture_that_does_not_load_is_asked_for_again_and_then_says_so(live_server, page):
    study = world.open_study()
    asked: Counter[str] = Counter()

    def busy(route: Route) -> None:
        asked[route.request.url] += 1
        if route.request.url.endswith("/left") or asked[route.request.url] == 1:
            route.fulfill(status=503, content_type="text/plain", body="later")
        else:
            route.continue_()

    page.route(re.compile("/(left|right)$"), busy)
    page.goto(f"{live_server.url}/r/{world.rater(study).code}")
    code = page.locator(".pair").get_attribute("data-code")
    expect(page.get_by_text("The pictures cannot be loaded just now.")).to_be_visible()
    picture_of(page, "trouble")
    assert AXE.run(page).violations_count == 0
    both = {side: asked[f"{live_server.url}/b/{code}/{side}"] for side in ("left", "right")}
    assert both == {"left": 2, "right": 2}
    page.keyboard.press("ArrowLeft")
    page.unroute(re.compile("/(left|right)$"))
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#left-image")).to_be_visible()
    expect(page.locator("#right-image")).to_be_visible()
    expect(page.locator(".trouble")).to_be_hidden()
    assert not Vote.objects.exists()


@pytest.mark.parametrize(
    ("act", "words"), [("pause", "Your answers so far are kept"), ("close", "came too late")]
)
def test_a_study_that_stops_says_so_after_the_answer(live_server, page, act, words):
    study = world.open_study(n_prompts=4)
    enter(page, live_server, study)
    {"pause": services.pause_study, "close": services.close_study}[act](study=study, at=world.NOON)
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_text(words)).to_be_visible()
    picture_of(page, f"late-{act}")
    assert Vote.objects.count() == 1


def test_the_back_button_finds_the_pair_that_is_still_open(live_server, page):
    study = world.open_study(n_prompts=3)
    enter(page, live_server, study)
    page.keyboard.press("ArrowLeft")
    wait_for_pair(page, "2 of 3")
    until(page, lambda: Vote.objects.count() == 1)
    page.goto(f"{live_server.url}/s/{study.code}/instructions")
    page.go_back()
    wait_for_pair(page, "2 of 3")
    assert Vote.objects.count() == 1


def test_without_a_script_the_same_page_is_a_plain_form(live_server, browser):
    study = world.open_study()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    walk_in(page, live_server, study)
    for _ in range(2):
        expect(page.locator("#left-image")).to_be_visible()
        expect(page.locator("#right-image")).to_be_visible()
        page.get_by_role("button", name="Right").click()
    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
    assert queries.counted_votes(study).count() == 2
    context.close()
