"""Elo as in the ADD paper: for comparison with published figures, not for conclusions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalsite.stats.clusters import Floats
from evalsite.stats.votes import Votes

LABEL = "Elo as in the ADD paper"

BATCH = 1 << 24
"""Places in shuffled orders that are held at once."""


@dataclass(frozen=True, slots=True)
class AddElo:
    """Elo scores as the ADD paper reports them; None for a system without votes."""

    scores: tuple[float | None, ...]
    runs: int
    label: str = LABEL


def elo_as_in_add(votes: Votes, rng: np.random.Generator, *, runs: int = 100) -> AddElo:
    """Elo scores with K = 1 from a start of 1000, averaged over shuffled orders of the votes.

    Vote after vote, with S = 1, 1/2, 0 for a win, a tie, a loss of the first system:

        E = 1 / (1 + 10^((R_second - R_first) / 400))
        R_first <- R_first + (S - E)        R_second <- R_second - (S - E)

    The result depends on the order, so the mean over random orders is given. With so small a
    step and few votes the scores stay near their start: they shrink differences, most where
    votes are few, and are no estimate of a rating. `bradley_terry` is what they would tend to.

    Parameters
    ----------
    votes : of one criterion. (The paper gives the mean of its two criteria's scores.)
    rng : where the orders come from.
    runs : orders, >= 1. Time grows with votes and, slowly, with runs.

    Returns
    -------
    AddElo, on the scale on which 400 points are odds of ten to one.

    Raises
    ------
    ValueError : fewer than one run.

    Source
    ------
    A. Sauer, D. Lorenz, A. Blattmann and R. Rombach, Adversarial Diffusion Distillation,
    ECCV 2024; A. E. Elo, The Rating of Chessplayers (1978).
    """
    if runs < 1:
        raise ValueError(f"runs must be at least 1, not {runs}")
    total = np.zeros(votes.n_systems)
    at_once = max(1, BATCH // max(votes.n, 1))
    for done in range(0, runs, at_once):
        some = min(at_once, runs - done)
        orders = np.tile(np.arange(votes.n, dtype=np.uint32), (some, 1))
        orders = np.ascontiguousarray(rng.permuted(orders, axis=1, out=orders).T)
        total += _play(votes, orders).sum(axis=0)
    played = np.bincount(np.concatenate([votes.first, votes.second]), minlength=votes.n_systems)
    scores = (total / runs).tolist()
    return AddElo(tuple(s if n else None for s, n in zip(scores, played, strict=True)), runs)


def _play(votes: Votes, orders: NDArray[np.uint32]) -> Floats:
    """Scores after all votes, shape (runs, n_systems); orders[t] is each run's t-th vote."""
    runs = orders.shape[1]
    scores = np.full(runs * votes.n_systems, 1000.0)
    base = np.arange(runs) * votes.n_systems
    for votes_now in orders:  # the runs side by side: a loop over each alone takes far longer
        one, two = base + votes.first[votes_now], base + votes.second[votes_now]
        ahead, behind = scores[one], scores[two]
        change = votes.outcomes[votes_now] - 1 / (1 + 10 ** ((behind - ahead) / 400))
        scores[one] = ahead + change
        scores[two] = behind - change
    return scores.reshape(runs, votes.n_systems)
