"""The win rates of all pairs of systems under one criterion."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from evalsite.stats.clusters import Labels
from evalsite.stats.votes import Votes, check_votes
from evalsite.stats.win_rate import Options, Samples, Ties, WinRate, win_rates_of

Pair = tuple[int, int]

DEFAULTS = Options()

_TURNED = {"all won": "all lost", "all lost": "all won"}

_AT_ONCE = 1 << 18
"""Votes that are gone through at once, and up to one pair more."""

_NO_VOTES = check_votes([], [], [], None, None)


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
    votes: Votes,
    *,
    pairs: Sequence[Pair] | None = None,
    options: Options = DEFAULTS,
    parts: Mapping[Pair, Votes] | None = None,
) -> dict[Pair, WinRate]:
    """`pair_win_rates` on votes that have been checked and numbered already.

    `parts` are the same votes by pair, where the caller has them.
    """
    parts = votes_by_pair(votes) if parts is None else parts
    results = _rates(parts, listed_pairs(pairs, parts), options, None)
    # A pair that needs a design effect has none of its own, so the median is of the others.
    known = [r.design_effect for r in results.values() if r.design_effect is not None]
    if not known:
        return results
    typical = statistics.median(known)
    needy = [pair for pair, r in results.items() if "no design effect" in r.warnings]
    return results | _rates(parts, needy, options, typical)


def turned(rate: WinRate) -> WinRate:
    """The same votes, seen from the second system."""
    return replace(
        rate,
        wins=rate.losses,
        losses=rate.wins,
        win_rate=_rest(rate.win_rate),
        low=_rest(rate.high),
        high=_rest(rate.low),
        win_rate_decided=_rest(rate.win_rate_decided),
        warnings=tuple(_TURNED.get(code, code) for code in rate.warnings),
    )


def _rest(probability: float | None) -> float | None:
    return None if probability is None else 1 - probability


def votes_by_pair(votes: Votes) -> dict[Pair, Votes]:
    """The votes of each pair that has any, lower number first, in the order given.

    One sort, then slices: asking for every pair's votes costs no more than for one's.
    """
    if votes.n == 0:
        return {}
    size = votes.n_systems
    keys = np.minimum(votes.first, votes.second)  # in place from here: columns may be large
    keys *= size
    keys += np.maximum(votes.first, votes.second)
    if size < 256:  # keys of two bytes are sorted by counting, many times faster than wider ones
        keys = keys.astype(np.uint16)
    order = np.argsort(keys, kind="stable")
    counts = np.bincount(keys, minlength=1)
    found = np.flatnonzero(counts)
    values = np.where(votes.first < votes.second, votes.outcomes, 1 - votes.outcomes)
    parts, start = {}, 0
    values, raters, prompts = values[order], votes.raters[order], votes.prompts[order]
    for low, high, n in zip(*np.divmod(found, size), counts[found], strict=True):
        one, two = np.broadcast_to(low, (n,)), np.broadcast_to(high, (n,))
        own = slice(start, start + n)
        parts[int(low), int(high)] = Votes(one, two, values[own], raters[own], prompts[own], size)
        start += n
    return parts


def _rates(
    parts: Mapping[Pair, Votes], pairs: Sequence[Pair], options: Options, typical: float | None
) -> dict[Pair, WinRate]:
    own = [parts.get(_ascending(pair), _NO_VOTES) for pair in pairs]
    sizes = np.array([votes.n for votes in own], dtype=np.intp)
    blocks = (np.cumsum(sizes) - sizes) // _AT_ONCE
    found: list[WinRate] = []
    for start, end in itertools.pairwise([*np.flatnonzero(np.diff(blocks, prepend=-1)), len(own)]):
        block = own[start:end]
        outcomes = [
            votes.outcomes if low < high else 1 - votes.outcomes
            for votes, (low, high) in zip(block, pairs[start:end], strict=True)
        ]
        samples = Samples(
            np.concatenate(outcomes),
            np.concatenate([votes.raters for votes in block]),
            np.concatenate([votes.prompts for votes in block]),
            sizes[start:end],
        )
        found += win_rates_of(samples, options, typical)
    return dict(zip(pairs, found, strict=True))


def listed_pairs(pairs: Sequence[Pair] | None, votes: Mapping[Pair, Votes]) -> list[Pair]:
    """Planned pairs in their order, then those that have votes but were not planned."""
    planned = [] if pairs is None else [(int(i), int(j)) for i, j in pairs]
    known = {_ascending(pair) for pair in planned}
    if len(known) < len(planned):
        raise ValueError("a pair is planned twice")
    if any(low == high or low < 0 for low, high in known):
        raise ValueError("a pair is two different systems, numbered from 0")
    return [*planned, *(pair for pair in sorted(votes) if pair not in known)]


def _ascending(pair: Pair) -> Pair:
    return min(pair), max(pair)
