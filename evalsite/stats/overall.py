"""How often a system is preferred to the others, each opponent weighing the same."""

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from evalsite.stats.clusters import Codes, Floats, Groups, group
from evalsite.stats.dimensions import (
    cluster_warnings,
    dimension_of,
    estimand_of,
    method_of,
)
from evalsite.stats.intervals import quantile_of, score_limits
from evalsite.stats.tallies import sorted_by_cluster
from evalsite.stats.variance import (
    combine,
    satterthwaite_df,
    variance_components,
)
from evalsite.stats.votes import Votes
from evalsite.stats.win_rate import Options, Ties, few_votes


@dataclass(frozen=True, slots=True)
class OverallScore:
    """One system's mean win rate over its opponents, its interval, and how far to trust it.

    Rates are probabilities in [0, 1]. What cannot be computed is None, and a warning says why.
    """

    system: int
    win_rate: float | None
    low: float | None
    high: float | None
    se: float | None  # None where all votes against each opponent are equal
    df: float | None  # None where the normal quantile is used: votes all independent
    n_opponents: int  # with votes
    n: int  # votes used
    method: str
    estimand: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """All votes of one system: outcomes for it, opponents and labels numbered from 0."""

    outcomes: Floats
    opponents: Groups
    rates: Floats  # against each opponent
    raters: Codes
    prompts: Codes


@dataclass(frozen=True, slots=True, eq=False)
class _Runs:
    """A cluster's votes on an opponent, added up: one place in every column."""

    clusters: Groups  # the sizes are of votes
    opponents: Codes
    sums: Floats  # of the outcomes
    sizes: Floats


@dataclass(frozen=True, slots=True)
class _Found:
    """A score before its limits."""

    rate: float
    n: int
    n_opponents: int
    n_eff: float  # where nothing varies: before a design effect
    variance: float  # 0 where nothing varies
    design_effect: float | None
    df: float | None
    method: str
    estimand: str
    warnings: tuple[str, ...]


def overall_scores(
    votes: Votes,
    *,
    confidence: float = 0.95,
    fixed_prompts: bool = False,
    ties: Ties = "half",
) -> tuple[OverallScore, ...]:
    """Every system's win rate, averaged over its opponents, with an interval.

    Estimates psi_i, the mean over opponents j of theta_ij = P(i preferred) + P(tie) / 2, for a
    random rater and a random prompt. Opponents weigh the same however often each was shown:
    pooled votes would favour a system that met weak ones more often. Opponents without votes
    are left out, so that scores of systems that met different opponents do not compare.

    The variance is the jackknife of that mean itself: for each cluster g left out, all pair
    means and then their mean are computed again; an opponent met only in g is missing then:

        psi(g) = mean over the opponents left of (mean outcome of the votes left)
        V_d = (G - 1)/G * sum_g (psi(g) - psi)^2
        V = V_rater + V_prompt - V_cell, with the floor of a win rate (`combine`)

    with G the clusters that hold votes of the system; in place of s2 stands V_vote, the same
    with every vote a cluster. Dimensions drop out as in `clustered_interval`. Limits are
    Wilson's with n_eff = psi (1 - psi) / V votes and Student's t, so that with one opponent the
    score and its limits are those of the pair. Degrees of freedom are Satterthwaite's on the
    outcomes' distances from their pair's mean, each weighted by what its vote weighs in the
    mean.

    Where the votes against each opponent are all equal V is 0. Then
    n_eff = m^2 / sum_j (1 / n_j) / max(1, D) for m opponents with n_j votes each, with D the
    median design effect of the other systems, and df = max(1, G - 1) for the smaller G.

    Parameters
    ----------
    votes : of one criterion.
    confidence : two-sided coverage, in (0, 1).
    fixed_prompts : the prompts are the whole population: cluster by rater only.
    ties : `half` counts a tie as half a win; `drop` leaves ties out.

    Returns
    -------
    One OverallScore per system, in the order of their numbers. Warnings are those of
    `clustered_interval`, `no votes`, and `no spread` (V is 0, yet not all won or all lost).

    Raises
    ------
    ValueError : confidence outside (0, 1), unknown ties.

    Source
    ------
    FORMULAS.md, "Score over all opponents".
    """
    options = Options(confidence, fixed_prompts, ties)
    found = [None if side is None else _found(side, options) for side in _sides(votes, options)]
    effects = [f.design_effect for f in found if f is not None and f.design_effect is not None]
    typical = statistics.median(effects) if effects else None
    return tuple(
        _nothing(system, options) if f is None else _score(system, f, options, typical)
        for system, f in enumerate(found)
    )


def _sides(votes: Votes, options: Options) -> Iterator[_Side | None]:
    """Each system's votes, one system at a time; None for one without any."""
    named_first, named_second = _places(votes.first, votes), _places(votes.second, votes)
    for one, two in zip(named_first, named_second, strict=True):
        if options.ties == "drop":
            one, two = (own[votes.outcomes[own] != 0.5] for own in (one, two))
        if one.size + two.size == 0:
            yield None
            continue
        outcomes = np.concatenate([votes.outcomes[one], 1 - votes.outcomes[two]])
        opponents = group(np.concatenate([votes.second[one], votes.first[two]]))
        own = np.concatenate([one, two])
        rates = opponents.sums(outcomes) / opponents.sizes
        yield _Side(outcomes, opponents, rates, votes.raters[own], votes.prompts[own])


def _places(systems: Codes, votes: Votes) -> list[Codes]:
    """Where each system stands in a column."""
    # Numbers of two bytes are sorted by counting, many times faster than wider ones.
    small = systems.astype(np.uint16) if votes.n_systems <= 1 << 16 else systems
    order = np.argsort(small, kind="stable")
    ends = np.cumsum(np.bincount(systems, minlength=votes.n_systems))
    return np.split(order, ends)[: votes.n_systems]


def _found(side: _Side, options: Options) -> _Found:
    raters = dimension_of("rater", side.raters, fixed=False)
    prompts = dimension_of("prompt", side.prompts, fixed=options.fixed_prompts)
    clustered = [d.groups for d in (raters, prompts) if d.groups is not None]
    rate, independent = float(side.rates.mean()), _jackknife_by_vote(side)
    variance, df, words = independent, None, []
    if independent > 0:
        n_eff = rate * (1 - rate) / independent
        if clustered:
            variance, df = _clustered(side, clustered, independent)
    else:
        n_eff = side.opponents.count**2 / float((1 / side.opponents.sizes).sum())
        words = [_uniform(side)]
        df = max(1.0, min(groups.count for groups in clustered) - 1.0) if clustered else None
    few = few_votes(float(side.outcomes.sum()), side.outcomes.size)
    return _Found(
        rate=rate,
        n=side.outcomes.size,
        n_opponents=side.opponents.count,
        n_eff=n_eff,
        variance=variance,
        design_effect=variance / independent if independent > 0 else None,
        df=df,
        method=method_of((raters, prompts)),
        estimand=estimand_of(raters.state, prompts.state, decided=options.ties == "drop"),
        warnings=(*cluster_warnings(raters, prompts), *few, *words),
    )


def _clustered(side: _Side, dimensions: list[Groups], independent: float) -> tuple[float, float]:
    """The variance over one or two dimensions and its degrees of freedom."""
    parts = np.array([[_jackknife(side, _runs(side, groups))] for groups in dimensions])
    cells = _runs(side, *dimensions) if len(dimensions) == 2 else None
    shared = np.array([0.0 if cells is None else _jackknife(side, cells)])
    dfs = _degrees_of_freedom(side, dimensions, cells)
    joint = combine(parts, shared, dfs, independent=np.array([independent]))
    return float(joint.variance[0]), float(joint.df[0])


def _runs(side: _Side, clusters: Groups, others: Groups | None = None) -> _Runs:
    """The votes of every cluster on every opponent, added up."""
    n_opponents, n = side.opponents.count, side.outcomes.size
    if others is None and clusters.count * n_opponents <= 4 * n + 1024:
        keys = clusters.codes * n_opponents + side.opponents.codes
        table = Groups(keys, np.bincount(keys).astype(np.float64))
        found = np.flatnonzero(table.sizes)
        numbers, opponents = np.divmod(found, n_opponents)
        won = table.sums(side.outcomes)[found]
        return _Runs(Groups(numbers, clusters.sizes), opponents, won, table.sizes[found])
    kinds = 3 * side.opponents.codes + (2 * side.outcomes).astype(np.intp)
    votes = sorted_by_cluster(kinds, 3 * n_opponents, clusters, others)
    opponents, halves = np.divmod(votes.kinds, 3)
    new = np.zeros(n, dtype=np.bool_)
    new[np.cumsum(votes.sizes) - votes.sizes] = True
    numbers = np.cumsum(new) - 1
    new[1:] |= opponents[1:] != opponents[:-1]
    runs = np.flatnonzero(new)
    sums: Floats = np.add.reduceat(halves / 2, runs)
    sizes = np.diff(runs, append=n).astype(np.float64)
    cells = Groups(numbers[runs], votes.sizes.astype(np.float64))
    return _Runs(cells, opponents[runs], sums, sizes)


def _jackknife(side: _Side, runs: _Runs) -> float:
    """V_d of the mean over opponents."""
    shifts, gone = _shifts(side, runs.opponents, runs.sums, runs.sizes)
    return _spread(side, runs.clusters.sums(shifts), runs.clusters.sums(gone))


def _jackknife_by_vote(side: _Side) -> float:
    """V with every vote a cluster of its own."""
    if side.outcomes.size == 1:
        return 0.0
    ones = np.ones(side.outcomes.size)
    return _spread(side, *_shifts(side, side.opponents.codes, side.outcomes, ones))


def _shifts(side: _Side, opponents: Codes, sums: Floats, sizes: Floats) -> tuple[Floats, Floats]:
    """What leaving out so many votes adds to the sum of pair means, and takes off opponents.

    sums : of the outcomes left out.
    """
    rest = side.opponents.sizes[opponents] - sizes
    gone = rest == 0
    rates = side.rates[opponents]
    moved = (sizes * rates - sums) / np.where(gone, 1.0, rest)
    return np.where(gone, -rates, moved), gone.astype(np.float64)


def _spread(side: _Side, shifts: Floats, gone: Floats) -> float:
    """The jackknife variance from each cluster's shift of the sum, and opponents it takes."""
    moved = (shifts + gone * side.rates.mean()) / (side.opponents.count - gone)
    return float((1 - 1 / moved.size) * (moved @ moved))


def _degrees_of_freedom(side: _Side, dimensions: list[Groups], cells: _Runs | None) -> Floats:
    """Of each dimension, shape (dimensions, 1)."""
    opponents = side.opponents
    weights = side.outcomes.size / (opponents.count * opponents.sizes)
    residuals = weights[opponents.codes] * (side.outcomes - side.rates[opponents.codes])
    sums = [groups.sums(residuals) for groups in dimensions]
    # Of the cells only their sizes enter the moment equations.
    crossed = None if cells is None else cells.clusters
    components, total = variance_components(residuals, tuple(dimensions), sums, crossed)
    powers = np.stack([groups.powers() for groups in dimensions], axis=1)
    return satterthwaite_df(components, total, powers)


def _score(system: int, found: _Found, options: Options, typical: float | None) -> OverallScore:
    n_eff, method, warnings = found.n_eff, found.method, found.warnings
    if found.design_effect is not None:
        n_eff /= found.design_effect
    elif found.df is not None:
        n_eff /= max(1.0, typical or 1.0)
        method = "borrowed design effect"
        warnings += () if typical is not None else ("no design effect",)
    limits = score_limits(found.rate, n_eff, quantile_of(options.confidence, found.df))
    return OverallScore(
        system=system,
        win_rate=found.rate,
        low=limits.low,
        high=limits.high,
        se=math.sqrt(found.variance) if found.variance > 0 else None,
        df=found.df,
        n_opponents=found.n_opponents,
        n=found.n,
        method=method,
        estimand=found.estimand,
        warnings=warnings,
    )


def _uniform(side: _Side) -> str:
    if side.outcomes.min() < side.outcomes.max():
        return "no spread"
    return {0.0: "all lost", 0.5: "all tied", 1.0: "all won"}[float(side.outcomes[0])]


def _nothing(system: int, options: Options) -> OverallScore:
    return OverallScore(
        system=system,
        win_rate=None,
        low=None,
        high=None,
        se=None,
        df=None,
        n_opponents=0,
        n=0,
        method="none",
        estimand=estimand_of(
            "clustered",
            "fixed" if options.fixed_prompts else "clustered",
            decided=options.ties == "drop",
        ),
        warnings=("no votes",),
    )
