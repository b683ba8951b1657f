"""Which systems the votes can compare at all, and whether a maximum lies at infinity."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import NegativeCycleError, bellman_ford, connected_components

from evalsite.stats.clusters import Codes, Floats


def main_component(won: Floats) -> Codes:
    """The largest set of systems in which every one has beaten every other, if by a chain.

    A Bradley-Terry likelihood has a finite maximum exactly where the graph of wins is strongly
    connected: where the systems can be split so that no member of one part ever beats the
    other part, their distance is infinite or unknown. The component with most systems is
    taken; among equals the one with more votes inside, then the one with the lowest number.
    Its members are compared by the votes among themselves; votes that cross its border come
    from one side only and would push the distance to infinity.

    Parameters
    ----------
    won : won[i, j] > 0 where i has beaten j; ties count for both. Shape (K, K).

    Returns
    -------
    The component's members, ascending; empty where no two systems can be compared.

    Raises
    ------
    Nothing: the callers have checked their input.

    Source
    ------
    L. R. Ford, American Mathematical Monthly 64 (1957) 28-33, for the condition.
    """
    if len(won) < 2:
        return np.empty(0, dtype=np.intp)
    _, labels = connected_components(won > 0, directed=True, connection="strong")
    sizes = np.bincount(labels)
    inside = np.where(labels[:, None] == labels, won, 0.0).sum(axis=1)
    votes = np.bincount(labels, weights=inside)
    lowest = np.array([-int(np.argmax(labels == label)) for label in range(sizes.size)])
    best = int(np.lexsort((lowest, votes, sizes))[-1])
    members = np.flatnonzero(labels == best)
    return members if members.size > 1 else members[:0]


def strongly_connected(won: Floats) -> NDArray[np.bool_]:
    """Whether each of many win graphs, shape (rounds, K, K), is strongly connected."""
    size = won.shape[-1]
    reach = ((won > 0) | np.eye(size, dtype=np.bool_)).astype(np.float32)
    for _ in range(max(size - 1, 1).bit_length()):  # each step doubles the length of chains
        reach = (reach @ reach > 0).astype(np.float32)
    return np.asarray((reach > 0).all(axis=(-1, -2)))


def has_negative_cycle(costs: Floats) -> bool:
    """Whether some round trip costs less than nothing; no cost is 0, inf where no edge is.

    A maximum likelihood with one parameter beside the ratings lies at infinity when ratings d
    exist with d_j - d_i <= costs[i, j] on all edges: those of a shortest path, which exist
    exactly where no cycle is negative.
    """
    try:
        bellman_ford(costs)
    except NegativeCycleError:
        return True
    return False
