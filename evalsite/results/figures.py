"""A report's drawings as files of their own: SVG, for papers and slides. Black on white."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeVar

from evalsite.results import wording
from evalsite.results.presentation import Names, title_of
from evalsite.results.report import Json
from evalsite.results.speed import Panel, SpeedFigure, speed_figure
from evalsite.results.standings import standings
from evalsite.results.summary import CriterionSummary, Summary

ROW, TEXT, PLOT, NUMBERS, MARGIN = 26, 7.2, 420, 190, 16  # pixels; TEXT is a letter's width
SCATTER, AXIS = 280, 40  # height, and room for the labels of an upright axis
LEADS = 16  # from the plot down to its axis: lines lead from points to their latencies
STYLE = "font: 13px system-ui, sans-serif; fill: #111"


Keyed = TypeVar("Keyed", CriterionSummary, Panel)


@dataclass(frozen=True, slots=True)
class Row:
    """One interval with its point, its name on the left and its numbers on the right."""

    name: str
    numbers: str
    point: float
    low: float
    high: float
    filled: bool


def figures(summary: Summary, names: Names) -> dict[str, bytes]:
    """File name -> SVG: win rates of all pairs and ratings of all systems, by criterion."""
    drawn = {}
    for stem, criterion in _stems(summary.criteria):
        title = title_of(criterion.key)
        pairs = list(_pair_rows(criterion, names, summary))
        if pairs:
            drawn[f"pairs-{stem}.svg"] = _draw(f"{title}: win rate", pairs, (0, 25, 50, 75, 100))
        ratings = list(_rating_rows(criterion, names))
        if ratings:
            ticks = _ticks(min(r.low for r in ratings), max(r.high for r in ratings))
            drawn[f"ranking-{stem}.svg"] = _draw(f"{title}: rating", ratings, ticks)
    return {name: svg.encode() for name, svg in drawn.items()}


def is_figure(name: str) -> bool:
    return re.fullmatch(r"(pairs|ranking|latency)-.+\.svg", name) is not None


def _stems(criteria: Sequence[Keyed]) -> Iterator[tuple[str, Keyed]]:
    """A criterion's part of a file name: its key without what file systems mind."""
    taken: set[str] = set()
    for number, criterion in enumerate(criteria, start=1):
        stem = re.sub(r"[^\w-]+", "-", criterion.key).strip("-")[:80] or str(number)
        stem = f"{stem}-{number}" if stem.lower() in taken else stem
        taken.add(stem.lower())
        yield stem, criterion


def _pair_rows(criterion: CriterionSummary, names: Mapping[str, str], of: Summary) -> Iterator[Row]:
    for pair in standings(criterion, names, of.options.ties):
        rate = pair.rate
        if rate.win_rate is not None and rate.low is not None and rate.high is not None:
            share = f"{wording.percent(rate.win_rate)}%"
            yield Row(
                name=f"{pair.ahead} over {pair.behind}",
                numbers=f"{share} ({wording.interval_text(rate.low, rate.high)})",
                point=100 * rate.win_rate,
                low=100 * rate.low,
                high=100 * rate.high,
                filled=pair.is_decided,
            )


def _rating_rows(criterion: CriterionSummary, names: Mapping[str, str]) -> Iterator[Row]:
    """Estimable systems, the best first."""
    rated = [s for s in criterion.systems if s.rating.elo is not None]
    for system in sorted(rated, key=lambda s: -(s.rating.elo or 0)):
        rating = system.rating
        if rating.elo is None or rating.elo_low is None or rating.elo_high is None:
            continue
        numbers = f"{rating.elo:.0f} ({rating.elo_low:.0f} to {rating.elo_high:.0f})"
        yield Row(
            names[system.key], numbers, rating.elo, rating.elo_low, rating.elo_high, filled=True
        )


def _ticks(low: float, high: float) -> tuple[int, ...]:
    """Round numbers around an interval, four to eight of them."""
    step = next(s for s in (25, 50, 100, 200, 500, 1000, 10**9) if high - low <= 6 * s)
    first, last = int(low // step), int(-(-high // step))
    return tuple(step * i for i in range(first, last + 1))


def _draw(title: str, rows: Sequence[Row], ticks: Sequence[int]) -> str:
    left = MARGIN + TEXT * max(len(row.name) for row in rows) + MARGIN
    width, height = left + PLOT + MARGIN + NUMBERS, ROW * (len(rows) + 2) + MARGIN

    def x(value: float) -> float:
        return round(left + PLOT * (value - ticks[0]) / ((ticks[-1] - ticks[0]) or 1), 1)

    bottom = ROW * (len(rows) + 1)
    parts = _sheet(title, width, height)
    for tick in ticks:
        parts.append(
            f'<line x1="{x(tick)}" x2="{x(tick)}" y1="{ROW}" y2="{bottom}" stroke="#ccc"/>'
            f'<text x="{x(tick)}" y="{bottom + 18}" text-anchor="middle">{tick}</text>'
        )
    for number, row in enumerate(rows):
        parts.append(_row(row, ROW * (number + 1.5), left, x(row.low), x(row.point), x(row.high)))
    return "\n".join([*parts, "</svg>", ""])


def _row(row: Row, y: float, left: float, low: float, point: float, high: float) -> str:
    fill = "#2a5caa" if row.filled else "#fff"
    return (
        f'<text x="{left - MARGIN:.1f}" y="{y + 4.5}" text-anchor="end">{escape(row.name)}</text>'
        f'<line x1="{low}" x2="{high}" y1="{y}" y2="{y}" stroke="#2a5caa" stroke-width="2"/>'
        f'<circle cx="{point}" cy="{y}" r="4.5" fill="{fill}" stroke="#2a5caa" stroke-width="2"/>'
        f'<text x="{left + PLOT + MARGIN:.1f}" y="{y + 4.5}">{escape(row.numbers)}</text>'
    )


def latency_figures(report: Json, names: Names) -> dict[str, bytes]:
    """File name -> SVG: win rates over all others against latency, by criterion."""
    figure = speed_figure(report, names)
    if figure is None:
        return {}
    return {
        f"latency-{stem}.svg": _draw_scatter(figure, panel).encode()
        for stem, panel in _stems(figure.panels)
        if panel.points
    }


def _draw_scatter(figure: SpeedFigure, panel: Panel) -> str:
    """Points with their numbers; beside them who has which, how fast and how often preferred."""
    title = f"{panel.title}: win rate over all others and time an image, {figure.device}"
    n = figure.panels.index(panel)
    words = [
        f"{line.number}  {line.name}: {line.latency}, {line.shares[n][1]}" for line in figure.lines
    ]
    left, top, bottom = MARGIN + AXIS, 2 * ROW, 2 * ROW + SCATTER
    axis = bottom + LEADS
    width = max(left + PLOT + 2 * MARGIN + TEXT * max(map(len, words)), TEXT * len(title))
    height = max(axis, top + ROW * len(words)) + ROW + MARGIN

    def x(percent: float) -> float:
        return round(left + PLOT * percent / 100, 1)

    def y(percent: float) -> float:
        return round(top + SCATTER * percent / 100, 1)

    parts = _sheet(title, width, height)
    for place, label in figure.ticks:
        parts.append(
            f'<line x1="{x(place)}" x2="{x(place)}" y1="{top}" y2="{axis}" stroke="#ccc"/>'
            f'<text x="{x(place)}" y="{axis + 18}" text-anchor="middle">{label}</text>'
        )
    parts.append(f'<line x1="{left}" x2="{left + PLOT}" y1="{axis}" y2="{axis}" stroke="#888"/>')
    for share in (0, 25, 50, 75, 100):
        at = y(100 - share)
        parts.append(
            f'<line x1="{left}" x2="{left + PLOT}" y1="{at}" y2="{at}" stroke="#ccc"/>'
            f'<text x="{left - 8}" y="{at + 4.5}" text-anchor="end">{share}%</text>'
        )
    for point in panel.points:
        at, cy = x(point.x), y(point.y)
        cx = round(at + point.shift, 1)
        parts.append(
            f'<path d="M{cx} {y(point.bottom)}V{bottom}L{at} {axis}" fill="none" stroke="#888"/>'
            f'<line x1="{cx}" x2="{cx}" y1="{y(point.top)}" y2="{y(point.bottom)}" '
            'stroke="#2a5caa" stroke-width="2"/>'
            f'<circle cx="{cx}" cy="{cy}" r="9" fill="#2a5caa" stroke="#fff"/>'
            f'<text x="{cx}" y="{cy + 4.5}" text-anchor="middle" style="fill: #fff">'
            f"{point.number}</text>"
        )
    for row, text in enumerate(words):
        spot = f'x="{left + PLOT + MARGIN}" y="{top + ROW * (row + 0.5) + 4.5}"'
        parts.append(f"<text {spot}>{escape(text)}</text>")
    return "\n".join([*parts, "</svg>", ""])


def _sheet(title: str, width: float, height: float) -> list[str]:
    """A white sheet with its title, to be drawn on and closed."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" style="{STYLE}">',
        f"<title>{escape(title)}</title>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{MARGIN}" y="18" font-weight="600">{escape(title)}</text>',
    ]
