"""From stored votes to arrays: what counts, and which system a side was."""

from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.utils import timezone

from evalsite.results.queries import load_design, load_votes, outcome_of_first
from evalsite.results.summary import Votes
from evalsite.studies.models import Comparison, Prompt, Study
from evalsite.voting import services
from evalsite.voting.leasing import LEASE
from tests import world
from tests.results.voted import closed_study, preferring
from tests.world import HOUR, NOON, SECOND

pytestmark = pytest.mark.django_db


def loaded(study: Study) -> Votes:
    return load_votes(study, load_design(study)).votes


@pytest.mark.parametrize(
    ("choice", "first_on_left", "outcome"),
    [
        ("LEFT", True, 1.0),
        ("RIGHT", True, 0.0),
        ("LEFT", False, 0.0),
        ("RIGHT", False, 1.0),
        ("TIE", True, 0.5),
        ("TIE", False, 0.5),
    ],
)
def test_a_choice_between_sides_says_who_won(choice: str, first_on_left: bool, outcome: float):
    assert outcome_of_first(choice, first_on_left) == outcome


def test_the_preferred_system_wins_on_whichever_side_it_stood():
    study = closed_study(preferring("system-2", "system-0", "system-1"), n_systems=3, n_prompts=2)

    votes = loaded(study)

    assert set(votes.first_on_left.tolist()) == {True, False}
    winners = np.where(votes.outcomes == 1, votes.first, votes.second)
    pairs = list(zip(votes.first.tolist(), votes.second.tolist(), winners.tolist()))
    assert len(pairs) == 18
    assert set(pairs) == {(0, 1, 0), (0, 2, 2), (1, 2, 2)}


def test_votes_come_in_three_queries_whatever_their_number(django_assert_num_queries: Any):
    study = closed_study(preferring("system-0", "system-1"), n_prompts=3)
    design = load_design(study)
    with django_assert_num_queries(3):
        assert load_votes(study, design).votes.n == 9


def test_an_answer_that_comes_while_votes_are_read_is_read_the_next_time():
    study = world.open_study(n_prompts=1)
    rater = world.rater(study)
    design = load_design(study)
    came = []

    def answer_after_the_votes(execute: Any, sql: str, *rest: Any) -> Any:
        found = execute(sql, *rest)
        if "response_ms" in sql and not came:
            came.append(True)
            world.vote(world.showing(rater), "LEFT", at=NOON + SECOND)
        return found

    with connection.execute_wrapper(answer_after_the_votes):
        stored = load_votes(study, design)
    assert (stored.votes.n, stored.n_given_in_all) == (0, 0)
    assert load_votes(study, design).n_given_in_all == 1


def test_a_vote_keeps_its_rater_prompt_criterion_and_time():
    study = world.open_study(criteria=("image_quality", "prompt_following"), n_prompts=1)
    rater = world.rater(study)
    vote = world.vote(world.showing(rater), "LEFT", at=NOON + SECOND)

    votes = loaded(study)

    criteria = list(study.criteria.values_list("pk", flat=True))
    assert votes.criteria.tolist() == [criteria.index(vote.showing.criterion_id)]
    assert votes.raters.tolist() == [rater.pk]
    assert votes.prompts.tolist() == [Prompt.objects.get(study=study).pk]
    stored = load_votes(study, load_design(study))
    assert stored.response_ms.tolist() == [1500]
    assert stored.voted_at.tolist() == [NOON + SECOND]
    assert stored.choices.tolist() == ["LEFT"]


def test_a_study_without_votes_gives_empty_columns():
    votes = loaded(world.open_study())
    assert votes.outcomes.size == votes.first.size == votes.raters.size == 0


def test_other_studies_do_not_mix_in():
    study = closed_study(preferring("system-0", "system-1"), n_prompts=1)
    closed_study(preferring("system-1", "system-0"), n_prompts=1)
    assert loaded(study).outcomes.tolist() == [1.0] * 3


def test_a_second_take_replaces_the_first():
    study = world.open_study(n_prompts=1)
    showing = world.showing(world.rater(study))
    world.vote(showing, "LEFT")
    world.vote(showing, "RIGHT", take=2, at=NOON + SECOND)
    assert load_votes(study, load_design(study)).choices.tolist() == ["RIGHT"]


def test_a_vote_whose_ballot_went_to_another_is_not_counted():
    study = world.open_study(n_prompts=1)
    late, quick = world.rater(study), world.rater(study)
    slow = world.showing(late)
    world.vote(world.showing(quick, at=NOON + LEASE + SECOND), at=NOON + LEASE + SECOND)
    world.vote(slow, at=NOON + LEASE + 2 * SECOND)
    assert loaded(study).raters.tolist() == [quick.pk]


def test_a_vote_after_closing_is_not_counted():
    study = world.open_study(n_prompts=1)
    showing = world.showing(world.rater(study))
    services.close_study(study=study, at=NOON + HOUR)
    world.vote(showing, at=NOON + HOUR + SECOND)
    assert loaded(study).outcomes.size == 0


@pytest.mark.parametrize("act", ["exclude", "withdraw"])
def test_votes_of_a_rater_who_left_after_closing_are_not_counted(act: str):
    study = closed_study(preferring("system-0", "system-1"), n_prompts=2)
    gone = study.raters.earliest("pk")
    if act == "exclude":
        services.exclude_rater(rater=gone, reason="always left", at=NOON + HOUR)
    else:
        services.withdraw_rater(rater=gone, at=NOON + HOUR)
    votes = loaded(study)
    assert votes.outcomes.size == 4
    assert gone.pk not in votes.raters


def test_votes_on_a_removed_prompt_or_comparison_are_not_counted():
    study = closed_study(preferring("system-0", "system-1"), n_prompts=3)
    gone, other, kept = study.prompts.all()
    now = timezone.now()
    Prompt.objects.filter(pk=gone.pk).update(removed_at=now, removed_reason="offensive")
    Comparison.objects.filter(first__prompt=other).update(removed_at=now, removed_reason="broken")
    assert set(loaded(study).prompts.tolist()) == {kept.pk}
