"""The rater's pages, through Django's own client: what a person with a browser would meet."""

import re
from pathlib import Path
from typing import NoReturn

import pytest
from django.conf import settings
from django.core.files.storage import FileSystemStorage
from django.db import OperationalError, connection
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from evalsite.studies.display import GREY
from evalsite.studies.models import Criterion, Study, System
from evalsite.voting import queries, services
from evalsite.voting.models import Ballot, Flag, Rater, Vote
from tests import world
from tests.voting.visitor import answer, enter, next_showing, pair_on, text_of, visit

pytestmark = pytest.mark.django_db


# Looking


def test_the_pair_shows_question_prompt_and_progress(client):
    study = world.open_study(n_prompts=3)
    enter(client, study)
    page = visit(client, f"/s/{study.code}/next")
    showing = pair_on(page)
    assert showing.criterion.question in page
    assert re.search(r'id="prompt"[^>]*>prompt number \d<', page)
    assert "1 of 3" in text_of(page)
    answer(client, showing)
    assert "2 of 3" in text_of(visit(client, f"/s/{study.code}/next"))


def test_the_prompt_is_hidden_where_the_criterion_hides_it(client):
    study = world.open_study()
    Criterion.objects.filter(study=study).update(show_prompt=False)
    enter(client, study)
    assert "prompt number" not in visit(client, f"/s/{study.code}/next")


def test_each_side_is_the_file_of_the_entry_that_stands_there(client):
    study = world.open_study(n_prompts=4)
    enter(client, study)
    seen = set()
    while showing := services.lease_ballot(rater=Rater.objects.get(), at=timezone.now()):
        pair = showing.comparison
        left, right = (pair.first, pair.second)[:: 1 if showing.first_on_left else -1]
        for side, entry in (("left", left), ("right", right)):
            shown = client.get(f"/b/{showing.code}/{side}").content
            assert shown == entry.display.open().read()
        seen.add(showing.first_on_left)
        answer(client, showing)
    assert seen == {True, False}


def test_both_pictures_come_with_the_same_headers_and_no_name(client):
    study = world.open_study()
    enter(client, study)
    showing = next_showing(client, study)
    left, right = (client.get(f"/b/{showing.code}/{side}").headers for side in ("left", "right"))
    telling = {"Content-Disposition", "ETag", "Last-Modified", "Location", "Set-Cookie"}
    assert not telling & set(left)
    assert left["Content-Type"] == "image/webp"
    assert left["Cache-Control"] == "private, max-age=600"
    assert {**left, "Content-Length": ""} == {**right, "Content-Length": ""}


def test_a_file_lost_from_the_storage_is_a_plain_404(client):
    study = world.open_study()
    enter(client, study)
    showing = next_showing(client, study)
    showing.comparison.first.display.delete(save=False)
    side = "left" if showing.first_on_left else "right"
    page = visit(client, f"/b/{showing.code}/{side}", 404)
    assert "display/" not in page


class BucketAway(Exception):
    """What a bucket's library raises is no OSError."""


class AwayStorage(FileSystemStorage):
    def _open(self, name: str, mode: str = "rb") -> NoReturn:
        raise BucketAway(f"no answer for {name}")


def test_while_the_storage_is_away_a_picture_is_a_plain_503(client, settings):
    study = world.open_study()
    enter(client, study)
    showing = next_showing(client, study)
    away = {"BACKEND": f"{__name__}.AwayStorage"}
    settings.STORAGES = settings.STORAGES | {"default": away}
    for side in ("left", "right"):
        reply = client.get(f"/b/{showing.code}/{side}")
        assert reply.status_code == 503
        assert reply.headers["Content-Type"].startswith("text/plain")
        assert int(reply.headers["Retry-After"]) > 0
        assert "no-store" in reply.headers["Cache-Control"]
        assert b"cannot be loaded just now" in reply.content
        assert b"display/" not in reply.content
    assert next_showing(client, study) == showing  # pages need no storage


@pytest.mark.parametrize("enrolled", [True, False])
def test_a_stranger_reaches_nothing_of_a_showing(client, enrolled):
    study = world.open_study()
    showing = world.showing(world.rater(study))
    if enrolled:
        enter(client, study)
    assert client.get(f"/b/{showing.code}/left").status_code == 404
    assert client.get(f"/b/{showing.code}/right").status_code == 404
    assert answer(client, showing).status_code == 404
    assert client.post(f"/b/{showing.code}/flag", {"reason": "OTHER"}).status_code == 404
    assert not Vote.objects.exists()
    assert not Flag.objects.exists()


def test_pairs_ahead_are_two_at_most_oldest_first(client):
    study = world.open_study(n_prompts=4)
    enter(client, study)
    first = next_showing(client, study)
    page = client.post(f"/s/{study.code}/ahead").content.decode()
    codes = re.findall(r'data-code="([\w-]+)"', page)
    assert len(codes) == 2
    assert codes[0] == first.code
    assert re.findall(r'id="progress">([^<]+)<', page) == ["1 of 4", "2 of 4"]
    assert Ballot.objects.filter(holder__isnull=False).count() == 2


def test_no_pairs_ahead_for_a_stranger_or_in_a_pause(client):
    study = world.open_study()
    assert client.post(f"/s/{study.code}/ahead").status_code == 404
    enter(client, study)
    services.pause_study(study=study, at=timezone.now())
    page = client.post(f"/s/{study.code}/ahead")
    assert (page.status_code, page.content.strip()) == (200, b"")


# Pauses and ends


def test_a_pause_says_so_and_shows_the_way_back(client):
    study = world.open_study()
    rater = enter(client, study)
    services.pause_study(study=study, at=timezone.now())
    page = visit(client, f"/s/{study.code}/next")
    assert "taking a break" in page
    assert f"/r/{rater.code}" in page
    assert "taking a break" in visit(Client(), f"/s/{study.code}/")


def test_a_late_answer_is_kept_and_the_end_is_shown(client):
    study = world.open_study()
    enter(client, study)
    showing = next_showing(client, study)
    services.close_study(study=study, at=timezone.now())
    assert answer(client, showing).status_code == 302
    assert Vote.objects.count() == 1
    assert queries.counted_votes(study).count() == 0
    page = text_of(visit(client, f"/s/{study.code}/next"))
    assert "has ended" in page
    assert "One of your answers came too late: it is kept, but not counted." in page
    assert "has ended" in visit(Client(), f"/s/{study.code}/")


def test_nobody_whose_answers_came_in_time_is_told_of_late_ones(client):
    study = world.open_study(n_prompts=3)
    enter(client, study)
    answer(client, next_showing(client, study))
    flagged = next_showing(client, study)
    answer(client, flagged)
    client.post(f"/b/{flagged.code}/flag", {"reason": "OTHER"})  # taken back, not late
    other = Client()
    excluded = enter(other, study)
    answer(other, next_showing(other, study))
    services.exclude_rater(rater=excluded, reason="too fast", at=timezone.now())
    services.close_study(study=study, at=timezone.now())
    for person in (client, other):
        page = visit(person, f"/s/{study.code}/next")
        assert "What you have answered is in" in page
        assert "late" not in text_of(page)


def test_consent_given_too_late_enrols_nobody(client):
    study = world.open_study()
    page = visit(client, f"/s/{study.code}/")
    version = re.search(r'name="version" value="(\w+)"', page)[1]
    services.close_study(study=study, at=timezone.now())
    client.post(f"/s/{study.code}/", {"version": version, "agree": "on"})
    assert not Rater.objects.exists()


def test_whoever_comes_while_others_hold_the_last_pairs_may_try_again(client):
    study = world.open_study(n_prompts=1)
    enter(client, study)
    other = world.showing(world.rater(study), at=timezone.now())
    assert "Nothing to compare just now" in visit(client, f"/s/{study.code}/next")
    world.vote(other, at=timezone.now())
    assert "Thank you" in visit(client, f"/s/{study.code}/next")


def test_an_excluded_rater_is_thanked(client):
    study = world.open_study()
    rater = enter(client, study)
    services.exclude_rater(rater=rater, reason="too fast", at=timezone.now())
    page = visit(client, f"/s/{study.code}/next")
    assert "Thank you" in page
    assert "too fast" not in page


# Trouble


def test_while_the_database_is_away_the_answer_is_503(client):
    study = world.open_study()
    enter(client, study)
    showing = next_showing(client, study)

    def away(execute, sql, params, many, context):
        raise OperationalError("server closed the connection")

    with connection.execute_wrapper(away):
        replies = [
            client.get(f"/s/{study.code}/"),
            client.get(f"/s/{study.code}/next"),
            client.get(f"/b/{showing.code}/left"),
            client.post(f"/s/{study.code}/ahead"),
            answer(client, showing),
        ]
    for reply in replies:
        assert reply.status_code == 503
        assert int(reply.headers["Retry-After"]) > 0
        assert b"server closed" not in reply.content
    assert not Vote.objects.exists()
    assert answer(client, showing).status_code == 302


def test_a_session_that_cannot_be_saved_is_a_503_too(client):
    study = world.open_study()
    consent = client.get(f"/s/{study.code}/").context["version"]

    def away(execute, sql, params, many, context):
        if "django_session" in sql and sql.startswith("INSERT"):
            raise OperationalError("server closed the connection")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(away):
        reply = client.post(f"/s/{study.code}/", {"version": consent, "agree": "on"})
    assert reply.status_code == 503


def test_an_error_page_names_nothing(client):
    study = world.open_study()
    enter(client, study)
    client.raise_request_exception = False

    def broken(execute, sql, params, many, context):
        raise RuntimeError("system-0 went wrong")

    with connection.execute_wrapper(broken):
        page = client.get(f"/s/{study.code}/next")
    assert page.status_code == 500
    assert b"Something went wrong" in page.content
    assert b"system-0" not in page.content


# What every page keeps


def _pages(client: Client) -> dict[str, HttpResponse]:
    study = world.open_study(n_prompts=1, tie_policy="ALLOWED", votes_per_comparison=2)
    pages = {"landing": client.get(f"/s/{study.code}/")}
    enter(client, study)
    pages["instructions"] = client.get(f"/s/{study.code}/instructions")
    pages["pair"] = client.get(f"/s/{study.code}/next")
    pages["ahead"] = client.post(f"/s/{study.code}/ahead")
    answer(client, pair_on(pages["pair"].content.decode()))
    pages["thanks"] = client.get(f"/s/{study.code}/next")
    services.pause_study(study=study, at=timezone.now())
    pages["paused"] = client.get(f"/s/{study.code}/next")
    pages["lost"] = client.get("/s/nowhere/")
    return pages


def test_nothing_is_inline_and_nothing_comes_from_elsewhere(client):
    for name, page in _pages(client).items():
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy, name
        assert "unsafe" not in policy, name
        content = page.content.decode()
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]* src=)", content), name
        assert not re.search(r'(src|href|action)="(https?:)?//', content), name


def test_pages_are_never_kept_by_a_cache(client):
    for name, page in _pages(client).items():
        if name != "lost":
            assert "no-store" in page.headers["Cache-Control"], name


def test_no_page_names_a_system_or_carries_an_id(client):
    names = None
    for page in _pages(client).values():
        if names is None:
            names = {field for row in System.objects.values_list("key", "label") for field in row}
            names |= {Study.objects.get().slug}
        content = page.content.decode()
        assert not [name for name in names if name in content]


def test_pictures_are_told_apart_by_their_side_alone(client):
    for page in _pages(client).values():
        names = re.findall(r'<img[^>]* alt="([^"]*)"', page.content.decode())
        assert set(names) <= {"Left image", "Right image"}
        assert len(names) == 2 * page.content.count(b"data-code=")


def test_pictures_stand_on_the_grey_of_their_own_margins():
    """Else a margin shows where a picture of another shape ends its square."""
    style = (Path(settings.BASE_DIR) / "static" / "css" / "base.css").read_text()
    assert re.findall(r"--stage: (#\w+);", style) == ["#{:02x}{:02x}{:02x}".format(*GREY)]


def test_a_browser_that_asks_for_an_icon_gets_one(client):
    icon = client.get("/favicon.ico")
    assert (icon.status_code, icon.headers["Content-Type"]) == (200, "image/svg+xml")
    assert len(set(re.findall(rb'fill="(#\w+)"', icon.content))) == 1  # it favours no side


def test_script_and_style_stay_small(client):
    study = world.open_study()
    enter(client, study)
    page = visit(client, f"/s/{study.code}/next")
    styles = re.findall(r'href="/static/(css/[\w.]+)"', page)
    assert styles == ["css/base.css", "css/voting.css"]
    folder = Path(settings.BASE_DIR) / "static"
    scripts = ["js/pair.js", "js/outbox.js", "js/preload.js", "js/copy.js"]
    assert sum((folder / name).stat().st_size for name in styles + scripts) < 60_000


@pytest.mark.parametrize("n_prompts", [2, 9])
def test_the_number_of_queries_does_not_grow_with_the_study(
    client, n_prompts, django_assert_max_num_queries
):
    study = world.open_study(n_systems=3, n_prompts=n_prompts)
    enter(client, study)
    with django_assert_max_num_queries(17):
        page = visit(client, f"/s/{study.code}/next")
    showing = pair_on(page)
    with django_assert_max_num_queries(2):
        client.get(f"/b/{showing.code}/left")
    with django_assert_max_num_queries(20):  # two of them a savepoint
        client.post(f"/s/{study.code}/ahead")
    with django_assert_max_num_queries(9):
        answer(client, showing)
