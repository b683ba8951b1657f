"""How far apart the systems of a criterion are, on one scale, from votes on pairs of them."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, stdtr

from evalsite.stats.clusters import Codes, Floats
from evalsite.stats.connectivity import main_component, strongly_connected
from evalsite.stats.dimensions import (
    Dimension,
    cluster_warnings,
    dimension_of,
    estimand_of,
    method_of,
)
from evalsite.stats.fit import Fit, fit_connected, maximum, side_is_estimable
from evalsite.stats.intervals import check_confidence, quantile_of
from evalsite.stats.jackknife import cluster_steps, model_of, vote_steps
from evalsite.stats.multiplicity import holm
from evalsite.stats.tallies import Kinds, among, count_table, kinds_of
from evalsite.stats.votes import Votes

ELO_START = 1000.0
ELO_PER_LOGIT = 400 / math.log(10)


@dataclass(frozen=True, slots=True)
class Rating:
    """One system's place. None where it cannot be computed; a warning says why."""

    system: int
    rating: float | None  # logits, mean zero over the estimable systems
    se: float | None
    elo: float | None  # 1000 + 400 / ln 10 * rating
    elo_low: float | None
    elo_high: float | None
    rank_low: int | None  # 1 is the best rank that is possible
    rank_high: int | None
    estimable: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """How much higher the first system of a pair is rated than the second, in logits."""

    first: int
    second: int
    difference: float
    se: float | None
    low: float | None
    high: float | None
    p_value: float | None  # two-sided, against no difference
    p_holm: float | None  # the same, adjusted for all pairs of this criterion


@dataclass(frozen=True, slots=True)
class SideEffect:
    """What standing on the left adds to the logit of winning."""

    effect: float
    se: float | None
    low: float | None
    high: float | None
    p_value: float | None


@dataclass(frozen=True, slots=True)
class BradleyTerry:
    """Ratings of all systems of a criterion, with intervals for shared raters and prompts."""

    ratings: tuple[Rating, ...]  # by number of the system
    differences: tuple[Difference, ...]  # of estimable systems, lower number first
    side: SideEffect | None
    n: int  # votes used: those between estimable systems
    df: float | None  # None where the normal quantile is used
    confidence: float
    method: str
    estimand: str
    warnings: tuple[str, ...]


_NOTHING = 1e-14
"""Variance that Newton's tolerance leaves where votes do not differ; one that does counts 1/n^2."""


@dataclass(frozen=True, slots=True, eq=False)
class _Spread:
    """Covariances of the parameters, and how to read intervals from them."""

    covariance: Floats
    independent: Floats
    lost: Floats
    df: float | None
    confidence: float
    warnings: tuple[str, ...]

    def errors(self, contrasts: Floats) -> Floats:
        """Standard errors of contrasts @ parameters, shape (m,); NaN where there is none."""
        variance = np.einsum("md,md->m", contrasts @ self.covariance, contrasts)
        floor = np.einsum("md,md->m", contrasts @ self.independent, contrasts)
        variance = np.maximum(variance, 0.1 * floor)
        unknown = (np.abs(contrasts @ self.lost.T) > 1e-6).any(axis=1) | (floor <= _NOTHING)
        return np.sqrt(np.where(unknown, np.nan, variance))

    def reach(self, errors: Floats) -> Floats:
        """Half the length of the intervals."""
        return quantile_of(self.confidence, self.df) * errors

    def p_values(self, estimates: Floats, errors: Floats) -> Floats:
        """Two-sided, against nothing."""
        scores = -np.abs(estimates) / errors
        return np.asarray(2 * (ndtr(scores) if self.df is None else stdtr(self.df, scores)))


def bradley_terry(
    votes: Votes,
    *,
    confidence: float = 0.95,
    fixed_prompts: bool = False,
    left: ArrayLike | None = None,
) -> BradleyTerry:
    """Bradley-Terry ratings of a criterion's systems, with intervals for clustered votes.

    Estimates the ratings b of P(i preferred to j) = 1 / (1 + exp(-(b_i - b_j))) that fit the
    half-win counts of all pairs best, ties being half a win of each. Where the model does not
    hold, b is the closest that it comes to the win rates, weighted by how often each pair was
    shown; the intervals are for that, since they rest on the votes and not on the model.

    Only the largest strongly connected component of the win graph is rated
    (`main_component`): the largest set in which each system has beaten each other by some
    chain of wins. Outside it the distance to the others is infinite or unknown, and any number
    would be an invention of the method; those systems are "not estimable". Votes across the
    border are not used.

    Covariance of the parameters (`cluster_steps`, the one-step delete-one-cluster jackknife)
    and the variance of a contrast c:

        S = S_rater + S_prompt - S_cell        V = max(c' S c, c' S_vote c / 10)

    with S_vote for independent votes. Dimensions without labels, with one cluster, or without
    a cluster of two votes drop out as in `clustered_interval`; without any, S = S_vote and
    the normal quantile. Otherwise limits are b ± t sqrt(V) with Student's t at min(G) - 1
    degrees of freedom, G the number of clusters of a dimension.

    Ranks are bounds from simultaneous tests: a system's best rank is 1 + the number of systems
    surely better, its worst is K - the number surely worse, where "surely" means that the
    Holm-adjusted p-value of the difference is below 1 - confidence. All rank bounds hold
    together with that confidence.

    Parameters
    ----------
    votes : of one criterion.
    confidence : two-sided coverage of each interval, joint coverage of the ranks; in (0, 1).
    fixed_prompts : the prompts are the whole population: cluster by rater only.
    left : whether each vote's first system stood on the left; where given, the effect of the
        left side is estimated together with the ratings.

    Returns
    -------
    BradleyTerry, on the natural logit scale, mean zero over the estimable systems; Elo as
    1000 + 400/ln(10) times that. Warnings beside those of `clustered_interval`: `no votes`,
    `not connected` (some system is not estimable), `rests on one rater` (`prompt`, `vote`):
    without it the votes no longer compare all systems, so that some standard errors do not
    exist; `side not estimable`.

    Raises
    ------
    ValueError : confidence outside (0, 1), `left` of another length or not true and false.
    NotConverged : Newton's method stopped above its tolerance.

    Source
    ------
    FORMULAS.md, "Bradley-Terry". Ranks: M. Klein, T. Wright and J. Wieczorek, JRSS A 183
    (2020) 589-606; M. Mogstad, J. P. Romano, A. M. Shaikh and D. Wilhelm, Review of Economic
    Studies 91 (2024) 476-518.
    """
    check_confidence(confidence)
    kinds = kinds_of(votes, left)
    members = main_component(_half_wins(count_table(kinds)))
    if members.size == 0:
        return _nothing(votes, confidence, fixed_prompts)
    kinds, inside = among(kinds, members)
    counts = count_table(kinds)
    won, played = counts[..., 2] + counts[..., 1] / 2, counts.sum(axis=2)
    side = left is not None and side_is_estimable(won, played)
    fit = fit_connected(won, played, side=side)
    raters, prompts = votes.raters[inside], votes.prompts[inside]
    dimensions = (
        dimension_of("rater", raters, fixed=False),
        dimension_of("prompt", prompts, fixed=fixed_prompts),
    )
    spread = _spread(fit, kinds, counts, dimensions, confidence)
    differences = _differences(fit, members, spread)
    words = [] if members.size == votes.n_systems else ["not connected"]
    words += ["side not estimable"] if left is not None and not side else []
    return BradleyTerry(
        ratings=_ratings(fit, members, spread, differences, votes.n_systems),
        differences=differences,
        side=_side(fit, spread),
        n=int(played.sum()),
        df=spread.df,
        confidence=confidence,
        method=method_of(dimensions),
        estimand=estimand_of(dimensions[0].state, dimensions[1].state),
        warnings=(*cluster_warnings(*dimensions), *words, *spread.warnings),
    )


def bootstrap_ratings(votes: Votes, rounds: int, rng: np.random.Generator) -> Floats:
    """Bradley-Terry ratings of resampled votes, as if votes were independent.

    The bootstrap of the arena tools, for comparison: it knows neither raters nor prompts, and
    its intervals are too short where those have tastes. Drawing n votes with replacement is
    drawing multinomial counts, so its cost does not depend on the number of votes.

    Parameters
    ----------
    votes : of one criterion.
    rounds : resamples, >= 1.
    rng : where chance comes from.

    Returns
    -------
    Ratings, mean zero over the estimable systems, shape (rounds, n_systems); NaN for systems
    that are not estimable, and in rounds whose wins do not connect the estimable ones.

    Raises
    ------
    ValueError : fewer than one round.
    NotConverged : Newton's method stopped above its tolerance.

    Source
    ------
    B. Efron, Annals of Statistics 7 (1979) 1-26.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds}")
    counts = count_table(kinds_of(votes))
    members = main_component(_half_wins(counts))
    found = np.full((rounds, votes.n_systems), np.nan)
    if members.size == 0:
        return found
    counts = counts[np.ix_(members, members)]
    total = int(counts.sum())
    drawn = rng.multinomial(total, counts.ravel() / total, size=rounds)
    drawn = drawn.reshape(rounds, *counts.shape).astype(np.float64)
    won, played = drawn[..., 2] + drawn[..., 1] / 2, drawn.sum(axis=-1)
    usable = strongly_connected(won + np.swapaxes(played - won, -1, -2))
    if usable.any():
        ratings = maximum(won[usable], played[usable], side=False)
        found[np.ix_(usable, members)] = ratings - ratings.mean(axis=1, keepdims=True)
    return found


def _half_wins(counts: Floats) -> Floats:
    """Wins plus half the ties of i over j, shape (K, K), whichever was named first."""
    won, lost = counts[..., 2] + counts[..., 1] / 2, counts[..., 0] + counts[..., 1] / 2
    return np.asarray(won + lost.T)


def _spread(
    fit: Fit,
    kinds: Kinds,
    counts: Floats,
    dimensions: tuple[Dimension, ...],
    confidence: float,
) -> _Spread:
    model = model_of(fit, kinds, counts)
    single = vote_steps(model, counts)
    named = [(d.name, d.groups) for d in dimensions if d.groups is not None]
    if not named:
        steps, df = [("vote", single)], None
    else:
        steps = [(name, cluster_steps(model, kinds, groups)) for name, groups in named]
        df = min(groups.count for _, groups in named) - 1.0
    covariance = sum((s.covariance for _, s in steps), np.zeros_like(single.covariance))
    if len(named) == 2:
        covariance = covariance - cluster_steps(model, kinds, named[0][1], named[1][1]).covariance
    return _Spread(
        covariance,
        single.covariance,
        np.concatenate([s.lost for _, s in steps]),
        df,
        confidence,
        tuple(f"rests on one {name}" for name, s in steps if len(s.lost)),
    )


def _differences(fit: Fit, members: Codes, spread: _Spread) -> tuple[Difference, ...]:
    size = members.size
    first, second = np.triu_indices(size, 1)
    contrasts = np.zeros((first.size, spread.covariance.shape[0]))
    rows = np.arange(first.size)
    contrasts[rows, first], contrasts[rows, second] = 1, -1
    estimates = fit.ratings[first] - fit.ratings[second]
    errors = spread.errors(contrasts)
    reach = spread.reach(errors)
    p_values = spread.p_values(estimates, errors)
    # A difference that cannot be tested still belongs to the table.
    adjusted = np.where(np.isnan(p_values), np.nan, holm(np.nan_to_num(p_values, nan=1.0)))
    columns = (
        members[first],
        members[second],
        estimates,
        *(errors, estimates - reach, estimates + reach, p_values, adjusted),
    )
    return tuple(Difference(*_plain(row)) for row in zip(*columns, strict=True))


def _ratings(
    fit: Fit,
    members: Codes,
    spread: _Spread,
    differences: tuple[Difference, ...],
    n_systems: int,
) -> tuple[Rating, ...]:
    size = members.size
    contrasts = np.zeros((size, spread.covariance.shape[0]))
    contrasts[:, :size] = np.eye(size) - 1 / size
    errors = spread.errors(contrasts)
    reach = ELO_PER_LOGIT * spread.reach(errors)
    elo = ELO_START + ELO_PER_LOGIT * fit.ratings
    best, worst = _ranks(differences, spread.confidence, n_systems, size)
    found = [_unrated(system) for system in range(n_systems)]
    columns = (members, fit.ratings, errors, elo, elo - reach, elo + reach)
    for row in zip(*columns, best[members], worst[members], strict=True):
        found[int(row[0])] = Rating(*_plain((*row, np.True_)))
    return tuple(found)


def _ranks(
    differences: tuple[Difference, ...], confidence: float, n_systems: int, size: int
) -> tuple[Codes, Codes]:
    best, worst = np.full(n_systems, 1), np.full(n_systems, size)
    for d in differences:
        if d.p_holm is not None and d.p_holm < 1 - confidence:
            higher, lower = (d.first, d.second) if d.difference > 0 else (d.second, d.first)
            best[lower] += 1
            worst[higher] -= 1
    return best, worst


def _side(fit: Fit, spread: _Spread) -> SideEffect | None:
    if fit.side is None:
        return None
    contrast = np.zeros((1, spread.covariance.shape[0]))
    contrast[0, -1] = 1
    effect = np.array([fit.side])
    errors = spread.errors(contrast)
    reach = spread.reach(errors)
    p_values = spread.p_values(effect, errors)
    columns = (effect, errors, effect - reach, effect + reach, p_values)
    return SideEffect(*_plain(tuple(column[0] for column in columns)))


def _plain(row: tuple[Any, ...]) -> list[Any]:
    """Numbers of Python's own, None for NaN."""
    return [None if value != value else value.item() for value in row]


def _unrated(system: int) -> Rating:
    return Rating(system, None, None, None, None, None, None, None, estimable=False)


def _nothing(votes: Votes, confidence: float, fixed_prompts: bool) -> BradleyTerry:
    return BradleyTerry(
        ratings=tuple(_unrated(system) for system in range(votes.n_systems)),
        differences=(),
        side=None,
        n=0,
        df=None,
        confidence=confidence,
        method="none",
        estimand=estimand_of("clustered", "fixed" if fixed_prompts else "clustered"),
        warnings=("not connected" if votes.n else "no votes",),
    )
