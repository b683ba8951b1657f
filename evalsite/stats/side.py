"""What standing on the left is worth, apart from which system stands there."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr, expit, ndtr, stdtr

from evalsite.stats.clusters import UNLABELLED, Codes, Floats, group
from evalsite.stats.connectivity import main_component
from evalsite.stats.dimensions import FEW_RATERS
from evalsite.stats.fit import Fit, fit_connected, side_is_estimable
from evalsite.stats.intervals import check_confidence, quantile_of
from evalsite.stats.tallies import count_table, kinds_of
from evalsite.stats.variance import clustered_variance
from evalsite.stats.votes import Votes

UNBALANCED = 0.01
"""Sides drawn by chance are called unbalanced in at most one file of votes in a hundred."""


@dataclass(frozen=True, slots=True)
class PositionEffect:
    """The logit of choosing left between equal images. What cannot be computed is None."""

    n: int
    left: int
    right: int
    ties: int
    left_share: float | None  # (left + ties / 2) / n
    logit: float | None
    low: float | None
    high: float | None
    se: float | None
    df: float | None  # None where the normal quantile is used: votes all independent
    p_value: float | None  # two-sided, against 0
    n_raters: int | None  # None where no vote names one
    confidence: float
    method: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Spread:
    variance: float
    df: float | None


def position_effect(
    votes: Votes, first_on_left: ArrayLike, *, confidence: float = 0.95
) -> PositionEffect:
    """The logit of choosing left, with an interval over raters.

    With b_l and b_r the Bradley-Terry ratings of the systems shown left and right:

        P(left is chosen) = 1 / (1 + exp(-(b_l - b_r + s)))

    fitted by maximum likelihood, a tie as half a choice of each side, as in all of the default
    results. s is 0 for raters who look at images only; s = 0.1 is a left share of .525 between
    equal systems. The plain share of left choices is pulled by which systems happened to stand
    there; s is not.

    With u_i the influence of vote i on s, and T_g the sum of n u_i over the votes of rater g:

        V = (G - 1) / G * sum_g (T_g / (n - n_g))^2,   limits s ± t sqrt(V)

    the one-step jackknife over raters in the form of `clustered_variance`, with its floor and
    its degrees of freedom. Prompts do not enter: sides are drawn anew for each comparison.

    Parameters
    ----------
    votes : of one criterion.
    first_on_left : whether `votes.first` stood on the left, one truth value per vote.
    confidence : two-sided coverage, in (0, 1).

    Returns
    -------
    PositionEffect. Without rater labels, or with one rater, V is that of independent votes and
    the normal quantile is used. Warnings are fixed words: `no rater labels`, `one rater`, `few
    raters` (below 5), `systems left out` (some never win, or never lose, against the rest: votes
    with them say nothing about sides), `sides unbalanced` (some system stood on one side more
    often than chance would put it there, over all its votes or within a pair: sides and systems
    are mixed in every win rate), `no estimate` (no votes, or sides cannot be told from
    systems), `no spread` (no vote differs from the fit, as when all are ties: no interval).

    Raises
    ------
    ValueError : not one truth value per vote; confidence outside (0, 1).
    NotConverged : the fit stopped above its tolerance.

    Source
    ------
    A. Agresti, Categorical Data Analysis (2002), section 10.6, for the order effect; R. M. Bell
    and D. F. McCaffrey, Survey Methodology 28 (2002) 169-181, for the jackknife.
    """
    check_confidence(confidence)
    kinds = kinds_of(votes, first_on_left)
    table = count_table(kinds)
    won, played = table[..., 2] + table[..., 1] / 2, table.sum(axis=-1)
    members = main_component(won + (played - won).T)
    inside = np.ix_(members, members)
    raters, words = _raters(votes)
    if not _are_balanced(played):
        words = (*words, "sides unbalanced")
    if members.size < 2 or not side_is_estimable(won[inside], played[inside]):
        return _effect(table, None, None, raters, confidence, (*words, "no estimate"))
    if played[inside].sum() < played.sum():
        words = (*words, "systems left out")
    fit = fit_connected(won[inside], played[inside], side=True)
    spread = _spread(fit, members, kinds.of_votes, votes, raters)
    if spread is None:
        words = (*words, "no spread")
    return _effect(table, fit.side, spread, raters, confidence, words)


def _are_balanced(played: Floats) -> bool:
    """Did each system stand on the left as often as chance allows, in all and in each pair?

    Two-sided binomial tests against one half, Bonferroni's factor over all of them. `played` has
    the votes with the row's system on the left and the column's on the right.
    """
    upper = np.triu_indices(len(played), 1)
    left = np.concatenate([played.sum(axis=1), played[upper]])
    asked = np.concatenate([played.sum(axis=0), played.T[upper]]) + left
    tried = asked > 0
    if not tried.any():
        return True
    fewer = np.minimum(left, asked - left)[tried]
    smallest = 2 * bdtr(fewer, asked[tried].astype(np.intp), 0.5).min()
    return bool(smallest * np.count_nonzero(tried) >= UNBALANCED)


def _raters(votes: Votes) -> tuple[int | None, tuple[str, ...]]:
    """How many raters there are, and what to say of it."""
    if votes.n == 0 or int(votes.raters.max()) == UNLABELLED:
        return None, ("no rater labels",) if votes.n else ()
    count = group(votes.raters).count
    if count == 1:
        return 1, ("one rater",)
    return count, ("few raters",) if count < FEW_RATERS else ()


def _spread(
    fit: Fit, members: Codes, kinds: Codes, votes: Votes, raters: int | None
) -> _Spread | None:
    """The variance of the side effect, over raters if there are two or more.

    None where no vote differs from what the fit expects, as when all are ties.
    """
    if raters is None or raters == 1:
        return _Spread(float(fit.covariance[-1, -1]), None)
    table = _influences(fit, members, votes.n_systems)
    influences = table[kinds]
    known = ~np.isnan(influences)
    influences = influences[known]
    groups = group(votes.raters[known])
    if groups.count == 1:
        return _Spread(float(fit.covariance[-1, -1]), None)
    found = clustered_variance(influences * influences.size, (groups,))
    variance, df = float(found.variance[0]), float(found.df[0])
    return _Spread(variance, df) if variance > 0 else None


def _influences(fit: Fit, members: Codes, n_systems: int) -> Floats:
    """How far one vote of each kind pulls the side effect; NaN for systems left out.

    To first order it is the side's row of the inverse information times x (y - P(left)), with
    x = e_left - e_right + e_side. In the order of kinds: left, right, outcome.
    """
    row = fit.covariance[-1]
    reach = row[:-1, None] - row[None, :-1] + row[-1]
    expected = expit(fit.ratings[:, None] - fit.ratings + (fit.side or 0.0))
    table = np.full((n_systems, n_systems, 3), np.nan)
    for number, outcome in enumerate((0.0, 0.5, 1.0)):
        table[members[:, None], members, number] = reach * (outcome - expected)
    return table.ravel()


def _effect(
    table: Floats,
    logit: float | None,
    spread: _Spread | None,
    raters: int | None,
    confidence: float,
    warnings: tuple[str, ...],
) -> PositionEffect:
    right, ties, left = (int(count) for count in table.sum(axis=(0, 1)))
    n = left + ties + right
    low = high = se = df = p_value = None
    if logit is not None and spread is not None:
        se, df = math.sqrt(spread.variance), spread.df
        reach = se * quantile_of(confidence, df)
        low, high = logit - reach, logit + reach
        distance = -abs(logit) / se
        p_value = 2 * float(ndtr(distance) if df is None else stdtr(df, distance))
    return PositionEffect(
        n=n,
        left=left,
        right=right,
        ties=ties,
        left_share=(left + ties / 2) / n if n else None,
        logit=logit,
        low=low,
        high=high,
        se=se,
        df=df,
        p_value=p_value,
        n_raters=raters,
        confidence=confidence,
        method=_method(spread),
        warnings=warnings,
    )


def _method(spread: _Spread | None) -> str:
    if spread is None:
        return "none"
    return "independent votes" if spread.df is None else "rater jackknife"
