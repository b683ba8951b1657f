"""Win rates on parts of the votes, whether the parts differ, and what carries a win rate."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evalsite.stats.clusters import UNLABELLED, Codes, Floats, Labels, factorise, group
from evalsite.stats.multiplicity import holm
from evalsite.stats.pairs import DEFAULTS, Pair, listed_pairs, votes_by_pair, win_rates
from evalsite.stats.votes import Votes
from evalsite.stats.win_rate import Options, WinRate

Carrier = Literal["prompt", "rater"]

_AT_ONCE = 4_000_000
"""Numbers that the permutations hold at a time, of slices and of sums: 32 MB each."""


@dataclass(frozen=True, slots=True)
class SliceWinRate:
    """The win rate of a pair on one slice of the votes."""

    label: object
    first: int
    second: int
    result: WinRate
    p_holm: float | None  # of result.p_value, over all pairs and slices of the slicing


@dataclass(frozen=True, slots=True)
class Heterogeneity:
    """Whether a pair's win rate differs between slices. None where nothing can be said."""

    first: int
    second: int
    n_slices: int  # with votes on this pair
    n_clusters: int
    clusters: Carrier | None  # what was exchanged between slices
    statistic: float | None
    p_value: float | None
    p_holm: float | None  # over the pairs of the slicing
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Slicing:
    """All slices of one slicing under one criterion."""

    win_rates: tuple[SliceWinRate, ...]  # slice by slice: numbers by size, then text by alphabet
    heterogeneity: tuple[Heterogeneity, ...]  # pair by pair
    n_unlabelled: int  # votes without a slice


@dataclass(frozen=True, slots=True)
class PromptInfluence:
    """What one prompt does to the win rate of a pair's first system."""

    prompt: int  # number as in Votes.prompts
    n: int
    win_rate: float  # on this prompt
    without: float  # on all others
    influence: float  # the win rate less `without`
    pseudo_value: float


def slice_win_rates(
    votes: Votes,
    slices: Labels,
    *,
    rng: np.random.Generator | int,
    rounds: int = 2000,
    pairs: Sequence[Pair] | None = None,
    options: Options = DEFAULTS,
) -> Slicing:
    """Every pair's win rate on each slice, and a test of whether the slices differ.

    A slice is a group of prompts (a category, a challenge) or of raters. Each pair gets
    `clustered_interval` on the slice's votes; the p-values against one half of all pairs and
    slices are one family, adjusted by Holm, in which a planned pair without votes counts as 1.

    The test of heterogeneity exchanges what carries the slice, prompts or raters, between the
    slices: if the slice meant nothing, every assignment of labels to prompts would be as likely
    as the one seen. With N_k votes, G_k prompts and win rate p_k in slice k, S_g half-wins and
    n_g votes of prompt g:

        V_k = G_k / (G_k - 1)  sum_{g in k} (S_g - n_g p_k)^2 / N_k^2,     w_k = 1 / V_k
        Q   = sum_k w_k p_k^2 - (sum_k w_k p_k)^2 / sum_k w_k
        p   = (1 + number of rounds with Q as large) / (1 + rounds)

    V_k is at least a tenth of what it would be if all slices varied alike, which is taken for a
    slice of one prompt. Studentised like this the test keeps its level also where slices vary
    differently. It speaks of other prompts (raters) of these slices; with few raters, each with
    a taste for categories of their own, it may find what is theirs.

    Parameters
    ----------
    votes : of one criterion.
    slices : a label per vote; None or `none` for votes that belong to no slice.
    rng : a generator, or the seed of one, for the permutations.
    rounds : of permutation, >= 1; p is never below 1 / (1 + rounds).
    pairs : planned pairs; None for those that have votes.
    options : how votes are read, also within slices.

    Returns
    -------
    Slicing. Warnings of a test: `no votes`, `one slice` (no other has votes on the pair), `no
    labels` (who or what lies in one slice is not known: nothing can be exchanged), `no
    variation` (the same win rate on every prompt, or of every rater), `single clusters` (a slice
    of one prompt, or of one rater).

    Raises
    ------
    ValueError : labels of another length, no rounds, a slice that is a property neither of the
        prompt nor of the rater though both are known, and what `pair_win_rates` refuses.

    Source
    ------
    E. Chung and J. P. Romano, Annals of Statistics 41 (2013) 484-507, and M. Pauly, E. Brunner
    and F. Konietschke, JRSS B 77 (2015) 461-473, for studentised permutation tests; B. Phipson
    and G. K. Smyth, Statistical Applications in Genetics and Molecular Biology 9 (2010) 39, for
    the 1 in p.
    """
    if rounds < 1:
        raise ValueError(f"a permutation test needs a round or more, not {rounds}")
    names, codes = _in_order(slices, factorise(slices, votes.n, "slice"))
    listed = listed_pairs(pairs, votes_by_pair(votes))
    cells = [
        (names[code], pair, result)
        for code in range(len(names))
        for pair, result in win_rates(
            _part(votes, codes == code), pairs=listed, options=options
        ).items()
    ]
    adjusted = _adjusted([result.p_value for _, _, result in cells])
    return Slicing(
        win_rates=tuple(
            SliceWinRate(name, *pair, result, p_holm)
            for (name, pair, result), p_holm in zip(cells, adjusted, strict=True)
        ),
        heterogeneity=_heterogeneity(
            votes, codes, listed, np.random.default_rng(rng), rounds, options
        ),
        n_unlabelled=int((codes == UNLABELLED).sum()),
    )


def prompt_influence(
    votes: Votes, pair: Pair, *, top: int | None = 10, options: Options = DEFAULTS
) -> tuple[PromptInfluence, ...]:
    """The prompts that carry a pair's win rate: what it would be without each.

    With p the win rate of the pair's first system over all G prompts, p_(-g) without prompt g:

        influence = p - p_(-g)        pseudo-value = G p - (G - 1) p_(-g)

    The pseudo-values are what the jackknife over prompts takes the variance of; their mean is p
    where all prompts have equally many votes.

    Parameters
    ----------
    votes : of one criterion.
    pair : the two systems; the win rate is of the first.
    top : how many prompts at most, those with the largest influence in either direction; None
        for all of them.
    options : `ties` says whether a tie is half a win or dropped; the rest is not used.

    Returns
    -------
    The prompts, the most influential first; none where fewer than two prompts have votes.
    Votes without a prompt's label count as one prompt.

    Raises
    ------
    ValueError : a pair that is not two different systems, or a negative `top`.

    Source
    ------
    J. W. Tukey, Annals of Mathematical Statistics 29 (1958) 614, for pseudo-values.
    """
    if pair[0] == pair[1] or min(pair) < 0:
        raise ValueError("a pair is two different systems, numbered from 0")
    if top is not None and top < 0:
        raise ValueError(f"there are no {top} prompts")
    own = (np.minimum(votes.first, votes.second) == min(pair)) & (
        np.maximum(votes.first, votes.second) == max(pair)
    )
    if options.ties == "drop":
        own &= votes.outcomes != 0.5
    wins = np.where(votes.first == pair[0], votes.outcomes, 1 - votes.outcomes)[own]
    if wins.size == 0:
        return ()
    prompts = group(votes.prompts[own])
    if prompts.count == 1:
        return ()
    sums = prompts.sums(wins)
    rate, without = wins.mean(), (wins.sum() - sums) / (wins.size - prompts.sizes)
    numbers = np.empty(prompts.count, dtype=np.intp)
    numbers[prompts.codes] = votes.prompts[own]
    order = np.lexsort((numbers, -np.abs(rate - without).round(12)))
    return tuple(
        PromptInfluence(
            prompt=int(numbers[g]),
            n=int(prompts.sizes[g]),
            win_rate=float(sums[g] / prompts.sizes[g]),
            without=float(without[g]),
            influence=float(rate - without[g]),
            pseudo_value=float(prompts.count * rate - (prompts.count - 1) * without[g]),
        )
        for g in order[:top]
    )


def _in_order(slices: Labels, codes: Codes) -> tuple[list[object], Codes]:
    """The labels as plain Python values, and the codes numbered alike: in whatever order the rows
    come, numbers by size and then text by alphabet."""
    found, places = np.unique(codes, return_index=True)
    labels = [slices[int(place)] for place in places[found != UNLABELLED]]
    names = [label.item() if isinstance(label, np.generic) else label for label in labels]
    order = sorted(range(len(names)), key=lambda k: _rank(names[k]))
    numbers = np.full(len(names) + 1, UNLABELLED)  # the last place is that of no label
    numbers[order] = np.arange(len(names))
    return [names[k] for k in order], numbers[codes]


def _rank(label: object) -> tuple[bool, float, str]:
    return (False, label, "") if isinstance(label, int | float) else (True, 0.0, str(label))


def _part(votes: Votes, kept: NDArray[np.bool_]) -> Votes:
    return Votes(
        first=votes.first[kept],
        second=votes.second[kept],
        outcomes=votes.outcomes[kept],
        raters=votes.raters[kept],
        prompts=votes.prompts[kept],
        n_systems=votes.n_systems,
    )


def _adjusted(p_values: list[float | None]) -> list[float | None]:
    """Holm over the whole family: a question without an answer was asked all the same."""
    adjusted = holm([1.0 if p is None else p for p in p_values])
    return [None if p is None else float(q) for p, q in zip(p_values, adjusted, strict=True)]


# -- heterogeneity -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Clusters:
    """What carries the slices, and what each cluster holds of each pair."""

    carrier: Carrier
    slices: Codes  # of each cluster, shape (G,)
    sizes: Floats  # votes, shape (G, pairs)
    sums: Floats  # half-wins of the pair's lower-numbered system

    def of_pairs(self, some: slice) -> "_Clusters":
        return replace(self, sizes=self.sizes[:, some], sums=self.sums[:, some])

    def powers(self) -> NDArray[np.floating]:
        """What the statistic adds up within slices, per cluster: shape (G, 6 * pairs)."""
        n, s = self.sizes, self.sums
        powers = np.concatenate([n > 0, n, s, s * s, s * n, n * n], axis=1)
        # All are quarters of whole numbers: sums of fewer than 24 bits are exact in single
        # precision, which is added up twice as fast.
        return powers.astype(np.float32) if powers.sum(axis=0).max() < 1 << 22 else powers

    def usual(self) -> Floats:
        """The variance of a cluster's sum, if all slices varied alike: per pair."""
        rates = self.sums.sum(axis=0) / np.maximum(self.sizes.sum(axis=0), 1)
        residuals = self.sums - self.sizes * rates
        residuals[np.abs(residuals) < 1e-9] = 0  # what is left of equal rates by rounding
        present = (self.sizes > 0).sum(axis=0)
        usual: Floats = (residuals**2).sum(axis=0) / np.maximum(present - 1, 1)
        return usual


def _heterogeneity(
    votes: Votes,
    codes: Codes,
    pairs: list[Pair],
    rng: np.random.Generator,
    rounds: int,
    options: Options,
) -> tuple[Heterogeneity, ...]:
    kept = codes != UNLABELLED
    if options.ties == "drop":
        kept &= votes.outcomes != 0.5
    clusters = _clusters(_part(votes, kept), codes[kept], pairs)
    if clusters is None:
        word = "no labels" if kept.any() else "no votes"
        return tuple(_untested(pair, 0, 0, None, (word,)) for pair in pairs)
    observed, p_values = _permutation(clusters, rng, rounds)
    tests = [
        _test(clusters, pair, k, float(observed[k]), float(p_values[k]))
        for k, pair in enumerate(pairs)
    ]
    adjusted = _adjusted([test.p_value for test in tests])
    return tuple(replace(test, p_holm=p) for test, p in zip(tests, adjusted, strict=True))


def _test(
    clusters: _Clusters, pair: Pair, k: int, statistic: float, p_value: float
) -> Heterogeneity:
    """The test of one pair, as far as it means anything."""
    present = clusters.sizes[:, k] > 0
    each = np.bincount(clusters.slices[present])
    n_slices, n_clusters = int((each > 0).sum()), int(present.sum())
    if n_slices < 2:
        word = "one slice" if n_slices else "no votes"
        return _untested(pair, n_slices, n_clusters, clusters.carrier, (word,))
    words = ("single clusters",) if (each == 1).any() else ()
    if np.isnan(statistic):
        return _untested(pair, n_slices, n_clusters, clusters.carrier, (*words, "no variation"))
    return Heterogeneity(
        *pair, n_slices, n_clusters, clusters.carrier, statistic, p_value, None, words
    )


def _untested(
    pair: Pair, n_slices: int, n_clusters: int, carrier: Carrier | None, words: tuple[str, ...]
) -> Heterogeneity:
    return Heterogeneity(*pair, n_slices, n_clusters, carrier, None, None, None, words)


def _clusters(votes: Votes, codes: Codes, pairs: list[Pair]) -> _Clusters | None:
    """The prompts, or else the raters, if each of them lies in one slice. None where neither do
    and one of both is not known: the slice may well be a property of theirs."""
    columns: tuple[tuple[Carrier, Codes], ...] = (
        ("prompt", votes.prompts),
        ("rater", votes.raters),
    )
    for carrier, column in columns:
        known = column != UNLABELLED
        if not known.any():
            continue
        groups, own = group(column[known]), codes[known]
        slices = np.empty(groups.count, dtype=np.intp)
        slices[groups.codes] = own
        if (slices[groups.codes] == own).all():
            part = _part(votes, known)
            return _Clusters(carrier, slices, *_by_pair(part, groups.codes, groups.count, pairs))
    if all((column != UNLABELLED).any() for _, column in columns):
        raise ValueError("a slice must be a property of the prompt, or of the rater")
    return None


def _by_pair(votes: Votes, clusters: Codes, n: int, pairs: list[Pair]) -> tuple[Floats, Floats]:
    """Votes and half-wins of each cluster on each pair, shape (clusters, pairs)."""
    n_systems = max(votes.n_systems, *(max(pair) + 1 for pair in pairs))  # planned without votes
    number = np.zeros((n_systems, n_systems), dtype=np.intp)
    for k, (i, j) in enumerate(pairs):
        number[i, j] = number[j, i] = k
    keys = clusters * len(pairs) + number[votes.first, votes.second]
    wins = np.where(votes.first < votes.second, votes.outcomes, 1 - votes.outcomes)
    sizes = np.bincount(keys, minlength=n * len(pairs)).reshape(n, -1)
    sums = np.bincount(keys, weights=wins, minlength=n * len(pairs)).reshape(n, -1)
    return sizes.astype(np.float64), sums.astype(np.float64, copy=False)


def _permutation(
    clusters: _Clusters, rng: np.random.Generator, rounds: int
) -> tuple[Floats, Floats]:
    """Q of each pair, and its p-value; NaN where there is none."""
    slices, n_pairs = clusters.slices, clusters.sizes.shape[1]
    observed, as_large = np.empty(n_pairs), np.zeros(n_pairs)
    step = max(1, _AT_ONCE // slices.size)
    width = max(1, _AT_ONCE // (6 * min(step, rounds)))
    for start in range(0, rounds, step):
        drawn = np.tile(slices, (min(step, rounds - start), 1))
        drawn = rng.permuted(drawn, axis=1)
        for first in range(0, n_pairs, width):
            some = slice(first, first + width)
            own = clusters.of_pairs(some)
            observed[some] = _statistics(own, slices[None, :])[0]
            # Equal assignments must count as equal whatever the order of summation.
            as_large[some] += (_statistics(own, drawn) >= observed[some] * (1 - 1e-9)).sum(axis=0)
    return observed, (1 + as_large) / (1 + rounds)


def _statistics(clusters: _Clusters, slices: Codes) -> Floats:
    """Q of each pair for each assignment of clusters to slices, shape (rounds, pairs)."""
    powers, usual = clusters.powers(), clusters.usual()
    zero, one, two = (np.zeros((len(slices), usual.size)) for _ in range(3))
    for number in range(int(clusters.slices.max()) + 1):
        sums = ((slices == number).astype(powers.dtype) @ powers).astype(np.float64)
        count, n, s, ss, sn, nn = np.split(sums, 6, axis=1)
        size = np.maximum(n, 1)
        rate = s / size
        own = count / np.maximum(count - 1, 1) * (ss - 2 * rate * sn + rate**2 * nn)
        alike = count * usual
        variance = np.where(count > 1, np.maximum(own, alike / 10), alike) / size**2
        weight = np.divide(1, variance, out=np.zeros_like(variance), where=alike > 0)
        zero += weight
        one += weight * rate
        two += weight * rate**2
    found: Floats = two - np.divide(one**2, zero, out=np.full_like(zero, np.nan), where=zero > 0)
    return found
