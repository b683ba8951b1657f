"""Intervals for votes that are independent of each other.

Votes of a study rarely are: a rater votes many times, and so does the crowd on one
prompt. These intervals are for the comparison beside the default one of `win_rate`.
"""

import math
from dataclasses import dataclass

from scipy.special import betaincinv, ndtri, stdtrit


@dataclass(frozen=True, slots=True)
class Interval:
    """Two bounds of a probability, 0 <= low <= high <= 1."""

    low: float
    high: float


def wilson_interval(wins: float, trials: float, *, confidence: float = 0.95) -> Interval:
    r"""Wilson's score interval for a win probability from independent votes.

    With p = wins / trials, n = trials and z the normal quantile at (1 + confidence) / 2:

        (p + z^2/2n  ±  z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)

    Parameters
    ----------
    wins : votes won, 0 <= wins <= trials; a tie counts as half a win.
    trials : independent votes, > 0. Votes that share a rater or a prompt are
        not independent: use `clustered_interval` for those.
    confidence : two-sided coverage, in (0, 1).

    Returns
    -------
    Interval, bounds in [0, 1]: probabilities, not percent.

    Raises
    ------
    ValueError : no trials, wins outside [0, trials], confidence outside (0, 1).

    Source
    ------
    E. B. Wilson, JASA 22 (1927) 209-212; recommended by Brown, Cai and
    DasGupta, Statistical Science 16 (2001) 101-133.
    """
    _check_counts(wins, trials, confidence)
    return score_limits(wins / trials, trials, float(ndtri((1 + confidence) / 2)))


def clopper_pearson_interval(wins: float, trials: float, *, confidence: float = 0.95) -> Interval:
    """Clopper and Pearson's exact interval for a win probability from independent votes.

    The bounds invert the two one-sided binomial tests at a = (1 - confidence) / 2. With
    w = wins, n = trials and B(q; x, y) the q-quantile of the beta distribution:

        low = B(a; w, n - w + 1), 0 if w = 0        high = B(1 - a; w + 1, n - w), 1 if w = n

    It covers at least as often as promised for whole wins, usually more often. Half wins
    (ties) are put into the same formula: a smooth filling between the whole counts, for
    which nothing exact is promised.

    Parameters
    ----------
    wins : votes won, 0 <= wins <= trials; a tie counts as half a win.
    trials : independent votes, > 0.
    confidence : two-sided coverage, in (0, 1).

    Returns
    -------
    Interval, bounds in [0, 1]: probabilities, not percent.

    Raises
    ------
    ValueError : no trials, wins outside [0, trials], confidence outside (0, 1).

    Source
    ------
    C. J. Clopper and E. S. Pearson, Biometrika 26 (1934) 404-413.
    """
    _check_counts(wins, trials, confidence)
    tail = (1 - confidence) / 2
    losses = trials - wins
    low = float(betaincinv(wins, losses + 1, tail)) if wins > 0 else 0.0
    high = float(betaincinv(wins + 1, losses, 1 - tail)) if losses > 0 else 1.0
    return Interval(low, high)


def jeffreys_interval(wins: float, trials: float, *, confidence: float = 0.95) -> Interval:
    """Jeffreys' interval for a win probability from independent votes.

    The equal-tailed posterior interval under the prior Beta(1/2, 1/2). With w = wins,
    n = trials, a = (1 - confidence) / 2 and B(q; x, y) the q-quantile of the beta
    distribution:

        low = B(a; w + 1/2, n - w + 1/2)        high = B(1 - a; w + 1/2, n - w + 1/2)

    except that low = 0 at w = 0 and high = 1 at w = n, as Brown, Cai and DasGupta modify
    it: otherwise the interval would exclude the very rate that was observed.

    Parameters
    ----------
    wins : votes won, 0 <= wins <= trials; a tie counts as half a win.
    trials : independent votes, > 0.
    confidence : two-sided coverage, in (0, 1).

    Returns
    -------
    Interval, bounds in [0, 1]: probabilities, not percent.

    Raises
    ------
    ValueError : no trials, wins outside [0, trials], confidence outside (0, 1).

    Source
    ------
    L. D. Brown, T. T. Cai and A. DasGupta, Statistical Science 16 (2001) 101-133, section 4.
    """
    _check_counts(wins, trials, confidence)
    tail = (1 - confidence) / 2
    losses = trials - wins
    low = float(betaincinv(wins + 0.5, losses + 0.5, tail)) if wins > 0 else 0.0
    high = float(betaincinv(wins + 0.5, losses + 0.5, 1 - tail)) if losses > 0 else 1.0
    return Interval(low, high)


def score_limits(rate: float, trials: float, quantile: float) -> Interval:
    """Wilson's limits for any quantile and any, also fractional, number of trials.

    The two solutions t of |rate - t| = quantile * sqrt(t (1 - t) / trials). The clustered
    interval calls it with an effective number of votes and a Student quantile.

    Parameters
    ----------
    rate : observed rate, in [0, 1].
    trials : independent votes, or the number of them worth as much, > 0.
    quantile : of the reference distribution at (1 + confidence) / 2, > 0.

    Returns
    -------
    Interval. A rate of 0 has the bound 0 and a rate of 1 the bound 1 exactly: rounding
    must not exclude the rate that was observed.

    Raises
    ------
    Nothing: the callers have checked their input.

    Source
    ------
    Wilson (1927); see `wilson_interval`.
    """
    square = quantile * quantile / trials
    centre = rate + square / 2
    reach = math.sqrt(square * rate * (1 - rate) + square * square / 4)
    low = (centre - reach) / (1 + square) if rate > 0 else 0.0
    high = (centre + reach) / (1 + square) if rate < 1 else 1.0
    return Interval(max(low, 0.0), min(high, 1.0))


def quantile_of(confidence: float, df: float | None) -> float:
    """Two-sided quantile: Student's at df degrees of freedom, the normal one at None."""
    level = (1 + confidence) / 2
    return float(ndtri(level) if df is None else stdtrit(df, level))


def check_confidence(confidence: float) -> None:
    """Refuse a confidence that is not strictly between 0 and 1 (NaN is refused too)."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")


def _check_counts(wins: float, trials: float, confidence: float) -> None:
    check_confidence(confidence)
    if not (math.isfinite(trials) and trials > 0):
        raise ValueError(f"trials must be a positive number, not {trials}")
    if not 0 <= wins <= trials:
        raise ValueError(f"wins must lie between 0 and {trials}, not {wins}")
