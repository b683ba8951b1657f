import math

import numpy as np
import pytest
from scipy.special import expit, logit

from evalsite.stats import check_votes, position_effect

RATINGS = np.array([0.0, 0.3, 0.6, -0.5])


def draw_sided_votes(rng, *, raters=20, n=600, pull=0.2, sd=0.4):
    """Votes of raters who each lean to the left by a logit of their own; heavy-tailed load."""
    load = 1 / np.arange(1, raters + 1)
    who = rng.choice(raters, n, p=load / load.sum())
    first = rng.integers(0, 4, n)
    second = (first + rng.integers(1, 4, n)) % 4
    first_on_left = rng.random(n) < 0.5
    apart = np.where(first_on_left, 1, -1) * (RATINGS[first] - RATINGS[second])
    left = rng.random(n) < expit(apart + pull + sd * rng.standard_normal(raters)[who])
    votes = check_votes(first, second, (left == first_on_left).astype(float), who, None)
    return votes, first_on_left


def two_systems(left_wins, raters):
    """Ten votes with system 0 on the left, ten with system 1 there; wins of the left one."""
    first = [0] * 10 + [1] * 10
    outcomes = [1.0] * left_wins[0] + [0.0] * (10 - left_wins[0])
    outcomes += [1.0] * left_wins[1] + [0.0] * (10 - left_wins[1])
    return check_votes(first, [1 - one for one in first], outcomes, raters, None)


def test_two_systems_by_hand():
    # Left wins 8 of 10 with system 0 there, 5 of 10 with system 1: the side is the mean of the
    # two logits, log(4) / 2, and its variance a quarter of the sum of theirs, 1/1.6 + 1/2.5.
    found = position_effect(two_systems((8, 5), None), [True] * 20)
    assert found.logit == pytest.approx(math.log(4) / 2)
    assert found.se == pytest.approx(math.sqrt((1 / 1.6 + 1 / 2.5) / 4))
    assert (found.left, found.right, found.ties, found.left_share) == (13, 7, 0, 0.65)
    assert (found.method, found.df, found.n_raters) == ("independent votes", None, None)
    assert found.high - found.logit == pytest.approx(1.959964 * found.se)


def test_the_jackknife_over_raters_by_hand():
    # A gave all of the left's thirteen votes, B the seven others. A win of the left pulls the
    # side by .2/1.6/2 = 1/16 (system 0 there) or .5/2.5/2 = 1/10, so A's votes by 8/16 + 5/10
    # = 1 and B's by -1. Leaving A out moves the side by 20/7, leaving B out by -20/13.
    raters = ["A"] * 8 + ["B"] * 2 + ["A"] * 5 + ["B"] * 5
    found = position_effect(two_systems((8, 5), raters), [True] * 20)
    assert found.logit == pytest.approx(math.log(4) / 2)
    assert found.se == pytest.approx(math.sqrt(((20 / 7) ** 2 + (20 / 13) ** 2) / 2))
    assert (found.method, found.n_raters, found.warnings) == ("rater jackknife", 2, ("few raters",))


def test_the_home_advantage_of_baseball_is_the_published_one():
    # A. Agresti, Categorical Data Analysis (2002), table 10.10: American League 1987, won and
    # lost at home; section 10.6 gives .3023 (.1309). Milwaukee, Detroit, Toronto, New York,
    # Boston, Cleveland, Baltimore.
    won = """0 4 4 4 6 4 6   3 0 4 4 6 6 4   2 4 0 2 4 4 6   3 5 2 0 4 4 6
             5 2 3 4 0 5 6   2 3 3 4 4 0 2   2 1 1 2 1 3 0"""
    lost = """0 3 2 3 1 2 0   3 0 2 3 0 1 3   5 3 0 4 3 2 0   3 1 5 0 3 2 1
              1 5 3 2 0 2 0   5 3 4 3 2 0 4   5 5 6 4 6 4 0"""
    games = np.array([won.split(), lost.split()], dtype=int)
    played = games.sum(axis=0)
    at_home, away = np.repeat(np.arange(49) // 7, played), np.repeat(np.arange(49) % 7, played)
    outcomes = np.repeat(np.tile([1.0, 0.0], 49), games.T.ravel())
    found = position_effect(
        check_votes(at_home, away, outcomes, None, None), np.ones(played.sum(), dtype=bool)
    )
    assert (found.logit, found.se) == pytest.approx((0.3023, 0.1309), abs=5e-4)


def test_the_clustered_error_agrees_with_statsmodels():
    # statsmodels 0.15.0: GLM(y, X, family=Binomial()).fit(cov_type="cluster", cov_kwds={"groups":
    # raters, "use_correction": False}) gives .269343292868690 (.100628756002955); for raters of
    # equal load the jackknife is that times sqrt(G / (G - 1)). Without clusters: .184611435070497.
    k = np.arange(120)
    raters, left = k % 6, k // 2 % 3
    right = (left + 1 + k // 6 % 2) % 3
    outcomes = np.array([1, 0, 0.5, 1, 0, 1])[(k * k // (3 + raters) + k // 7) % 6]
    sides = np.ones(120, dtype=bool)
    found = position_effect(check_votes(left, right, outcomes, raters, None), sides)
    assert found.logit == pytest.approx(0.269343292868690, abs=1e-8)
    assert found.se == pytest.approx(0.100628756002955 * math.sqrt(6 / 5), rel=1e-7)
    assert found.df == pytest.approx(5)
    alone = position_effect(check_votes(left, right, outcomes, None, None), sides)
    assert alone.se == pytest.approx(0.184611435070497, rel=1e-7)


def test_the_side_is_found_apart_from_the_systems():
    # System 2 is the best and stands on the left nine times in ten: the plain share of left
    # choices is far from one half, the side is not far from what it was made of.
    rng = np.random.default_rng(1)
    first, second = np.full(40_000, 2), rng.choice([0, 1, 3], 40_000)
    first_on_left = rng.random(40_000) < 0.9
    sign = np.where(first_on_left, 1, -1)
    left = rng.random(40_000) < expit(sign * (RATINGS[2] - RATINGS[second]) + 0.1)
    outcomes = (left == first_on_left).astype(float)
    found = position_effect(check_votes(first, second, outcomes, None, None), first_on_left)
    assert found.left_share > 0.6
    assert found.logit == pytest.approx(0.1, abs=0.06)


def test_the_interval_holds_the_truth_as_often_as_promised():
    rng = np.random.default_rng(2)
    leaning = np.random.default_rng(3).standard_normal(100_000)
    truth = float(logit(expit(0.2 + 0.4 * leaning).mean()))
    found = [position_effect(*draw_sided_votes(rng)) for _ in range(200)]
    covered = np.mean([one.low <= truth <= one.high for one in found])
    assert 0.91 < covered < 0.99


def test_naming_the_systems_the_other_way_round_changes_nothing():
    votes, first_on_left = draw_sided_votes(np.random.default_rng(4))
    turned = check_votes(votes.second, votes.first, 1 - votes.outcomes, votes.raters, None)
    assert position_effect(turned, ~first_on_left) == position_effect(votes, first_on_left)


def test_exchanging_the_sides_changes_the_sign():
    votes, first_on_left = draw_sided_votes(np.random.default_rng(4))
    one, other = position_effect(votes, first_on_left), position_effect(votes, ~first_on_left)
    assert other.logit == pytest.approx(-one.logit)
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low))
    assert (other.left, other.right) == (one.right, one.left)


def test_the_interval_excludes_nothing_exactly_when_the_p_value_is_small():
    votes, first_on_left = draw_sided_votes(np.random.default_rng(5))
    p_value = position_effect(votes, first_on_left).p_value
    wider = position_effect(votes, first_on_left, confidence=1 - p_value * 0.99)
    narrower = position_effect(votes, first_on_left, confidence=1 - p_value * 1.01)
    assert wider.low < 0 < wider.high
    assert not narrower.low < 0 < narrower.high


def test_a_tie_is_half_a_choice_of_each_side():
    found = position_effect(
        check_votes([0, 0, 0, 0], [1, 1, 1, 1], [1, 0.5, 0.5, 0], None, None),
        [True, True, False, False],
    )
    # Left won once and tied once with system 0 there, and again with system 1 there.
    assert found.logit == pytest.approx(math.log(3))
    assert (found.left, found.ties, found.right, found.left_share) == (2, 2, 0, 0.75)


def test_systems_that_never_lose_are_left_out_and_said():
    core = two_systems((8, 5), list("ABCD") * 5)
    added = check_votes(
        [*core.first, 2, 2, 2],
        [*core.second, 0, 1, 0],
        [*core.outcomes, 1, 1, 1],
        [*core.raters, 7, 8, 9],
        None,
    )
    alone, found = (position_effect(votes, [True] * votes.n) for votes in (core, added))
    assert found.warnings == ("systems left out",)
    assert (found.logit, found.se) == pytest.approx((alone.logit, alone.se))
    assert (found.n, found.n_raters) == (23, 7)


def test_one_rater_gets_the_interval_of_independent_votes():
    found = position_effect(two_systems((8, 5), ["A"] * 20), [True] * 20)
    unknown = position_effect(two_systems((8, 5), None), [True] * 20)
    assert (found.low, found.warnings) == (unknown.low, ("one rater",))


@pytest.mark.parametrize(
    "votes",
    [
        two_systems((10, 10), None),  # left always wins
        check_votes([0, 1], [1, 0], [1, 1], None, None),
        check_votes([], [], [], None, None),
    ],
)
def test_what_sides_cannot_tell_is_left_open(votes):
    found = position_effect(votes, np.ones(votes.n, dtype=bool))
    assert (found.logit, found.low, found.method) == (None, None, "none")
    assert found.warnings[-1] == "no estimate"


@pytest.mark.parametrize(
    ("on_left", "words"),
    [
        ([True] * 12 + [False] * 12, ()),
        ([True] * 9 + [False] * 3 + [True] * 3 + [False] * 9, ()),  # as chance may have it
        ([True] * 24, ("sides unbalanced",)),
        ([True] * 20 + [False] * 4, ("sides unbalanced",)),
    ],
)
def test_sides_further_from_even_than_chance_allows_are_said(on_left, words):
    votes = check_votes([0] * 24, [1] * 24, [1.0, 0.0] * 12, None, None)
    found = position_effect(votes, on_left).warnings
    assert tuple(code for code in found if code == "sides unbalanced") == words


def test_a_system_may_stand_on_one_side_too_often_though_no_pair_shows_it():
    votes = check_votes([0] * 16, range(1, 17), [1.0, 0.0] * 8, None, None)
    assert "sides unbalanced" in position_effect(votes, [True] * 16).warnings


def test_ties_alone_give_an_estimate_and_no_interval():
    votes = check_votes([0] * 6, [1] * 6, [0.5] * 6, [1, 1, 2, 2, 3, 3], None)
    found = position_effect(votes, [True, False] * 3)
    assert found.logit == pytest.approx(0, abs=1e-9)
    assert (found.se, found.low, found.p_value) == (None, None, None)
    assert found.warnings == ("few raters", "no spread")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"first_on_left": [True]}, "1 sides for 20 votes"),
        ({"first_on_left": [1] * 20}, "true"),
        ({"confidence": 0}, "confidence must lie between 0 and 1"),
    ],
)
def test_impossible_input_is_refused(change, reason):
    good = {"votes": two_systems((8, 5), None), "first_on_left": [True] * 20}
    with pytest.raises(ValueError, match=reason):
        position_effect(**{**good, **change})
