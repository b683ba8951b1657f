"""How many votes, raters and prompts a study needs, before it is opened."""

import math
import statistics
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import gammaincinv, ndtr, ndtri, stdtrit

from evalsite.stats.clusters import Groups, cross, group
from evalsite.stats.intervals import check_confidence, score_limits
from evalsite.stats.variance import satterthwaite_df, variance_components
from evalsite.stats.votes import Votes

Quantity = Literal["raters", "prompts", "votes_per_prompt"]

MOST = 10_000_000
"""No plan asks for more of anything."""

_LEAST_VARIANCE = 0.1
"""Of a vote, from which the change of the standard error with the rate is extrapolated."""

_NODES, _WEIGHTS = (part / 2 for part in np.polynomial.legendre.leggauss(100))
_PROBABILITIES = 0.5 + _NODES


class OutOfReach(ValueError):
    """No number of what may be added reaches the goal; says what stands in the way."""


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
class HalfWidth:
    """The goal that the interval reaches so far to either side, at this win rate."""

    value: float
    rate: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.value < 0.5:
            raise ValueError(f"a half-width lies between 0 and 1/2, not {self.value}")
        _check_rate(self.rate)


@dataclass(frozen=True, slots=True)
class Power:
    """The goal to decide with this probability where the true win rate is this one."""

    value: float
    rate: float

    def __post_init__(self) -> None:
        if not 0 < self.value < 1:
            raise ValueError(f"a power lies between 0 and 1, not {self.value}")
        _check_rate(self.rate)
        if self.rate == 0.5:
            raise ValueError("there is nothing to find at a win rate of one half")


Goal = HalfWidth | Power


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


@dataclass(frozen=True, slots=True)
class IntraclassCorrelations:
    """Medians over the pairs of a pilot; None where no pair can tell."""

    rater: float | None
    prompt: float | None
    n_pairs: int


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
    at df, as in a report: df is the lesser one of P - 1 and `satterthwaite_df` of R loads that
    differ so much (like a gamma variable). A dimension in which nobody votes twice drops out.

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
    _check_rate(rate)
    expected = _expect(design, correlations)
    limits = score_limits(rate, expected.n_eff, _quantile(confidence, expected.df))
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
    _check_rate(rate)
    return _power(_expect(design, correlations), rate, confidence)


def smallest_difference(
    design: Design,
    *,
    power: float = 0.8,
    correlations: Correlations = DEFAULTS,
    confidence: float = 0.95,
) -> float:
    """The smallest difference from one half that a design finds with a wanted power.

    The solution d of power(1/2 + d) = power, which grows with d.

    Parameters
    ----------
    design : of one pair under one criterion.
    power : wanted, above 1 - confidence and below 1.
    correlations : of votes.
    confidence : as for `power`.

    Returns
    -------
    The difference in win rate, in (0, 1/2).

    Raises
    ------
    ValueError : a power outside (1 - confidence, 1), confidence outside (0, 1). OutOfReach
        where not even a system that nearly always wins would be found.

    Source
    ------
    As for `power`.
    """
    check_confidence(confidence)
    if not 1 - confidence < power < 1:
        raise ValueError(f"a power lies between {1 - confidence:g} and 1, not {power}")
    expected = _expect(design, correlations)

    def missing(difference: float) -> float:
        return _power(expected, 0.5 + difference, confidence) - power

    largest = 0.5 - 1e-6
    if missing(largest) < 0:
        raise OutOfReach(f"{_words(design)} find no difference with a power of {power:g}")
    return float(brentq(missing, 1e-9, largest, xtol=1e-9)) if missing(1e-9) < 0 else 1e-9


def fewest(
    quantity: Quantity,
    design: Design,
    goal: Goal,
    *,
    correlations: Correlations = DEFAULTS,
    confidence: float = 0.95,
) -> Design:
    """The least of one quantity that reaches a goal, all else of a design as it is.

    Found by halving: more raters, prompts or votes never hurt. Not everything can be bought
    with votes, though: with R raters no number of prompts gives a half-width h unless

        R > z^2 p (1 - p) rho_R / h^2

    (`rater_floor`, which counts Student's quantile in), and with P prompts no number of raters
    does unless the like holds for P and rho_P.

    Parameters
    ----------
    quantity : `raters` (the votes stay, in more hands), `prompts` (the votes per prompt stay),
        or `votes_per_prompt` (at most one of each rater).
    design : its own number of that quantity is not used.
    goal : a HalfWidth or a Power.
    correlations : of votes.
    confidence : as for `power`.

    Returns
    -------
    The design with that number.

    Raises
    ------
    OutOfReach (a ValueError) : no number up to MOST does; its text says what is needed first.

    Source
    ------
    FORMULAS.md, "Planning".
    """
    check_confidence(confidence)
    found = _fewest(quantity, design, goal, correlations, confidence)
    if found is None:
        raise OutOfReach(_obstacle(quantity, design, goal, correlations, confidence))
    return found


def rater_floor(
    goal: Goal,
    *,
    correlations: Correlations = DEFAULTS,
    confidence: float = 0.95,
    load_spread: float = 0.0,
) -> int:
    """The number of raters below which no number of votes and prompts reaches a goal.

    With endless votes on endless prompts the variance is p (1 - p) rho_R (1 + c^2) / R. For a
    half-width h the floor lies a little above z^2 p (1 - p) rho_R (1 + c^2) / h^2, since a
    variance estimated from R raters is read with Student's t.

    Parameters
    ----------
    goal : a HalfWidth or a Power.
    correlations : of votes.
    confidence : as for `power`.
    load_spread : c, as in `Design`.

    Returns
    -------
    The number of raters, at least 1.

    Raises
    ------
    ValueError : confidence outside (0, 1), a spread below 0. OutOfReach above MOST.

    Source
    ------
    FORMULAS.md, "Planning".
    """
    check_confidence(confidence)
    endless = Design(MOST, MOST, 1, load_spread=load_spread)
    found = _fewest("raters", endless, goal, correlations, confidence)
    if found is None:
        raise OutOfReach(f"{MOST} raters are not enough for {_goal_words(goal)}")
    return found.raters


def intraclass_correlations(votes: Votes) -> IntraclassCorrelations:
    """The correlations that the votes of a pilot show, for planning the study itself.

    For each pair the variance components by the method of moments (`variance_components`):
    rho_d is the share of dimension d in their sum, cut to [0, 1]. One pair's share is very
    uncertain; the median over pairs is less so. A pair tells of a dimension in which some
    cluster has two votes and there are two clusters, if its votes differ at all.

    Parameters
    ----------
    votes : of one criterion.

    Returns
    -------
    IntraclassCorrelations; `n_pairs` counts the pairs that told of any dimension.

    Raises
    ------
    Nothing: `check_votes` has checked the input.

    Source
    ------
    S. R. Searle, G. Casella and C. E. McCulloch, Variance Components (1992), chapter 5.
    """
    shares: dict[str, list[float]] = {"rater": [], "prompt": []}
    n_pairs = 0
    low, high = np.minimum(votes.first, votes.second), np.maximum(votes.first, votes.second)
    keys = low * votes.n_systems + high
    for key in np.unique(keys):
        own = _shares_of_one_pair(votes, keys == key)
        n_pairs += bool(own)
        for name, share in own.items():
            shares[name].append(share)
    rater, prompt = (statistics.median(s) if s else None for s in shares.values())
    return IntraclassCorrelations(rater, prompt, n_pairs)


@dataclass(frozen=True, slots=True)
class _Expected:
    design_effect: float
    n_eff: float
    shared: float  # part of 1 / n_eff that is due to clustering
    df: float | None  # of the interval's quantile
    df_variance: float | None  # of the estimated variance


def _expect(design: Design, correlations: Correlations) -> _Expected:
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
        return _Expected(1.0, float(n), 0.0, None, None)
    parts = [(1 + (mean_size - 1) * share, df) for mean_size, share, df in terms]
    effect = 1 + sum(part - 1 for part, _ in parts)
    shared = 1 - (1 - sum(share for _, share, _ in terms)) / effect
    df_variance = effect**2 / sum(part**2 / df for part, df in parts)
    return _Expected(effect, n / effect, shared, min(df for _, df in parts), df_variance)


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


def _power(expected: _Expected, rate: float, confidence: float) -> float:
    errors = np.full(1, _quantile(confidence, expected.df))
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


def _reaches(design: Design, goal: Goal, correlations: Correlations, confidence: float) -> bool:
    if isinstance(goal, Power):
        return (
            power(design, goal.rate, correlations=correlations, confidence=confidence) >= goal.value
        )
    found = precision(design, rate=goal.rate, correlations=correlations, confidence=confidence)
    return found.half_width <= goal.value


def _fewest(
    quantity: Quantity,
    design: Design,
    goal: Goal,
    correlations: Correlations,
    confidence: float,
) -> Design | None:
    def enough(number: int) -> bool:
        return _reaches(_with(design, quantity, number), goal, correlations, confidence)

    least = design.votes_per_prompt if quantity == "raters" else 1
    most = design.raters if quantity == "votes_per_prompt" else MOST
    if not enough(most):
        return None
    short = least - 1
    while most - short > 1:
        middle = (short + most) // 2
        if enough(middle):
            most = middle
        else:
            short = middle
    return _with(design, quantity, most)


def _with(design: Design, quantity: Quantity, number: int) -> Design:
    changed: dict[str, int] = {quantity: number}
    return replace(design, **changed)  # type: ignore[arg-type]


def _obstacle(
    quantity: Quantity,
    design: Design,
    goal: Goal,
    correlations: Correlations,
    confidence: float,
) -> str:
    """Why no number of a quantity reaches the goal, and what is needed first."""
    most = design.raters if quantity == "votes_per_prompt" else MOST
    extreme = _with(design, quantity, most)
    first: Quantity = "raters" if quantity == "prompts" else "prompts"
    needed = _fewest(first, extreme, goal, correlations, confidence)
    if needed is None:  # all raters vote on endless prompts, and still are too few
        first, endless = "raters", replace(design, prompts=MOST, votes_per_prompt=1)
        needed = _fewest(first, endless, goal, correlations, confidence)
    what = quantity.replace("_", " ")
    if needed is None:
        return f"{_words(design, quantity)} cannot give {_goal_words(goal)} with any {what}"
    return (
        f"{_words(design, quantity)} cannot give {_goal_words(goal)} with any number of {what}: "
        f"at least {getattr(needed, first):,} {first} are needed, since votes "
        f"{'of one rater' if first == 'raters' else 'on one prompt'} are alike (correlation "
        f"{correlations.rater if first == 'raters' else correlations.prompt:g})"
    )


def _words(design: Design, free: Quantity | None = None) -> str:
    parts = {
        "raters": f"{design.raters:,} raters",
        "prompts": f"{design.prompts:,} prompts",
        "votes_per_prompt": f"{design.votes_per_prompt} votes on each prompt",
    }
    return ", ".join(words for name, words in parts.items() if name != free)


def _goal_words(goal: Goal) -> str:
    if isinstance(goal, Power):
        return f"a power of {goal.value:g} against a win rate of {goal.rate:g}"
    return f"a half-width of {goal.value:g} at a win rate of {goal.rate:g}"


def _shares_of_one_pair(votes: Votes, own: NDArray[np.bool_]) -> dict[str, float]:
    outcomes = np.where(votes.first < votes.second, votes.outcomes, 1 - votes.outcomes)[own]
    residuals = outcomes - outcomes.mean()
    columns = {"rater": votes.raters[own], "prompt": votes.prompts[own]}
    groups = {name: group(codes) for name, codes in columns.items()}
    groups = {name: g for name, g in groups.items() if g.count > 1 and g.largest > 1}
    if not groups or not residuals.any():
        return {}
    dimensions = tuple(groups.values())
    cells = cross(*dimensions) if len(dimensions) == 2 else None
    sums = [g.sums(residuals) for g in dimensions]
    components, total = variance_components(residuals, dimensions, sums, cells)
    shares = (float(c[0] / total[0]) for c in components)
    return {name: min(share, 1.0) for name, share in zip(groups, shares, strict=True)}


def _quantile(confidence: float, df: float | None) -> float:
    level = (1 + confidence) / 2
    return float(ndtri(level) if df is None else stdtrit(df, level))


def _check_rate(rate: float) -> None:
    if not 0 < rate < 1:
        raise ValueError(f"a win rate to plan for lies between 0 and 1, not {rate}")
