"""When a study could be looked into, and how far its votes had come then.

Nothing is stored: a look counts as taken once the votes that it waits for have been given, whether
or not somebody opened the page. What was given cannot be taken back, so a look once taken stays
so, whoever is excluded later.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalsite.stats import anytime_interval, look_interval, spending_boundaries
from evalsite.stats.sequential import CLOSEST_LOOKS, LookInterval
from evalsite.stats.win_rate import WinRate
from evalsite.studies.spec_claims import ANY_TIME


@dataclass(frozen=True, slots=True)
class Cut:
    """How far the votes had come at a look: the first `n_votes` counted ones."""

    share: float | None  # the planned look; None where the study closed, or for now
    n_votes: int
    information: float  # n_votes over all planned ones, in (0, 1]


@dataclass(frozen=True, slots=True)
class Looks:
    """The looks of a study that declared some."""

    at: tuple[float, ...] | None  # shares of the planned votes; None: at any time
    n_planned: int  # votes, when the study opened
    n_given: int  # answers to planned ballots by now, counted or not
    tightest_at: float  # votes planned for one pair under one criterion
    taken: tuple[Cut, ...]

    def interval(self, rate: WinRate, confidence: float) -> LookInterval:
        """The win rate's interval at the last look taken."""
        if self.at is None:
            return anytime_interval(rate, tightest_at=self.tightest_at, confidence=confidence)
        return look_interval(rate, self.boundaries(confidence)[-1])

    @property
    def fractions(self) -> list[float]:
        """Of the information, at each look taken. Where nobody looked before closing, nothing
        that was seen decided when to close, and the closing has all the information."""
        informations = [cut.information for cut in self.taken]
        return informations if self.was_looked_into else [1.0] * len(informations)

    @property
    def was_looked_into(self) -> bool:
        """Could anybody have read results before closing?"""
        return self.at is None or any(cut.share is not None for cut in self.taken)

    def boundaries(self, confidence: float) -> tuple[float, ...]:
        """The normal quantile of each planned look taken."""
        return spending_boundaries(self.fractions, confidence=confidence) if self.taken else ()

    def next_at(self, n_given: int) -> int | None:
        """How many votes the next planned look waits for."""
        waiting = [needed(share, self.n_planned) for share in self.at or ()]
        return next((n for n in waiting if n > n_given), None)


def needed(share: float, n_planned: int) -> int:
    """How many votes must have been given for a look at this share of the plan."""
    return math.ceil(share * n_planned - 1e-9)


def looks_of(
    declared: Mapping[str, Any],
    *,
    n_planned: int,
    tightest_at: float,
    n_given: NDArray[np.int64],
    n_given_in_all: int,
    is_closed: bool,
) -> Looks:
    """The looks taken so far.

    declared : as in the frozen design.
    n_planned : when the study opened; what left later moves no look.
    n_given : of each vote that counts, how many answers were in with it, counted or not; never
        falling.
    """
    at = None if declared["at"] == ANY_TIME else tuple(declared["at"])
    reached = [share for share in at or () if needed(share, n_planned) <= n_given_in_all]
    cuts = [
        (share, int(np.searchsorted(n_given, needed(share, n_planned), side="right")))
        for share in reached
    ]
    if is_closed or at is None:
        cuts.append((None, n_given.size))
    return Looks(at, n_planned, n_given_in_all, tightest_at, tuple(_apart(cuts, n_planned)))


def _apart(cuts: Sequence[tuple[float | None, int]], n_planned: int) -> Iterator[Cut]:
    """Looks with votes, each with more than the one before: two that are nearer than the
    arithmetic can tell apart are one. Only the closing stands wherever it adds a vote."""
    last, n_last = 0.0, 0
    for share, n_votes in cuts:
        information = min(1.0, n_votes / n_planned) if n_planned else 0.0
        if share is None and n_votes > n_last:
            information = min(1.0, max(information, last + CLOSEST_LOOKS))
        if information - last >= CLOSEST_LOOKS * (1 - 1e-9):
            last, n_last = information, n_votes
            yield Cut(share, n_votes, information)
