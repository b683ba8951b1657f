import numpy as np
import pytest

from evalsite.stats import Options, check_votes, pair_win_rates, win_rates
from evalsite.stats.clusters import UNLABELLED
from tests.stats.simulated import draw_votes

GOOD = {
    "first": [0, 2, 1],
    "second": [1, 0, 2],
    "outcomes": [1, 0.5, 0],
    "raters": ["A", "B", "A"],
    "prompts": None,
}


def test_votes_are_numbered_once_for_all_statistics():
    votes = check_votes(**GOOD)
    assert (votes.n, votes.n_systems) == (3, 3)
    assert votes.raters.tolist() == [0, 1, 0]
    assert votes.prompts.tolist() == [UNLABELLED] * 3


def test_systems_without_votes_can_be_counted():
    assert check_votes(**GOOD, n_systems=5).n_systems == 5
    none = {name: [] for name in GOOD}
    assert check_votes(**none).n_systems == 0
    assert check_votes(**none, n_systems=4).n_systems == 4


def test_whole_numbers_and_text_make_the_same_clusters():
    rng = np.random.default_rng(1)
    outcomes, raters, prompts = draw_votes(rng)
    sparse = rng.permutation(10**12 + 17 * np.arange(30))[raters]
    zeros, ones = np.zeros(300, dtype=np.int64), np.ones(300, dtype=np.int64)
    numbers = pair_win_rates(zeros, ones, outcomes, sparse, prompts - 50)
    text = pair_win_rates(zeros, ones, outcomes, [f"r{r}" for r in sparse], prompts.astype(str))
    assert numbers[0, 1].se == pytest.approx(text[0, 1].se, rel=1e-12)
    assert numbers[0, 1].n_raters == text[0, 1].n_raters


def test_win_rates_of_checked_votes_are_those_of_their_columns():
    rng = np.random.default_rng(2)
    first = rng.integers(0, 3, 200)
    columns = (first, (first + 1) % 3, rng.integers(0, 3, 200) / 2, rng.integers(0, 9, 200), None)
    found = win_rates(check_votes(*columns), options=Options(ties="drop"), pairs=[(2, 1)])
    assert found == pair_win_rates(*columns, ties="drop", pairs=[(2, 1)])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"second": [1, 2, 2]}, "compares a system with itself"),
        ({"second": [1, -1, 2]}, "numbered from 0"),
        ({"second": [1.0, 0.0, 2.0]}, "whole numbers"),
        ({"first": [0, 2]}, "2 systems named for 3 votes"),
        ({"outcomes": [1, 0.3, 0]}, "outcomes must be 0, 0.5 or 1"),
        ({"raters": np.array([1, 2])}, "2 rater labels for 3 votes"),
        ({"raters": np.array([[1, 2, 3]])}, "3 rater labels for 3 votes"),
        ({"prompts": ["x", "y", float("nan")]}, "a prompt label is NaN"),
        ({"n_systems": 2}, "system 2 is named, but there are only 2 systems"),
    ],
)
def test_impossible_votes_are_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        check_votes(**{**GOOD, **change})
