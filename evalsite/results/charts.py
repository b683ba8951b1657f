"""The forest plot as geometry: where a pair's bar and point stand. A template draws it.

Everything is in percent of the plot's width, so a drawing fits whatever box it is in, and a row
of the plot is a row of the table. Words stay outside: text in a drawing would shrink with it.
"""

from dataclasses import dataclass

from evalsite.results.standings import Standing

TICKS = (0, 25, 50, 75, 100)


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
