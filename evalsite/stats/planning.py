"""What a study will give, before it is opened: intervals, and the chance to find a difference."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaincinv, ndtr

from evalsite.stats.clusters import Groups
from evalsite.stats.intervals import check_confidence, quantile_of, score_limits
from evalsite.stats.variance import joint_df, satterthwaite_df

_LEAST_VARIANCE = 0.1
"""Of a vote, from which the change of the standard error with the rate is extrapolated."""

_NODES, _WEIGHTS = (part / 2 for part in np.polynomial.legendre.leggauss(100))
_PROBABILITIES = 0.5 + _NODES


@dataclass(frozen=True, slots=True)
class Correlations:
    """How alike two votes on a pair are: the shares of one vote's variance, from 0 to 1.

    rater : two votes of one rater on different prompts. prompt : two votes of different
    raters on one prompt. The defaults lie in the middle of what real studies show, .07 to .17
    and .03 to .26 as medians over pairs; `intraclass_correlations` takes them from a pilot.
    """

    rater: float = 0.12
    prompt: float = 0.15

    def __post_init__(self) -> None:
        if not (self.rater >= 0 and self.prompt >= 0 and self.rater + self.prompt <= 1):
            raise ValueError(
                "correlations of raters and prompts are shares of one whole, "
                f"not {self.rater} and {self.prompt}"
            )


@dataclass(frozen=True, slots=True)
class Design:
    """The votes planned for one pair of systems under one criterion.

    load_spread : how much more the raters' loads differ than by the chance of who gets which
    prompt; standard deviation of the votes per rater, over their mean. 0 where all rate equally
    long, 1.3 where the k-th busiest of 30 raters has a share like 1/k.
    """

    raters: int
    prompts: int
    votes_per_prompt: int
    fixed_prompts: bool = False
    load_spread: float = 0.0

    def __post_init__(self) -> None:
        for name in ("raters", "prompts", "votes_per_prompt"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"a study has at least one of its {name.replace('_', ' ')}")
        if self.votes_per_prompt > self.raters:
            raise ValueError(
                f"{self.votes_per_prompt} votes on a prompt need as many raters, "
                f"not {self.raters}: nobody votes twice"
            )
        if not 0 <= self.load_spread < math.inf:
            raise ValueError(f"the spread of loads is a number from 0, not {self.load_spread}")

    @property
    def votes(self) -> int:
        return self.prompts * self.votes_per_prompt

    @property
    def unevenness(self) -> float:
        """Squared coefficient of variation of the votes per rater, c^2, chance included."""
        return self.load_spread**2 + (self.raters - self.votes_per_prompt) / self.votes


@dataclass(frozen=True, slots=True)
class Precision:
    """What a design is expected to give for one pair."""

    votes: int
    design_effect: float
    n_eff: float
    df: float | None  # None where no rater and no prompt has two votes
    low: float
    high: float
    half_width: float


DEFAULTS = Correlations()


def design_effect(
    rater_votes: ArrayLike, prompt_votes: ArrayLike, correlations: Correlations = DEFAULTS
) -> float:
    """By how much clustering multiplies the variance of a win rate.

    With n_g the votes of each rater (of each prompt), n their sum, rho the correlations:

        deff = 1 + (m_R - 1) rho_R + (m_P - 1) rho_P,   m = sum n_g^2 / n

    so that the win rate p has the variance p (1 - p) deff / n.

    Parameters
    ----------
    rater_votes, prompt_votes : votes on the pair by each rater and on each prompt, > 0; both
        sum to n.
    correlations : of votes.

    Returns
    -------
    The design effect, >= 1.

    Raises
    ------
    ValueError : counts that are not positive, or two different sums.

    Source
    ------
    L. Kish, Survey Sampling (1965), section 5.4, for one dimension; for two crossed ones the
    same variance of a sum of effects, S. R. Searle, G. Casella and C. E. McCulloch, Variance
    Components (1992).
    """
    raters, prompts = (np.asarray(v, dtype=np.float64) for v in (rater_votes, prompt_votes))
    if not (raters.size and prompts.size and (raters > 0).all() and (prompts > 0).all()):
        raise ValueError("votes of raters and of prompts are positive numbers")
    n = float(raters.sum())
    if not math.isclose(n, float(prompts.sum())):
        raise ValueError(f"raters give {n:g} votes, prompts get {prompts.sum():g}")
    return _deff(float(raters @ raters) / n, float(prompts @ prompts) / n, correlations)


def precision(
    design: Design,
    *,
    rate: float = 0.5,
    correlations: Correlations = DEFAULTS,
    confidence: float = 0.95,
) -> Precision:
    """The interval to expect from a design, at a win rate.

    `design_effect` with the design's loads: m_P = votes per prompt, m_R = (n / R) (1 + c^2) for
    R raters. Chance alone gives c^2 = (R - m_P) / n; load_spread^2 is added. With fixed prompts
    their term drops out. Then n_eff = n / deff, and Wilson's limits with n_eff and Student's t
    at df, as in a report: of P - 1 and `satterthwaite_df` of R loads that differ so much (like a
    gamma variable), joined like those of a win rate (`joint_df`), whose variances are here
    v_d = 1 + (m_d - 1) rho_d, and 1 of the cells. A dimension in which nobody votes twice drops
    out.

    As votes grow without end, the variance stops at
    p (1 - p) (rho_R (1 + load_spread^2) / R + rho_P / P).

    Parameters
    ----------
    design : of one pair under one criterion.
    rate : the win rate, in (0, 1).
    correlations : of votes.
    confidence : two-sided coverage, in (0, 1).

    Returns
    -------
    Precision; `half_width` is half of high - low.

    Raises
    ------
    ValueError : rate or confidence outside (0, 1).

    Source
    ------
    FORMULAS.md, "Planning" and "Win rate".
    """
    check_confidence(confidence)
    check_rate(rate)
    expected = expect(design, correlations)
    limits = score_limits(rate, expected.n_eff, quantile_of(confidence, expected.df))
    return Precision(
        design.votes,
        expected.design_effect,
        expected.n_eff,
        expected.df,
        limits.low,
        limits.high,
        (limits.high - limits.low) / 2,
    )


def power(
    design: Design,
    rate: float,
    *,
    correlations: Correlations = DEFAULTS,
    confidence: float = 0.95,
) -> float:
    """How probably a design decides a pair whose true win rate is `rate`.

    The chance that the interval will exclude one half. The estimate p is normal around the true
    rate r with variance r (1 - r) / n_eff. Its standard error is estimated: w^2, the estimated
    variance over the true one, varies like chi-squared over df_V. And it goes with p: tastes
    act on the logit, so the share s = 1 - (1 - rho_R - rho_P) / deff of 1 / n_eff that is due
    to clustering is in proportion to p (1 - p). With Student's t at df the interval excludes
    one half where |p - 1/2| exceeds

        x(w) = t w sqrt((1 - s + s / (4 u)) / (4 n_eff + t^2 w^2 s / u)),   u = max(r (1 - r), .1)

    and the power is the mean over w of P(|p - 1/2| > x(w)). (The proportion is not stretched
    further than to u = .1.) t is not the normal quantile: with ten raters that would promise
    too much. df_V is Satterthwaite's for the sum of the variances of both dimensions, with
    v_d = 1 + (m_d - 1) rho_d,

        df_V = (v_R + v_P - 1)^2 / (v_R^2 / df_R + v_P^2 / df_P)

    Parameters
    ----------
    design : of one pair under one criterion.
    rate : the true win rate, in (0, 1).
    correlations : of votes.
    confidence : of the interval; 1 - alpha / k for a claim that Holm's table decides at
        alpha / k.

    Returns
    -------
    A probability. At rate 1/2 it is 1 - confidence or near it: the error.

    Raises
    ------
    ValueError : rate or confidence outside (0, 1).

    Source
    ------
    FORMULAS.md, "Planning"; F. E. Satterthwaite, Biometrics Bulletin 2 (1946) 110-114.
    """
    check_confidence(confidence)
    check_rate(rate)
    return power_of(expect(design, correlations), rate, confidence)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a design amounts to, at any win rate."""

    design_effect: float
    n_eff: float
    shared: float  # part of 1 / n_eff that is due to clustering
    df: float | None  # of the interval's quantile
    df_variance: float | None  # of the estimated variance


def expect(design: Design, correlations: Correlations) -> Expected:
    """What a design amounts to; dimensions in which nobody votes twice drop out."""
    n, rho = design.votes, correlations
    raters = min(design.raters, n)
    terms = []
    if n > raters:
        size = n / raters * (1 + design.unevenness)
        terms.append((size, rho.rater, _rater_df(raters, n / raters, design.unevenness, rho.rater)))
    if design.votes_per_prompt > 1 and design.prompts > 1 and not design.fixed_prompts:
        terms.append((design.votes_per_prompt, rho.prompt, float(design.prompts - 1)))
    if not terms:
        return Expected(1.0, float(n), 0.0, None, None)
    parts = [(1 + (mean_size - 1) * share, df) for mean_size, share, df in terms]
    effect = 1 + sum(part - 1 for part, _ in parts)
    shared = 1 - (1 - sum(share for _, share, _ in terms)) / effect
    df_variance = effect**2 / sum(part**2 / df for part, df in parts)
    variances, dfs = np.array(parts).T[:, :, None]
    df = float(joint_df(variances, np.full(1, len(parts) - 1.0), dfs)[0])  # a cell is one vote
    return Expected(effect, n / effect, shared, df, df_variance)


def _rater_df(raters: int, mean_votes: float, unevenness: float, rho: float) -> float:
    """Degrees of freedom of a variance over raters whose loads differ like a gamma variable."""
    if unevenness == 0:
        return max(raters - 1.0, 1.0)
    n_sizes = min(raters, 1000)
    sizes = gammaincinv(1 / unevenness, (np.arange(n_sizes) + 0.5) / n_sizes)
    loads = Groups(np.arange(n_sizes), np.asarray(sizes * mean_votes / sizes.mean()))
    df = float(satterthwaite_df(rho, 1.0, loads.powers())[0])
    return max((df + 1) * raters / n_sizes - 1, 1.0)


def _deff(rater_size: float, prompt_size: float, correlations: Correlations) -> float:
    return 1 + (rater_size - 1) * correlations.rater + (prompt_size - 1) * correlations.prompt


def power_of(expected: Expected, rate: float, confidence: float) -> float:
    """`power` of what a design amounts to; the callers have checked their input."""
    errors = np.full(1, quantile_of(confidence, expected.df))
    weights = np.ones(1)
    if expected.df_variance is not None:
        half_df, weights = expected.df_variance / 2, _WEIGHTS
        errors = errors * np.sqrt(gammaincinv(half_df, _PROBABILITIES) / half_df)
    variance = rate * (1 - rate)
    shared, reference = expected.shared, max(variance, _LEAST_VARIANCE)
    far = np.sqrt(
        (1 - shared + shared / (4 * reference))
        / (4 * expected.n_eff + errors * errors * shared / reference)
    )
    sd = math.sqrt(variance / expected.n_eff)
    decided = sum(ndtr((side * (rate - 0.5) - errors * far) / sd) for side in (1, -1))
    return float(weights @ decided)


def check_rate(rate: float) -> None:
    if not 0 < rate < 1:
        raise ValueError(f"a win rate to plan for lies between 0 and 1, not {rate}")
