"""The variance of a mean of votes that share raters and prompts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri

from evalsite.stats.clusters import Floats, Groups, cross

_SINGULAR = 1e12
"""Condition number above which moment equations are taken to have no single solution."""

_TOO_SMALL = 0.04
"""How often independent votes give a variance below the floor."""

_LEAST_DF = 2.0
"""Below it the floor would be next to nothing."""

_FEW_DF = 3.0
"""Degrees of freedom that a second dimension may lend to a poorer one."""


@dataclass(frozen=True, slots=True)
class MeanVariance:
    """The variance of a mean and how far it may be trusted.

    variance : of the mean, > 0.
    independent : what it would be if all votes were independent, s2.
    df : degrees of freedom of `variance`, >= 1.
    """

    variance: float
    independent: float
    df: float


def clustered_variance(residuals: Floats, dimensions: tuple[Groups, ...]) -> MeanVariance:
    """Variance of the mean of votes clustered in one dimension or in two crossed ones.

    V_d is `jackknife_variance` of each dimension and of their cells, df_d `satterthwaite_df` of
    each dimension; `combine` makes one variance and one df of them.

    Parameters
    ----------
    residuals : e_i = y_i - mean(y), shape (n,), not all zero.
    dimensions : one or two groupings of the votes, each with at least two clusters.

    Returns
    -------
    MeanVariance, in squared units of the votes.

    Raises
    ------
    Nothing: the callers have checked their input.
    """
    n = residuals.size
    sums = [groups.sums(residuals) for groups in dimensions]
    parts = [jackknife_variance(t, g.sizes) for t, g in zip(sums, dimensions, strict=True)]
    cells = cross(*dimensions) if len(dimensions) == 2 else None
    shared = 0.0 if cells is None else jackknife_variance(cells.sums(residuals), cells.sizes)
    components, total = variance_components(residuals, dimensions, sums, cells)
    dfs = [
        satterthwaite_df(component, total, groups.sizes)
        for component, groups in zip(components, dimensions, strict=True)
    ]
    return combine(parts, shared, dfs, independent=float(residuals @ residuals) / (n * (n - 1)))


def combine(
    parts: Sequence[float], shared: float, dfs: Sequence[float], *, independent: float
) -> MeanVariance:
    """One variance and its degrees of freedom from those of one or two dimensions.

    Two dimensions overlap in their cells (votes with the same rater and prompt), which both
    count, so the cells are taken off once:

        V = max(V_1 + V_2 - V_cell, max(s2, V_cell) c(f) / f)    one dimension: V_cell = 0

    The floor stands because few clusters may agree by chance, and the difference may come out
    at nothing or below. c(f) is the .04 quantile of chi-squared at f = max(2, df), df the smaller
    of the df_d: independent votes give less in one study of 25. V_cell is there so that
    votes cast twice do not lower the floor.

    Below 3, Student's quantile grows so fast that the smaller df_d asks too much where the
    other dimension carries part of V. With a the poorer one and b the other,

        w = V_a / (V_a + max(V_b - V_cell, 0)),    u = (2 + w) / 3
        df = max(df_a, min(3, 1 / (u^2 / df_a + (1 - u)^2 / df_b)))

    which is Satterthwaite's for a sum of two variances, with the share w of the poorer one
    drawn two thirds of the way to 1: on few clusters w itself is hardly known.

    Parameters
    ----------
    parts : V_d of each dimension, >= 0.
    shared : V_cell of two dimensions, 0 for one.
    dfs : df_d of each dimension, > 0; taken to be at least 1.
    independent : s2, the variance if all votes were independent, > 0.

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
    known = [max(df, 1.0) for df in dfs]
    df = min(known)
    variance = max(sum(parts) - shared, max(independent, shared) * _least_ratio(df))
    if len(parts) == 2 and df < _FEW_DF:
        poor = known.index(df)
        share = _share(parts[poor], max(parts[1 - poor] - shared, 0.0))
        drawn = (2 + share) / 3
        joint = 1 / (drawn**2 / df + (1 - drawn) ** 2 / known[1 - poor])
        df = max(df, min(_FEW_DF, joint))
    return MeanVariance(variance, independent, df)


def _least_ratio(df: float) -> float:
    """The floor of a variance, in units of that of independent votes."""
    df = max(df, _LEAST_DF)
    return float(chdtri(df, 1 - _TOO_SMALL)) / df


def _share(one: float, other: float) -> float:
    return one / (one + other) if one + other > 0 else 1.0


def jackknife_variance(sums: Floats, sizes: Floats) -> float:
    """Delete-one-cluster jackknife variance of a mean.

    Leaving cluster g out moves the mean by T_g / (n - n_g), so with G clusters:

        V = (G - 1) / G * sum_g (T_g / (n - n_g))^2

    On one dimension it equals the cluster-robust variance CV3 of a regression on a constant.

    Parameters
    ----------
    sums : T_g, the sum of the residuals y_i - mean(y) in each cluster, shape (G,).
    sizes : n_g, the votes of each cluster, shape (G,), G >= 2.

    Returns
    -------
    The variance, in squared units of the votes.

    Raises
    ------
    Nothing: the callers have checked their input.

    Source
    ------
    R. M. Bell and D. F. McCaffrey, Survey Methodology 28 (2002) 169-181; J. G. MacKinnon,
    M. O. Nielsen and M. D. Webb, Journal of Econometrics 232 (2023) 272-299.
    """
    shifts = sums / (sizes.sum() - sizes)
    return float((1 - 1 / sizes.size) * (shifts @ shifts))


def variance_components(
    residuals: Floats, dimensions: tuple[Groups, ...], sums: list[Floats], cells: Groups | None
) -> tuple[list[float], float]:
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

    Returns
    -------
    The components of the dimensions, not below 0, and the total of all components before
    they were cut off at 0, at least 1e-12. In squared units of the votes.

    Raises
    ------
    Nothing: the callers have checked their input.

    Source
    ------
    S. R. Searle, G. Casella and C. E. McCulloch, Variance Components (1992), chapter 5,
    with the expectations worked out for sums of residuals.
    """
    squares = float(residuals @ residuals)
    matrix = _moment_matrix(residuals.size, dimensions, cells)
    observed = np.array([*(float(t @ t) for t in sums), squares])
    solved = _solve(matrix, observed)
    if solved is None:
        return [0.0] * len(dimensions), max(squares / (residuals.size - 1), 1e-12)
    return [max(float(s), 0.0) for s in solved[:-1]], max(float(solved.sum()), 1e-12)


def satterthwaite_df(component: float, total: float, sizes: Floats) -> float:
    """Degrees of freedom of a jackknife variance over clusters of unequal size.

    The chi-squared with the same mean and variance as sum_g T_g^2, under the model in which
    clusters are independent and T_g + n_g (mean - truth) has the variance

        tau_g = s_d n_g^2 + max(tot - s_d, 0) n_g

    With A = sum tau_g, B = sum n_g tau_g, C = sum n_g^2 tau_g and k = sum n_g^2 / n^2:

        df = (A - 2 B/n + k A)^2
             / (sum tau_g^2 (1 - 4 n_g/n + 2 k) + (2 C A + 2 B^2)/n^2 - 4 k B A/n + k^2 A^2)

    Parameters
    ----------
    component : s_d, the variance of a vote that belongs to this dimension, >= 0.
    total : the whole variance of a vote, tot > 0.
    sizes : n_g, shape (G,), G >= 2.

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
    n = sizes.sum()
    tau = component * sizes**2 + max(total - component, 0.0) * sizes
    a, b, c = tau.sum(), sizes @ tau, (sizes * sizes) @ tau
    k = (sizes @ sizes) / n**2
    spread = (
        (tau * tau) @ (1 - 4 * sizes / n + 2 * k)
        + (2 * c * a + 2 * b * b) / n**2
        - 4 * k * b * a / n
        + k * k * a * a
    )
    df = float((a - 2 * b / n + k * a) ** 2 / spread) if spread > 0 else 1.0
    return df if math.isfinite(df) else 1.0


def _moment_matrix(n: int, dimensions: tuple[Groups, ...], cells: Groups | None) -> Floats:
    """Coefficients of the components (rows: dimensions, then sum e^2; columns: the same)."""
    squares = np.array([g.sizes @ g.sizes for g in dimensions])
    cubes = np.array([(g.sizes**2) @ g.sizes for g in dimensions])
    size = len(dimensions)
    matrix = np.empty((size + 1, size + 1))
    matrix[:size, :size] = np.diag(squares - 2 * cubes / n + squares**2 / n**2)
    if cells is not None:
        one, two = dimensions
        meeting = one.sizes[one.codes] @ two.sizes[two.codes]
        shared = cells.sizes @ cells.sizes - 2 * meeting / n + squares[0] * squares[1] / n**2
        matrix[0, 1] = matrix[1, 0] = shared
    matrix[:size, size] = matrix[size, :size] = n - squares / n
    matrix[size, size] = n - 1
    return matrix


def _solve(matrix: Floats, observed: Floats) -> Floats | None:
    """The solution, or None where the equations are singular to working accuracy.

    The matrix is symmetric; scaling it to a unit diagonal makes its condition number tell
    real dependence apart from mere difference in magnitude, which grows with the votes.
    """
    diagonal = np.diag(matrix)
    if not (np.isfinite(matrix).all() and (diagonal > 0).all()):
        return None
    scale = 1 / np.sqrt(diagonal)
    scaled = matrix * np.outer(scale, scale)
    if not np.linalg.cond(scaled) < _SINGULAR:
        return None
    return np.asarray(scale * np.linalg.solve(scaled, scale * observed), dtype=np.float64)
