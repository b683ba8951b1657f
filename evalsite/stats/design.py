"""A study that is planned, and what its votes will amount to."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaincinv

from evalsite.stats.clusters import Floats
from evalsite.stats.variance import MeanVariance, combine, satterthwaite_df

PROVED_RATERS, PROVED_PROMPTS = 3, 30
"""From both on promised power lies within 3 points and two errors of what simulated studies show.

Below it may be far too high, by up to 7 points with 25 prompts and 47 with 10, and the half-width
too narrow (docs/coverage.md). So no plan offers less; what is asked by number is answered with a
warning.
"""

NODES, WEIGHTS = (part / 2 for part in np.polynomial.legendre.leggauss(32))
NODES += 0.5  # Gauss and Legendre's rule on (0, 1)

_LEAST_EFFECT = 1e-6
"""Fixed prompts that explain all leave no variance, which is no distribution."""

_STIRLING = np.array(
    [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 3, 1, 0, 0], [1, 7, 6, 1, 0], [1, 15, 25, 10, 1]]
)
"""x^j = sum over k of S(j, k) x (x - 1) ... (x - k + 1), for j and k from 1 to 5."""


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
    load, each = float(raters @ raters) / n, float(prompts @ prompts) / n
    return 1 + (load - 1) * correlations.rater + (each - 1) * correlations.prompt


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """What a design amounts to at any win rate r. Variances are in units of r (1 - r) / votes.

    design_effect : the true variance of a win rate.
    shared : the part of it that is due to clustering, from 0 to 1.
    df : degrees of freedom of a report in which every variance is what it is in the mean.
    least_df : of a report in which all votes are equal. Both None where votes are independent.
    variances, dfs, weights : what a report may estimate, and how probably; shape (k,).
    """

    votes: int
    design_effect: float
    shared: float
    df: float | None
    least_df: float | None
    variances: Floats
    dfs: Floats | None
    weights: Floats

    @property
    def n_eff(self) -> float:
        """Independent votes with the same variance."""
        return self.votes / self.design_effect


def expect(design: Design, correlations: Correlations) -> Expected:
    """What a design amounts to: its true variance, and the variances that it may seem to have.

    The variance over raters varies like its mean times chi-squared over its df, and so does
    the variance over prompts, independently. Each pair of them is made one variance with its df
    as in a report (`combine`), on a grid of their quantiles.

    Parameters
    ----------
    design, correlations : of one pair under one criterion.

    Returns
    -------
    Expected.

    Raises
    ------
    Nothing.

    Source
    ------
    FORMULAS.md, "Planning", with the means of the variances.
    """
    n, each = design.votes, design.votes_per_prompt
    if design.prompts == 1:  # nobody votes on it twice, and nothing is said of other prompts
        return Expected(n, 1.0, 0.0, None, None, np.array([1 - 1 / n]), None, np.ones(1))
    rater, prompt = correlations.rater, correlations.prompt
    load = min(n / design.raters * (1 + design.unevenness), float(design.prompts))  # m_R
    noise, strangers = 1 - rater - prompt, max(n - each * load, 0.0)
    of_raters = load * rater + noise + prompt * (strangers / (n - load) if n > load else 1.0)
    means, dfs = [of_raters * _excess(design)], [_rater_df(design, rater)]
    if each > 1 and not design.fixed_prompts:
        means.append(each * prompt + noise + rater * strangers / (n - each))
        dfs.append(design.prompts - 1.0)
    of_cells = noise + (rater * (n - load) + prompt * (n - each)) / (n - 1)
    seen = [m * gammaincinv(df / 2, NODES) * 2 / df for m, df in zip(means, dfs, strict=True)]
    report = _combined(_grid(seen), dfs, of_cells)
    effect = load * rater + noise + (0.0 if design.fixed_prompts else each * prompt)
    effect = max(effect, _LEAST_EFFECT)
    return Expected(
        n,
        effect,
        shared=1 - noise / effect,
        df=float(_combined(np.array(means)[:, None], dfs, of_cells).df[0]),
        least_df=max(min(design.raters, n, *(design.prompts for _ in means[1:])) - 1.0, 1.0),
        variances=report.variance,
        dfs=report.df,
        weights=_grid([WEIGHTS for _ in means]).prod(axis=0),
    )


def _grid(columns: list[Floats]) -> Floats:
    """All combinations of one value of each column, shape (columns, combinations)."""
    return np.stack([axis.ravel() for axis in np.meshgrid(*columns, indexing="ij")])


def _combined(parts: Floats, dfs: list[float], of_cells: float) -> MeanVariance:
    """What a report makes of variances over raters and, perhaps, prompts; shape (dims, k)."""
    cells = np.full(parts.shape[1], of_cells)
    shared = cells if len(parts) > 1 else np.zeros_like(cells)
    return combine(parts, shared, np.array(dfs)[:, None], independent=cells)


def _excess(design: Design) -> float:
    """By how much the jackknife overstates a variance where raters' loads differ."""
    raters = design.raters
    if raters == 1:
        return 1.0
    return 1 + min(design.unevenness, raters - 1) * raters / (raters - 1) ** 2


def _rater_df(design: Design, rho: float) -> float:
    """Degrees of freedom of a variance over raters whose loads differ like a gamma variable.

    Each rater is on a prompt with a chance in proportion to that variable, so that the mean of
    n_g (n_g - 1) ... (n_g - k + 1) is P (P - 1) ... (P - k + 1) times the mean of chance^k.
    """
    if design.raters == 1:
        return 1.0
    chances = np.full(1, design.votes_per_prompt / design.raters)
    if design.load_spread > 0:
        count = min(design.raters, 1000)
        shape = design.load_spread**-2
        quantiles = gammaincinv(shape, (np.arange(count) + 0.5) / count)
        chances = chances * quantiles / quantiles.mean()
    orders = np.arange(1, 6)
    falling = np.cumprod(np.maximum(design.prompts - orders + 1.0, 0.0))
    powers = _STIRLING @ (falling * (chances[:, None] ** orders).mean(axis=0))
    df = float(satterthwaite_df(rho, 1.0, design.raters * powers))
    return max(min(df, min(design.raters, design.votes) - 1.0), 1.0)
