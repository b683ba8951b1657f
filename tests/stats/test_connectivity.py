"""Which systems can be rated at all."""

import dataclasses
import math

import numpy as np
import pytest

from evalsite.stats import bradley_terry, check_votes
from tests.stats.by_hand import CLEAR, beats, joined
from tests.stats.simulated import draw_study


def test_a_system_that_never_loses_is_not_estimable():
    votes = joined(draw_study(np.random.default_rng(2), CLEAR)[0], beats([(5, 1), (5, 2), (5, 4)]))
    found = bradley_terry(votes)
    assert found.ratings[5] == dataclasses.replace(found.ratings[5], rating=None, estimable=False)
    assert dataclasses.astuple(found.ratings[5])[1:8] == (None,) * 7
    assert "not connected" in found.warnings
    assert found.n == 400
    assert {d.second for d in found.differences} == {1, 2, 3, 4}


def test_votes_across_the_border_change_nothing():
    votes, _ = draw_study(np.random.default_rng(2), CLEAR)
    border = beats([(5, 1), (5, 2), (5, 4)])
    border = dataclasses.replace(border, raters=border.prompts * 0, prompts=border.prompts * 0)
    alone, among = bradley_terry(votes), bradley_terry(joined(votes, border))
    assert among.ratings[:5] == alone.ratings
    assert among.differences == alone.differences


def test_the_largest_component_is_rated():
    # 0, 1, 2 beat each other in a ring; 3 and 4 have more votes, but are fewer systems.
    ring = [(0, 1), (1, 2), (2, 0)]
    found = bradley_terry(beats([*ring, *[(3, 4), (4, 3)] * 9, (3, 0)], n_systems=6))
    assert [r.estimable for r in found.ratings] == [True, True, True, False, False, False]


def test_among_components_of_one_size_the_one_with_more_votes_is_rated():
    found = bradley_terry(beats([(0, 1), (1, 0), (2, 3), (3, 2), (2, 3), (0, 2)]))
    assert [r.estimable for r in found.ratings] == [False, False, True, True]


def test_a_tie_connects_like_a_win_each_way():
    votes = check_votes([0, 0, 0], [1, 1, 1], [1, 1, 0.5], None, None)
    assert bradley_terry(votes).ratings[0].rating == pytest.approx(math.log(5) / 2)


def test_nothing_is_rated_where_nobody_beats_the_winner():
    found = bradley_terry(beats([(0, 1)] * 9))
    assert [r.estimable for r in found.ratings] == [False, False]
    assert (found.differences, found.warnings, found.method) == ((), ("not connected",), "none")


def test_no_votes_rate_nobody():
    found = bradley_terry(check_votes([], [], [], None, None, n_systems=2), fixed_prompts=True)
    assert [r.estimable for r in found.ratings] == [False, False]
    assert (found.n, found.warnings) == (0, ("no votes",))
    assert found.estimand == "random rater, these prompts"


def test_ties_alone_have_a_rating_and_no_standard_error():
    found = bradley_terry(check_votes([0] * 6, [1] * 6, [0.5] * 6, list("AABBCC"), None))
    assert [r.rating for r in found.ratings] == [0, 0]
    assert found.differences[0].se is None


@pytest.mark.parametrize("turned", [False, True])
def test_a_system_that_only_ties_has_no_standard_error_however_far_the_climb_went(turned):
    # 0 is known by its ties with 1 alone; 1, 2 and 3 are not all alike, so there is a climb.
    first, second = [3, 0, 1, 1, 2, 1], [1, 1, 0, 2, 3, 0]
    outcomes = [0.5, 0.5, 0.5, 1, 0.5, 0.5]
    if turned:
        first, second, outcomes = second, first, [1 - y for y in outcomes]
    raters, prompts = ["d", "b", "d", "b", "a", "a"], list("zxzzyx")
    found = bradley_terry(check_votes(first, second, outcomes, raters, prompts))
    (tied,) = (d for d in found.differences if (d.first, d.second) == (0, 1))
    assert tied.difference == pytest.approx(0, abs=1e-8)
    assert tied.se is None
