"""Win rates against latency: what may be drawn together, where it stands, and how it is said."""

from collections import defaultdict
from dataclasses import dataclass

from evalsite.results import charts, wording
from evalsite.results.presentation import Names, title_of
from evalsite.results.record_lines import where_text
from evalsite.results.report import Json


@dataclass(frozen=True, slots=True)
class SpeedLine:
    """One system: its number in the drawings, and what they say of it in words."""

    number: int
    name: str
    latency: str
    shares: tuple[tuple[str, str], ...]  # a criterion's title, and win rate with interval


@dataclass(frozen=True, slots=True)
class Point:
    """A system's win rate and interval; in percent from the left, and from the top."""

    number: int
    x: float  # where its latency is on the axis
    shift: float  # pixels to the right of there, to stand beside points of nearly the same latency
    y: float
    top: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Panel:
    """The drawing of one criterion."""

    key: str
    title: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class SpeedFigure:
    """Win rates over all others against latency, on one kind of device with one set of options."""

    device: str
    ticks: tuple[tuple[float, str], ...]  # place and label
    panels: tuple[Panel, ...]
    lines: tuple[SpeedLine, ...]  # the fastest first
    is_crowded: bool  # some points stand beside their place


def speed_figure(report: Json, names: Names) -> SpeedFigure | None:
    """None unless two systems or more were timed on the same device in the same way.

    Of several devices the one that most systems were timed on, then the one timed last.
    """
    timed = _comparable(report)
    if len(timed) < 2:
        return None
    timed.sort(key=lambda row: row["latency_ms"])
    axis = charts.log_axis([row["latency_ms"] for row in timed])
    numbers = {row["system"]: number for number, row in enumerate(timed, start=1)}
    places = [axis.place(row["latency_ms"]) for row in timed]
    shifts = charts.side_by_side(places)
    spots = {row["system"]: spot for row, spot in zip(timed, zip(places, shifts), strict=True)}
    rates = {
        key: {system["system"]: system for system in criterion["systems"]}
        for key, criterion in report["criteria"].items()
    }
    return SpeedFigure(
        device=where_text(timed[0]),
        ticks=tuple((axis.place(tick), wording.duration_text(tick)) for tick in axis.ticks),
        panels=tuple(
            Panel(
                key,
                title_of(key),
                tuple(
                    _point(numbers[system], spot, of[system])
                    for system, spot in spots.items()
                    if of[system]["low"] is not None
                ),
            )
            for key, of in rates.items()
        ),
        lines=tuple(
            SpeedLine(
                numbers[row["system"]],
                names[row["system"]],
                wording.duration_text(row["latency_ms"]),
                tuple((title_of(key), _share(of[row["system"]])) for key, of in rates.items()),
            )
            for row in timed
        ),
        is_crowded=any(abs(shift) >= 1 for shift in shifts),
    )


def _comparable(report: Json) -> list[Json]:
    """The latencies of one device and set of options."""
    groups: dict[tuple[str, ...], list[Json]] = defaultdict(list)
    for row in (report["study"] or {}).get("latencies", ()):
        groups[row["device"], *row["options"]].append(row)

    def worth(rows: list[Json]) -> tuple[int, str]:
        return len(rows), max(row["measured_at"] for row in rows)

    return max(groups.values(), key=worth) if groups else []


def _point(number: int, spot: tuple[float, float], rate: Json) -> Point:
    y, top, bottom = (round(100 * (1 - rate[limit]), 2) for limit in ("win_rate", "high", "low"))
    return Point(number, *spot, y, top, bottom)


def _share(rate: Json) -> str:
    if rate["low"] is None:
        return "–"
    span = wording.interval_text(rate["low"], rate["high"])
    return f"{wording.percent(rate['win_rate'])}% ({span})"
