"""A pair of systems as people read it: from the one that is ahead, under the names they know.

report.json and the CSV files keep study order and keys; pages turn a pair round once, here. Its
sentence, its row and its bar are made of the same standing, so they cannot disagree.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from evalsite.results.summary import CriterionSummary, PairSummary
from evalsite.stats import Ties, WinRate, turned


@dataclass(frozen=True, slots=True)
class Standing:
    """Who is ahead of whom, and the rate of the one ahead; study order where neither is."""

    ahead: str
    behind: str
    rate: WinRate
    ties: Ties  # how they were counted

    @property
    def is_decided(self) -> bool:
        """Does the interval exclude one half?"""
        low, high = self.rate.low, self.rate.high
        return low is not None and high is not None and not low <= 0.5 <= high

    @property
    def is_even(self) -> bool:
        return self.rate.win_rate == 0.5

    @property
    def n_read(self) -> int:
        """The votes behind the rate."""
        return self.rate.n - self.rate.ties if self.ties == "drop" else self.rate.n


def standings(
    criterion: CriterionSummary, names: Mapping[str, str], ties: Ties
) -> tuple[Standing, ...]:
    """Every pair of a criterion, in the report's order; `names` is key -> what people read."""
    return tuple(standing_of(pair, names, ties) for pair in criterion.pairs)


def standing_of(pair: PairSummary, names: Mapping[str, str], ties: Ties) -> Standing:
    """One pair, seen from the system that is ahead."""
    first, second = names[pair.first], names[pair.second]
    if pair.rate.win_rate is not None and pair.rate.win_rate < 0.5:
        return Standing(second, first, turned(pair.rate), ties)
    return Standing(first, second, pair.rate, ties)
