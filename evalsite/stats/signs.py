"""The arithmetic of each sign that a rater may not have looked: trials, successes, p-values.

Columns have one place per vote, results one place per rater, numbered from 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import bdtrc, betaln, gammaln

from evalsite.stats.clusters import Codes, Floats, Groups, group

Truths = NDArray[np.bool_]

_ENOUGH = 10  # raters, and trials of each, from which their spread is estimated
_MEDIAN_SQUARE = 0.45493642311957283  # of a standard normal variable
_LARGEST_LOG = 12.0
_WIDEST = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Sign:
    """Per rater: trials, successes, the share that was to be expected, and a p-value.

    `expected` and `p_values` are NaN where there were no trials.
    """

    trials: Codes
    successes: Codes
    expected: Floats
    p_values: Floats


def left_choices(raters: Codes, left: Truths, n_raters: int, least_spread: float) -> Sign:
    """Whether a rater chose one side too often.

    Sides are drawn, so that a rater who looks at images only chooses left with chance 1/2,
    whatever the systems. Honest raters lean a little, each their own way; with k left choices
    of n and rho their intra-class correlation (`extra_spread` around 1/2):

        p = min(1, 2 P(X <= min(k, n - k))),  X beta-binomial (n, 1/2, rho)

    Parameters
    ----------
    raters, left : of each vote that is no tie: who, and whether it was for the left.
    n_raters : how many raters there are.
    least_spread : rho that is granted at least, in (0, 1).

    Returns
    -------
    Sign; a success is a choice of the left.

    Raises
    ------
    Nothing: the callers have checked their input.

    Source
    ------
    J. G. Skellam, Journal of the Royal Statistical Society B 10 (1948) 257-261, for the
    beta-binomial distribution.
    """
    n = np.bincount(raters, minlength=n_raters)
    k = np.bincount(raters[left], minlength=n_raters)
    half = np.where(n > 0, 0.5, np.nan)
    rho = extra_spread(n, k, half, least_spread)
    return Sign(n, k, half, np.minimum(1, 2 * lower_tails(n, np.minimum(k, n - k), half, rho)))


def side_streaks(raters: Codes, left: Truths, counts: Sign) -> tuple[Codes, Floats]:
    """The longest run of choices of one side, and how surprising it is at the rater's own share.

    A rater with a left and b right choices has 1 + b places where a run of left may stand. If
    all orders are equally likely, a given one holds k or more with chance
    a!/(a-k)! (a+b-k)!/(a+b)!, so that the expected number of runs of k or more is

        E = (1 + b) a!/(a-k)! (a+b-k)!/(a+b)!  +  (1 + a) b!/(b-k)! (a+b-k)!/(a+b)!

    and p = min(1, E) is at least the chance of one such run (Markov's inequality), and close to
    it where it is small. A rater who chooses one side only has p = 1: that is told by
    `left_choices`; this tells of blocks.

    Parameters
    ----------
    raters, left : of each vote that is no tie, in the order in which they were given.
    counts : of the same votes, from `left_choices`.

    Returns
    -------
    The longest run of each rater (0 without votes), and p (NaN without votes).

    Raises
    ------
    Nothing: the callers have checked their input.

    Source
    ------
    A. M. Mood, Annals of Mathematical Statistics 11 (1940) 367-392, for runs given their counts.
    """
    longest = np.zeros(counts.trials.size, dtype=np.intp)
    if raters.size:
        order = in_order_of(raters, counts.trials.size)
        key = raters[order] * 2 + left[order]
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        np.maximum.at(longest, key[starts] // 2, np.diff(starts, append=key.size))
    one, other = counts.successes, counts.trials - counts.successes
    p_values = np.minimum(1, _runs(one, other, longest) + _runs(other, one, longest))
    return longest, np.where(counts.trials > 0, p_values, np.nan)


def _runs(own: Codes, other: Codes, length: Codes) -> Floats:
    """Expected number of runs of `own` that are as long, in a random order of both."""
    rest = np.maximum(own - length, 0)
    log = gammaln(own + 1) - gammaln(rest + 1)
    log += gammaln(rest + other + 1) - gammaln(own + other + 1)
    return np.where(length <= own, (1 + other) * np.exp(log), 0.0)


def agreement_with_others(
    raters: Codes,
    for_first: Truths,
    units: Groups,
    n_raters: int,
    least_spread: float,
) -> Sign:
    """How often a rater chose what the majority of the others chose, unit by unit.

    Votes whose unit has no others, or others evenly split, are not compared. Against a majority
    of a to b among the others, an honest rater agrees with chance

        (s + a) / (2 s + a + b)

    as follows where the share of raters who prefer the first system varies over units as a
    beta (s, s) variable. s is set so that over all votes as many agree as are expected to: it
    says how much raters agree in this study, and the lower a rater's units stand, the less is
    expected of this rater. With e the mean of these chances over the n compared votes, k of
    which agree, and rho the raters' intra-class correlation (`extra_spread` around e):

        p = P(X <= k),  X beta-binomial (n, e, rho)

    Parameters
    ----------
    raters, for_first : of each vote that is no tie: who (negative: unknown), and whether it was
        for the lower-numbered system of its pair.
    units : of the same votes: criterion, prompt and pair.
    n_raters : how many raters there are.
    least_spread : rho that is granted at least, in (0, 1): tastes differ.

    Returns
    -------
    Sign; a success is an agreement.

    Raises
    ------
    Nothing: the callers have checked their input.

    Source
    ------
    Polya's urn, F. Eggenberger and G. Polya, Zeitschrift fuer angewandte Mathematik und Mechanik
    3 (1923) 279-289, for the chance; beta-binomial tails as in `left_choices`.
    """
    first = np.bincount(units.codes[for_first], minlength=units.count)
    second = np.bincount(units.codes[~for_first], minlength=units.count)
    same = np.where(for_first, first[units.codes], second[units.codes]) - 1
    other = np.where(for_first, second[units.codes], first[units.codes])
    compared = (same != other) & (raters >= 0)
    raters, same, other = raters[compared], same[compared], other[compared]
    agrees = same > other
    n = np.bincount(raters, minlength=n_raters)
    k = np.bincount(raters[agrees], minlength=n_raters)
    chances = _chances(np.maximum(same, other), np.minimum(same, other), int(agrees.sum()))
    sums = np.bincount(raters, weights=chances, minlength=n_raters)
    expected = np.divide(sums, n, out=np.full(n_raters, np.nan), where=n > 0)
    rho = extra_spread(n, k, expected, least_spread)
    return Sign(n, k, expected, lower_tails(n, k, expected, rho))


def _chances(most: Codes, least: Codes, n_agree: int) -> Floats:
    """Polya's chance of agreeing with each majority, such that they sum to the agreements."""
    if most.size == 0:
        return np.empty(0)
    splits = group(most * (int(most.max()) + 1) + least)
    a, b = np.empty(splits.count), np.empty(splits.count)
    a[splits.codes], b[splits.codes] = most, least

    def chance(log: float) -> Floats:
        # s grows from nothing (majorities are all) to more than any majority (they mean nothing).
        s = np.exp(log)
        return np.asarray((s + a) / (2 * s + a + b))

    def excess(log: float) -> float:
        return float(splits.sizes @ chance(log)) - n_agree

    if excess(-_LARGEST_LOG) <= 0:
        return chance(-_LARGEST_LOG)[splits.codes]
    if excess(_LARGEST_LOG) >= 0:
        return chance(_LARGEST_LOG)[splits.codes]
    return chance(float(brentq(excess, -_LARGEST_LOG, _LARGEST_LOG, xtol=1e-12)))[splits.codes]


def missed_checks(raters: Codes, missed: Truths, n_raters: int, miss_rate: float) -> Sign:
    """Whether a rater missed more checks than honest raters do: P(X >= k), X binomial.

    With a miss rate of .05, three misses of twelve have p = .020; a rater who chooses by chance
    misses three or more of twelve with chance .981.

    Parameters
    ----------
    raters, missed : of each answered check: who, and whether the answer was wrong.
    n_raters : how many raters there are.
    miss_rate : how often an honest rater misses one, in (0, 1).

    Returns
    -------
    Sign; a success is a miss.

    Raises
    ------
    Nothing: the callers have checked their input.

    Source
    ------
    The binomial distribution.
    """
    n = np.bincount(raters, minlength=n_raters)
    k = np.bincount(raters[missed], minlength=n_raters)
    p_values = np.where(k > 0, bdtrc(np.maximum(k - 1, 0), np.maximum(n, 1), miss_rate), 1.0)
    seen = n > 0
    return Sign(
        n, k, np.where(seen, miss_rate, np.nan), np.where(seen, np.minimum(p_values, 1), np.nan)
    )


def repeated_choices(raters: Codes, same: Truths, n_raters: int, least_spread: float) -> Sign:
    """Whether a rater repeats a choice less often than the others do, sides exchanged.

    With K of N repeats of all other raters the same, e = (K + 1) / (N + 2):

        p = P(X <= k),  X beta-binomial (n, e, rho), rho the least that is granted

    Parameters
    ----------
    raters, same : of each repeat: who, and whether the choice was the same.
    n_raters : how many raters there are.
    least_spread : rho, in (0, 1).

    Returns
    -------
    Sign; a success is the same choice again. No p-value where nobody else repeats.

    Raises
    ------
    Nothing: the callers have checked their input.

    Source
    ------
    As `left_choices`.
    """
    n = np.bincount(raters, minlength=n_raters)
    k = np.bincount(raters[same], minlength=n_raters)
    others = n.sum() - n
    usual = (k.sum() - k + 1) / (others + 2)
    expected = np.where((n > 0) & (others > 0), usual, np.nan)
    return Sign(n, k, expected, lower_tails(n, k, expected, least_spread))


def extra_spread(n: Codes, k: Codes, expected: Floats, least: float) -> float:
    """How much honest raters differ among themselves: an intra-class correlation.

    With z_r^2 = (k_r - n_r e_r)^2 / (n_r e_r (1 - e_r)), rho is such that the median over raters
    of z_r^2 / (1 + (n_r - 1) rho) is the median of a squared normal variable, .455. The median
    does not see the worst raters as long as they are the fewer.

    Parameters
    ----------
    n, k, expected : trials, successes and the expected share of each rater.
    least : returned where the raters spread less, and where fewer than ten raters have ten
        trials.

    Returns
    -------
    rho, from `least` to 1/2.

    Raises
    ------
    Nothing: the callers have checked their input.

    Source
    ------
    The moment estimator of J. C. Kleinman, JASA 68 (1973) 46-54, with a median for the mean.
    """
    many = n >= _ENOUGH
    if many.sum() < _ENOUGH:
        return least
    trials, share = n[many], expected[many]
    squares = (k[many] - trials * share) ** 2 / (trials * share * (1 - share))

    def excess(rho: float) -> float:
        return float(np.median(squares / (1 + (trials - 1) * rho))) - _MEDIAN_SQUARE

    if excess(least) <= 0:
        return least
    return _WIDEST if excess(_WIDEST) >= 0 else float(brentq(excess, least, _WIDEST))


def lower_tails(n: Codes, k: Codes, expected: Floats, rho: float) -> Floats:
    """P(X <= k) for X beta-binomial with mean n e and variance n e (1 - e) (1 + (n - 1) rho).

    Parameters
    ----------
    n, k : trials and successes, 0 <= k <= n.
    expected : e, in (0, 1), or NaN for no answer.
    rho : intra-class correlation, in (0, 1).

    Returns
    -------
    Probabilities; NaN where n is 0 or e is NaN.

    Raises
    ------
    Nothing: the callers have checked their input.

    Source
    ------
    Skellam (1948); alpha = e (1/rho - 1), beta = (1 - e) (1/rho - 1).
    """
    tails = np.full(n.size, np.nan)
    for r in np.flatnonzero((n > 0) & ~np.isnan(expected)):
        alpha, beta = expected[r] * (1 / rho - 1), (1 - expected[r]) * (1 / rho - 1)
        x = np.arange(k[r] + 1)
        log = betaln(x + alpha, n[r] - x + beta) - betaln(alpha, beta)
        log -= betaln(x + 1, n[r] - x + 1) + np.log(n[r] + 1)
        tails[r] = min(1.0, float(np.exp(log).sum()))
    return tails


def medians(raters: Codes, values: Floats, n_raters: int) -> Floats:
    """The median of each rater's values, NaN where there is none."""
    found = np.full(n_raters, np.nan)
    ordered = values[in_order_of(raters, n_raters)]
    ends = np.cumsum(np.bincount(raters, minlength=n_raters))
    for r, part in enumerate(np.split(ordered, ends[:-1]) if n_raters else ()):
        if part.size:
            found[r] = np.median(part)
    return found


def in_order_of(raters: Codes, n_raters: int) -> Codes:
    """Places of the votes, rater by rater, each rater's in the order given."""
    # Numbers of two bytes are sorted by counting, many times faster than wider ones.
    return np.argsort(raters.astype(np.uint16) if n_raters < 2**16 else raters, kind="stable")
