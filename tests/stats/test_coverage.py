"""Does a 95% interval hold the truth 95 times in 100, when raters and prompts have tastes?

A small part of the whole grid, at default arguments, in seconds. The same gate stops the
interval that takes votes for independent.
"""

import numpy as np
import pytest

from evalsite.stats import clustered_interval, wilson_interval
from tests.stats.simulated import draw_votes

CELLS = [
    {"raters": 30, "rate": 0.5, "sd": 0.5, "heavy": False},
    {"raters": 30, "rate": 0.6, "sd": 1.0, "heavy": True},
    {"raters": 30, "rate": 0.8, "sd": 1.0, "heavy": False},
    {"raters": 30, "rate": 0.95, "sd": 0.5, "heavy": True},
    {"raters": 5, "rate": 0.5, "sd": 0.0, "heavy": False},
    {"raters": 5, "rate": 0.8, "sd": 0.5, "heavy": True},
]
THREE_RATERS = [
    {"raters": 3, "rate": rate, "sd": sd, "prompt_sd": prompt_sd, "heavy": heavy}
    for rate in (0.5, 0.8)
    for sd, prompt_sd in ((0.0, 0.0), (0.5, 1.0))
    for heavy in (False, True)
]
RUNS = 600


@pytest.fixture(scope="module")
def coverage():
    return coverage_of(CELLS, np.random.default_rng(20240))


def coverage_of(cells, rng):
    """Share of runs whose interval holds the truth, per cell: ours and naive Wilson's."""
    ours, naive = np.zeros(len(cells)), np.zeros(len(cells))
    for k, cell in enumerate(cells):
        for _ in range(RUNS):
            votes = draw_votes(rng, **cell)
            clustered = clustered_interval(*votes)
            wilson = wilson_interval(clustered.wins + clustered.ties / 2, clustered.n)
            ours[k] += clustered.low <= cell["rate"] <= clustered.high
            naive[k] += wilson.low <= cell["rate"] <= wilson.high
    return ours / RUNS, naive / RUNS


def passes_the_gate(shares):
    """Every cell in [.925, .975] and their mean in [.945, .960], give or take chance."""
    cell = 2 * np.sqrt(0.95 * 0.05 / RUNS)
    mean = cell / np.sqrt(len(shares))
    every = (shares > 0.925 - cell).all() and (shares < 0.975 + cell).all()
    return bool(every and 0.945 - mean < shares.mean() < 0.960 + mean)


def test_the_default_interval_covers_the_truth_as_often_as_promised(coverage):
    ours, _ = coverage
    assert passes_the_gate(ours), ours


def test_the_gate_stops_an_interval_for_independent_votes(coverage):
    _, naive = coverage
    assert not passes_the_gate(naive), naive
    assert naive.min() < 0.85


def test_three_raters_are_given_neither_too_much_caution_nor_too_little():
    # A floor of a tenth of independent votes, and the df of the poorer dimension alone, gave .97.
    ours, _ = coverage_of(THREE_RATERS, np.random.default_rng(20241))
    assert passes_the_gate(ours), ours
