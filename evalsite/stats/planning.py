"""What a study will give, before it is opened: intervals, and the chance to find a difference."""

from dataclasses import dataclass

import numpy as np
from scipy.special import betainc, betaincinv, ndtri, stdtrit

from evalsite.stats.clusters import Floats
from evalsite.stats.design import (
    DEFAULTS,
    NODES,
    PROVED_PROMPTS,
    WEIGHTS,
    Correlations,
    Design,
    Expected,
    expect,
)
from evalsite.stats.dimensions import FEW_RATERS
from evalsite.stats.intervals import check_confidence, quantile_of
from evalsite.stats.win_rate import FEW_VOTES

_LEAST_WORTH = 1e-6
"""Of n_eff - 1: nothing less is a distribution of win rates."""


@dataclass(frozen=True, slots=True)
class Precision:
    """What a design is expected to give for one pair."""

    votes: int
    design_effect: float
    n_eff: float
    df: float | None  # None with one prompt: nobody has two votes on the pair
    low: float
    high: float
    half_width: float
    warnings: tuple[str, ...]


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
    their term is -rho_P: votes on the same prompts in every study differ less than others. Then
    n_eff = n / deff.

    The limits are means over all that a study may turn out to be: Wilson's, with the observed
    rate and the estimated variance distributed as for `power`, and Student's t at the df that
    a report has beside that variance.

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
    Precision; `half_width` is half of high - low, `df` that of variances as they are in the mean.
    `warnings`, of the plan, are a report's words where it has them: `few raters` (under 5),
    `few prompts` (under PROVED_PROMPTS, where promises are too high), `few losses` (under 10
    expected), `one rater`, `one prompt`; and `never decides` where not even votes that are all
    equal exclude one half, `idle raters` where there are more raters than votes.

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
    low, high = _mean_limits(expected, rate, confidence)
    return Precision(
        design.votes,
        expected.design_effect,
        expected.n_eff,
        expected.df,
        low,
        high,
        (high - low) / 2,
        _warnings(design, expected, rate, confidence),
    )


def power(
    design: Design,
    rate: float,
    *,
    correlations: Correlations = DEFAULTS,
    confidence: float = 0.95,
) -> float:
    """How probably a design decides a pair whose true win rate is `rate`.

    The chance that the interval will exclude one half. The observed rate p has the true mean r
    and variance r (1 - r) / n_eff, and a beta distribution. The variance that a report
    estimates, v r (1 - r) / n, varies apart from it (`expect`). And it goes with p: tastes act
    on the logit, so the share s = 1 - (1 - rho_R - rho_P) / deff that is due to clustering is in
    proportion to (p (1 - p))^2, the rest to p (1 - p). With Student's t at the df that belongs
    to v the interval excludes one half where |p - 1/2| exceeds x,

        x^2 = t^2 v (a + b / 4) / (4 + t^2 v b),
        a = (1 - s) / (n - deff),   b = s / (n - deff) / u

    u = E (p (1 - p))^2 / E p (1 - p). The power is the mean over v of P(|p - 1/2| > x). Where p
    is nearer to 0 or 1 than half a vote all votes are equal, and the interval is the one that
    a report gives then.

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
    FORMULAS.md, "Planning": with what it was held against.
    """
    check_confidence(confidence)
    check_rate(rate)
    return power_of(expect(design, correlations), rate, confidence)


def power_of(expected: Expected, rate: float, confidence: float) -> float:
    """`power` of what a design amounts to; the callers have checked their input."""
    observed = _observed(expected, rate)
    squares = _squares(expected, confidence)
    level, slope = observed.level, observed.slope
    far = np.sqrt(squares * (level + slope / 4) / (4 + squares * slope))
    outside = np.maximum(0.5 - far, 0.0)
    alike_decide = _alike_decide(expected, confidence)
    decided = np.zeros_like(far)
    for near, other in ((observed.losses, observed.wins), (observed.wins, observed.losses)):
        beyond = betainc(near, other, outside)
        alike = betainc(near, other, observed.edge)
        decided += np.maximum(beyond, alike) if alike_decide else np.maximum(beyond - alike, 0)
    return float(expected.weights @ decided)


def _alike_decide(expected: Expected, confidence: float) -> bool:
    """Whether a report of votes that are all equal excludes one half."""
    return bool(quantile_of(confidence, expected.least_df) ** 2 < expected.votes)


def _warnings(
    design: Design, expected: Expected, rate: float, confidence: float
) -> tuple[str, ...]:
    """What makes a plan a rough one, as short fixed words."""
    found = {
        "one rater": design.raters == 1,
        "few raters": design.raters < FEW_RATERS,
        "one prompt": design.prompts == 1,
        "few prompts": design.prompts < PROVED_PROMPTS,
        "few losses": design.votes * min(rate, 1 - rate) < FEW_VOTES,
        "never decides": design.raters > 1 and not _alike_decide(expected, confidence),
        "idle raters": design.raters > design.votes,
    }
    return tuple(word for word, holds in found.items() if holds)


def check_rate(rate: float) -> None:
    if not 0 < rate < 1:
        raise ValueError(f"a win rate to plan for lies between 0 and 1, not {rate}")


@dataclass(frozen=True, slots=True)
class _Observed:
    """The observed rate p, and its estimated variance V = v p (1 - p) (level + slope p (1 - p)).

    p has the distribution Beta(wins, losses); nearer to 0 or 1 than `edge` all votes are equal.
    """

    wins: float
    losses: float
    edge: float
    level: float
    slope: float


def _observed(expected: Expected, rate: float) -> _Observed:
    worth = max(expected.n_eff - 1, _LEAST_WORTH)
    wins, losses = rate * worth, (1 - rate) * worth
    typical = (wins + 1) * (losses + 1) / ((worth + 2) * (worth + 3))
    per_vote = (1 + 1 / worth) / expected.votes  # E p (1 - p) is less than r (1 - r)
    return _Observed(
        wins,
        losses,
        edge=0.5 / expected.votes,
        level=per_vote * (1 - expected.shared),
        slope=per_vote * expected.shared / typical,
    )


def _squares(expected: Expected, confidence: float) -> Floats:
    """t^2 v of each variance that a report may estimate."""
    level = (1 + confidence) / 2
    quantiles = ndtri(level) if expected.dfs is None else stdtrit(expected.dfs, level)
    return np.asarray(quantiles**2 * expected.variances)


def _mean_limits(expected: Expected, rate: float, confidence: float) -> tuple[float, float]:
    """Wilson's limits, their mean over the observed rate and the estimated variance."""
    observed = _observed(expected, rate)
    shape = observed.wins, observed.losses
    lost, won = betainc(*shape, observed.edge), betainc(*shape[::-1], observed.edge)
    rates = betaincinv(*shape, lost + NODES * (1 - lost - won))[:, None]
    spread = rates * (1 - rates)
    squares = _squares(expected, confidence) * (observed.level + observed.slope * spread)
    reach = np.sqrt(squares * spread + squares**2 / 4)
    weights = (1 - lost - won) * WEIGHTS
    low, high = (
        float(weights @ ((rates + squares / 2 + side * reach) / (1 + squares)) @ expected.weights)
        for side in (-1, 1)
    )
    square = quantile_of(confidence, expected.least_df) ** 2 / expected.votes
    return low + won / (1 + square), high + won + lost * square / (1 + square)
