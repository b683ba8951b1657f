"""Standard errors of ratings: each cluster of votes left out, one step."""

import math

import numpy as np
import pytest

from evalsite.stats import bradley_terry, check_votes
from evalsite.stats.clusters import cross, group
from evalsite.stats.fit import fit_connected, maximum
from evalsite.stats.jackknife import cluster_steps, model_of, vote_steps
from evalsite.stats.tallies import count_table, kinds_of
from tests.stats.by_hand import CLEAR, joined
from tests.stats.simulated import draw_study


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
