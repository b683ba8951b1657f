"""The win rates of all pairs of systems under one criterion."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from evalsite.stats.clusters import Codes, Floats, Labels
from evalsite.stats.votes import Votes, check_votes
from evalsite.stats.win_rate import Options, Ties, WinRate, win_rate_of

Pair = tuple[int, int]

DEFAULTS = Options()


@dataclass(frozen=True, slots=True, eq=False)
class _PairVotes:
    """Votes of one pair: outcomes for the lower-numbered system, numbered labels."""

    outcomes: Floats
    raters: Codes
    prompts: Codes

    def seen_from(self, pair: Pair) -> "_PairVotes":
        flipped = self.outcomes if pair[0] < pair[1] else 1 - self.outcomes
        return _PairVotes(flipped, self.raters, self.prompts)

    def win_rate(self, options: Options, typical: float | None) -> WinRate:
        return win_rate_of(self.outcomes, self.raters, self.prompts, options, typical)


_NO_VOTES = _PairVotes(np.empty(0), np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp))


def pair_win_rates(
    first: ArrayLike,
    second: ArrayLike,
    outcomes: ArrayLike,
    raters: Labels | None,
    prompts: Labels | None,
    *,
    pairs: Sequence[Pair] | None = None,
    confidence: float = 0.95,
    fixed_prompts: bool = False,
    ties: Ties = "half",
) -> dict[Pair, WinRate]:
    """Every pair's win rate and interval, from the votes of one criterion.

    Each pair gets `clustered_interval` on its own votes. A pair whose votes are all equal has
    no variance of its own; in a second pass it borrows the median design effect of the
    criterion's pairs that have one.

    Parameters
    ----------
    first, second : the two systems of each vote as whole numbers >= 0, shape (n,). Rows of a
        pair may name its systems in either order.
    outcomes : 1 where the system named first on that row wins, 0 where the other does,
        0.5 for a tie; shape (n,). n may be 0.
    raters, prompts : a label per vote, or None for a column that is missing.
    pairs : planned pairs; None for those that have votes.
    confidence, fixed_prompts, ties : as for `clustered_interval`.

    Returns
    -------
    One WinRate per pair, of the pair's first system. Planned pairs come in their order and
    orientation, those without votes with None for every number and the warning `no votes`;
    pairs that have votes but were not planned follow in ascending order, lower number first.

    Raises
    ------
    ValueError : columns of different length, a system that is compared with itself or has a
        negative number, a pair planned twice, and whatever `clustered_interval` refuses.

    Source
    ------
    FORMULAS.md, "Win rate".
    """
    votes = check_votes(first, second, outcomes, raters, prompts)
    return win_rates(votes, pairs=pairs, options=Options(confidence, fixed_prompts, ties))


def win_rates(
    votes: Votes, *, pairs: Sequence[Pair] | None = None, options: Options = DEFAULTS
) -> dict[Pair, WinRate]:
    """`pair_win_rates` on votes that have been checked and numbered already."""
    parts = _split(votes)
    results = {}
    for pair in _listed(pairs, parts):
        own = parts.get(_ascending(pair), _NO_VOTES)
        results[pair] = own.seen_from(pair).win_rate(options, None)
    return _lend_design_effect(results, parts, options)


def _lend_design_effect(
    results: dict[Pair, WinRate], votes: dict[Pair, _PairVotes], options: Options
) -> dict[Pair, WinRate]:
    # A pair that needs a design effect has none of its own, so the median is of the others.
    known = [r.design_effect for r in results.values() if r.design_effect is not None]
    if not known:
        return results
    typical = statistics.median(known)
    needy = [pair for pair, r in results.items() if "no design effect" in r.warnings]
    for pair in needy:
        results[pair] = votes[_ascending(pair)].seen_from(pair).win_rate(options, typical)
    return results


def _listed(pairs: Sequence[Pair] | None, votes: dict[Pair, _PairVotes]) -> Iterator[Pair]:
    planned = [] if pairs is None else [(int(i), int(j)) for i, j in pairs]
    known = {_ascending(pair) for pair in planned}
    if len(known) < len(planned):
        raise ValueError("a pair is planned twice")
    if any(low == high or low < 0 for low, high in known):
        raise ValueError("a pair is two different systems, numbered from 0")
    yield from planned
    yield from (pair for pair in sorted(votes) if pair not in known)


def _ascending(pair: Pair) -> Pair:
    return min(pair), max(pair)


def _split(votes: Votes) -> dict[Pair, _PairVotes]:
    """The votes by pair, turned to the lower-numbered system; one sort, then slices."""
    if votes.n == 0:
        return {}
    size = votes.n_systems
    keys = np.minimum(votes.first, votes.second) * size + np.maximum(votes.first, votes.second)
    # Keys of two bytes are sorted by counting, many times faster than wider ones.
    order = np.argsort(keys.astype(np.uint16) if size < 256 else keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    values = np.where(votes.first < votes.second, votes.outcomes, 1 - votes.outcomes)
    columns = (values[order], votes.raters[order], votes.prompts[order])
    parts = zip(*(np.split(column, starts[1:]) for column in columns), strict=True)
    names = (divmod(key, size) for key in keys[order[starts]].tolist())
    return {name: _PairVotes(*part) for name, part in zip(names, parts, strict=True)}
