"""Intervals that may be read while a study is still open.

An interval for a fixed number of votes is right once. Whoever looks again and again, and
stops when it excludes one half, is wrong far more often than one time in twenty.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import lambertw, ndtr, ndtri, stdtrit

from evalsite.stats.clusters import Floats
from evalsite.stats.intervals import Interval, check_confidence, score_limits
from evalsite.stats.win_rate import WinRate

CLOSEST_LOOKS = 1e-3
"""Looks nearer to each other than this share of the information are one look."""

_FARTHEST = 38.0  # the normal distribution has nothing beyond that a float could hold
_HARDLY_ANY = 9.0  # standard deviations that hold all but 1e-18 of a normal distribution
_HARDLY_ERRING, _NEARLY_ONE = math.log(1e-15), math.log(0.999)  # of an overall error
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


@dataclass(frozen=True, slots=True)
class LookInterval:
    """An interval that stays right however the earlier looks came out.

    Bounds are probabilities in [0, 1], None where there are no votes.
    """

    low: float | None
    high: float | None
    boundary: float  # the normal quantile that the look has instead of 1.96
    decided: bool  # the interval excludes one half


@dataclass(frozen=True, slots=True, eq=False)
class _Going:
    """Where the score of a study that goes on may lie: places, and the chance of each."""

    fraction: float
    places: Floats
    chances: Floats


_START = _Going(0.0, np.zeros(1), np.ones(1))


def spending_boundaries(
    fractions: Sequence[float], *, confidence: float = 0.95
) -> tuple[float, ...]:
    """Boundaries of O'Brien-Fleming type for looks at a study that is still open.

    The whole error a = 1 - confidence is spent little by little. By the time a fraction t of
    the information is there, Lan and DeMets' function lets

        a(t) = 4 (1 - Phi(z / sqrt(t))),   z the normal quantile at 1 - a/4

    have been spent: next to nothing early, all of it at t = 1. The boundary c_k of look k is
    the solution of

        P(|Z_1| < c_1, ..., |Z_(k-1)| < c_(k-1), |Z_k| >= c_k) = a(t_k) - a(t_(k-1))

    where no difference exists and Z_k are standard normal with correlations
    sqrt(t_j / t_k). The probability is integrated look by look (`crossing_probabilities`).

    A boundary depends on the looks up to its own alone. So give the fractions of the looks
    that were really taken, the present one last; planned looks may be moved or left out as
    long as the result does not decide when.

    Parameters
    ----------
    fractions : of the information that the closed study will have, for each look; increasing,
        in (0, 1], at least CLOSEST_LOOKS (.001) apart. Votes counted over votes planned is
        the usual measure.
    confidence : of all looks together, in (0, 1).

    Returns
    -------
    One boundary for each look, on the scale of normal quantiles, at most 38.

    Raises
    ------
    ValueError : no looks, fractions that do not increase or lie outside (0, 1], confidence
        outside (0, 1). RuntimeError if the search for a boundary does not converge.

    Source
    ------
    K. K. G. Lan and D. L. DeMets, Biometrika 70 (1983) 659-663; P. C. O'Brien and T. R.
    Fleming, Biometrics 35 (1979) 549-556.
    """
    check_confidence(confidence)
    times = _checked_fractions(fractions)
    spent, narrowest = _spent(times, 1 - confidence), _narrowest(times)
    going, boundaries = _START, []
    for time, share in zip(times, np.diff(spent, prepend=0.0), strict=True):
        boundary = _boundary(going, time, float(share))
        boundaries.append(boundary)
        going = _go_on(going, time, boundary, narrowest)
    return tuple(boundaries)


def crossing_probabilities(
    boundaries: Sequence[float], fractions: Sequence[float]
) -> tuple[float, ...]:
    """Chance that a study without any difference first crosses its boundary at each look.

    The score S_k = Z_k sqrt(t_k) gains normal increments of variance t_k - t_(k-1). With f_k
    its density among the studies that have crossed nothing up to look k, and b = c sqrt(t),

        P_k = integral of f_(k-1)(s) P(|S_k| >= b_k given s) ds
        f_k(x) = integral of f_(k-1)(s) phi((x - s) / sd) / sd ds,   |x| < b_k

    each integral by Gauss and Legendre's rule on panels no wider than three standard
    deviations of the plan's narrowest increment.

    Parameters
    ----------
    boundaries : c_k > 0 on the scale of normal quantiles, one for each look.
    fractions : as for `spending_boundaries`.

    Returns
    -------
    One probability for each look; their sum is the error of the whole plan.

    Raises
    ------
    ValueError : as for `spending_boundaries`; boundaries that are not positive or not as many
        as the looks.

    Source
    ------
    P. Armitage, C. K. McPherson and B. C. Rowe, JRSS A 132 (1969) 235-244; C. Jennison and
    B. W. Turnbull, Group Sequential Methods (2000), chapter 19.
    """
    times = _checked_fractions(fractions)
    if len(boundaries) != len(times):
        raise ValueError(f"{len(boundaries)} boundaries for {len(times)} looks")
    if not all(boundary > 0 for boundary in boundaries):
        raise ValueError("boundaries must be positive")
    going, chances, narrowest = _START, [], _narrowest(times)
    for time, boundary in zip(times, boundaries, strict=True):
        chances.append(_crossing(going, time, boundary))
        going = _go_on(going, time, boundary, narrowest)
    return tuple(chances)


def look_interval(result: WinRate, boundary: float) -> LookInterval:
    """The interval of a win rate at one of several planned looks.

    It has the form of the interval of a closed study, with a wider quantile. The boundary's
    tail probability is kept and read from Student's distribution at the degrees of freedom of
    the robust variance, since at an early look there are few raters:

        t = quantile of Student's distribution at Phi(boundary), limits = Wilson's with n_eff, t

    The first interval that excludes one half decides, in the direction it says, and all the
    looks together are wrong about as often as planned.

    Parameters
    ----------
    result : of the votes counted up to this look; its own confidence is not used.
    boundary : this look's number from `spending_boundaries`, > 0.

    Returns
    -------
    LookInterval: bounds in [0, 1]; None for both where there are no votes.

    Raises
    ------
    ValueError : a boundary that is not positive.

    Source
    ------
    C. Jennison and B. W. Turnbull, JRSS B 51 (1989) 305-361 (repeated confidence intervals);
    FORMULAS.md, "While a study is open", for the change to Student's distribution.
    """
    if not boundary > 0:
        raise ValueError(f"a boundary is a positive number, not {boundary}")
    if result.win_rate is None or result.n_eff is None:
        return LookInterval(None, None, boundary, decided=False)
    limits = _limits(result.win_rate, result.n_eff, _student(boundary, result.df))
    decided = not limits.low <= 0.5 <= limits.high
    return LookInterval(limits.low, limits.high, boundary, decided)


def anytime_interval(
    result: WinRate, *, tightest_at: float, confidence: float = 0.95
) -> LookInterval:
    """The interval of a win rate for any number of looks, planned or not.

    One member of an asymptotic confidence sequence: as votes come in, all its members hold
    the truth together with the probability promised, whenever one looks or stops. With n
    votes and x = n rho^2, the quantile that takes the place of 1.96 is

        q = sqrt((1 + 1/x) log((x + 1) / a^2)),   a = 1 - confidence

    and rho^2 = (-W(-a^2 / e) - 1) / tightest_at makes it smallest at that many votes, W being
    Lambert's function on its lower branch; q is 3.04 there at .95. The variance is the robust
    one, and q is read from Student's distribution as in `look_interval`.

    The promise holds as the number of raters and prompts grows. The first members, of a
    handful of raters, are the least sure ones: begin to look when there are ten or more.

    Parameters
    ----------
    result : of the votes counted so far; its own confidence is not used.
    tightest_at : the number of votes of the pair at which the interval shall be tightest: what
        is planned, or expected when somebody decides. Any choice is valid if it is made
        beforehand.
    confidence : of all looks together, in (0, 1).

    Returns
    -------
    LookInterval: bounds in [0, 1]; None for both where there are no votes.

    Raises
    ------
    ValueError : confidence outside (0, 1), or `tightest_at` not a positive number.

    Source
    ------
    I. Waudby-Smith, D. Arbour, R. Sinha, E. H. Kennedy and A. Ramdas, Annals of Statistics 52
    (2024) 2613-2640, theorem 2.2 and appendix B.2; H. Robbins, Annals of Mathematical
    Statistics 41 (1970) 1397-1409.
    """
    x, alpha = _mixed(result.n, tightest_at, confidence), 1 - confidence
    return look_interval(result, math.sqrt((1 + 1 / x) * (math.log1p(x) - 2 * math.log(alpha))))


def p_over_looks(p_values: Sequence[float], fractions: Sequence[float]) -> float:
    """The p-value of a claim that was tested at several planned looks.

    The smallest overall error at which one of the looks would have crossed its boundary. With
    p_k the two-sided p-value of the votes up to look k, as if it were the only one, and c_k(a)
    the boundaries of `spending_boundaries` that spend a in all:

        p = inf { a : Phi^-1(1 - p_k / 2) >= c_k(a) for some k }

    so that p < a exactly where `look_interval` with c_k(a) excluded one half at some look. It
    is uniform or larger where no difference exists, so Holm's method takes it as any other.

    Parameters
    ----------
    p_values : one for each look, in [0, 1]; 1 where there were no votes yet.
    fractions : of the looks, as for `spending_boundaries`.

    Returns
    -------
    A p-value in [0, 1]. With the one look of a closed study, fraction 1, it is that look's own.

    Raises
    ------
    ValueError : as for `spending_boundaries`; p-values outside [0, 1] or not as many as looks.

    Source
    ------
    Q. Liu and K. M. Anderson, JASA 103 (2008) 1621-1630 (sequential p-values); with Holm's
    method: W. Maurer and F. Bretz, Statistics in Biopharmaceutical Research 5 (2013) 311-320.
    """
    times = _checked_fractions(fractions)
    if len(p_values) != len(times) or not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"expected a p-value in [0, 1] for each of {len(times)} looks")
    if times == [1.0]:
        return float(p_values[0])
    scores = -ndtri(np.asarray(p_values, dtype=np.float64) / 2)

    def beyond(log_error: float) -> float:
        boundaries = spending_boundaries(times, confidence=-math.expm1(log_error))
        return float(min(np.subtract(boundaries, np.minimum(scores, _FARTHEST + 1))))

    if beyond(_NEARLY_ONE) > 0:
        return 1.0
    if beyond(_HARDLY_ERRING) <= 0:
        return math.exp(_HARDLY_ERRING)
    return math.exp(brentq(beyond, _HARDLY_ERRING, _NEARLY_ONE, xtol=1e-10))


def p_any_time(p_value: float, n: int, *, tightest_at: float, confidence: float = 0.95) -> float:
    """The p-value of a claim that may be looked at whenever one likes.

    The smallest a whose confidence sequence, with the rho that `anytime_interval` takes for
    this confidence, would exclude one half now. With z = Phi^-1(1 - p_value / 2), x = n rho^2:

        p = min(1, sqrt(1 + x) exp(-z^2 x / (2 (1 + x))))

    so that p < 1 - confidence exactly where `anytime_interval` excludes one half.

    Parameters
    ----------
    p_value : two-sided, of the votes so far as if nobody had looked before, in [0, 1].
    n : these votes.
    tightest_at, confidence : as for `anytime_interval`.

    Returns
    -------
    A p-value in [0, 1].

    Raises
    ------
    ValueError : as for `anytime_interval`; a p-value outside [0, 1].

    Source
    ------
    As for `anytime_interval`: its quantile solved for a.
    """
    if not 0 <= p_value <= 1:
        raise ValueError(f"a p-value lies in [0, 1], not {p_value}")
    x = _mixed(n, tightest_at, confidence)
    score = min(-float(ndtri(p_value / 2)), _FARTHEST)
    return min(1.0, math.exp((math.log1p(x) - score**2 * x / (1 + x)) / 2))


def _mixed(n: int, tightest_at: float, confidence: float) -> float:
    """n rho^2 of the normal mixture that is tightest where it was told to be."""
    check_confidence(confidence)
    if not 0 < tightest_at < math.inf:
        raise ValueError(f"tightest_at is a positive number of votes, not {tightest_at}")
    alpha = 1 - confidence
    best = float(-lambertw(-(alpha**2) / math.e, -1).real) - 1
    return best * max(n, 1) / tightest_at


def _checked_fractions(fractions: Sequence[float]) -> list[float]:
    times = [float(fraction) for fraction in fractions]
    if not times:
        raise ValueError("a plan has at least one look")
    if not all(0 < time <= 1 for time in times):
        raise ValueError(f"information fractions lie between 0 and 1, not {times}")
    if not (np.diff(times, prepend=0.0) > CLOSEST_LOOKS * (1 - 1e-9)).all():
        raise ValueError(f"looks must follow each other at least {CLOSEST_LOOKS} apart: {times}")
    return times


def _narrowest(times: Sequence[float]) -> float:
    return math.sqrt(np.diff(times, prepend=0.0).min())


def _spent(times: Sequence[float], alpha: float) -> Floats:
    quantile = float(ndtri(alpha / 4))
    return np.asarray(4 * ndtr(quantile / np.sqrt(times)), dtype=np.float64)


def _boundary(going: _Going, time: float, share: float) -> float:
    """Where a share of all studies crosses at the next look, and not before."""
    if _crossing(going, time, _FARTHEST) >= share:
        return _FARTHEST
    return float(brentq(lambda c: _crossing(going, time, c) - share, 0.0, _FARTHEST, xtol=1e-12))


def _crossing(going: _Going, time: float, boundary: float) -> float:
    sd = math.sqrt(time - going.fraction)
    edge = boundary * math.sqrt(time)
    beyond = ndtr((going.places - edge) / sd) + ndtr((-edge - going.places) / sd)
    return float(going.chances @ beyond)


def _go_on(going: _Going, time: float, boundary: float, narrowest: float) -> _Going:
    sd = math.sqrt(time - going.fraction)
    edge = min(boundary, _HARDLY_ANY) * math.sqrt(time)
    n_panels = math.ceil(2 * edge / (3 * narrowest))
    half = edge / n_panels
    centres = half * (2 * np.arange(n_panels) + 1) - edge
    places = (centres[:, None] + half * _NODES).ravel()
    weights = np.tile(half * _WEIGHTS, n_panels)
    steps = (places[:, None] - going.places) / sd
    density = np.exp(-0.5 * steps * steps) @ going.chances / (sd * math.sqrt(2 * math.pi))
    return _Going(time, places, weights * density)


def _student(boundary: float, df: float | None) -> float:
    """Student's quantile with the same tail as the normal one, infinite where a float ends."""
    return boundary if df is None else abs(float(stdtrit(df, ndtr(-boundary))))


def _limits(rate: float, n_eff: float, quantile: float) -> Interval:
    # Beyond this the limits are 0 and 1 to working accuracy, and squares would overflow.
    return score_limits(rate, n_eff, quantile) if quantile < 1e8 else Interval(0.0, 1.0)
