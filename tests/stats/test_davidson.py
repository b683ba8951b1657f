import dataclasses
import json
import math

import numpy as np
import pytest

from evalsite.stats import bradley_terry, check_votes, davidson

# R. R. Davidson, JASA 65 (1970) 317-328, table 1: chocolate puddings, as in R's PlackettLuce.
# Brands i and j, preferences for i, preferences for j, ties.
PUDDINGS = [
    (1, 2, 19, 22, 16),
    (1, 3, 16, 19, 12),
    (2, 3, 19, 19, 10),
    (1, 4, 18, 23, 13),
    (2, 4, 23, 19, 9),
    (3, 4, 19, 20, 15),
    (1, 5, 13, 19, 18),
    (2, 5, 16, 20, 12),
    (3, 5, 16, 15, 17),
    (4, 5, 17, 14, 16),
    (1, 6, 18, 21, 12),
    (2, 6, 22, 20, 12),
    (3, 6, 13, 18, 10),
    (4, 6, 14, 19, 18),
    (5, 6, 11, 21, 12),
]


def votes_of(table, n_systems=None):
    """Votes from rows of first, second, wins, losses, ties; systems numbered from 0."""
    table = np.array(table)
    outcomes = np.repeat(np.tile([1.0, 0.0, 0.5], len(table)), table[:, 2:].ravel())
    first, second = (np.repeat(table[:, k], table[:, 2:].sum(axis=1)) for k in (0, 1))
    return check_votes(first, second, outcomes, None, None, n_systems=n_systems)


def test_two_systems_by_hand():
    # The model fits 8 wins, 2 losses, 4 ties exactly: pi_1 / pi_2 = 8/2, nu = 4 / sqrt(8 * 2).
    found = davidson(votes_of([(0, 1, 8, 2, 4)]))
    assert found.abilities == pytest.approx([math.log(2), -math.log(2)])
    assert found.tie_parameter == pytest.approx(1)
    assert (found.n, found.warnings) == (14, ())


def test_puddings():
    found = davidson(votes_of([(i - 1, j - 1, *counts) for i, j, *counts in PUDDINGS]))
    shares = np.exp(found.abilities) / np.exp(found.abilities).sum()
    expected = [0.138803, 0.173001, 0.161747, 0.165373, 0.158685, 0.202389]
    assert found.n == 745
    assert shares == pytest.approx(expected, abs=1e-5)
    assert found.tie_parameter == pytest.approx(0.746823, abs=1e-5)


def drawn(rng, abilities, nu, n):
    abilities = np.asarray(abilities)
    first = rng.integers(0, abilities.size, n)
    second = (first + rng.integers(1, abilities.size, n)) % abilities.size
    half = (abilities[first] - abilities[second]) / 2
    weights = np.exp([half, np.zeros(n), -half])
    weights[1] *= nu
    limits = np.cumsum(weights / weights.sum(axis=0), axis=0)
    outcomes = 1 - 0.5 * (rng.random(n) > limits[:2]).sum(axis=0)
    return check_votes(first, second, outcomes, None, None, n_systems=abilities.size)


def test_the_truth_is_recovered():
    truth = [1.2, 0.4, -0.3, -1.3]
    found = davidson(drawn(np.random.default_rng(5), truth, 0.8, 200_000))
    assert found.abilities == pytest.approx(truth, abs=0.03)
    assert found.tie_parameter == pytest.approx(0.8, abs=0.015)


def test_without_ties_it_is_bradley_and_terrys_model():
    votes = drawn(np.random.default_rng(6), [0.5, 0.0, -0.5], 0.0, 300)
    found = davidson(votes)
    assert found.abilities == pytest.approx([r.rating for r in bradley_terry(votes).ratings])
    assert found.tie_parameter == 0


def test_the_order_of_rows_and_systems_changes_nothing():
    votes = drawn(np.random.default_rng(7), [0.5, 0.0, -0.5], 0.5, 300)
    turned = dataclasses.replace(
        votes, first=votes.second, second=votes.first, outcomes=1 - votes.outcomes
    )
    assert davidson(turned).abilities == pytest.approx(davidson(votes).abilities)


def test_a_system_that_never_loses_is_not_estimable():
    found = davidson(votes_of([(0, 1, 3, 2, 4), (2, 0, 5, 0, 0)], n_systems=4))
    assert found.abilities[2:] == (None, None)
    assert found.abilities[:2] == pytest.approx([math.log(1.5) / 2, -math.log(1.5) / 2])
    assert (found.n, found.warnings) == (9, ("not connected",))


@pytest.mark.parametrize(
    "table",
    [
        [(0, 1, 5, 0, 3)],  # no loss: nu and the gap grow together
        [(0, 1, 0, 0, 4)],
        [(0, 1, 5, 0, 3), (1, 2, 5, 0, 3)],
    ],
)
def test_wins_that_ties_alone_hold_back_have_no_finite_maximum(table):
    found = davidson(votes_of(table))
    assert set(found.abilities) == {None}
    assert (found.tie_parameter, found.warnings) == (None, ("ties too many",))


def test_ties_may_close_a_circle_of_wins():
    # Nobody beats 0 and nobody loses to 2, but two wins to one tie bound the likelihood.
    found = davidson(votes_of([(0, 1, 5, 0, 0), (1, 2, 5, 0, 0), (0, 2, 0, 0, 4)]))
    assert found.abilities[0] > found.abilities[1] > found.abilities[2]


def test_no_votes_rate_nobody():
    found = davidson(check_votes([], [], [], None, None, n_systems=2))
    assert (found.abilities, found.warnings) == ((None, None), ("no votes",))
    json.dumps(dataclasses.asdict(found), allow_nan=False)


def test_the_gradient_is_below_its_tolerance_at_the_end():
    votes = drawn(np.random.default_rng(8), [2.0, 0.0, -2.0], 0.3, 4000)
    found = davidson(votes)
    half = np.subtract.outer(found.abilities, found.abilities)[votes.first, votes.second] / 2
    nu = found.tie_parameter
    total = np.exp(half) + np.exp(-half) + nu
    assert ((votes.outcomes == 0.5) - nu / total).sum() == pytest.approx(0, abs=1e-7)
    left_over = votes.outcomes - (np.exp(half) + nu / 2) / total
    for system in range(3):
        own = left_over[votes.first == system].sum() - left_over[votes.second == system].sum()
        assert own == pytest.approx(0, abs=1e-7)
