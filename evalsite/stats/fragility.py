"""How few votes, and how few raters, a claim rests on."""

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from evalsite.stats.clusters import UNLABELLED, Codes, Floats, Groups, cross, group
from evalsite.stats.pairs import Pair
from evalsite.stats.variance import jackknife_variance
from evalsite.stats.votes import Votes
from evalsite.stats.win_rate import Options, Samples, Ties, WinRate, win_rates_of

TOP_SHARE = 0.05

_MANY = 50_000
"""Votes with which an interval takes so long that fewer are computed."""
_ROUNDS = {False: 16, True: 4}
"""Batches in which the expected number of units leaves: with few votes, with many."""
_HANDFUL = 16
"""Units so few that each is chosen with care."""
_FINENESS = 300
"""Counts below this are found to one unit, higher ones to this part of them."""
_OVERHEAD = 3_000
"""An interval takes as long as counting this many votes, and its own."""
_TRIALS = 50_000
"""Votes that may be counted to choose one unit among candidates."""
_PROOF = 1_600_000
"""Votes that may be counted to try every smaller set."""


@dataclass(frozen=True, slots=True)
class Fragility:
    """What it takes to undo the claim that one system of a pair is better.

    Counts are None where the claim is undecided as it stands, and where no set of that kind
    undoes it. `exact` says that every smaller set was tried; otherwise the count is an upper
    bound of the fewest.
    """

    decided: bool
    n_votes: int | None
    n_votes_exact: bool
    n_raters: int | None
    n_raters_exact: bool
    raters: tuple[int, ...]  # those, as numbered in the votes
    n_top_raters: int  # the busiest twentieth, at least one; 0 without rater labels
    without_top_raters: WinRate | None


@dataclass(frozen=True, slots=True)
class _Found:
    """A set of units whose removal undoes the claim."""

    units: tuple[int, ...] = ()
    exact: bool = False

    @property
    def n(self) -> int | None:
        return len(self.units) or None


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """Votes of one pair, seen from the system that is claimed to be better."""

    outcomes: Floats
    raters: Codes
    prompts: Codes
    units: Codes  # what may be left out: single votes, or raters; UNLABELLED stays
    options: Options
    typical: float | None
    level: float

    @property
    def is_large(self) -> bool:
        return self.outcomes.size > _MANY

    def real_units(self) -> Codes:
        return np.unique(self.units[self.units != UNLABELLED])

    def counted(self) -> "_Case":
        return self.kept(self.outcomes != 0.5) if self.options.ties == "drop" else self

    def kept(self, chosen: NDArray[np.bool_]) -> "_Case":
        return replace(
            self,
            outcomes=self.outcomes[chosen],
            raters=self.raters[chosen],
            prompts=self.prompts[chosen],
            units=self.units[chosen],
        )

    def without(self, units: Codes) -> "_Case":
        gone = np.zeros(int(self.units.max(initial=0)) + 2, dtype=np.bool_)  # the last: unlabelled
        gone[units] = True
        return self.kept(~gone[self.units])

    def seen_from(self, *, second: bool) -> "_Case":
        return replace(self, outcomes=1 - self.outcomes) if second else self

    def win_rate(self) -> WinRate:
        return _win_rates([self])[0]

    def p_value(self) -> float:
        return _p_value(self.win_rate())

    def holds(self) -> bool:
        return self.p_value() < self.level


def _p_value(found: WinRate) -> float:
    """Of the claim; 1 where no votes are left, or they do not favour its system."""
    if found.p_value is None or found.win_rate is None or found.win_rate <= 0.5:
        return 1.0
    return found.p_value


def fragility(
    votes: Votes,
    pair: Pair,
    *,
    level: float = 0.05,
    confidence: float = 0.95,
    fixed_prompts: bool = False,
    ties: Ties = "half",
    typical_design_effect: float | None = None,
) -> Fragility:
    """The fewest votes, and the fewest raters, whose removal undoes a claim about one pair.

    The claim: the win rate differs from one half in the direction observed, with
    p_value < level. It is undone as soon as the interval of the remaining votes, computed
    anew, does not say so any more.

    Units (single votes, or raters with all their votes) leave greedily, first those that
    carry most of the statistic t = (p - 1/2) sqrt(4 p (1 - p) / V). To first order, without
    vote i of cluster g, with T_g the cluster's sum of e, and M = sum n_g T_g,

        d p   = -e_i / n
        d V_d = (e_i^2 - 2 e_i T_g + 2 e_i M / n) / n^2 + 2 V_d / n,   in each dimension
        d log t = d p (1 / (p - 1/2) + (1 - 2p) / (2 p (1 - p))) - d V / (2 V)

    with V that of the interval, at its floor or above, and for a rater the sum over the votes.
    Influences are computed anew after every batch: of one unit where a handful is expected to
    do, else of a sixteenth of those expected. Where votes are few, the most influential
    candidates are really left out, one at a time, and the best is taken. The last batch is
    divided until one unit makes the difference, or one in 300 where the count is higher.

    So the set found does undo the claim, but a smaller one might too: the count is an upper
    bound. Where smaller sets are few, all of them are tried, and the count is marked exact.
    The number of intervals computed is bounded, also for millions of votes.

    Parameters
    ----------
    votes : of one criterion.
    pair : two systems, in either order.
    level : the p-value below which the claim stands, in (0, 1): .05 for a pair alone,
        `Claim.level` for a row of a table.
    confidence : of `without_top_raters`.
    fixed_prompts, ties, typical_design_effect : as for `clustered_interval`, the same as for
        the claim itself.

    Returns
    -------
    Fragility. `without_top_raters` is the result of `pair` without the twentieth of its
    raters (rounded up) who cast most votes on it; among equally busy ones those leave who
    carry most of the claim. It is there whether the claim is decided or not.

    Raises
    ------
    ValueError : a pair that is not two systems of the votes, a level or a confidence outside
        (0, 1), an unknown way of ties.

    Source
    ------
    M. Walsh et al., Journal of Clinical Epidemiology 67 (2014) 622-628, for the count;
    T. Broderick, R. Giordano and R. Meager, arXiv:2011.14999, for influence as the order.
    """
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, not {level}")
    options = Options(confidence, fixed_prompts, ties)
    as_named = _case(votes, pair, options, typical_design_effect, level)
    counted = as_named.counted()
    behind = counted.outcomes.size > 0 and bool(counted.outcomes.mean() < 0.5)
    case = counted.seen_from(second=behind)
    decided = case.holds()
    single = replace(case, units=np.arange(case.outcomes.size))
    of_votes, of_raters = (_fewest(single), _fewest(case)) if decided else (_Found(), _Found())
    top = _busiest(as_named.seen_from(second=behind))
    return Fragility(
        decided=decided,
        n_votes=of_votes.n,
        n_votes_exact=of_votes.exact,
        n_raters=of_raters.n,
        n_raters_exact=of_raters.exact,
        raters=of_raters.units,
        n_top_raters=top.size,
        without_top_raters=as_named.without(top).win_rate() if top.size else None,
    )


def _case(votes: Votes, pair: Pair, options: Options, typical: float | None, level: float) -> _Case:
    """The pair's votes as the pair names its systems; raters are what may be left out."""
    one, two = pair
    if not (0 <= one < votes.n_systems and 0 <= two < votes.n_systems and one != two):
        raise ValueError(f"{pair} is not a pair of {votes.n_systems} systems")
    ahead = (votes.first == one) & (votes.second == two)
    own = ahead | ((votes.first == two) & (votes.second == one))
    outcomes = np.where(ahead[own], votes.outcomes[own], 1 - votes.outcomes[own])
    raters, prompts = votes.raters[own], votes.prompts[own]
    # Of votes with the same influence the first one leaves: rows must not say which that is.
    order = np.lexsort((prompts, raters, outcomes))
    outcomes, raters, prompts = outcomes[order], raters[order], prompts[order]
    return _Case(outcomes, raters, prompts, raters, options, typical, level)


def _fewest(case: _Case) -> _Found:
    """A small set of units without which the claim does not hold, from a claim that does."""
    found = _greedy(case)
    return _proved(case, found) if found.units else found


def _greedy(case: _Case) -> _Found:
    removed: list[int] = []
    n_rounds = _ROUNDS[case.is_large]
    # Influence fades as units leave; batches that only followed it would shrink for ever.
    least = max(case.real_units().size // (8 * n_rounds), 1)
    found = case.win_rate()
    while True:
        order, expected = _by_influence(case, found)
        if order.size == 0:
            return _Found()
        if expected <= _HANDFUL:
            batch, found = _best(case, order)
            rest = case.without(batch)
        else:
            batch = order[: max(expected // n_rounds, least)]
            rest = case.without(batch)
            found = rest.win_rate()
        if _p_value(found) >= case.level:
            needed = _needed(case, batch, len(removed))
            return _Found((*removed, *batch[:needed].tolist()))
        removed += batch.tolist()
        case = rest


def _by_influence(case: _Case, found: WinRate) -> tuple[Codes, int]:
    """Units, those first without which the claim loses most, and how many seem to be needed."""
    real = case.units != UNLABELLED
    present = np.bincount(case.units[real]) > 0
    gains = np.bincount(case.units[real], weights=_influence(case, found)[real])
    units = np.flatnonzero(present)
    order = units[np.argsort(gains[units], kind="stable")]
    lost = np.maximum.accumulate(np.cumsum(-gains[order]))
    return order, int(np.searchsorted(lost, _to_lose(found, case.level))) + 1


def _to_lose(found: WinRate, level: float) -> float:
    """By how much log t lies above the quantile that it must exceed."""
    if found.win_rate is None or found.n_eff is None:
        return 0.0
    distance = (found.win_rate - 0.5) * 2 * math.sqrt(found.n_eff)
    df = math.inf if found.df is None else found.df
    return math.log(distance / -float(stdtrit(df, level / 2)))


def _influence(case: _Case, found: WinRate) -> Floats:
    """To first order, what log t gains by leaving out each vote; `found` is of all of them."""
    n, rate = case.outcomes.size, float(case.outcomes.mean()) if case.outcomes.size else 0.5
    residuals = case.outcomes - rate
    if found.se is None or not residuals.any():  # all equal: every vote counts alike
        return np.full(n, -1 / max(n, 1))
    variance, changes = 0.0, np.zeros(n)
    for sign, groups in _dimensions(case):
        sums = groups.sums(residuals)
        own = float(jackknife_variance(sums, groups)[0])
        drift = 2 * float(groups.sizes @ sums) / n
        variance += sign * own
        changes += sign * (residuals * (residuals - 2 * sums[groups.codes] + drift) / n**2)
        changes += sign * 2 * own / n
    # At its floor V does not follow these changes yet; that they lift it off still pays.
    variance = max(variance, found.se**2)
    lead = max(rate - 0.5, 0.5 / n)  # a claim leads by half a vote at least
    slope = 1 / lead + (1 - 2 * rate) / (2 * rate * (1 - rate))
    return -residuals / n * slope - changes / (2 * variance)


def _dimensions(case: _Case) -> list[tuple[int, Groups]]:
    """The clusterings whose variances add up, each with its sign."""
    columns = [case.raters] if case.options.fixed_prompts else [case.raters, case.prompts]
    clustered = [d for d in map(group, columns) if d.count > 1 and d.largest > 1]
    if len(clustered) == 2:
        return [(1, clustered[0]), (1, clustered[1]), (-1, cross(*clustered))]
    return [(1, d) for d in clustered] or [(1, group(np.arange(case.outcomes.size)))]


def _best(case: _Case, order: Codes) -> tuple[Codes, WinRate]:
    """The one unit, of the most influential ones, whose absence hurts the claim most; and how."""
    n_candidates = max(_TRIALS // (case.outcomes.size + _OVERHEAD), 1)
    candidates = order[:n_candidates]
    found = _win_rates([case.without(candidates[[k]]) for k in range(candidates.size)])
    best = int(np.argmax([_p_value(rate) for rate in found]))
    return candidates[[best]], found[best]


def _win_rates(cases: list[_Case]) -> list[WinRate]:
    """Of all of them at once; they differ in nothing but their votes."""
    samples = Samples(
        np.concatenate([case.outcomes for case in cases]),
        np.concatenate([case.raters for case in cases]),
        np.concatenate([case.prompts for case in cases]),
        np.array([case.outcomes.size for case in cases]),
    )
    return win_rates_of(samples, cases[0].options, cases[0].typical)


def _needed(case: _Case, batch: Codes, n_removed: int) -> int:
    """How many of a batch undo the claim, when none does not and all of them do."""
    holds, undone = 0, batch.size
    while undone - holds > 1 + (n_removed + undone) // _FINENESS:
        middle = (holds + undone) // 2
        if case.without(batch[:middle]).holds():
            holds = middle
        else:
            undone = middle
    return undone


def _proved(case: _Case, found: _Found) -> _Found:
    """The set, or a smaller one, proved to be the smallest where all smaller ones are few."""
    units = case.real_units().tolist()
    sizes = range(1, len(found.units))
    affordable = _PROOF // (case.outcomes.size + _OVERHEAD)
    # Binomial coefficients of thousands take minutes, so the sum stops where it is too much.
    n_sets = itertools.accumulate(math.comb(len(units), size) for size in sizes)
    if any(total > affordable for total in n_sets):
        return found
    smaller = itertools.chain.from_iterable(itertools.combinations(units, n) for n in sizes)
    undoing = (chosen for chosen in smaller if not case.without(np.array(chosen)).holds())
    return _Found(next(undoing, found.units), exact=True)


def _busiest(case: _Case) -> Codes:
    """The twentieth of raters, rounded up, with most votes."""
    real = case.raters != UNLABELLED
    if not real.any():
        return np.empty(0, dtype=np.intp)
    sizes = np.bincount(case.raters[real])
    counted = case.counted()
    named = counted.raters != UNLABELLED
    influence = _influence(counted, counted.win_rate())
    gains = np.bincount(counted.raters[named], influence[named], minlength=sizes.size)
    order = np.lexsort((gains, -sizes))
    return order[: math.ceil(TOP_SHARE * np.count_nonzero(sizes))]
