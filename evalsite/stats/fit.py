"""Bradley-Terry ratings by maximum likelihood, from counts of wins."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from evalsite.stats.clusters import Floats
from evalsite.stats.connectivity import has_negative_cycle, main_component
from evalsite.stats.newton import climb, inverse_of, tolerance_for


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Bradley-Terry ratings of systems that are all compared with each other.

    ratings : logits, mean zero, shape (K,).
    side : what standing first adds to the logit; None where that was not asked.
    covariance : of ratings and side if votes were independent and never tied: the inverse
        of Fisher's information, shape (D, D) with D = K, or K + 1 with a side.
    """

    ratings: Floats
    side: float | None
    covariance: Floats


def fit_bradley_terry(won: ArrayLike, played: ArrayLike, *, side: bool = False) -> Fit:
    """The ratings b that make the counted wins most likely.

    With b_i the rating of system i and s the effect of standing first (0 unless asked for):

        P(i wins against j | i first) = 1 / (1 + exp(-(b_i - b_j + s)))

    A tie counts as half a win of each. The cost does not depend on the number of votes.

    Parameters
    ----------
    won : won[i, j] = wins plus half the ties of i in the votes that name i first and j second,
        shape (K, K), K >= 2.
    played : played[i, j] = those votes. Without a side each vote may name its systems either
        way round, so wins[i, j] of i over j can be given as
        won = wins, played = wins + wins' if one triangle of both is set to 0.
    side : estimate s as well.

    Returns
    -------
    Fit.

    Raises
    ------
    ValueError : counts that are negative, not finite, of another shape, or more wins than
        votes; systems that are not strongly connected by their wins; a side that the votes
        cannot tell apart from ratings (`side_is_estimable`).
    NotConverged : Newton's method stopped above its tolerance.

    Source
    ------
    R. A. Bradley and M. E. Terry, Biometrika 39 (1952) 324-345; the side as in A. Agresti,
    Categorical Data Analysis (2002), section 10.6.
    """
    wins, votes = _checked(won, played)
    beaten = wins + (votes - wins).T
    if main_component(beaten).size < len(wins):
        raise ValueError("some systems never beat, or never lose to, the others")
    if side and not side_is_estimable(wins, votes):
        raise ValueError("the side explains all votes, or none can tell it from ratings")
    return fit_connected(wins, votes, side=side)


def fit_connected(won: Floats, played: Floats, *, side: bool) -> Fit:
    """`fit_bradley_terry` on counts that are known to have a maximum."""
    size = len(won)
    found = maximum(won, played, side=side)
    ratings = found[:size] - found[:size].mean()
    effect = float(found[size]) if side else 0.0
    expected = expit(ratings[:, None] - ratings + effect)
    information = information_of(played * expected * (1 - expected), side=side)
    covariance = _centred(inverse_of(information, size), size)
    return Fit(ratings, effect if side else None, covariance)


def maximum(won: Floats, played: Floats, *, side: bool) -> Floats:
    """Maximum likelihood parameters (..., D) of one table of counts, or of many at once."""
    size = won.shape[-1]

    def slope(at: Floats) -> tuple[Floats, Floats]:
        ratings = at[..., :size]
        logits = ratings[..., :, None] - ratings[..., None, :]
        if side:
            logits = logits + at[..., size:, None]
        expected = expit(logits)
        residuals = won - played * expected
        weights = played * expected * (1 - expected)
        return scores_of(residuals, side=side), information_of(weights, side=side)

    start = np.zeros((*won.shape[:-2], size + side))
    return climb(slope, start, size, tolerance_for(float(played.sum(axis=(-1, -2)).max())))


def scores_of(residuals: Floats, *, side: bool) -> Floats:
    """Sum of r x over votes, x = e_first - e_second (and 1 for the side): shape (..., D).

    residuals : their sum over the votes that name i first and j second, shape (..., K, K).
    """
    scores = residuals.sum(axis=-1) - residuals.sum(axis=-2)
    if side:
        scores = np.concatenate([scores, residuals.sum(axis=(-1, -2))[..., None]], axis=-1)
    return np.asarray(scores, dtype=np.float64)


def information_of(weights: Floats, *, side: bool) -> Floats:
    """Sum of w x x' over votes: shape (..., D, D); arguments as in `scores_of`."""
    size = weights.shape[-1]
    found = np.zeros((*weights.shape[:-2], size + side, size + side))
    both = weights + np.swapaxes(weights, -1, -2)
    found[..., :size, :size] = -both
    diagonal = np.arange(size)
    found[..., diagonal, diagonal] += both.sum(axis=-1)
    if side:
        found[..., :size, size] = weights.sum(axis=-1) - weights.sum(axis=-2)
        found[..., size, :size] = found[..., :size, size]
        found[..., size, size] = weights.sum(axis=(-1, -2))
    return found


def side_is_estimable(won: Floats, played: Floats) -> bool:
    """Whether the likelihood of strongly connected systems has a finite maximum with a side.

    It has none where ratings d and a side of +1, or of -1, exist that contradict no vote:
    d_j - d_i <= s where i won against j standing first, d_i - d_j <= -s where it lost.
    """
    cheapest = np.full(won.shape, np.inf)
    for sign in (1.0, -1.0):
        costs = cheapest.copy()
        costs[won > 0] = sign
        lost = (played - won).T > 0
        costs[lost] = np.minimum(costs[lost], -sign)
        if not has_negative_cycle(costs):
            return False
    return True


def _centred(covariance: Floats, n_ratings: int) -> Floats:
    """The covariance of parameters with their ratings' mean taken off."""
    size = covariance.shape[-1]
    centring = np.eye(size)
    centring[:n_ratings, :n_ratings] -= 1 / n_ratings
    return np.asarray(centring @ covariance @ centring)


def _checked(won: ArrayLike, played: ArrayLike) -> tuple[Floats, Floats]:
    wins, votes = np.asarray(won, dtype=np.float64), np.asarray(played, dtype=np.float64)
    if wins.ndim != 2 or wins.shape[0] != wins.shape[1] or wins.shape != votes.shape:
        raise ValueError(f"counts of shapes {wins.shape} and {votes.shape}, not (K, K)")
    if len(wins) < 2:
        raise ValueError("ratings compare at least two systems")
    if not (np.isfinite(votes).all() and (wins >= 0).all() and (wins <= votes).all()):
        raise ValueError("wins must lie between 0 and the votes")
    if np.diag(votes).any():
        raise ValueError("a vote compares a system with itself")
    return wins, votes
