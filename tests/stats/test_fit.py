"""Ratings from counts, against published tables; when the climb stops, and what is refused."""

import math

import numpy as np
import pytest
from scipy.special import expit

from evalsite.stats import NotConverged, fit_bradley_terry
from evalsite.stats.newton import climb

# A. Agresti, Categorical Data Analysis (2002), table 10.10: American League, 1987. Row: home.
TEAMS = ["Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore"]
WON_AT_HOME = [
    [0, 4, 4, 4, 6, 4, 6],
    [3, 0, 4, 4, 6, 6, 4],
    [2, 4, 0, 2, 4, 4, 6],
    [3, 5, 2, 0, 4, 4, 6],
    [5, 2, 3, 4, 0, 5, 6],
    [2, 3, 3, 4, 4, 0, 2],
    [2, 1, 1, 2, 1, 3, 0],
]
LOST_AT_HOME = [
    [0, 3, 2, 3, 1, 2, 0],
    [3, 0, 2, 3, 0, 1, 3],
    [5, 3, 0, 4, 3, 2, 0],
    [3, 1, 5, 0, 3, 2, 1],
    [1, 5, 3, 2, 0, 2, 0],
    [5, 3, 4, 3, 2, 0, 4],
    [5, 5, 6, 4, 6, 4, 0],
]
# S. Stigler, Statistical Science 9 (1994) 94-108, as in Agresti (2002), problem 10.13. Row: cited.
# Biometrika, Communications in Statistics, JASA, JRSS B.
CITED = [[0, 730, 498, 221], [33, 0, 68, 17], [320, 813, 0, 142], [284, 276, 325, 0]]


def from_base(fit, base):
    """Ratings and their standard errors, with one system's rating as 0."""
    c = fit.covariance
    k = np.arange(fit.ratings.size)
    variances = c[k, k] + c[base, base] - 2 * c[k, base]
    return fit.ratings - fit.ratings[base], np.sqrt(np.maximum(variances, 0))


def test_baseball_without_home_effect():
    won = np.array(WON_AT_HOME)
    fit = fit_bradley_terry(won, won + LOST_AT_HOME)
    ratings, errors = from_base(fit, 6)
    expected = [1.5814, 1.4364, 1.2945, 1.2476, 1.1077, 0.6839, 0]
    assert ratings == pytest.approx(expected, abs=5e-4)
    assert errors == pytest.approx([0.3433, 0.3396, 0.3367, 0.3359, 0.3339, 0.3319, 0], abs=5e-4)
    assert fit.side is None


def test_baseball_with_home_effect():
    won = np.array(WON_AT_HOME)
    fit = fit_bradley_terry(won, won + LOST_AT_HOME, side=True)
    ratings, errors = from_base(fit, 6)
    assert ratings == pytest.approx([1.6196, 1.4754, 1.3271, 1.2813, 1.1438, 0.7047, 0], abs=5e-4)
    assert errors[0] == pytest.approx(0.3474, abs=5e-4)
    assert fit.side == pytest.approx(0.3023, abs=5e-4)
    assert math.sqrt(fit.covariance[7, 7]) == pytest.approx(0.1309, abs=5e-4)


def test_citations():
    cited = np.array(CITED)
    ratings, errors = from_base(fit_bradley_terry(np.triu(cited), np.triu(cited + cited.T)), 0)
    assert ratings == pytest.approx([0, -2.9491, -0.4796, 0.2690], abs=5e-4)
    assert errors == pytest.approx([0, 0.1025, 0.0606, 0.0708], abs=5e-4)


# -- stopping and refusing ---------------------------------------------------------------


def test_the_gradient_is_below_its_tolerance_at_the_end():
    rng = np.random.default_rng(18)
    won = rng.integers(1, 1000, (30, 30)) * np.triu(np.ones((30, 30)), 1)
    played = won + rng.integers(1, 10, (30, 30)) * np.triu(np.ones((30, 30)), 1)
    ratings = fit_bradley_terry(won, played).ratings
    residuals = won - played * expit(np.subtract.outer(ratings, ratings))
    assert np.abs(residuals.sum(axis=1) - residuals.sum(axis=0)).max() < 1e-8


def test_lopsided_counts_are_climbed_in_shortened_steps():
    # Newton's whole steps from 0 leave for infinity here: they reach 1e5 after ten.
    won, played = np.zeros((5, 5)), np.zeros((5, 5))
    won[0, 1:4], played[0, 1:] = [4, 52, 125], [4664, 52264, 125409, 1759]
    won[1, 4], played[1, 4] = 22041, 22064
    won[2, 3], played[2, 3:] = 82171, [82171, 13]
    ratings = fit_bradley_terry(won, played).ratings
    residuals = won - played * expit(np.subtract.outer(ratings, ratings))
    assert np.abs(residuals.sum(axis=1) - residuals.sum(axis=0)).max() < 1e-8


def test_a_climb_that_does_not_arrive_is_no_result():
    def slope(at):
        return np.array([1.0, -1.0]), np.array([[1.0, -1.0], [-1.0, 1.0]])

    with pytest.raises(NotConverged, match="after 50 steps"):
        climb(slope, np.zeros(2), 2, 1e-8, limit=50)


@pytest.mark.parametrize(
    ("won", "played", "side", "reason"),
    [
        ([[0, 3], [0, 0]], [[0, 3], [0, 0]], False, "never beat"),
        ([[0, 3], [2, 0]], [[0, 3], [2, 0]], True, "the side explains all votes"),
        ([[0, 3], [0, 0]], [[0, 2], [0, 0]], False, "between 0 and the votes"),
        ([[0, -1], [0, 0]], [[0, 2], [0, 0]], False, "between 0 and the votes"),
        ([[0, 1], [0, 0]], [[0, math.inf], [0, 0]], False, "between 0 and the votes"),
        ([[0, 1]], [[0, 2]], False, "shapes"),
        ([[0]], [[0]], False, "at least two systems"),
        ([[1, 1], [0, 0]], [[1, 2], [0, 0]], False, "system with itself"),
    ],
)
def test_impossible_counts_are_refused(won, played, side, reason):
    with pytest.raises(ValueError, match=reason):
        fit_bradley_terry(won, played, side=side)
