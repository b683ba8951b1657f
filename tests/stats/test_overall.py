import dataclasses
import json
import math

import evalica
import numpy as np
import pytest
from scipy.stats import t as student

from evalsite.stats import check_votes, overall_scores, pair_win_rates, wilson_interval
from evalsite.stats.clusters import group
from evalsite.stats.variance import clustered_variance
from tests.stats.simulated import draw_study, draw_votes, mean_rates

RATINGS = (1.2, 0.3, -0.2, -1.3)


def columns(votes):
    return [getattr(votes, name) for name in ("first", "second", "outcomes", "raters", "prompts")]


# -- by hand -------------------------------------------------------------------------------


def test_opponents_weigh_the_same_by_hand():
    # 0 wins 8 of 8 against 1 and 1 of 4 against 2: (1 + 1/4) / 2, not 9 of 12.
    votes = check_votes([0] * 12, [1] * 8 + [2] * 4, [1] * 9 + [0] * 3, None, None)
    found = overall_scores(votes)
    assert [s.win_rate for s in found] == [0.625, 0, 0.75]
    assert [s.n_opponents for s in found] == [2, 1, 1]
    # Each vote left out: nothing moves against 1; against 2 a win moves 1/4 to 0, a loss to 1/3.
    moves = ((1 / 4) ** 2 + 3 * (1 / 12) ** 2) / 4
    assert found[0].se == pytest.approx(math.sqrt(11 / 12 * moves))
    assert found[0].method == "independent votes"


def test_scores_agree_with_evalica():
    # evalica 0.4.2; a row of votes has its first system as X.
    votes, _ = draw_study(np.random.default_rng(3), RATINGS, tie=0.2)
    winner = {1.0: evalica.Winner.X, 0.5: evalica.Winner.Draw, 0.0: evalica.Winner.Y}
    expected = evalica.average_win_rate(
        [str(i) for i in votes.first],
        [str(j) for j in votes.second],
        [winner[y] for y in votes.outcomes.tolist()],
    ).scores
    for score in overall_scores(votes):
        assert score.win_rate == pytest.approx(expected[str(score.system)], abs=1e-12)


def test_two_way_by_hand():
    # System 0 against 1 and 2; two raters, two prompts, every cell one vote on each opponent.
    first, second = [0] * 8, [1, 2] * 4
    raters, prompts = list("AAAABBBB"), list("xxyyxxyy")
    votes = check_votes(first, second, [1, 1, 1, 0, 1, 0, 0, 0], raters, prompts)
    found = overall_scores(votes)[0]
    # p = 3/4 and 1/4, psi = 1/2. Without A: 1/2, 0; without B: 1, 1/2. Without x: 1/2, 0;
    # without y: 1, 1/2. Without a cell of (won, won), (won, lost) twice, (lost, lost):
    # (2/3 + 0) / 2, (2/3 + 1/3) / 2 twice, (1 + 1/3) / 2.
    by_rater = by_prompt = 1 / 2 * (2 * (1 / 4) ** 2)
    by_cell = 3 / 4 * (2 * (1 / 6) ** 2)
    assert found.win_rate == 0.5
    assert found.se == pytest.approx(math.sqrt(by_rater + by_prompt - by_cell))
    assert found.method == "two-way jackknife"
    assert found.estimand == "random rater, random prompt"
    assert found.warnings == ("few raters", "few prompts", "few losses")


def test_an_opponent_met_by_one_rater_only_is_missing_without_that_rater():
    # A knows 1 and 2, B knows 1 only: psi = (1/2 + 1)/2; without A 0 of 2 against 1 alone;
    # without B 2 of 2 and 1.
    votes = check_votes([0] * 6, [1, 1, 1, 1, 2, 2], [1, 1, 0, 0, 1, 1], list("AABBAA"), None)
    found = overall_scores(votes)[0]
    assert found.win_rate == 0.75
    assert found.se == pytest.approx(math.sqrt(1 / 2 * (0.75**2 + 0.25**2)))


# -- against a program that leaves clusters out one at a time -----------------------------


def mean_of_pairs(votes, system, out):
    rates = []
    for other in range(votes.n_systems):
        one = (votes.first == system) & (votes.second == other) & ~out
        two = (votes.first == other) & (votes.second == system) & ~out
        wins = np.concatenate([votes.outcomes[one], 1 - votes.outcomes[two]])
        if wins.size:
            rates.append(wins.mean())
    return np.mean(rates)


def left_out_one_by_one(votes, system, codes):
    own = (votes.first == system) | (votes.second == system)
    full = mean_of_pairs(votes, system, np.zeros(votes.n, dtype=bool))
    shifts = [mean_of_pairs(votes, system, codes == g) - full for g in np.unique(codes[own])]
    return (1 - 1 / len(shifts)) * np.dot(shifts, shifts)


@pytest.mark.parametrize("per_prompt", [4, 12])
def test_the_variance_is_that_of_computing_the_score_again(per_prompt):
    rng = np.random.default_rng(per_prompt)
    votes, _ = draw_study(rng, RATINGS, raters=40, prompts=12, per_prompt=per_prompt, tie=0.2)
    votes = dataclasses.replace(votes, raters=np.where(rng.random(votes.n) < 0.3, 0, votes.raters))
    for score in overall_scores(votes):
        i = score.system
        rater, prompt, cell = (
            left_out_one_by_one(votes, i, codes)
            for codes in (votes.raters, votes.prompts, votes.raters * 12 + votes.prompts)
        )
        expected = rater + prompt - cell
        assert score.se == pytest.approx(math.sqrt(expected), rel=1e-10)
    for score in overall_scores(votes, fixed_prompts=True):
        expected = left_out_one_by_one(votes, score.system, votes.raters)
        assert score.se == pytest.approx(math.sqrt(expected), rel=1e-10)
        assert score.estimand == "random rater, these prompts"


def test_variance_has_the_floor_of_a_win_rate():
    # Each rater and each prompt is split evenly: nothing varies but the cells (test_variance.py).
    raters, prompts = np.tile([0, 0, 1, 1], 5), np.tile([0, 1, 0, 1], 5)
    votes = check_votes([0] * 20, [1] * 20, np.tile([1.0, 0.0, 0.0, 1.0], 5), raters, prompts)
    assert overall_scores(votes)[0].se == pytest.approx(math.sqrt(-math.log(0.96) / 12))


def test_degrees_of_freedom_are_those_of_votes_weighted_as_in_the_mean():
    rng = np.random.default_rng(11)
    votes, _ = draw_study(rng, RATINGS, raters=12, prompts=30, sd=2.0)
    rare = (votes.first == 0) & (votes.second == 3) & (rng.random(votes.n) < 0.8)
    votes = check_votes(*(column[~rare] for column in columns(votes)))
    own = (votes.first == 0) | (votes.second == 0)
    won = np.where(votes.first == 0, votes.outcomes, 1 - votes.outcomes)[own]
    other = (votes.first + votes.second)[own]
    shown = np.bincount(other)[other]
    weights = own.sum() / (3 * shown)
    distances = won - (np.bincount(other, won) / np.maximum(np.bincount(other), 1))[other]
    dimensions = group(votes.raters[own]), group(votes.prompts[own])
    expected = clustered_variance(weights * distances, dimensions).df
    assert overall_scores(votes)[0].df == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("ties", ["half", "drop"])
@pytest.mark.parametrize("labels", [(True, True), (True, False), (False, False)])
def test_with_one_opponent_the_score_is_the_pairs_own(ties, labels):
    outcomes, raters, prompts = draw_votes(np.random.default_rng(3), rate=0.7, tie=0.2)
    raters, prompts = (x if kept else None for x, kept in zip((raters, prompts), labels))
    zeros, ones = np.zeros(300, dtype=int), np.ones(300, dtype=int)
    pair = pair_win_rates(zeros, ones, outcomes, raters, prompts, ties=ties)[0, 1]
    votes = check_votes(zeros, ones, outcomes, raters, prompts)
    score = overall_scores(votes, ties=ties)[0]
    assert (score.method, score.estimand) == (pair.method, pair.estimand)
    assert score.warnings == pair.warnings
    rel = 0.003 if pair.df is None else 1e-9  # independent votes: n - 1 here, n there
    for field in ("win_rate", "low", "high", "se"):
        assert getattr(score, field) == pytest.approx(getattr(pair, field), rel=rel)
    assert score.df == (None if pair.df is None else pytest.approx(pair.df))


# -- nothing varies ------------------------------------------------------------------------


def test_a_system_that_always_wins_borrows_the_median_design_effect():
    votes, _ = draw_study(np.random.default_rng(4), RATINGS)
    k = np.arange(60)
    sweep = check_votes(
        *(
            np.concatenate(pair)
            for pair in zip(
                columns(votes), (np.full(60, 4), k % 2, np.ones(60), k % 30, k % 50), strict=True
            )
        )
    )
    found = overall_scores(sweep)
    best = found[4]
    assert (best.win_rate, best.high, best.se, best.df) == (1, 1, None, 29)
    assert best.method == "borrowed design effect"
    assert best.warnings == ("few losses", "all won")
    effects = [
        s.se**2 / left_out_one_by_one(sweep, s.system, np.arange(sweep.n)) for s in found[:4]
    ]
    n_eff = 60 / np.median(effects)  # two opponents, 30 votes each
    assert np.median(effects) > 1.2
    assert best.low == pytest.approx(1 / (1 + student.ppf(0.975, 29) ** 2 / n_eff))


def test_a_system_without_spread_and_without_others_says_so():
    votes = check_votes([0, 0, 1, 1] * 3, [1, 1, 2, 2] * 3, [1] * 12, list("ABAB") * 3, None)
    found = overall_scores(votes)
    assert [s.win_rate for s in found] == [1, 0.5, 0]
    assert found[1].warnings[-2:] == ("no spread", "no design effect")
    assert found[1].low < 0.5 < found[1].high
    assert found[2].warnings[-2:] == ("all lost", "no design effect")


def test_a_system_without_votes_has_no_score():
    found = overall_scores(check_votes([0], [1], [0.5], None, None, n_systems=3), ties="drop")
    for score in found:
        assert (score.win_rate, score.low, score.n, score.warnings) == (
            None,
            None,
            0,
            ("no votes",),
        )
    assert found[0].estimand == "random rater, random prompt, decided votes"
    single = overall_scores(check_votes([0], [1], [1], None, None))[0]
    assert (single.low, single.high) == (pytest.approx(wilson_interval(1, 1).low), 1)


# -- invariances and coverage --------------------------------------------------------------


def test_turning_and_shuffling_rows_changes_nothing():
    rng = np.random.default_rng(6)
    votes, _ = draw_study(rng, RATINGS, tie=0.1)
    flip, order = rng.random(votes.n) < 0.5, rng.permutation(votes.n)
    first, second, outcomes, raters, prompts = (column[order] for column in columns(votes))
    turned = check_votes(
        np.where(flip, second, first),
        np.where(flip, first, second),
        np.where(flip, 1 - outcomes, outcomes),
        [f"rater {-r}" for r in raters],
        [f"prompt {p}" for p in prompts],
    )
    for one, other in zip(overall_scores(votes), overall_scores(turned), strict=True):
        assert dataclasses.astuple(other)[1:6] == pytest.approx(dataclasses.astuple(one)[1:6])
        assert dataclasses.astuple(other)[6:] == dataclasses.astuple(one)[6:]


def test_scores_cover_the_truth_as_often_as_promised():
    rng = np.random.default_rng(7)
    rates = mean_rates(RATINGS, 0.7)
    truth = (rates.sum(axis=1) - 0.5) / 3
    holds, naive = [], []
    for _ in range(250):
        votes, _ = draw_study(rng, RATINGS)
        for score in overall_scores(votes):
            holds.append(score.low <= truth[score.system] <= score.high)
            wilson = wilson_interval(score.win_rate * score.n, score.n)
            naive.append(wilson.low <= truth[score.system] <= wilson.high)
    assert 0.93 < np.mean(holds) < 0.97
    assert np.mean(naive) < 0.9


# -- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"), [({"confidence": 95}, "confidence"), ({"ties": "keep"}, "ties must be")]
)
def test_impossible_options_are_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        overall_scores(check_votes([0], [1], [1], None, None), **options)


def test_every_result_can_be_written_as_strict_json():
    votes, _ = draw_study(np.random.default_rng(8), RATINGS)
    for score in overall_scores(votes):
        json.dumps(dataclasses.asdict(score), allow_nan=False)
