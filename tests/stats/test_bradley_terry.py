import dataclasses
import json
import math

import numpy as np
import pytest
from scipy.special import expit

from evalsite.stats import (
    bootstrap_ratings,
    bradley_terry,
    check_votes,
    clustered_interval,
    fit_bradley_terry,
)
from tests.stats.by_hand import CLEAR, beats, joined
from tests.stats.simulated import draw_study, mean_rates

# -- by hand -----------------------------------------------------------------------------


def test_two_systems_by_hand():
    # 8 of 12 won: the difference is log(8/4), its standard error that of the rate over p (1 - p).
    outcomes = np.array([1, 1, 1, 0, 1, 0, 1, 1, 0, 1, 1, 0])
    raters, prompts = list("AAABBBCCCDDD"), list("wxyzwxyzwxyz")
    votes = check_votes(np.zeros(12, int), np.ones(12, int), outcomes, raters, prompts)
    found = bradley_terry(votes)
    rate = clustered_interval(outcomes, raters, prompts)
    (difference,) = found.differences
    assert difference.difference == pytest.approx(math.log(2))
    assert difference.se == pytest.approx(rate.se / (2 / 3 * 1 / 3))
    assert difference.high - difference.difference == pytest.approx(3.18244631 * difference.se)
    assert [r.rating for r in found.ratings] == pytest.approx([math.log(2) / 2, -math.log(2) / 2])
    assert found.ratings[0].se == pytest.approx(difference.se / 2)
    assert found.ratings[0].elo == pytest.approx(1000 + 200 * math.log10(2))
    assert (found.df, found.n, found.method) == (3, 12, "two-way jackknife")
    assert found.estimand == "random rater, random prompt"
    assert found.warnings == ("few raters", "few prompts")


def test_independent_votes_by_hand():
    # Without labels: sum e^2 / (n (n - 1)) over (p (1 - p))^2, and the normal quantile.
    votes = check_votes([0] * 12, [1] * 12, [1] * 9 + [0] * 3, None, None)
    found = bradley_terry(votes)
    se = math.sqrt(12 * 0.75 * 0.25 / (12 * 11)) / (0.75 * 0.25)
    assert found.differences[0].se == pytest.approx(se)
    assert found.differences[0].low == pytest.approx(math.log(3) - 1.95996398 * se)
    assert (found.df, found.method) == (None, "independent votes")


# -- ranks and the side ------------------------------------------------------------------


def test_ranks_are_bounded_by_differences_that_stand_together():
    found = bradley_terry(draw_study(np.random.default_rng(1), CLEAR, raters=60, prompts=150)[0])
    sure = [d for d in found.differences if d.p_holm < 0.05]
    assert 0 < len(sure) < len(found.differences)
    for rating in found.ratings:
        better = [d for d in sure if rating.system in (d.first, d.second)]
        better = [d for d in better if (d.difference > 0) == (d.second == rating.system)]
        assert rating.rank_low == 1 + len(better)
        assert rating.rank_low <= rating.rank_high <= 5
    assert found.ratings[4].rank_high == 5
    narrow = bradley_terry(
        draw_study(np.random.default_rng(1), CLEAR, raters=60, prompts=150)[0], confidence=0.5
    )
    assert narrow.ratings[0].rank_high <= found.ratings[0].rank_high


def test_the_side_effect_is_found_and_taken_off_the_ratings():
    rng = np.random.default_rng(11)
    truth = (0.8, 0.0, -0.8)
    votes, _ = draw_study(rng, truth, prompts=400, sd=0, side=0.0)
    # The best system stands on the left nearly always, so that the side flatters it.
    left = np.where(rng.random(votes.n) < 0.95, votes.first <= votes.second, False)
    logits = (
        np.array(truth)[votes.first] - np.array(truth)[votes.second] + np.where(left, 0.6, -0.6)
    )
    outcomes = (rng.random(votes.n) < expit(logits)) * 1.0
    votes = dataclasses.replace(votes, outcomes=outcomes)
    with_side, without = bradley_terry(votes, left=left), bradley_terry(votes)
    assert with_side.side.effect == pytest.approx(0.6, abs=4 * with_side.side.se)
    assert with_side.side.low < 0.6 < with_side.side.high
    assert with_side.side.p_value < 1e-3
    assert without.side is None
    assert with_side.differences[0].difference == pytest.approx(0.8, abs=0.2)
    assert without.differences[0].difference > 1.1


def test_a_side_that_explains_every_vote_is_not_estimable():
    votes = check_votes([0, 1, 0, 1], [1, 0, 1, 0], [1, 1, 1, 1], None, None)
    found = bradley_terry(votes, left=[True] * 4)
    assert found.side is None
    assert found.warnings[-1] == "side not estimable"
    assert [r.rating for r in found.ratings] == pytest.approx([0, 0])


def test_turning_rows_round_changes_nothing():
    votes, left = draw_study(np.random.default_rng(12), CLEAR, tie=0.1, side=0.4)
    flip = np.random.default_rng(13).random(votes.n) < 0.5
    turned = dataclasses.replace(
        votes,
        first=np.where(flip, votes.second, votes.first),
        second=np.where(flip, votes.first, votes.second),
        outcomes=np.where(flip, 1 - votes.outcomes, votes.outcomes),
    )
    for sides in (None, left):
        one = bradley_terry(votes, left=sides)
        other = bradley_terry(turned, left=None if sides is None else left != flip)
        for a, b in zip(one.ratings, other.ratings, strict=True):
            assert dataclasses.astuple(a) == pytest.approx(dataclasses.astuple(b), rel=1e-6)


# -- coverage ----------------------------------------------------------------------------


def taste_blind_ratings(ratings, sd):
    """What is estimated: the ratings that come closest to the win rates over all tastes."""
    rates = mean_rates(ratings, sd)
    return fit_bradley_terry(np.triu(rates, 1), np.triu(np.ones_like(rates), 1)).ratings


RUNS = 300


@pytest.fixture(scope="module")
def coverage():
    """Share of differences whose interval holds the truth: ours, and the arena's bootstrap."""
    rng = np.random.default_rng(77)
    truth = taste_blind_ratings(CLEAR, 0.7)
    first, second = np.triu_indices(5, 1)
    gaps = truth[first] - truth[second]
    ours, bootstrap, ranks = [], [], []
    for run in range(RUNS):
        votes, _ = draw_study(rng, CLEAR)
        found = bradley_terry(votes)
        ours.append(
            [d.low <= gap <= d.high for d, gap in zip(found.differences, gaps, strict=True)]
        )
        ranks.append(all(r.rank_low <= r.system + 1 <= r.rank_high for r in found.ratings))
        if run < 60:
            drawn = bootstrap_ratings(votes, 100, rng)
            low, high = np.nanquantile(drawn[:, first] - drawn[:, second], [0.025, 0.975], axis=0)
            bootstrap.append((low <= gaps) & (gaps <= high))
    return np.mean(ours), np.mean(bootstrap), np.mean(ranks)


def test_differences_cover_the_truth_as_often_as_promised(coverage):
    assert 0.93 < coverage[0] < 0.97


def test_a_bootstrap_of_independent_votes_does_not(coverage):
    assert coverage[1] < 0.88


def test_rank_bounds_hold_together(coverage):
    assert coverage[2] > 0.93


# -- the bootstrap of the arena tools ----------------------------------------------------


def test_bootstrap_spreads_as_much_as_independent_votes_do():
    votes, _ = draw_study(np.random.default_rng(14), CLEAR, prompts=200, sd=0)
    drawn = bootstrap_ratings(votes, 2000, np.random.default_rng(15))
    alone = dataclasses.replace(votes, raters=votes.raters * 0 - 1, prompts=votes.prompts * 0 - 1)
    errors = [rating.se for rating in bradley_terry(alone).ratings]
    assert drawn.std(axis=0) == pytest.approx(errors, rel=0.08)
    assert drawn.sum(axis=1) == pytest.approx(np.zeros(2000), abs=1e-9)


def test_bootstrap_leaves_out_rounds_that_connect_nothing():
    votes = joined(beats([(0, 1)] * 6 + [(1, 0)]), beats([(2, 0)]))
    drawn = bootstrap_ratings(votes, 200, np.random.default_rng(16))
    empty = np.isnan(drawn[:, 0])
    assert 0 < empty.sum() < 200
    assert np.isnan(drawn[:, 2]).all()
    assert np.isfinite(drawn[~empty][:, :2]).all()
    with pytest.raises(ValueError, match="rounds"):
        bootstrap_ratings(votes, 0, np.random.default_rng(17))


# -- refusals ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"confidence": 95}, "confidence"),
        ({"left": [True]}, "1 sides for 400 votes"),
        ({"left": [0.5] * 400}, "true .* or false"),
    ],
)
def test_impossible_options_are_refused(options, reason):
    votes, _ = draw_study(np.random.default_rng(19), CLEAR)
    with pytest.raises(ValueError, match=reason):
        bradley_terry(votes, **options)


def test_every_result_can_be_written_as_strict_json():
    votes, left = draw_study(np.random.default_rng(20), CLEAR)
    json.dumps(dataclasses.asdict(bradley_terry(votes, left=left)), allow_nan=False)
