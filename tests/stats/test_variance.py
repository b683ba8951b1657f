import math

import numpy as np
import pytest
from scipy.stats import chi2

from evalsite.stats.clusters import UNLABELLED, Groups, cross, factorise, group
from evalsite.stats.variance import (
    clustered_variance,
    combine,
    jackknife_variance,
    satterthwaite_df,
    variance_components,
)

# 24 uneven votes: 6 raters, 6 prompts, 21 cells.
Y = np.array([1, 1, 0.5, 0, 1, 1, 0, 1, 0.5, 1, 0, 0, 1, 1, 1, 0, 1, 0.5, 1, 0, 1, 1, 0, 1])
RATERS = group(factorise(list("AAAAABBBBCCCCCCDDDEEEEFF"), 24, "rater"))
PROMPTS = group(factorise(list("012300124012344125035525"), 24, "prompt"))
E = Y - Y.mean()


def test_jackknife_by_hand():
    # Leaving a cluster out moves the mean of 1 1 | 1 0 | 0 0 from 1/2 to 1/4, 1/2, 3/4:
    # 2/3 of the sum of the squared moves.
    groups = group(np.array([0, 0, 1, 1, 2, 2]))
    residuals = np.array([1, 1, 1, 0, 0, 0]) - 0.5
    assert jackknife_variance(groups.sums(residuals), groups) == pytest.approx(1 / 12)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (RATERS, 0.0010938273412609853),
        (PROMPTS, 0.017698242250886217),
        (cross(RATERS, PROMPTS), 0.010139768756476987),
    ],
)
def test_one_dimension_equals_statsmodels_crv3(groups, expected):
    # statsmodels 0.15.0, g the codes of the groups:
    #   cov_cluster(OLS(Y, np.ones(24)).fit(), g, crv_type="cluster-crv3")
    assert jackknife_variance(groups.sums(E), groups) == pytest.approx(expected, rel=1e-12)


def test_two_dimensions_add_up_less_their_cells():
    found = clustered_variance(E, (RATERS, PROMPTS))
    expected = 0.0010938273412609853 + 0.017698242250886217 - 0.010139768756476987
    assert found.variance == pytest.approx(expected, rel=1e-12)
    assert found.independent == pytest.approx(Y.var(ddof=1) / 24)


def test_variance_has_a_floor_where_the_terms_cancel():
    # Each rater and each prompt is split evenly: nothing varies but the cells, four of five equal
    # votes: V_cell = 3/4 * 4 (2.5 / 15)^2 = 1/12. At 2 degrees of freedom chi-squared is
    # exponential: its .04 quantile over 2 is -ln .96.
    outcomes = np.tile([1.0, 0.0, 0.0, 1.0], 5)
    raters, prompts = group(np.tile([0, 0, 1, 1], 5)), group(np.tile([0, 1, 0, 1], 5))
    found = clustered_variance(outcomes - 0.5, (raters, prompts))
    assert found.variance == pytest.approx(-math.log(0.96) / 12)
    assert found.independent == pytest.approx(5 / (20 * 19))


def combined(parts, shared, dfs, *, independent):
    """Variance and df of one sample."""
    columns = np.array([parts]).T, np.array([shared]), np.array([dfs]).T
    found = combine(*columns, independent=np.array([independent]))
    return found.variance[0], found.df[0]


@pytest.mark.parametrize("df", [2.0, 3.7, 29.0, 400.0])
def test_the_floor_is_what_independent_votes_give_less_than_in_one_study_of_25(df):
    floor, _ = combined([0.0], 0.0, [df], independent=0.01)
    assert chi2.cdf(df * floor / 0.01, df) == pytest.approx(0.04)


def test_a_single_degree_of_freedom_has_the_floor_of_two():
    one, _ = combined([0.0], 0.0, [1.0], independent=0.01)
    two, _ = combined([0.0], 0.0, [2.0], independent=0.01)
    assert one == two > 0.0004


def test_votes_cast_twice_do_not_lower_the_floor():
    # Three raters who agree by chance, each on other prompts: V_rater = 0, V_prompt = V_cell.
    outcomes = np.tile([1.0, 0.0, 1.0, 0.0], 9)
    raters, prompts = np.repeat(np.arange(3), 12), np.arange(36)
    once = clustered_variance(outcomes - 0.5, (group(raters), group(prompts)))
    assert once.variance < 0.1 * once.independent
    twice = clustered_variance(
        np.tile(outcomes, 2) - 0.5, (group(np.tile(raters, 2)), group(np.tile(prompts, 2)))
    )
    assert twice.variance == pytest.approx(once.variance, rel=0.05)


def test_a_richer_dimension_lends_degrees_of_freedom_where_it_carries_variance():
    # w_a = 5 / (5 + 3 - 1) = 5/7, drawn to 1: u = 19/21; 1 / (u^2 / 2 + (1 - u)^2 / 29) = 2.441348.
    variance, df = combined([0.5, 0.3], 0.1, [2.0, 29.0], independent=0.1)
    assert variance == pytest.approx(0.7)
    assert df == pytest.approx(2.441348, abs=1e-6)
    turned = combined([0.3, 0.5], 0.1, [29.0, 2.0], independent=0.1)
    assert turned == pytest.approx((variance, df))


def test_equally_poor_dimensions_lend_the_same_in_either_order():
    # w_a = 1 / (1 + 9 - 1), u_a = 19/27, J_a = 1 / ((u_a^2 + (1 - u_a)^2) / 2) = 3.431;
    # w_b = 9 / (9 + 1 - 1) = 1, u_b = 1, J_b = 2: rounding must not choose between 3 and 2.
    for dfs in ([2.0, 2.0], [2.0, 2.0 + 1e-15], [2.0 + 1e-15, 2.0]):
        _, df = combined([0.1, 0.9], 0.1, dfs, independent=0.1)
        assert df == pytest.approx(2)


def test_a_dimension_that_does_not_enter_changes_nothing():
    alone = combined([0.5], 0.0, [2.4], independent=0.1)
    assert combined([0.5, 0.0], 0.0, [2.4, np.inf], independent=0.1) == alone


@pytest.mark.parametrize(
    ("parts", "dfs", "expected"),
    [
        ([0.5, 0.1], [2.0, 29.0], 2),  # the other dimension is no more than its cells
        ([0.5, 0.05], [2.0, 29.0], 2),
        ([0.1, 0.9], [2.0, 29.0], 3),  # 3.7 by the formula
        ([0.5, 0.3], [3.2, 29.0], 3.2),
        ([0.5], [0.4], 1),
    ],
)
def test_no_dimension_lends_more_than_there_is(parts, dfs, expected):
    shared = 0.1 if len(parts) == 2 else 0.0
    _, df = combined(parts, shared, dfs, independent=0.1)
    assert df == pytest.approx(expected)


def incidence(groups):
    return (groups.codes[:, None] == np.arange(groups.count)).astype(float)


def test_components_solve_the_moment_equations_written_with_matrices():
    # The same expectations by another road: E (Z'e)'(Z'e) = trace(Z' M S M Z), with M the
    # centring matrix and S the covariance of the votes, all written out as n x n matrices.
    n = Y.size
    centre = np.eye(n) - 1 / n
    za, zb = incidence(RATERS), incidence(PROMPTS)
    covariances = [za @ za.T, zb @ zb.T, np.eye(n)]
    lhs = [
        [np.trace(z.T @ centre @ s @ centre @ z) for s in covariances] for z in (za, zb, np.eye(n))
    ]
    rhs = [np.sum((z.T @ E) ** 2) for z in (za, zb, np.eye(n))]
    expected = np.linalg.solve(lhs, rhs)

    sums = [RATERS.sums(E), PROMPTS.sums(E)]
    components, total = variance_components(E, (RATERS, PROMPTS), sums, cross(RATERS, PROMPTS))
    assert min(expected) < 0 < max(expected)  # so that the cut at zero is seen to work
    assert np.ravel(components) == pytest.approx(np.maximum(expected[:2], 0), abs=1e-12)
    assert total == pytest.approx(expected.sum())


def test_components_recover_what_the_votes_were_made_of():
    rng = np.random.default_rng(11)
    raters, prompts = group(rng.integers(0, 1200, 60_000)), group(rng.integers(0, 900, 60_000))
    values = (
        0.5 * rng.standard_normal(1200)[raters.codes]
        + 0.8 * rng.standard_normal(900)[prompts.codes]
        + rng.standard_normal(60_000)
    )
    e = values - values.mean()
    sums = [raters.sums(e), prompts.sums(e)]
    components, total = variance_components(e, (raters, prompts), sums, cross(raters, prompts))
    assert np.ravel(components) == pytest.approx([0.25, 0.64], rel=0.1)
    assert total == pytest.approx(1.89, rel=0.05)


def test_two_dimensions_that_are_one_leave_all_variance_to_noise():
    components, total = variance_components(
        E, (RATERS, RATERS), [RATERS.sums(E)] * 2, cross(RATERS, RATERS)
    )
    assert np.ravel(components).tolist() == [0.0, 0.0]
    assert total == pytest.approx(E @ E / 23)


def df_of(component, sizes):
    return satterthwaite_df(component, 1.0, Groups(np.arange(sizes.size), sizes).powers())


def test_equal_clusters_have_one_degree_of_freedom_less_than_their_number():
    assert df_of(0.3, np.full(7, 12.0)) == pytest.approx(6)


@pytest.mark.parametrize("component", [0.0, 0.2, 1.0])
def test_degrees_of_freedom_match_the_quadratic_form_written_with_matrices(component):
    # For T = H u, u independent with variances tau: df = 2 mean^2 / variance of T'T
    # = trace(A)^2 / trace(A A) with A = H diag(tau) H'.
    sizes = np.array([1.0, 2, 3, 5, 8, 40])
    tau = component * sizes**2 + (1 - component) * sizes
    centring = np.eye(6) - np.outer(sizes / sizes.sum(), np.ones(6))
    form = centring @ np.diag(tau) @ centring.T
    expected = np.trace(form) ** 2 / np.trace(form @ form)
    assert df_of(component, sizes) == pytest.approx(expected)


def test_groups_do_not_depend_on_how_far_apart_the_keys_lie():
    near = np.array([3, 1, 3, 2, 1, 1])
    far = near * 10**9 - 5  # too wide to count, so the keys are sorted
    assert group(near).codes.tolist() == group(far).codes.tolist() == [2, 0, 2, 1, 0, 0]
    assert group(near).sizes.tolist() == group(far).sizes.tolist() == [3, 1, 2]


def test_labels_of_any_kind_are_numbered():
    assert factorise(["b", "a", "b"], 3, "rater").tolist() == [0, 1, 0]
    assert factorise(np.array([7, 3, 7]), 3, "rater").tolist() == [1, 0, 1]
    far_apart = np.array([2**63 - 1, -(2**63), 2**63 - 1])
    assert factorise(far_apart, 3, "rater").tolist() == [1, 0, 1]
    assert factorise(["b", None, "none"], 3, "rater").tolist() == [0, UNLABELLED, UNLABELLED]
    assert factorise(None, 2, "rater").tolist() == [UNLABELLED, UNLABELLED]


def test_a_hole_in_the_labels_is_refused():
    with pytest.raises(ValueError, match="a rater label is NaN"):
        factorise(["b", float("nan")], 2, "rater")


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match="3 prompt labels for 2 votes"):
        factorise(["a", "b", "c"], 2, "prompt")
