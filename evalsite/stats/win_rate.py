"""How often one system is preferred to another, from votes that share raters and prompts."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, stdtr

from evalsite.stats.clusters import Codes, Floats, Labels, factorise
from evalsite.stats.dimensions import (
    Dimension,
    cluster_warnings,
    dimension_of,
    estimand_of,
    method_of,
)
from evalsite.stats.intervals import check_confidence, quantile_of, score_limits
from evalsite.stats.variance import clustered_variance

FEW_VOTES = 10

Ties = Literal["half", "drop"]


@dataclass(frozen=True, slots=True)
class WinRate:
    """The win rate of a first system against a second, its interval, and how far to trust it.

    Rates are probabilities in [0, 1]. What cannot be computed is None, and a warning says why.
    """

    n: int  # votes: wins + ties + losses, also where ties are dropped
    wins: int
    ties: int
    losses: int
    n_raters: int | None  # behind the votes used; None where no vote names one
    n_prompts: int | None
    win_rate: float | None
    low: float | None
    high: float | None
    se: float | None  # None where all votes are equal
    df: float | None  # None where the normal quantile is used: votes all independent
    n_eff: float | None  # independent votes that would be worth as much
    design_effect: float | None  # variance over that of independent votes
    p_value: float | None  # two-sided, against one half
    win_rate_decided: float | None  # wins / (wins + losses)
    confidence: float
    method: str
    estimand: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Options:
    """How votes are read; refuses what makes no sense."""

    confidence: float = 0.95
    fixed_prompts: bool = False  # these prompts are the population, not a sample of one
    ties: Ties = "half"

    def __post_init__(self) -> None:
        check_confidence(self.confidence)
        if self.ties not in ("half", "drop"):
            raise ValueError(f"ties must be 'half' or 'drop', not {self.ties!r}")


def clustered_interval(
    outcomes: ArrayLike,
    raters: Labels | None,
    prompts: Labels | None,
    *,
    confidence: float = 0.95,
    fixed_prompts: bool = False,
    ties: Ties = "half",
    typical_design_effect: float | None = None,
) -> WinRate:
    """Win rate of a first system against a second, with an interval for clustered votes.

    Estimates theta = P(first wins) + P(tie) / 2 for a rater drawn from the pool and a prompt
    drawn from the population, each shown once. With p the mean outcome, V its variance over
    raters and prompts (`clustered_variance`), df its degrees of freedom and t the Student
    quantile at (1 + confidence) / 2:

        n_eff = p (1 - p) / V,   limits = Wilson's with n_eff votes and t for z
        p_value = 2 (1 - F_df(|p - 1/2| / sqrt(1 / (4 n_eff))))

    so that the interval excludes one half exactly when p_value < 1 - confidence.

    A dimension without labels, and one in which no cluster holds two votes, adds nothing and
    drops out; one that consists of a single cluster cannot be generalised over, so the
    estimand then speaks of this rater (this prompt) only. Where none is left, the votes are
    independent: n_eff = p (1 - p) n^2 / sum e^2 and the normal quantile.

    Where all outcomes are equal V is 0. Then n_eff = n / max(1, typical_design_effect) and
    df = max(1, G - 1) for the smaller number of clusters G.

    Parameters
    ----------
    outcomes : 1 first wins, 0 second wins, 0.5 tie; shape (n,), n >= 1.
    raters, prompts : a label per vote, or None for a column that is missing; the literal
        `none` means "no label". Where only some votes lack it, they count as one cluster,
        which errs towards a wide interval.
    confidence : two-sided coverage, in (0, 1).
    fixed_prompts : the prompts are the whole population: cluster by rater only.
    ties : `half` counts a tie as half a win; `drop` estimates the win rate among decided
        votes, P(first wins | no tie).
    typical_design_effect : median design effect of the criterion's other pairs, used where
        all outcomes are equal; `pair_win_rates` supplies it.

    Returns
    -------
    WinRate: rates in [0, 1], `se` in the same unit. Warnings are short fixed words:
    `one rater`, `few raters` (below 5), `one prompt`, `few prompts` (below 10: consider
    fixed_prompts), `no rater labels`, `no prompt labels`, `few losses` (below 10 votes in the
    smaller class, ties split), `all won`, `all lost`, `all tied`, `no decided votes`,
    `no design effect` (all votes equal, and none to borrow).

    Raises
    ------
    ValueError : no votes, outcomes other than 0, 0.5 and 1, columns of different length, a NaN
        label, confidence outside (0, 1), unknown ties, a design effect that is not positive.

    Source
    ------
    FORMULAS.md, "Win rate". Interval: E. B. Wilson, JASA 22 (1927) 209-212, with an effective
    sample size as in E. L. Korn and B. I. Graubard, Survey Methodology 24 (1998) 193-201.
    """
    options = Options(confidence, fixed_prompts, ties)
    values = checked_outcomes(outcomes)
    if values.size == 0:
        raise ValueError("an interval needs at least one vote")
    if typical_design_effect is not None and not 0 < typical_design_effect < math.inf:
        raise ValueError(f"a design effect is a positive number, not {typical_design_effect}")
    rater_codes = factorise(raters, values.size, "rater")
    prompt_codes = factorise(prompts, values.size, "prompt")
    return win_rate_of(values, rater_codes, prompt_codes, options, typical_design_effect)


def checked_outcomes(outcomes: ArrayLike) -> Floats:
    """Outcomes as floats; ValueError unless they are a flat list of 0, 0.5 and 1."""
    values = np.asarray(outcomes, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"outcomes must be a flat list, not of shape {values.shape}")
    if not ((values == 0) | (values == 0.5) | (values == 1)).all():
        raise ValueError("outcomes must be 0, 0.5 or 1")
    return values


def win_rate_of(
    values: Floats, raters: Codes, prompts: Codes, options: Options, typical: float | None
) -> WinRate:
    """`clustered_interval` on checked outcomes and numbered labels; no votes give no numbers."""
    wins, ties = int((values == 1).sum()), int((values == 0.5).sum())
    counts = (wins, ties, values.size - wins - ties)
    if options.ties == "drop" and ties:
        decided = values != 0.5
        values, raters, prompts = values[decided], raters[decided], prompts[decided]
    if values.size == 0:
        return _nothing(counts, options)
    dimensions = (
        dimension_of("rater", raters, fixed=False),
        dimension_of("prompt", prompts, fixed=options.fixed_prompts),
    )
    if values.min() == values.max():
        return _without_spread(counts, values, dimensions, options, typical)
    return _with_spread(counts, values, dimensions, options)


def _with_spread(
    counts: tuple[int, int, int],
    values: Floats,
    dimensions: tuple[Dimension, ...],
    options: Options,
) -> WinRate:
    """The usual case: the votes differ, so their variance can be estimated."""
    rate = float(values.mean())
    residuals = values - rate
    clustered = tuple(d.groups for d in dimensions if d.groups is not None)
    if clustered:
        found = clustered_variance(residuals, clustered)
        variance, df = found.variance, found.df
        design_effect = variance / found.independent
    else:
        variance, df = float(residuals @ residuals) / values.size**2, None
        design_effect = 1.0
    return _result(
        counts,
        rate,
        n_eff=rate * (1 - rate) / variance,
        df=df,
        se=math.sqrt(variance),
        design_effect=design_effect,
        dimensions=dimensions,
        options=options,
        method=method_of(dimensions),
        warnings=few_votes(values),
    )


def _without_spread(
    counts: tuple[int, int, int],
    values: Floats,
    dimensions: tuple[Dimension, ...],
    options: Options,
    typical: float | None,
) -> WinRate:
    """All votes equal: their variance is borrowed from the criterion's other pairs."""
    rate = float(values[0])
    words = [{0.0: "all lost", 0.5: "all tied", 1.0: "all won"}[rate]]
    n_eff, df, method = float(values.size), None, method_of(dimensions)
    clusters = [d.groups.count for d in dimensions if d.groups is not None]
    if clusters:
        n_eff, df = n_eff / max(1.0, typical or 1.0), max(1.0, min(clusters) - 1.0)
        method = "borrowed design effect"
        words += ["no design effect"] if typical is None else []
    return _result(
        counts,
        rate,
        n_eff=n_eff,
        df=df,
        se=None,
        design_effect=None,
        dimensions=dimensions,
        options=options,
        method=method,
        warnings=[*few_votes(values), *words],
    )


def _result(
    counts: tuple[int, int, int],
    rate: float,
    *,
    n_eff: float,
    df: float | None,
    se: float | None,
    design_effect: float | None,
    dimensions: tuple[Dimension, ...],
    options: Options,
    method: str,
    warnings: list[str],
) -> WinRate:
    limits = score_limits(rate, n_eff, quantile_of(options.confidence, df))
    distance = abs(rate - 0.5) / math.sqrt(0.25 / n_eff)
    raters, prompts = dimensions
    return WinRate(
        *_tally(counts),
        n_raters=raters.count,
        n_prompts=prompts.count,
        win_rate=rate,
        low=limits.low,
        high=limits.high,
        se=se,
        df=df,
        n_eff=n_eff,
        design_effect=design_effect,
        p_value=2 * _upper_tail(distance, df),
        win_rate_decided=_decided(counts),
        confidence=options.confidence,
        method=method,
        estimand=estimand_of(raters.state, prompts.state, decided=options.ties == "drop"),
        warnings=(*cluster_warnings(raters, prompts), *warnings),
    )


def _nothing(counts: tuple[int, int, int], options: Options) -> WinRate:
    return WinRate(
        *_tally(counts),
        n_raters=None,
        n_prompts=None,
        win_rate=None,
        low=None,
        high=None,
        se=None,
        df=None,
        n_eff=None,
        design_effect=None,
        p_value=None,
        win_rate_decided=None,
        confidence=options.confidence,
        method="none",
        estimand=estimand_of(
            "clustered",
            "fixed" if options.fixed_prompts else "clustered",
            decided=options.ties == "drop",
        ),
        warnings=("no decided votes" if sum(counts) else "no votes",),
    )


def _tally(counts: tuple[int, int, int]) -> tuple[int, int, int, int]:
    return sum(counts), *counts


def _decided(counts: tuple[int, int, int]) -> float | None:
    wins, _, losses = counts
    return wins / (wins + losses) if wins + losses else None


def _upper_tail(distance: float, df: float | None) -> float:
    # Read from the lower tail: 1 - F would lose all digits of a small p-value.
    return float(ndtr(-distance) if df is None else stdtr(df, -distance))


def few_votes(values: Floats) -> list[str]:
    """The warning that the smaller class of outcomes holds few votes, ties split."""
    wins = float(values.sum())
    return ["few losses"] if min(wins, values.size - wins) < FEW_VOTES else []
