"""Votes grouped by who gave them and by what they were about."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Labels = Sequence[object] | NDArray[np.generic]

UNLABELLED = -1
_NO_LABEL = (None, "none")


def _one_sample() -> Codes:
    return np.zeros(1, dtype=np.intp)


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """The clusters of one dimension: each vote's cluster 0..G-1, and each cluster's size.

    The votes may be those of many samples, one sample after the other. Then no cluster spans
    two samples, and the clusters are numbered through, sample by sample.
    """

    codes: Codes
    sizes: Floats
    starts: Codes = field(default_factory=_one_sample)  # the first cluster of each sample
    counts: Codes = field(init=False)  # clusters of each sample

    def __post_init__(self) -> None:
        ends = np.concatenate([self.starts[1:], [self.count]])
        object.__setattr__(self, "counts", ends - self.starts)

    @property
    def count(self) -> int:
        """How many clusters there are: G."""
        return len(self.sizes)

    @property
    def largest(self) -> int:
        """The votes of the biggest cluster."""
        return int(self.sizes.max())

    @property
    def votes(self) -> Codes:
        """How many votes each sample has."""
        return self.totals(self.sizes).astype(np.intp)

    def sums(self, values: Floats) -> Floats:
        """Sum of one value per vote within each cluster, shape (G,)."""
        totals = np.bincount(self.codes, weights=values, minlength=self.count)
        return totals.astype(np.float64, copy=False)

    def totals(self, values: Floats) -> Floats:
        """Sum of one value per cluster within each sample."""
        totals: Floats = np.add.reduceat(values, self.starts)
        return totals

    def powers(self) -> Floats:
        """Sums of n_g, n_g^2, ..., n_g^5 over the clusters of each sample, shape (5, samples)."""
        square = self.sizes * self.sizes
        cube = square * self.sizes
        powers = self.sizes, square, cube, square * square, cube * square
        return np.stack([self.totals(power) for power in powers])

    def per_cluster(self, values: Floats) -> Floats:
        """One value per sample, for each of its clusters."""
        return np.repeat(values, self.counts)


def run_totals(values: Floats, sizes: Codes) -> Floats:
    """Sums over runs of values that follow each other: so many in each, at least one."""
    totals: Floats = np.add.reduceat(values, np.cumsum(sizes) - sizes)
    return totals


def factorise(labels: Labels | None, n_votes: int, what: str) -> Codes:
    """Number the labels of a column 0, 1, ...: in order of appearance, whole numbers by size.

    Parameters
    ----------
    labels : one label per vote, all hashable (text or whole numbers), or None for a
        column that is missing. None and the literal `none` mean "no label". An array of
        whole numbers, all of them labels, is counted instead of looked up one by one.
    n_votes : the length that the column must have.
    what : the column's name, for the error's text.

    Returns
    -------
    Codes, shape (n_votes,); UNLABELLED (-1) where there is no label.

    Raises
    ------
    ValueError : wrong length, or a label that is NaN: a hole in a table is not a rater.
    """
    if labels is None:
        return np.full(n_votes, UNLABELLED, dtype=np.intp)
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "iu" and labels.size:
        _check_length(labels.shape, n_votes, what)
        return group(labels.astype(np.int64, copy=False)).codes
    column: Iterable[object] = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    # A dictionary reads a million strings several times faster than sorting them does.
    numbers: dict[object, int] = dict.fromkeys(column, UNLABELLED)
    real = [label for label in numbers if label not in _NO_LABEL]
    if any(label != label for label in real):
        raise ValueError(f"a {what} label is NaN")
    numbers.update(zip(real, range(len(real)), strict=True))
    codes = np.fromiter(map(numbers.__getitem__, column), dtype=np.intp)
    _check_length(codes.shape, n_votes, what)
    return codes


def _check_length(shape: tuple[int, ...], n_votes: int, what: str) -> None:
    if shape != (n_votes,):
        raise ValueError(f"{math.prod(shape)} {what} labels for {n_votes} votes")


def group(keys: Codes) -> Groups:
    """Groups of equal keys, renumbered 0..G-1. Keys are any integers, at least one of them."""
    lowest = int(keys.min())
    # Counting beats sorting as long as the range of the keys is not much wider than the votes.
    if int(keys.max()) - lowest > 4 * keys.size + 1024:
        _, codes, sizes = np.unique(keys, return_inverse=True, return_counts=True)
        return Groups(codes, sizes.astype(np.float64))
    shifted = keys - lowest if lowest else keys
    counts = np.bincount(shifted)
    present = counts > 0
    if present.all():
        return Groups(shifted, counts.astype(np.float64))
    return Groups((np.cumsum(present) - 1)[shifted], counts[present].astype(np.float64))


def group_within(keys: Codes, votes: Codes) -> Groups:
    """`group` in each of many samples that follow each other: so many votes each, at least one."""
    if votes.size == 1:
        return group(keys)
    lowest = int(keys.min())
    samples = np.repeat(np.arange(votes.size), votes)
    samples *= int(keys.max()) - lowest + 1
    samples += keys
    return _in_samples(group(samples), votes)


def cross(first: Groups, second: Groups) -> Groups:
    """The cells of two dimensions: votes that share a cluster of both."""
    return _in_samples(group(first.codes * second.count + second.codes), first.votes)


def _in_samples(groups: Groups, votes: Codes) -> Groups:
    """Clusters whose numbers rise from sample to sample, and where each sample's begin."""
    if votes.size == 1:
        return groups
    return replace(groups, starts=np.minimum.reduceat(groups.codes, np.cumsum(votes) - votes))
