import itertools

import numpy as np
import pytest

from evalsite.stats import check_votes, elo_as_in_add


def rng():
    return np.random.default_rng(4)


def test_one_vote_by_hand():
    # Expected 1/2 between equals: the winner gains half a point, a tie moves nothing.
    won = elo_as_in_add(check_votes([0], [1], [1], None, None), rng())
    assert won.scores == (1000.5, 999.5)
    assert elo_as_in_add(check_votes([0], [1], [0.5], None, None), rng()).scores == (1000, 1000)
    assert won.label == "Elo as in the ADD paper"


def in_order(votes, order):
    scores = [1000.0] * votes.n_systems
    for k in order:
        i, j = votes.first[k], votes.second[k]
        change = votes.outcomes[k] - 1 / (1 + 10 ** ((scores[j] - scores[i]) / 400))
        scores[i], scores[j] = scores[i] + change, scores[j] - change
    return scores


def test_scores_are_the_mean_over_all_orders():
    votes = check_votes([0, 1, 0, 2], [1, 2, 2, 1], [1, 1, 0.5, 1], None, None)
    expected = np.mean([in_order(votes, p) for p in itertools.permutations(range(4))], axis=0)
    found = elo_as_in_add(votes, rng(), runs=4000)
    assert found.scores == pytest.approx(expected, abs=1e-4)
    assert sum(found.scores) == pytest.approx(3000)


def test_scores_agree_with_evalica_in_the_one_order_there_is():
    # evalica 0.4.2: elo(["a"] * 3, ["b"] * 3, [Winner.X] * 3, initial=1000, k=1).scores
    found = elo_as_in_add(check_votes([0] * 3, [1] * 3, [1] * 3, None, None), rng(), runs=3)
    assert found.scores == pytest.approx([1001.4956868306755, 998.5043131693245], abs=1e-9)


def test_many_votes_lead_to_the_gap_of_the_win_rate():
    votes = check_votes([0] * 9000, [1] * 9000, [1, 1, 0] * 3000, None, None)
    found = elo_as_in_add(votes, rng(), runs=20)
    assert found.scores[0] - found.scores[1] == pytest.approx(400 * np.log10(2), abs=4)


def test_chance_comes_from_the_generator_alone():
    votes = check_votes([0, 1] * 20, [1, 2] * 20, [1, 0.5, 0, 1] * 10, None, None)
    assert elo_as_in_add(votes, rng()) == elo_as_in_add(votes, rng())


def test_a_system_without_votes_has_no_score():
    found = elo_as_in_add(check_votes([0], [1], [1], None, None, n_systems=3), rng())
    assert found.scores[2] is None
    empty = elo_as_in_add(check_votes([], [], [], None, None, n_systems=1), rng())
    assert empty.scores == (None,)


def test_no_runs_are_refused():
    with pytest.raises(ValueError, match="runs"):
        elo_as_in_add(check_votes([0], [1], [1], None, None), rng(), runs=0)
