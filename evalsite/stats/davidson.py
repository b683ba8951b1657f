"""Ratings beside a chance of ties: Davidson's extension of Bradley and Terry's model."""

import math
from dataclasses import dataclass

import numpy as np

from evalsite.stats.clusters import Codes, Floats
from evalsite.stats.connectivity import has_negative_cycle, main_component
from evalsite.stats.fit import fit_connected, information_of, scores_of
from evalsite.stats.newton import climb, tolerance_for
from evalsite.stats.tallies import count_table, kinds_of
from evalsite.stats.votes import Votes


@dataclass(frozen=True, slots=True)
class Davidson:
    """Abilities of the systems and how readily they tie; None where not estimable."""

    abilities: tuple[float | None, ...]  # log scale, mean zero over the estimable systems
    tie_parameter: float | None  # nu: two equal systems tie with chance nu / (2 + nu)
    n: int  # votes used: those between estimable systems
    warnings: tuple[str, ...]


def davidson(votes: Votes) -> Davidson:
    """Davidson's tie model by maximum likelihood, from counts of wins and ties.

    With abilities a_i = log(pi_i) and a tie parameter nu:

        P(i preferred to j) = pi_i / (pi_i + pi_j + nu sqrt(pi_i pi_j))
        P(tie)              = nu sqrt(pi_i pi_j) / (pi_i + pi_j + nu sqrt(pi_i pi_j))

    Newton's method on a and log(nu), as for `fit_bradley_terry`; the cost does not depend on
    the number of votes. Without ties nu is 0 and the abilities are Bradley-Terry ratings.

    Parameters
    ----------
    votes : of one criterion. Raters and prompts are not looked at: no intervals come from
        here, the ones of `bradley_terry` stand.

    Returns
    -------
    Davidson. Only the largest strongly connected component is rated (`main_component`). The
    maximum still lies at infinity where no circle of votes, each from a winner to a loser or
    along a tie, has more wins than ties: nothing is rated then. Warnings: `no votes`,
    `not connected` (some system is not estimable), `ties too many`.

    Raises
    ------
    NotConverged : Newton's method stopped above its tolerance.

    Source
    ------
    R. R. Davidson, JASA 65 (1970) 317-328.
    """
    counts = count_table(kinds_of(votes))
    wins = counts[..., 2] + counts[..., 0].T
    ties = counts[..., 1] + counts[..., 1].T
    members = main_component(wins + ties / 2)
    wins, ties = wins[np.ix_(members, members)], ties[np.ix_(members, members)]
    if members.size == 0:
        return _unrated(votes, "not connected" if votes.n else "no votes")
    if not ties.any():
        played = np.triu(wins + wins.T)
        abilities, nu = fit_connected(np.triu(wins), played, side=False).ratings, 0.0
    elif _separated(wins, ties):
        return _unrated(votes, "ties too many")
    else:
        abilities, nu = _maximum(wins, ties)
    return _rated(votes, members, abilities, nu, int(wins.sum() + ties.sum() / 2))


def _maximum(wins: Floats, ties: Floats) -> tuple[Floats, float]:
    """Abilities and nu; wins[i, j] of i over j, ties[i, j] = ties[j, i]."""
    size = len(wins)
    played = np.triu(wins + wins.T + ties)
    score = np.triu(wins + ties / 2)  # of the lower-numbered system
    n_ties = ties.sum() / 2

    def slope(at: Floats) -> tuple[Floats, Floats]:
        half = np.subtract.outer(at[:size], at[:size]) / 2
        highest = np.maximum(np.abs(half), at[size])  # keeps the exponentials finite
        win, loss, tie = (np.exp(v - highest) for v in (half, -half, at[size]))
        total = win + loss + tie
        tied = tie / total
        expected = win / total + tied / 2
        variance = win / total + tied / 4 - expected**2
        shared = played * tied * (0.5 - expected)
        information = np.empty((size + 1, size + 1))
        information[:size, :size] = information_of(played * variance, side=False)
        information[:size, size] = information[size, :size] = scores_of(shared, side=False)
        information[size, size] = (played * tied * (1 - tied)).sum()
        gradient = scores_of(score - played * expected, side=False)
        return np.append(gradient, n_ties - (played * tied).sum()), information

    found = climb(slope, np.zeros(size + 1), size, tolerance_for(float(played.sum())))
    return found[:size] - found[:size].mean(), math.exp(found[size])


def _separated(wins: Floats, ties: Floats) -> bool:
    """Whether the likelihood of connected systems, some of them tied, rises for ever.

    It does where abilities d exist that contradict no vote as nu grows with exp(t) and pi with
    exp(d t): d_i - d_j >= 2 where i has won, within 2 of each other where they have tied.
    """
    costs = np.where(ties > 0, 2.0, np.inf)
    costs[wins > 0] = -2.0
    return not has_negative_cycle(costs)


def _rated(votes: Votes, members: Codes, abilities: Floats, nu: float, n: int) -> Davidson:
    found: list[float | None] = [None] * votes.n_systems
    for system, ability in zip(members.tolist(), abilities.tolist(), strict=True):
        found[system] = ability
    warnings = () if members.size == votes.n_systems else ("not connected",)
    return Davidson(tuple(found), nu, n, warnings)


def _unrated(votes: Votes, warning: str) -> Davidson:
    return Davidson((None,) * votes.n_systems, None, 0, (warning,))
