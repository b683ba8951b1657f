"""Answering on the rater's pages: what is stored, what is refused, and what each is told."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from evalsite.voting import queries, services
from evalsite.voting.models import Flag, Showing, Vote
from tests import world
from tests.voting.visitor import answer, enter, next_showing, pair_on, visit

pytestmark = pytest.mark.django_db


def test_a_plain_form_leads_to_the_end(client):
    study = world.open_study(n_prompts=3, criteria=("prompt_following", "image_quality"))
    rater = enter(client, study)
    for _ in range(6):
        done = answer(client, next_showing(client, study), "RIGHT")
        assert (done.status_code, done.headers["Location"]) == (302, f"/s/{study.code}/next")
    page = visit(client, f"/s/{study.code}/next")
    assert "Thank you" in page
    assert 'id="vote"' not in page
    assert queries.counted_votes(study).count() == 6
    rater.refresh_from_db()
    assert rater.finished_at is not None


def test_a_vote_keeps_time_and_screen(client):
    study = world.open_study()
    enter(client, study)
    answer(
        client,
        next_showing(client, study),
        screen_width="390",
        screen_height="844",
        screen_ratio="2.625",
        screen_image="286",
    )
    vote = Vote.objects.get()
    assert vote.response_ms == 1200
    assert vote.screen == {"width": 390, "height": 844, "ratio": 2.625, "image": 286}


def test_odd_facts_about_a_screen_cost_nobody_a_vote(client):
    study = world.open_study()
    enter(client, study)
    answer(client, next_showing(client, study), screen_width="-1", screen_ratio="inf")
    assert Vote.objects.get().screen == {}


def test_without_a_script_the_time_runs_from_the_lease(client):
    study = world.open_study()
    enter(client, study)
    showing = next_showing(client, study)
    Showing.objects.filter(pk=showing.pk).update(leased_at=timezone.now() - timedelta(seconds=9))
    answer(client, showing, response_ms="")
    assert 9_000 <= Vote.objects.get().response_ms < 12_000


def test_first_answer_stands(client):
    study = world.open_study()
    enter(client, study)
    showing = next_showing(client, study)
    assert answer(client, showing, "LEFT").status_code == 302
    assert answer(client, showing, "RIGHT").status_code == 302
    assert Vote.objects.get().choice == "LEFT"


def test_a_forced_choice_refuses_a_tie_and_asks_again(client):
    study = world.open_study()
    enter(client, study)
    page = visit(client, f"/s/{study.code}/next")
    assert 'value="TIE"' not in page
    again = answer(client, pair_on(page), "TIE")
    assert again.status_code == 400
    assert "asks for the left or the right picture" in again.content.decode()
    assert pair_on(again.content.decode()) == pair_on(page)
    assert not Vote.objects.exists()


def test_no_preference_is_an_answer_where_it_is_allowed(client):
    study = world.open_study(tie_policy="ALLOWED")
    enter(client, study)
    page = visit(client, f"/s/{study.code}/next")
    assert 'value="TIE"' in page
    answer(client, pair_on(page), "TIE")
    assert Vote.objects.get().choice == "TIE"


@pytest.mark.parametrize(
    "fields", [{"choice": "BOTH"}, {"choice": ""}, {"take": "3"}, {"response_ms": "soon"}]
)
def test_a_bad_answer_is_refused_and_loses_nothing(client, fields):
    study = world.open_study()
    enter(client, study)
    showing = next_showing(client, study)
    assert answer(client, showing, **fields).status_code == 400
    assert not Vote.objects.exists()
    assert next_showing(client, study) == showing


def test_only_the_last_answer_can_be_taken_back(client):
    study = world.open_study(n_prompts=3)
    enter(client, study)
    early = next_showing(client, study)
    answer(client, early)
    last = next_showing(client, study)
    answer(client, last)
    assert answer(client, last, "RIGHT", take="2").status_code == 302
    refused = answer(client, early, "RIGHT", take="2")
    assert refused.status_code == 400
    assert "Your last answer can no longer be changed." in refused.content.decode()
    assert list(queries.counted_votes(study).order_by("pk").values_list("choice", flat=True)) == [
        "LEFT",
        "RIGHT",
    ]


def test_a_script_is_told_that_the_answer_is_stored(client):
    study = world.open_study()
    enter(client, study)
    showing = next_showing(client, study)
    as_json = {"Accept": "application/json"}
    sent = {"take": "1", "choice": "TIE"}
    refused = client.post(f"/b/{showing.code}/vote", sent, headers=as_json)
    assert refused.status_code == 400
    assert list(refused.json()["errors"]) == ["choice"]
    assert refused.json()["open"]
    stored = client.post(f"/b/{showing.code}/vote", sent | {"choice": "LEFT"}, headers=as_json)
    assert stored.json() == {"stored": True, "open": True}
    services.close_study(study=study, at=timezone.now())
    again = client.post(f"/b/{showing.code}/vote", sent | {"choice": "LEFT"}, headers=as_json)
    assert again.json() == {"stored": True, "open": False}


def test_a_pair_that_cannot_be_judged_is_passed_over(client):
    study = world.open_study()
    enter(client, study)
    showing = next_showing(client, study)
    assert client.post(f"/b/{showing.code}/flag", {"reason": "BORING"}).status_code == 400
    assert client.post(f"/b/{showing.code}/flag", {"reason": "MISSING"}).status_code == 302
    assert Flag.objects.get().showing == showing
    assert next_showing(client, study) != showing


def test_a_flag_takes_the_last_answer_back_and_no_earlier_one(client):
    study = world.open_study()
    enter(client, study)
    pairs = []
    for _ in range(2):
        pairs.append(next_showing(client, study))
        answer(client, pairs[-1])
    for showing in pairs:
        assert client.post(f"/b/{showing.code}/flag", {"reason": "OTHER"}).status_code == 302
    assert Flag.objects.get().showing == pairs[1]
    assert queries.counted_votes(study).get().showing == pairs[0]


def test_state_changes_by_post_only(client):
    study = world.open_study()
    enter(client, study)
    showing = next_showing(client, study)
    for address in (f"/b/{showing.code}/vote", f"/b/{showing.code}/flag", f"/s/{study.code}/ahead"):
        assert client.get(address).status_code == 405


def test_an_answer_from_a_foreign_page_is_refused():
    study = world.open_study()
    client = Client(enforce_csrf_checks=True)
    page = client.post(f"/s/{study.code}/", {"agree": "on"})
    assert page.status_code == 403
    assert "open your link again" in page.content.decode()
