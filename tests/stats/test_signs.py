"""Each sign by itself: worked by hand, against other programs, and its p-value under honesty."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import betabinom, binom

from evalsite.stats.clusters import group
from evalsite.stats.signs import (
    agreement_with_others,
    extra_spread,
    left_choices,
    lower_tails,
    medians,
    missed_checks,
    repeated_choices,
    side_streaks,
)

HONEST = 0.01


def rater_with(left, right, order=None):
    """Choices of one rater: so many left, then so many right, or in the order given."""
    sides = np.array(order if order is not None else [True] * left + [False] * right)
    return np.zeros(sides.size, dtype=int), sides


def streak_of(sides):
    raters, left = rater_with(0, 0, sides)
    longest, p_values = side_streaks(raters, left, left_choices(raters, left, 1, HONEST))
    return int(longest[0]), float(p_values[0])


# -- sides ---------------------------------------------------------------------------------


def test_left_share_by_hand():
    # alpha = beta = 99/2: P(X = 0) = 49.5/99 * 50.5/100, and as much at the other end.
    found = left_choices(*rater_with(2, 0), 1, HONEST)
    assert (found.trials[0], found.successes[0], found.expected[0]) == (2, 2, 0.5)
    assert found.p_values[0] == pytest.approx(2 * 0.5 * 0.505)


def test_thirty_three_of_forty_is_where_one_side_becomes_a_sign():
    p_values = [left_choices(*rater_with(k, 40 - k), 1, HONEST).p_values[0] for k in (32, 33, 7)]
    assert p_values[1] < 0.001 < p_values[0]
    assert p_values[2] == pytest.approx(p_values[1])


def test_streak_by_hand():
    # Of the four orders of three left and one right, two have the three in a row.
    assert streak_of([True, True, True, False]) == (3, pytest.approx(0.5))
    assert streak_of([True] * 9) == (9, 1)


def test_streak_p_value_is_never_below_its_chance_and_exact_for_long_streaks():
    # Every order of five left and three right, counted.
    orders = set(permutations([True] * 5 + [False] * 3))
    longest = np.array([streak_of(order)[0] for order in orders])
    for order in orders:
        length, p_value = streak_of(order)
        chance = np.mean(longest >= length)
        assert p_value >= chance - 1e-12
        if length >= 4:  # there is room for one such streak only
            assert p_value == pytest.approx(chance)


def test_blocks_of_one_side_are_a_streak():
    assert streak_of([True] * 20 + [False] * 20)[1] < 1e-6
    assert streak_of([True, False] * 20)[1] == 1


def test_each_rater_has_a_streak_of_their_own():
    raters = np.array([0, 1, 0, 1, 0, 1, 3])
    left = np.array([True, False, True, True, True, False, False])
    longest, p_values = side_streaks(raters, left, left_choices(raters, left, 4, HONEST))
    assert longest.tolist() == [3, 1, 0, 1]
    assert np.isnan(p_values).tolist() == [False, False, True, False]


# -- agreement -----------------------------------------------------------------------------


def agreement(units, raters, for_first, n_raters):
    return agreement_with_others(
        np.array(raters), np.array(for_first), group(np.array(units)), n_raters, HONEST
    )


def test_agreement_by_hand():
    # Unit 0: A and B for the first, C against: only C meets a majority, 2 to 0, and differs.
    # Unit 1: all three agree, each with a majority of 2 to 0. Three of four agree, so that
    # (s + 2) / (2 s + 2) = 3/4: alpha = 99 * .75, and P(X <= 1) = 1 - 74.25/99 * 75.25/100.
    found = agreement(
        [0, 0, 0, 1, 1, 1, 2], [0, 1, 2] * 2 + [0], [True, True, False, True, True, True, True], 3
    )
    assert found.trials.tolist() == [1, 1, 2]
    assert found.successes.tolist() == [1, 1, 1]
    assert found.expected == pytest.approx([0.75] * 3)
    assert found.p_values[2] == pytest.approx(1 - 0.75 * 0.7525)


def test_unknown_raters_are_others_and_are_not_judged():
    found = agreement([0, 0, 0, 0], [-1, 0, -1, -1], [True, False, True, True], 1)
    assert (found.trials.tolist(), found.successes.tolist()) == ([1], [0])


def test_expected_agreement_is_what_honest_raters_reach_at_each_majority():
    # Units from beta (2, 2): against 3 to 0 others agree (2 + 3) / (4 + 3) of the time, against
    # 2 to 1 (2 + 2) / (4 + 3).
    rng = np.random.default_rng(1)
    rates = rng.beta(2, 2, 4_000)
    for_first = rng.random((rates.size, 4)) < rates[:, None]
    units = np.repeat(np.arange(rates.size), 4)
    found = agreement(units, np.arange(units.size), for_first.ravel(), units.size)
    assert np.unique(found.expected.round(3)) == pytest.approx([4 / 7, 5 / 7], abs=0.02)
    for chance in np.unique(found.expected):
        assert found.successes[found.expected == chance].mean() == pytest.approx(chance, abs=0.02)


def test_no_majority_means_no_comparison():
    found = agreement([0, 0, 0], [0, 1, 1], [True, True, False], 2)
    assert found.trials.tolist() == [0, 1]
    assert np.isnan(found.p_values).tolist() == [True, False]
    assert agreement([0, 1], [0, 1], [True, True], 2).trials.tolist() == [0, 0]


# -- checks and repeats --------------------------------------------------------------------


def test_three_misses_of_twelve_is_where_checks_become_a_sign():
    # Two misses allowed fail 2.0% of honest raters and let 1.9% of random ones pass.
    raters = np.repeat([0, 1, 2], 12)
    missed = np.concatenate([np.arange(12) < n for n in (2, 3, 0)])
    found = missed_checks(raters, missed, 4, 0.05)
    assert found.p_values[:3] == pytest.approx([binom.sf(1, 12, 0.05), binom.sf(2, 12, 0.05), 1])
    assert found.p_values[1] < 0.02 < found.p_values[0]
    assert binom.cdf(2, 12, 0.5) == pytest.approx(0.019, abs=5e-4)
    assert (found.trials[3], np.isnan(found.p_values[3])) == (0, True)


def test_repeats_are_held_against_those_of_the_others():
    # Rater 0 repeats none of two; the others seven of eight: e = 8/10, P(X = 0) for beta .2.
    raters = np.array([0] * 2 + [1] * 8)
    same = np.array([False, False] + [True] * 7 + [False])
    found = repeated_choices(raters, same, 2, HONEST)
    assert found.expected == pytest.approx([8 / 10, 1 / 4])
    assert found.p_values[0] == pytest.approx(betabinom.cdf(0, 2, 79.2, 19.8))
    assert np.isnan(repeated_choices(raters[:2], same[:2], 1, HONEST).p_values[0])


# -- parts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.01, 0.1, 0.5])
def test_tails_agree_with_scipy(rho):
    # scipy 1.17.1: scipy.stats.betabinom.cdf
    n, k = np.array([5, 40, 40, 300, 0]), np.array([0, 20, 40, 120, 0])
    mean = np.array([0.5, 0.6, 0.9, 0.5, 0.5])
    expected = betabinom.cdf(k, n, mean * (1 / rho - 1), (1 - mean) * (1 / rho - 1))
    found = lower_tails(n, k, mean, rho)
    assert found[:4] == pytest.approx(expected[:4], rel=1e-9)
    assert np.isnan(found[4])


def test_spread_of_raters_is_recovered_in_spite_of_bad_ones():
    rng = np.random.default_rng(2)
    rates = rng.beta(0.5 * 19, 0.5 * 19, 500)  # rho = 1/20
    n = rng.integers(30, 300, 500)
    k = rng.binomial(n, rates)
    k[:50] = n[:50]  # one in ten always chooses left
    assert extra_spread(n, k, np.full(500, 0.5), HONEST) == pytest.approx(0.05, abs=0.02)


def test_raters_who_do_not_differ_get_the_least_spread():
    rng = np.random.default_rng(3)
    n = np.full(200, 50)
    assert extra_spread(n, rng.binomial(n, 0.5), np.full(200, 0.5), HONEST) == HONEST
    assert extra_spread(n[:9], n[:9], np.full(9, 0.5), HONEST) == HONEST  # too few to tell
    assert extra_spread(n, n, np.full(200, 0.5), HONEST) == 0.5


def test_each_rater_has_a_median_of_their_own():
    found = medians(np.array([2, 0, 2, 2, 0]), np.array([5.0, 1, 7, 100, 2]), 4)
    assert found == pytest.approx([1.5, np.nan, 7, np.nan], nan_ok=True)
