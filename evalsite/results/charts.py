"""The forest plot as geometry: where every line, bar, point and word stands. A template draws it.

A row is a tug of war. The pair's second system stands on the left and its first on the right,
and the point lies nearer to the one that is preferred; the line in the middle is one half.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from evalsite.results import wording
from evalsite.results.summary import CriterionSummary, PairSummary

TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
CHARACTER = 7.4  # width of a letter in a system's name, in the units of the drawing
MARGIN = 16.0  # between a name and the plot
BAR_HEIGHT = 7.0
LEAST_BAR = 4.0  # an interval stays visible however narrow it is


@dataclass(frozen=True, slots=True)
class Layout:
    """Measures of one drawing; text keeps its size where the drawing is as wide as its box."""

    name: str
    width: float
    row_height: float
    head: float  # above the first row
    foot: float  # below the last one: ticks
    names_beside: bool  # names left and right of the plot, or above each bar
    longest_name: int  # characters; longer ones lose their middle


WIDE = Layout("wide", 600, 44, head=38, foot=32, names_beside=True, longest_name=16)
NARROW = Layout("narrow", 340, 62, head=30, foot=30, names_beside=False, longest_name=13)


@dataclass(frozen=True, slots=True)
class Tick:
    x: float
    label: str
    is_half: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One pair. Without a vote there is no point, no bar and no value."""

    y: float  # middle of bar and point
    text_y: float
    none_y: float
    rule_y: float  # the line that parts this row from the next
    left: str
    right: str
    ahead: str  # "left", "right", or "" where the votes do not decide
    x: float | None = None
    bar_x: float | None = None
    bar_y: float | None = None
    bar_width: float | None = None
    value: str = ""
    limits: str = ""


@dataclass(frozen=True, slots=True)
class Forest:
    """A drawing of `width` by `height`, all in one unit."""

    layout: str
    key: str
    description: str
    width: float
    height: float
    plot_top: float
    plot_bottom: float
    plot_height: float
    half_x: float
    half_width: float
    left_name_x: float
    left_name_anchor: str
    right_name_x: float
    right_name_anchor: str
    value_x: float
    value_anchor: str
    left_head_x: float
    right_head_x: float
    head_y: float
    tick_y: float
    ticks: tuple[Tick, ...]
    rows: tuple[Row, ...]
    bar_height: float = BAR_HEIGHT
    bar_radius: float = BAR_HEIGHT / 2
    point_radius: float = 6.0


def forest(criterion: CriterionSummary, layout: Layout) -> Forest:
    """The pairs of one criterion, in order, from top to bottom."""
    left, right = _plot_edges(criterion.pairs, layout)
    height = layout.row_height * len(criterion.pairs)
    half_x = _at(0.5, left, right)
    beside = layout.names_beside
    return Forest(
        layout=layout.name,
        key=criterion.key,
        description=" ".join(wording.claim(pair) for pair in criterion.pairs),
        width=layout.width,
        height=layout.head + height + layout.foot,
        plot_top=layout.head,
        plot_bottom=layout.head + height,
        plot_height=height,
        half_x=half_x,
        half_width=round(right - half_x, 1),
        left_name_x=left - MARGIN if beside else left,
        left_name_anchor="end" if beside else "start",
        right_name_x=right + MARGIN if beside else right,
        right_name_anchor="start" if beside else "end",
        value_x=layout.width if beside else half_x,
        value_anchor="end" if beside else "middle",
        left_head_x=half_x - 12,
        right_head_x=half_x + 12,
        head_y=layout.head - 14,
        tick_y=layout.head + height + 20,
        ticks=tuple(_tick(share, left, right) for share in TICKS),
        rows=tuple(
            _row(pair, layout, layout.head + layout.row_height * index, left, right)
            for index, pair in enumerate(criterion.pairs)
        ),
    )


def _tick(share: float, left: float, right: float) -> Tick:
    return Tick(
        x=_at(share, left, right),
        label=f"{wording.percent(share)}%",
        is_half=share == 0.5,
    )


def _plot_edges(pairs: Sequence[PairSummary], layout: Layout) -> tuple[float, float]:
    if not layout.names_beside:
        return 18.0, layout.width - 18
    longest = max((len(name) for pair in pairs for name in (pair.first, pair.second)), default=0)
    name = min(longest, layout.longest_name) * CHARACTER + MARGIN
    values = 112.0
    return round(name, 1), round(layout.width - name - values, 1)


def _at(probability: float, left: float, right: float) -> float:
    return round(left + probability * (right - left), 1)


def _row(pair: PairSummary, layout: Layout, top: float, left: float, right: float) -> Row:
    rate = pair.rate
    y = round(top + layout.row_height * (0.5 if layout.names_beside else 0.68), 1)
    empty = Row(
        y=y,
        text_y=y + 4.5 if layout.names_beside else top + 24,
        none_y=y + 4.5,
        rule_y=top + layout.row_height,
        left=shorten(pair.second, layout.longest_name),
        right=shorten(pair.first, layout.longest_name),
        ahead=_ahead(pair),
    )
    if rate.win_rate is None or rate.low is None or rate.high is None:
        return empty
    low, high = _at(rate.low, left, right), _at(rate.high, left, right)
    return replace(
        empty,
        x=_at(rate.win_rate, left, right),
        bar_x=low,
        bar_y=y - BAR_HEIGHT / 2,
        bar_width=round(max(high - low, LEAST_BAR), 1),
        value=f"{wording.percent(rate.win_rate)}%",
        limits=f"{wording.percent(rate.low)}–{wording.percent(rate.high)}",
    )


def _ahead(pair: PairSummary) -> str:
    if not wording.is_decided(pair.rate):
        return ""
    return "right" if (pair.rate.win_rate or 0) > 0.5 else "left"


def shorten(name: str, longest: int) -> str:
    """Keep both ends: names of one family differ at the end."""
    if len(name) <= longest:
        return name
    tail = (longest - 1) // 2
    return f"{name[: longest - 1 - tail]}…{name[-tail:]}"
