"""Votes that are alike, counted: what ratings need of votes, however many there are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalsite.stats.clusters import Codes, Floats, Groups, cross
from evalsite.stats.votes import Votes


@dataclass(frozen=True, slots=True, eq=False)
class Kinds:
    """Votes as numbers of their kind: an ordered pair of systems, and an outcome.

    The kind of a vote is (first * n_systems + second) * 3 + 2 * outcome.
    """

    of_votes: Codes
    n_systems: int

    @property
    def count(self) -> int:
        """How many kinds there could be."""
        return 3 * self.n_systems**2

    @property
    def first(self) -> Codes:
        """The system named first, per kind."""
        return np.arange(self.count) // (3 * self.n_systems)

    @property
    def second(self) -> Codes:
        """The system named second, per kind."""
        return np.arange(self.count) // 3 % self.n_systems

    @property
    def outcomes(self) -> Floats:
        """The outcome of the first system, per kind."""
        return np.arange(self.count) % 3 / 2


@dataclass(frozen=True, slots=True, eq=False)
class ByCluster:
    """The kinds of all votes, cluster after cluster, and how many votes each cluster has."""

    kinds: NDArray[np.signedinteger]  # no wider than it takes
    sizes: Codes


def kinds_of(votes: Votes, left: ArrayLike | None = None) -> Kinds:
    """The kind of every vote, as its row names the systems; or the left one first.

    Parameters
    ----------
    votes : of one criterion.
    left : whether the first system of a vote stood on the left, shape (n,); None to leave
        the systems in the order in which they are named.

    Returns
    -------
    Kinds.

    Raises
    ------
    ValueError : `left` of another length, or not true and false.
    """
    if left is None:
        return _numbered(votes.first, votes.second, votes.outcomes, votes.n_systems)
    stays = _checked_left(left, votes.n)
    return _numbered(
        np.where(stays, votes.first, votes.second),
        np.where(stays, votes.second, votes.first),
        np.where(stays, votes.outcomes, 1 - votes.outcomes),
        votes.n_systems,
    )


def count_table(kinds: Kinds) -> Floats:
    """How many votes there are of each kind: shape (n_systems, n_systems, 3), losses first."""
    counts = np.bincount(kinds.of_votes, minlength=kinds.count).astype(np.float64)
    return counts.reshape(kinds.n_systems, kinds.n_systems, 3)


def among(kinds: Kinds, members: Codes) -> tuple[Kinds, NDArray[np.bool_] | slice]:
    """The votes between members, who are renumbered 0, 1, ...; and which votes those are."""
    if members.size == kinds.n_systems:
        return kinds, slice(None)
    number = np.full(kinds.n_systems, -1)
    number[members] = np.arange(members.size)
    first, second = number[kinds.first], number[kinds.second]
    renamed = (first * members.size + second) * 3 + np.arange(kinds.count) % 3
    renamed[(first < 0) | (second < 0)] = -1
    found = renamed[kinds.of_votes]
    inside = found >= 0
    return Kinds(found[inside], members.size), inside


def by_cluster(kinds: Kinds, clusters: Groups, others: Groups | None = None) -> ByCluster:
    """Votes sorted by cluster; with two groupings, by the cells of both."""
    return sorted_by_cluster(kinds.of_votes, kinds.count, clusters, others)


def sorted_by_cluster(
    of_votes: Codes, n_kinds: int, clusters: Groups, others: Groups | None = None
) -> ByCluster:
    """Any small numbers of the votes, 0..n_kinds-1, by cluster and within a cluster by size.

    There may be as many cells as votes, so no table of cells is laid out.
    """
    codes = clusters.codes
    if others is not None:
        if clusters.count * others.count * n_kinds < 2**62:
            codes = codes * others.count + others.codes
        else:  # numbers too large to stand for cell and kind at once
            codes = cross(clusters, others).codes
    keys = codes * n_kinds
    keys += of_votes
    keys.sort()
    sorted_kinds = (keys % n_kinds).astype(np.min_scalar_type(-n_kinds))
    keys //= n_kinds  # what is left is the cluster
    new = keys[1:] != keys[:-1]
    del keys
    ends = np.append(np.flatnonzero(new), new.size) + 1
    return ByCluster(sorted_kinds, np.diff(ends, prepend=0))


def _numbered(first: Codes, second: Codes, outcomes: Floats, n_systems: int) -> Kinds:
    numbers = first * n_systems
    numbers += second
    numbers *= 3
    np.add(numbers, 2 * outcomes, out=numbers, casting="unsafe")  # whole numbers, all of them
    return Kinds(numbers, n_systems)


def _checked_left(left: ArrayLike, n_votes: int) -> NDArray[np.bool_]:
    sides = np.asarray(left)
    if sides.shape != (n_votes,):
        raise ValueError(f"{sides.size} sides for {n_votes} votes")
    if n_votes and sides.dtype != np.bool_:
        raise ValueError("sides must be true (the first system stood on the left) or false")
    return sides.astype(np.bool_, copy=False)
