"""Drawings as geometry: where bars and points stand. A template draws them.

Everything is in percent of the plot's width or height, so a drawing fits whatever box it is in, and
text in it keeps its size. A row of the forest plot is a row of the table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10

from evalsite.results.standings import Standing

TICKS = (0, 25, 50, 75, 100)


STEPS = (1, 2, 5)  # of a logarithmic axis, times a power of ten
MOST_TICKS = 6
MARGIN = 4  # percent of the width, before the axis begins and after it ends
NARROWEST = 200  # pixels: the latency plot of a phone, at its narrowest
APART = 22  # pixels from one point to the next: a little more than a point is wide


@dataclass(frozen=True, slots=True)
class Bar:
    """An interval with its point, for the system that is ahead: 0..100 from left to right."""

    point: float
    start: float
    width: float


def bar(standing: Standing) -> Bar | None:
    """None where there is nothing to draw."""
    return bar_of(standing.rate.win_rate, standing.rate.low, standing.rate.high)


def bar_of(rate: float | None, low: float | None, high: float | None) -> Bar | None:
    """The same from the numbers themselves."""
    if rate is None or low is None or high is None:
        return None
    return Bar(
        point=round(100 * rate, 2), start=round(100 * low, 2), width=round(100 * (high - low), 2)
    )


@dataclass(frozen=True, slots=True)
class LogAxis:
    """A logarithmic axis between two round numbers."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Where a value stands, in percent from left to right."""
        share = log10(value / self.low) / log10(self.high / self.low)
        return round(MARGIN + (100 - 2 * MARGIN) * share, 2)


def log_axis(values: list[float]) -> LogAxis:
    """An axis around positive values; its ticks are powers of ten where others were too many."""
    least, most = min(values), max(values)
    powers = range(floor(log10(least)), floor(log10(most)) + 2)
    round_ones = [step * 10.0**power for power in powers for step in STEPS]
    low = max(number for number in round_ones if number <= least)
    high = min(number for number in round_ones if number >= most and number > low)
    ticks = [number for number in round_ones if low <= number <= high]
    if len(ticks) > MOST_TICKS:
        ticks = [10.0**power for power in powers if low <= 10.0**power <= high]
    return LogAxis(low, high, tuple(ticks))


def side_by_side(places: Sequence[float]) -> tuple[float, ...]:
    """How many pixels to move each point sideways, so that points of nearly one place stay apart.

    The least moves, squared and summed, that leave `APART` between neighbours in the narrowest
    plot, and no point outside it; a wider plot draws neighbours further apart. Where there are
    more points than fit, they stand as far apart as they can.

    places : in percent of the width, rising.
    """
    if len(places) < 2:
        return (0.0,) * len(places)
    low, high = (NARROWEST * edge / 100 for edge in (MARGIN, 100 - MARGIN))
    apart = min(APART, (high - low) / (len(places) - 1))
    # Less what each owes to those before it, places need only rise: those that fall share a mean.
    pools: list[tuple[float, int]] = []  # mean and size
    for number, place in enumerate(places):
        mean, size = NARROWEST * place / 100 - apart * number, 1
        while pools and pools[-1][0] > mean:
            before, n_before = pools.pop()
            mean = (before * n_before + mean * size) / (n_before + size)
            size += n_before
        pools.append((mean, size))
    most = high - apart * (len(places) - 1)
    risen = [min(max(mean, low), most) for mean, size in pools for _ in range(size)]
    return tuple(
        round(at + apart * number - NARROWEST * place / 100, 1)
        for number, (at, place) in enumerate(zip(risen, places, strict=True))
    )
