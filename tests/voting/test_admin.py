"""The admin shows the evidence, changes none of it, and excludes raters with a reason."""

import pytest
from django.urls import reverse

from evalsite.voting import services
from evalsite.voting.models import Ballot, Rater
from tests import world
from tests.world import NOON

pytestmark = pytest.mark.django_db
TABLES = ("rater", "ballot", "showing", "vote", "flag")


@pytest.fixture
def evidence():
    vote = world.vote()
    services.flag_showing(showing=world.showing(vote.showing.rater), reason="OTHER", at=NOON)
    services.close_study(study=vote.showing.rater.study, at=NOON)
    return vote


@pytest.mark.parametrize("table", TABLES)
def test_every_table_can_be_read_and_none_changed(admin_client, evidence, table):
    page = admin_client.get(reverse(f"admin:voting_{table}_changelist"))
    assert page.status_code == 200
    row = page.context["cl"].result_list[0]
    address = reverse(f"admin:voting_{table}_change", args=[row.pk])
    shown = admin_client.get(address)
    assert shown.status_code == 200
    assert "_save" not in shown.content.decode()
    assert admin_client.post(address, {"choice": "RIGHT"}).status_code == 403
    assert admin_client.post(address.replace("change", "delete")).status_code == 403
    assert admin_client.get(reverse(f"admin:voting_{table}_add")).status_code == 403


def test_a_showing_is_seen_as_its_rater_saw_it(admin_client, evidence):
    showing = evidence.showing
    page = admin_client.get(reverse("admin:voting_showing_change", args=[showing.pk]))
    text = page.content.decode()
    first, second = (showing.comparison.first, showing.comparison.second)
    left, right = (first, second) if showing.first_on_left else (second, first)
    assert text.count("data:image/webp;base64,") == 2
    assert text.index(f"{left.system}<br>") < text.index(f"{right.system}<br>")
    assert showing.comparison.first.prompt.text in text
    assert f"{evidence.choice.lower()} at " in text
    assert showing.code not in text


@pytest.mark.parametrize("table", TABLES)
def test_lists_take_the_same_number_of_queries_at_any_length(
    admin_client, evidence, table, django_assert_max_num_queries
):
    for _ in range(3):
        vote = world.vote()
        services.flag_showing(showing=world.showing(vote.showing.rater), reason="OTHER", at=NOON)
        services.close_study(study=vote.showing.rater.study, at=NOON)
    with django_assert_max_num_queries(10):
        admin_client.get(reverse(f"admin:voting_{table}_changelist"))


def test_choices_are_hidden_until_the_study_closes(admin_client):
    vote = world.vote(choice="LEFT")
    study = vote.showing.rater.study
    showing = reverse("admin:voting_showing_change", args=[vote.showing.pk])
    votes = reverse("admin:voting_vote_changelist")
    one = reverse("admin:voting_vote_change", args=[vote.pk])

    assert "hidden until closing at 2025-06-02" in admin_client.get(showing).content.decode()
    assert "left at" not in admin_client.get(showing).content.decode()
    assert list(admin_client.get(votes, {"choice": "LEFT"}).context["cl"].result_list) == []
    assert admin_client.get(one).status_code == 302
    others = reverse("admin:voting_showing_changelist")
    assert admin_client.get(others, {"votes__choice": "LEFT"}).status_code == 400

    services.close_study(study=study, at=NOON)
    assert "left at 2025-06-02" in admin_client.get(showing).content.decode()
    assert list(admin_client.get(votes).context["cl"].result_list) == [vote]
    assert admin_client.get(one).status_code == 200


@pytest.mark.parametrize("reason", ["", "one-sided"])
def test_raters_are_excluded_with_a_reason_only(admin_client, reason):
    rater = world.vote().showing.rater
    admin_client.post(
        reverse("admin:voting_rater_changelist"),
        {"action": "exclude_raters", "_selected_action": [rater.pk], "reason": reason},
    )
    rater = Rater.objects.get(pk=rater.pk)
    assert rater.excluded_reason == reason
    assert Ballot.objects.filter(holder__rater=rater).exists() == (reason == "")
