"""How often one system is preferred to another, from votes that share raters and prompts."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, stdtr

from evalsite.stats.clusters import Codes, Floats, Labels, factorise, group_within
from evalsite.stats.dimensions import (
    Dimension,
    cluster_warnings,
    dimensions_of,
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


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Checked outcomes and numbered labels of many samples of votes, one after the other."""

    outcomes: Floats
    raters: Codes
    prompts: Codes
    sizes: Codes  # votes of each sample

    def tallies(self) -> Codes:
        """Wins, ties and losses of each sample, shape (samples, 3)."""
        keys = 3 * np.repeat(np.arange(self.sizes.size), self.sizes)
        keys += (2 - 2 * self.outcomes).astype(np.intp)
        return np.bincount(keys, minlength=3 * self.sizes.size).reshape(-1, 3)

    def decided(self, n_ties: Codes) -> "Samples":
        """The votes that are no ties; a sample may be left without any."""
        kept = self.outcomes != 0.5
        columns = self.outcomes[kept], self.raters[kept], self.prompts[kept]
        return Samples(*columns, self.sizes - n_ties)


class _Counts(NamedTuple):
    wins: int
    ties: int
    losses: int

    @property
    def won(self) -> float:
        return self.wins + self.ties / 2

    @property
    def rate(self) -> float:
        return self.won / sum(self)


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """The votes of one sample, summed up."""

    counts: _Counts
    used: _Counts  # without ties, where these are dropped
    dimensions: tuple[Dimension, Dimension]
    variance: float  # these three mean nothing where the votes used are all equal
    independent: float
    df: float

    @property
    def clusters(self) -> list[int]:
        """How many there are in each dimension that enters the variance."""
        return [d.count or 0 for d in self.dimensions if d.state == "clustered"]


def win_rate_of(
    values: Floats, raters: Codes, prompts: Codes, options: Options, typical: float | None
) -> WinRate:
    """`clustered_interval` on checked outcomes and numbered labels; no votes give no numbers."""
    alone = Samples(values, raters, prompts, np.array([values.size]))
    return win_rates_of(alone, options, typical)[0]


def win_rates_of(samples: Samples, options: Options, typical: float | None) -> list[WinRate]:
    """`win_rate_of` each sample: sums over votes and clusters are made for all of them at once."""
    counts = samples.tallies()
    if options.ties == "drop":
        samples = samples.decided(counts[:, 1])
    present = samples.sizes > 0
    summed = iter(_summed(replace(samples, sizes=samples.sizes[present]), counts[present], options))
    return [
        _from_sums(next(summed), options, typical) if n else _nothing(_Counts(*row), options)
        for row, n in zip(counts.tolist(), samples.sizes.tolist(), strict=True)
    ]


def _summed(samples: Samples, counts: Codes, options: Options) -> Iterator[_Sample]:
    """Samples that all have votes to go by; counts are of all votes, shape (samples, 3)."""
    if samples.sizes.size == 0:
        return
    n = samples.sizes
    used = counts * [1, options.ties == "half", 1]
    rates = (used[:, 0] + used[:, 1] / 2) / n
    residuals = samples.outcomes - np.repeat(rates, n)
    groups = group_within(samples.raters, n), group_within(samples.prompts, n)
    raters = dimensions_of("rater", samples.raters, groups[0], fixed=False)
    prompts = dimensions_of("prompt", samples.prompts, groups[1], fixed=options.fixed_prompts)
    enters = [np.array([d.state == "clustered" for d in column]) for column in (raters, prompts)]
    spread = clustered_variance(residuals, groups, enters)
    columns = counts, used, spread.variance, spread.independent, spread.df
    for all_votes, own, *numbers, rater, prompt in zip(
        *(column.tolist() for column in columns), raters, prompts, strict=True
    ):
        yield _Sample(_Counts(*all_votes), _Counts(*own), (rater, prompt), *numbers)


def _from_sums(sample: _Sample, options: Options, typical: float | None) -> WinRate:
    alike = sum(count > 0 for count in sample.used) == 1
    return _without_spread(sample, options, typical) if alike else _with_spread(sample, options)


def _with_spread(sample: _Sample, options: Options) -> WinRate:
    """The usual case: the votes differ, so their variance can be estimated."""
    rate, n = sample.used.rate, sum(sample.used)
    if sample.clusters:
        variance, df = sample.variance, sample.df
        design_effect = variance / sample.independent
    else:
        variance, df = sample.independent * (n - 1) / n, None
        design_effect = 1.0
    return _result(
        sample,
        options,
        n_eff=rate * (1 - rate) / variance,
        df=df,
        se=math.sqrt(variance),
        design_effect=design_effect,
        method=method_of(sample.dimensions),
        warnings=[],
    )


def _without_spread(sample: _Sample, options: Options, typical: float | None) -> WinRate:
    """All votes equal: their variance is borrowed from the criterion's other pairs."""
    words = [{0.0: "all lost", 0.5: "all tied", 1.0: "all won"}[sample.used.rate]]
    n_eff, df, method = float(sum(sample.used)), None, method_of(sample.dimensions)
    if sample.clusters:
        n_eff, df = n_eff / max(1.0, typical or 1.0), max(1.0, min(sample.clusters) - 1.0)
        method = "borrowed design effect"
        words += ["no design effect"] if typical is None else []
    return _result(
        sample,
        options,
        n_eff=n_eff,
        df=df,
        se=None,
        design_effect=None,
        method=method,
        warnings=words,
    )


def _result(
    sample: _Sample,
    options: Options,
    *,
    n_eff: float,
    df: float | None,
    se: float | None,
    design_effect: float | None,
    method: str,
    warnings: list[str],
) -> WinRate:
    rate = sample.used.rate
    limits = score_limits(rate, n_eff, quantile_of(options.confidence, df))
    distance = abs(rate - 0.5) / math.sqrt(0.25 / n_eff)
    raters, prompts = sample.dimensions
    return WinRate(
        sum(sample.counts),
        *sample.counts,
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
        win_rate_decided=_decided(sample.counts),
        confidence=options.confidence,
        method=method,
        estimand=estimand_of(raters.state, prompts.state, decided=options.ties == "drop"),
        warnings=(
            *cluster_warnings(raters, prompts),
            *few_votes(sample.used.won, sum(sample.used)),
            *warnings,
        ),
    )


def _nothing(counts: _Counts, options: Options) -> WinRate:
    return WinRate(
        sum(counts),
        *counts,
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


def _decided(counts: _Counts) -> float | None:
    decided = counts.wins + counts.losses
    return counts.wins / decided if decided else None


def _upper_tail(distance: float, df: float | None) -> float:
    # Read from the lower tail: 1 - F would lose all digits of a small p-value.
    return float(ndtr(-distance) if df is None else stdtr(df, -distance))


def few_votes(wins: float, n: int) -> list[str]:
    """The warning that the smaller class of outcomes holds few votes, ties split."""
    return ["few losses"] if min(wins, n - wins) < FEW_VOTES else []
