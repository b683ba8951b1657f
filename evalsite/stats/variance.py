"""The variance of a mean of votes that share raters and prompts, for many means at once.

Votes come in samples (the pairs of a criterion, say), one sample after the other; each has its
own mean, and every result has one place per sample. A sample alone is a list of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from evalsite.stats.clusters import Codes, Floats, Groups, cross, run_totals

Truths = NDArray[np.bool_]

_SINGULAR = 1e12
"""Condition number above which moment equations are taken to have no single solution."""

_TOO_SMALL = 0.04
"""How often independent votes give a variance below the floor."""

_LEAST_DF = 2.0
"""Below it the floor would be next to nothing."""

_FEW_DF = 3.0
"""Degrees of freedom that a second dimension may lend to a poorer one."""


@dataclass(frozen=True, slots=True, eq=False)
class MeanVariance:
    """The variances of means and how far they may be trusted: a place per sample.

    variance : of the mean, > 0.
    independent : what it would be if all votes were independent, s2.
    df : degrees of freedom of `variance`, >= 1.
    """

    variance: Floats
    independent: Floats
    df: Floats


def clustered_variance(
    residuals: Floats, dimensions: tuple[Groups, ...], used: Sequence[Truths] | None = None
) -> MeanVariance:
    """Variance of the mean of votes clustered in one dimension or in two crossed ones.

    V_d is `jackknife_variance` of each dimension and of their cells, df_d `satterthwaite_df` of
    each dimension; `combine` makes one variance and one df of them.

    Parameters
    ----------
    residuals : e_i = y_i - mean(y) with the mean of the vote's sample, shape (n,).
    dimensions : one or two groupings of the votes.
    used : of each dimension, whether it enters in each sample; None for all of them.

    Returns
    -------
    MeanVariance, in squared units of the votes. It means nothing where residuals are all zero,
    or where a dimension enters that has one cluster; without any dimension df is infinite.

    Raises
    ------
    Nothing: the callers have checked their input.
    """
    n = dimensions[0].votes
    if used is None:
        used = [np.ones(n.size, dtype=np.bool_)] * len(dimensions)
    sums = [groups.sums(residuals) for groups in dimensions]
    crossed = len(dimensions) == 2 and (used[0] & used[1]).any()
    cells = cross(*dimensions) if crossed else None
    with np.errstate(divide="ignore", invalid="ignore"):  # where a sample has no answer
        independent = run_totals(residuals**2, n) / (n * (n - 1))
        parts = [jackknife_variance(t, groups) for t, groups in zip(sums, dimensions, strict=True)]
        shared = np.zeros(n.size)
        if cells is not None:
            cell_variance = jackknife_variance(cells.sums(residuals), cells)
            shared = np.where(used[0] & used[1], cell_variance, 0.0)
        components, total = variance_components(residuals, dimensions, sums, cells, used)
        powers = np.stack([groups.powers() for groups in dimensions], axis=1)
        dfs = satterthwaite_df(components, total, powers)
        return combine(
            np.where(used, parts, 0.0),
            shared,
            np.where(used, dfs, np.inf),
            independent=independent,
        )


def combine(parts: Floats, shared: Floats, dfs: Floats, *, independent: Floats) -> MeanVariance:
    """One variance and its degrees of freedom from those of one or two dimensions.

    Two dimensions overlap in their cells (votes with the same rater and prompt), which both
    count, so the cells are taken off once:

        V = max(V_1 + V_2 - V_cell, max(s2, V_cell) c(f) / f)    one dimension: V_cell = 0

    The floor stands because few clusters may agree by chance, and the difference may come out
    at nothing or below. c(f) is the .04 quantile of chi-squared at f = max(2, df), df the smaller
    of the df_d: independent votes give less in one study of 25. V_cell is there so that
    votes cast twice do not lower the floor.

    Below 3, Student's quantile grows so fast that the smaller df_d asks too much where the
    other dimension carries part of V. With a one dimension and b the other,

        w_a = V_a / (V_a + max(V_b - V_cell, 0)),    u_a = (2 + w_a) / 3
        J_a = 1 / (u_a^2 / df_a + (1 - u_a)^2 / df_b)
        df = max(min(df_a, df_b), min(3, J_a, J_b))

    J_a is Satterthwaite's for a sum of two variances, with the share w_a drawn two thirds of
    the way to 1: on few clusters w_a itself is hardly known. If df_b is 3 or more so is J_b:
    then the poorer dimension's alone counts. The smaller of both, so that no rounding error
    decides which dimension is the poorer one where they are equally poor.

    Parameters
    ----------
    parts : V_d of each dimension, >= 0, shape (dimensions, samples); 0 where it does not enter.
    shared : V_cell, shape (samples,); 0 where fewer than two dimensions enter.
    dfs : df_d, > 0, shaped as `parts`; taken to be at least 1, infinite where it does not enter.
    independent : s2, the variance if all votes were independent, > 0, shape (samples,).

    Returns
    -------
    MeanVariance, in the units given.

    Raises
    ------
    Nothing: the callers have checked their input.

    Source
    ------
    A. C. Cameron, J. B. Gelbach and D. L. Miller, JBES 29 (2011) 238-249, for the sum over
    dimensions, here with jackknife terms in place of sandwich terms; Satterthwaite (1946). The
    floor, 3 and the two thirds were chosen by simulation (docs/coverage.md).
    """
    known = np.maximum(dfs, 1.0)
    floor = np.maximum(independent, shared) * _least_ratio(known.min(axis=0))
    variance = np.maximum(parts.sum(axis=0) - shared, floor)
    return MeanVariance(variance, independent, joint_df(parts, shared, known))


def joint_df(parts: Floats, shared: Floats, dfs: Floats) -> Floats:
    """The degrees of freedom of the sum of one or two variances over dimensions.

    Parameters
    ----------
    parts, shared : as for `combine`, in any unit.
    dfs : as for `combine`, at least 1.

    Returns
    -------
    df of `combine`, shape (samples,).

    Raises
    ------
    Nothing: the callers have checked their input.

    Source
    ------
    As for `combine`.
    """
    least = dfs.min(axis=0)
    lent = np.minimum(_FEW_DF, _added_df(parts, shared, dfs))
    return np.asarray(np.where(least < _FEW_DF, np.maximum(least, lent), least))


def _least_ratio(df: Floats) -> Floats:
    """The floor of a variance, in units of that of independent votes."""
    df = np.maximum(df, _LEAST_DF)
    return np.asarray(chdtri(df, 1 - _TOO_SMALL) / df)


def _added_df(parts: Floats, shared: Floats, dfs: Floats) -> Floats:
    """The smaller one of J_a and J_b; of a dimension alone, its own."""
    others = np.maximum(parts[::-1] - shared, 0.0) if len(parts) > 1 else np.zeros_like(parts)
    total = parts + others
    share = np.divide(parts, total, out=np.ones_like(total), where=total > 0)
    drawn = (2 + share) / 3
    lent = dfs[::-1] if len(dfs) > 1 else np.full_like(dfs, np.inf)
    return np.asarray(1 / (drawn**2 / dfs + (1 - drawn) ** 2 / lent).max(axis=0))


def jackknife_variance(sums: Floats, groups: Groups) -> Floats:
    """Delete-one-cluster jackknife variance of a mean.

    Leaving cluster g out moves the mean by T_g / (n - n_g), so with G clusters:

        V = (G - 1) / G * sum_g (T_g / (n - n_g))^2

    On one dimension it equals the cluster-robust variance CV3 of a regression on a constant.

    Parameters
    ----------
    sums : T_g, the sum of the residuals y_i - mean(y) in each cluster, shape (G,).
    groups : the clusters, at least two in a sample.

    Returns
    -------
    The variance of each sample's mean, in squared units of the votes.

    Raises
    ------
    Nothing: the callers have checked their input.

    Source
    ------
    R. M. Bell and D. F. McCaffrey, Survey Methodology 28 (2002) 169-181; J. G. MacKinnon,
    M. O. Nielsen and M. D. Webb, Journal of Econometrics 232 (2023) 272-299.
    """
    n = groups.totals(groups.sizes)
    shifts = sums / (groups.per_cluster(n) - groups.sizes)
    return (1 - 1 / groups.counts) * groups.totals(shifts**2)


def variance_components(
    residuals: Floats,
    dimensions: tuple[Groups, ...],
    sums: list[Floats],
    cells: Groups | None,
    used: Sequence[Truths] | None = None,
) -> tuple[Floats, Floats]:
    """How much of a vote's variance comes from each dimension, by the method of moments.

    The model is y_i = mean + a_rater(i) + b_prompt(i) + noise_i with variances s_a, s_b, s_e.
    The sums of T_g^2 over each dimension and the sum of e^2 are set equal to what the model
    expects of them, which is linear in the three. With S_d = sum n_g^2, Q_d = sum n_g^3,
    S_x = sum of squared cell sizes and X = sum over votes of n_rater(i) n_prompt(i):

        E sum_1 T^2 = s_1 (S_1 - 2 Q_1/n + S_1^2/n^2) + s_2 (S_x - 2 X/n + S_1 S_2/n^2)
                      + s_e (n - S_1/n)            and the same with 1 and 2 exchanged
        E sum e^2   = s_1 (n - S_1/n) + s_2 (n - S_2/n) + s_e (n - 1)

    Where these equations have no single solution (two dimensions that are one, say), all the
    variance is taken to be noise.

    Parameters
    ----------
    residuals : e_i = y_i - mean(y), shape (n,).
    dimensions : one or two groupings, each with a cluster of two votes or more.
    sums : T_g of each dimension.
    cells : the crossing of two dimensions, None for one.
    used : as for `clustered_variance`; a dimension that does not enter has no component.

    Returns
    -------
    The components of the dimensions, not below 0, and the total of all components before
    they were cut off at 0, at least 1e-12. In squared units of the votes, shapes (dimensions,
    samples) and (samples,).

    Raises
    ------
    Nothing: the callers have checked their input.

    Source
    ------
    S. R. Searle, G. Casella and C. E. McCulloch, Variance Components (1992), chapter 5,
    with the expectations worked out for sums of residuals.
    """
    n = dimensions[0].votes
    squares = run_totals(residuals**2, n)
    matrix = _moment_matrix(n, dimensions, cells)
    observed = np.stack(
        [*(g.totals(t**2) for t, g in zip(sums, dimensions, strict=True)), squares], axis=-1
    )
    for d, enters in enumerate(used or ()):  # what does not enter is solved for apart: it is 0
        matrix[~enters, d, :] = matrix[~enters, :, d] = observed[~enters, d] = 0
        matrix[~enters, d, d] = 1
    noise = np.zeros_like(observed)
    noise[:, -1] = squares / (n - 1)
    solved = _solve(matrix, observed, noise)
    return np.maximum(solved[:, :-1].T, 0.0), np.maximum(solved.sum(axis=1), 1e-12)


def satterthwaite_df(component: Floats | float, total: Floats | float, powers: Floats) -> Floats:
    """Degrees of freedom of a jackknife variance over clusters of unequal size.

    The chi-squared with the same mean and variance as sum_g T_g^2, under the model in which
    clusters are independent and T_g + n_g (mean - truth) has the variance

        tau_g = s_d n_g^2 + max(tot - s_d, 0) n_g

    With A = sum tau_g, B = sum n_g tau_g, C = sum n_g^2 tau_g and k = sum n_g^2 / n^2:

        df = (A - 2 B/n + k A)^2
             / (sum tau_g^2 (1 - 4 n_g/n + 2 k) + (2 C A + 2 B^2)/n^2 - 4 k B A/n + k^2 A^2)

    Parameters
    ----------
    component : s_d, the variance of a vote that belongs to this dimension, >= 0; any shape.
    total : the whole variance of a vote, tot > 0.
    powers : the sums of n_g, n_g^2, ..., n_g^5 over G >= 2 clusters (`Groups.powers`), shape
        (5, ...): all that the sums above need.

    Returns
    -------
    Degrees of freedom; 1 where the formula gives no number. G - 1 for equal sizes.

    Raises
    ------
    Nothing: the callers have checked their input.

    Source
    ------
    F. E. Satterthwaite, Biometrics Bulletin 2 (1946) 110-114; Bell and McCaffrey (2002).
    """
    n, s2, s3, s4, s5 = powers
    # tau_g = own n_g^2 + rest n_g, so that every sum is one over powers of n_g.
    own = np.asarray(component, dtype=np.float64)
    rest = np.maximum(total - own, 0.0)
    a, b, c = own * s2 + rest * n, own * s3 + rest * s2, own * s4 + rest * s3
    squares = own**2 * s4 + 2 * own * rest * s3 + rest**2 * s2  # of tau
    cubes = own**2 * s5 + 2 * own * rest * s4 + rest**2 * s3  # n_g tau^2
    k = s2 / n**2
    spread = (
        squares * (1 + 2 * k)
        - 4 * cubes / n
        + (2 * c * a + 2 * b * b) / n**2
        - 4 * k * b * a / n
        + k * k * a * a
    )
    df = (a - 2 * b / n + k * a) ** 2 / np.where(spread > 0, spread, np.nan)
    return np.where(np.isfinite(df), df, 1.0)


def _moment_matrix(n: Codes, dimensions: tuple[Groups, ...], cells: Groups | None) -> Floats:
    """Coefficients of the components (rows: dimensions, then sum e^2; columns: the same)."""
    size = len(dimensions)
    matrix = np.zeros((n.size, size + 1, size + 1))
    squares = []
    for d, groups in enumerate(dimensions):
        _, s2, s3, *_ = groups.powers()
        matrix[:, d, d] = s2 - 2 * s3 / n + s2**2 / n**2
        matrix[:, d, size] = matrix[:, size, d] = n - s2 / n
        squares.append(s2)
    if cells is not None:
        one, two = dimensions
        meeting = run_totals(one.sizes[one.codes] * two.sizes[two.codes], n)
        shared = cells.totals(cells.sizes**2) - 2 * meeting / n + squares[0] * squares[1] / n**2
        matrix[:, 0, 1] = matrix[:, 1, 0] = shared
    matrix[:, size, size] = n - 1
    return matrix


def _solve(matrix: Floats, observed: Floats, otherwise: Floats) -> Floats:
    """The solutions, or what stands for them where equations are singular to working accuracy.

    The matrix is symmetric; scaling it to a unit diagonal makes its condition number tell
    real dependence apart from mere difference in magnitude, which grows with the votes.
    """
    diagonal = np.diagonal(matrix, axis1=1, axis2=2)
    sound = np.flatnonzero(np.isfinite(matrix).all(axis=(1, 2)) & (diagonal > 0).all(axis=1))
    scale = 1 / np.sqrt(diagonal[sound])
    scaled = matrix[sound] * (scale[:, :, None] * scale[:, None, :])
    regular = np.linalg.cond(scaled) < _SINGULAR
    sound, scale, scaled = sound[regular], scale[regular], scaled[regular]
    found = otherwise.copy()
    right = scale * observed[sound]
    found[sound] = scale * np.linalg.solve(scaled, right[..., None])[..., 0]
    return found
