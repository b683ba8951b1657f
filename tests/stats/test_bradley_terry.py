import dataclasses
import json
import math

import numpy as np
import pytest
from scipy.special import expit

from evalsite.stats import (
    NotConverged,
    bootstrap_ratings,
    bradley_terry,
    check_votes,
    clustered_interval,
    fit_bradley_terry,
)
from evalsite.stats.clusters import cross, group
from evalsite.stats.fit import fit_connected, maximum
from evalsite.stats.jackknife import cluster_steps, model_of, vote_steps
from evalsite.stats.newton import climb
from evalsite.stats.tallies import count_table, kinds_of
from tests.stats.simulated import draw_study, mean_rates

CLEAR = (0.9, 0.4, 0.0, -0.5, -0.8)


def beats(pairs, n_systems=None):
    """Votes won by the first of each pair, one rater and one prompt a vote."""
    first, second = zip(*pairs, strict=True)
    return check_votes(first, second, np.ones(len(pairs)), None, None, n_systems=n_systems)


# -- by hand -------------------------------------------------------------------------------


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


# -- published tables ----------------------------------------------------------------------

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


# -- the jackknife -------------------------------------------------------------------------


def rows_of(model, kinds):
    """x of every vote, as the rows of a matrix."""
    own = kinds.of_votes
    x = np.zeros((own.size, model.width))
    rows = np.arange(own.size)
    x[rows, model.first[own]], x[rows, model.second[own]] = 1, -1
    if model.side:
        x[:, -1] = 1
    return x


def step_without(model, kinds, out):
    """Newton's first step when some votes are left out, in plain matrices."""
    x, own = rows_of(model, kinds)[out], kinds.of_votes[out]
    left_over = model.information - (x.T * model.weights[own]) @ x
    return -np.linalg.pinv(left_over, rcond=1e-10) @ (x.T @ model.residuals[own])


def steps_one_by_one(model, kinds, codes):
    """What the jackknife is: one cluster left out at a time."""
    order = np.argsort(codes, kind="stable")
    clusters = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    steps = np.array([step_without(model, kinds, cluster) for cluster in clusters])
    return (1 - 1 / len(steps)) * steps.T @ steps


def models(seed, side, raters=300, prompts=40, per_prompt=25):
    """A model of uneven votes: many raters of a few votes, one of very many."""
    rng = np.random.default_rng(seed)
    votes, left = draw_study(
        rng, CLEAR, raters=raters, prompts=prompts, per_prompt=per_prompt, tie=0.2, side=0.3
    )
    who = np.where(rng.random(votes.n) < 0.2, 0, votes.raters)
    kinds = kinds_of(votes, left if side else None)
    counts = count_table(kinds)
    fit = fit_connected(counts[..., 2] + counts[..., 1] / 2, counts.sum(axis=2), side=side)
    return model_of(fit, kinds, counts), kinds, counts, group(who), group(votes.prompts)


@pytest.mark.parametrize("side", [False, True])
def test_steps_are_those_of_leaving_out_one_by_one(side):
    model, kinds, counts, raters, prompts = models(4, side)
    for groups in ((raters,), (prompts,), (raters, prompts)):
        codes = groups[0].codes if len(groups) == 1 else cross(*groups).codes
        found = cluster_steps(model, kinds, *groups)
        expected = steps_one_by_one(model, kinds, codes)
        assert found.covariance == pytest.approx(expected, rel=1e-6, abs=1e-9)
        assert found.lost.shape == (0, model.width)
    votes = vote_steps(model, counts)
    expected = steps_one_by_one(model, kinds, np.arange(kinds.of_votes.size))
    assert votes.covariance == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_one_step_comes_close_to_fitting_again_without_the_cluster():
    model, kinds, counts, _, prompts = models(5, False)
    out = prompts.codes == 7
    without = np.bincount(kinds.of_votes[~out], minlength=kinds.count).reshape(counts.shape)
    full, rest = (
        maximum(c[..., 2] + c[..., 1] / 2, c.sum(axis=2), side=False) for c in (counts, without)
    )
    step = step_without(model, kinds, out)
    assert rest - full == pytest.approx(step, abs=0.02 * np.abs(step).max())


def test_two_way_variance_is_the_sum_over_dimensions_less_the_cells():
    model, kinds, _, raters, prompts = models(6, False)
    total = (
        steps_one_by_one(model, kinds, raters.codes)
        + steps_one_by_one(model, kinds, prompts.codes)
        - steps_one_by_one(model, kinds, cross(raters, prompts).codes)
    )
    first, second = model.first[kinds.of_votes], model.second[kinds.of_votes]
    outcomes = kinds.of_votes % 3 / 2
    found = bradley_terry(check_votes(first, second, outcomes, raters.codes, prompts.codes))
    for d in found.differences:
        i, j = d.first, d.second
        variance = total[i, i] + total[j, j] - 2 * total[i, j]
        assert d.se == pytest.approx(math.sqrt(variance), rel=1e-6)
    assert [r.se for r in found.ratings] == pytest.approx(np.sqrt(np.diag(total)), rel=1e-6)
    assert found.df == 39


def test_variance_has_the_floor_of_a_tenth_of_independent_votes():
    # Each rater and each prompt is split evenly: nothing varies but the cells.
    outcomes = np.tile([1.0, 0.0, 0.0, 1.0], 5)
    raters, prompts = np.tile([0, 0, 1, 1], 5), np.tile([0, 1, 0, 1], 5)
    votes = check_votes(np.zeros(20, int), np.ones(20, int), outcomes, raters, prompts)
    assert bradley_terry(votes).differences[0].se == pytest.approx(
        math.sqrt(0.1 * 5 / (20 * 19)) / 0.25
    )


def joined(*parts):
    """Several votes as one; raters and prompts keep their numbers."""
    names = ("first", "second", "outcomes", "raters", "prompts")
    return check_votes(*(np.concatenate([getattr(v, name) for v in parts]) for name in names))


def test_a_system_known_to_one_rater_only_has_no_standard_error():
    others, _ = draw_study(np.random.default_rng(9), CLEAR[:3])
    k = np.arange(40)
    lonely = check_votes(np.full(40, 3), k % 3, (k % 4 > 0) * 1.0, np.full(40, 30), k)
    found = bradley_terry(joined(others, lonely))
    assert found.warnings == ("rests on one rater",)
    for d in found.differences:
        assert (d.se is None) == (d.p_value is None) == (d.p_holm is None) == (d.second == 3)
    assert all(rating.se is None and rating.elo is not None for rating in found.ratings)
    assert (found.ratings[3].rank_low, found.ratings[3].rank_high) == (1, 4)
    # The differences of the others are those of their own jackknife: nothing else depends on it.
    assert found.differences[0].se is not None


# -- which systems can be rated ------------------------------------------------------------


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


# -- ranks and the side --------------------------------------------------------------------


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


# -- coverage ------------------------------------------------------------------------------


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


# -- the bootstrap of the arena tools ------------------------------------------------------


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


# -- stopping and refusing -----------------------------------------------------------------


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
