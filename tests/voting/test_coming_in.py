"""How a person becomes a rater: consent to the words shown, once, and a way back."""

import hashlib
import re

import pytest
from django.test import Client

from evalsite.voting.models import Rater, Showing, Vote
from tests import world
from tests.voting.visitor import answer, enter, next_showing, text_of, visit

pytestmark = pytest.mark.django_db


def test_landing_shows_the_consent_and_enrols_nobody(client):
    study = world.open_study(title="Mine against theirs")
    page = visit(client, f"/s/{study.code}/")
    assert "Comparing pictures" in page
    assert "Mine against theirs" not in page  # a title says what is compared
    assert "Taking part is voluntary" in text_of(page)
    assert not Rater.objects.exists()


@pytest.mark.parametrize(
    ("most", "said"), [(1, "There is up to 1 pair;"), (1200, "There are up to 1,200 pairs;")]
)
def test_how_many_pairs_there_are_is_said_first(client, most, said):
    study = world.open_study(votes_per_rater=most)
    assert said in text_of(visit(client, f"/s/{study.code}/"))


def test_no_consent_no_rater(client):
    study = world.open_study()
    page = client.post(f"/s/{study.code}/", {"version": "x" * 64})
    assert page.status_code == 400
    assert "Please tick the box" in page.content.decode()
    assert not Rater.objects.exists()


def test_consent_is_to_the_words_that_were_shown(client):
    study = world.open_study(consent="We keep your answers for ever.")
    page = visit(client, f"/s/{study.code}/")
    assert "We keep your answers for ever." in page
    assert "voluntary" not in page
    rater = enter(client, study)
    assert rater.consent_version == hashlib.sha256(study.consent.encode()).hexdigest()
    assert rater.consented_at is not None


def test_consent_to_other_words_is_asked_again(client):
    study = world.open_study(consent="We keep your answers for ever.")
    old = hashlib.sha256(b"We delete your answers tomorrow.").hexdigest()
    page = client.post(f"/s/{study.code}/", {"version": old, "agree": "on"})
    assert page.status_code == 400
    assert "has changed" in page.content.decode()
    assert not Rater.objects.exists()


def test_after_consent_come_instructions_and_then_the_pair(client):
    study = world.open_study()
    enter(client, study)
    page = visit(client, f"/s/{study.code}/instructions")
    assert f'id="start" href="/s/{study.code}/next"' in page
    assert len(text_of(page).split()) < 120
    next_showing(client, study)


def test_the_key_of_a_tie_is_told_where_a_tie_is_an_answer(client):
    for policy, told in (("FORCED", False), ("ALLOWED", True)):
        study = world.open_study(tie_policy=policy)
        enter(client, study)
        for page in ("instructions", "next"):
            line = re.search(r"<li[^>]*><kbd>↓</kbd>", visit(client, f"/s/{study.code}/{page}"))
            assert ("hidden" not in line[0]) == told, page


def test_landing_leads_a_known_browser_straight_on(client):
    study = world.open_study()
    enter(client, study)
    assert client.get(f"/s/{study.code}/").headers["Location"] == f"/s/{study.code}/next"
    assert Rater.objects.count() == 1


def test_a_stranger_is_led_to_the_landing_page(client):
    study = world.open_study()
    for page in ("next", "instructions"):
        answer = client.get(f"/s/{study.code}/{page}")
        assert (answer.status_code, answer.headers["Location"]) == (302, f"/s/{study.code}/")
    assert not Showing.objects.exists()


def test_a_draft_does_not_exist(client):
    assert "Nothing here" in visit(client, f"/s/{world.study().code}/", 404)


def test_the_link_of_a_rater_leads_back_from_another_device(client):
    study = world.open_study()
    rater = enter(client, study)
    before = next_showing(client, study)
    page = visit(client, f"/s/{study.code}/next")
    assert f"http://testserver/r/{rater.code}" in page
    elsewhere = Client()
    assert elsewhere.get(f"/r/{rater.code}").headers["Location"] == f"/s/{study.code}/next"
    assert next_showing(elsewhere, study) == before


def test_one_browser_takes_part_in_two_studies(client):
    one, other = world.open_study(), world.open_study()
    enter(client, one)
    first = next_showing(client, one)
    enter(client, other)
    second = next_showing(client, other)
    assert answer(client, first).status_code == 302
    assert answer(client, second).status_code == 302
    assert set(Vote.objects.values_list("showing", flat=True)) == {first.pk, second.pk}
