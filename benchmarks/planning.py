"""Whether planning keeps its promises: power and half-widths held against simulated studies.

    ./dev bench planning [--studies 2000] [--prompts N ...] [--quick] [--out FILE.md]

Each cell of the grid is a design with votes alike in one of five ways, at one of three true win
rates: those that are promised to be found with a power of .35, .65 and .9, but at most .96. Of
`studies` simulated ones (raters and prompts pull on the logit, everyone is equally busy) the share
is counted in which the 95% interval excludes one half, and the mean half-width taken. Each study
is read alone: no other pair lends it a design effect. Only cells with a power of .3 to .95 count.
Exit status 1 where a promised power misses by more than 3 points and two Monte-Carlo errors.
`--prompts` asks for other numbers of them: with fewer than 30 promises are not kept, which is why
`plan_study` offers no such study and warns of those that are asked for.
"""

import argparse
import os
import platform
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy

import numpy as np
from rich.console import Console
from rich.progress import track

from evalsite.stats import (
    PROVED_PROMPTS,
    Correlations,
    Design,
    OutOfReach,
    power,
    precision,
    smallest_difference,
)
from evalsite.stats.win_rate import Options, Samples, win_rates_of
from tests.stats.simulated import draw_votes, tastes

RATERS, PROMPTS, VOTES_ON_EACH = (3, 5, 10, 30), (PROVED_PROMPTS, 100, 300), (1, 3)
ALIKE = tuple(
    Correlations(rater, prompt)
    for rater, prompt in ((0, 0), (0.05, 0.2), (0.15, 0.05), (0.1, 0.1), (0, 0.25))
)
PROMISED, HIGHEST_RATE = (0.35, 0.65, 0.9), 0.96
COUNTED, MARGIN, FEW_LOSSES = (0.3, 0.95), 0.03, 10
AT_ONCE = 1 << 18  # votes


@dataclass(frozen=True)
class Cell:
    """One kind of study, what was promised of it and what was found."""

    design: Design
    correlations: Correlations
    rate: float
    power: float
    half_width: float
    studies: int

    @property
    def off(self) -> float:
        """Promised power less the simulated one."""
        promised = power(self.design, self.rate, correlations=self.correlations)
        return promised - self.power

    @property
    def error(self) -> float:
        return float(np.sqrt(self.power * (1 - self.power) / self.studies))

    @property
    def width_off(self) -> float:
        """Promised half-width over the simulated one, less 1."""
        found = precision(self.design, rate=self.rate, correlations=self.correlations)
        return found.half_width / self.half_width - 1

    @property
    def losses(self) -> float:
        return self.design.votes * (1 - self.rate)


def kinds(prompts: Iterable[int], *, quick: bool) -> list[tuple[Design, Correlations, float]]:
    """Designs, how alike their votes are, and the win rates to look for."""
    sizes = list(product(RATERS, prompts, VOTES_ON_EACH))[: 1 if quick else None]
    return [
        (Design(*size), alike, rate)
        for size, alike in product(sizes, ALIKE)
        for rate in rates_of(Design(*size), alike)
    ]


def rates_of(design: Design, alike: Correlations) -> list[float]:
    rates = set()
    for wanted in PROMISED:
        try:
            rate = 0.5 + smallest_difference(design, power=wanted, correlations=alike)
        except OutOfReach:
            rate = HIGHEST_RATE
        rates.add(round(min(rate, HIGHEST_RATE), 4))
    return sorted(rates)


def simulate(design: Design, alike: Correlations, rate: float, studies: int) -> Cell:
    rng = np.random.default_rng(zlib.crc32(repr((design, alike, rate)).encode()))
    found = np.array(list(read_studies(rng, design, alike, rate, studies)))
    decided, half_width = found.mean(axis=0)
    return Cell(design, alike, rate, float(decided), float(half_width), studies)


def read_studies(
    rng: np.random.Generator, design: Design, alike: Correlations, rate: float, studies: int
) -> Iterator[tuple[bool, float]]:
    """Of each study, whether one half is excluded, and the half-width."""
    sd, prompt_sd = tastes(rate, alike)
    size = {"raters": design.raters, "prompts": design.prompts}
    size["per_prompt"] = design.votes_per_prompt
    at_once = max(AT_ONCE // design.votes, 1)
    for start in range(0, studies, at_once):
        drawn = [
            draw_votes(rng, **size, rate=rate, sd=sd, prompt_sd=prompt_sd)
            for _ in range(min(at_once, studies - start))
        ]
        columns = (np.concatenate(column) for column in zip(*drawn, strict=True))
        samples = Samples(*columns, np.full(len(drawn), design.votes))
        for result in win_rates_of(samples, Options(), None):
            yield result.p_value < 0.05, (result.high - result.low) / 2


def report(cells: list[Cell], studies: int, prompts: Iterable[int]) -> str:
    numbers = " ".join(map(str, prompts))
    head = (
        f"`./dev bench planning --studies {studies} --prompts {numbers}`, {date.today()}, "
        f"{platform.machine()}, Python {platform.python_version()}, one thread. "
        f"Monte-Carlo error of a power of one half: {0.5 / studies**0.5:.3f}."
    )
    lines = [
        "| raters | expected losses | cells "
        "| promised less simulated power (lowest, mean, highest) "
        "| within 3 points | within two Monte-Carlo errors of that "
        "| half-width, promised over simulated (lowest, highest) |",
        "|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[int, bool], list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: (cell.design.raters, cell.losses)):
        groups.setdefault((cell.design.raters, cell.losses < FEW_LOSSES), []).append(cell)
    for (raters, few), group in groups.items():
        off = np.array([cell.off for cell in group])
        widths = np.array([cell.width_off for cell in group])
        near, kept = int((abs(off) <= MARGIN).sum()), sum(map(keeps, group))
        losses = f"under {FEW_LOSSES}" if few else f"{FEW_LOSSES} or more"
        lines.append(
            f"| {raters} | {losses} | {len(group)} "
            f"| {off.min():+.3f}, {off.mean():+.3f}, {off.max():+.3f} | {near} | {kept} "
            f"| {1 + widths.min():.2f}, {1 + widths.max():.2f} |"
        )
    return "\n".join([head, "", *lines, ""])


def keeps(cell: Cell) -> bool:
    return abs(cell.off) <= MARGIN + 2 * cell.error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000, help="of each kind (2000)")
    parser.add_argument(
        "--prompts", type=int, nargs="+", default=PROMPTS, metavar="N", help="(%(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="the smallest design alone")
    parser.add_argument("--out", type=Path, help="write the table to this file too")
    asked = parser.parse_args()
    waiting = track(kinds(asked.prompts, quick=asked.quick), "cells", console=Console(stderr=True))
    found = [simulate(*kind, asked.studies) for kind in waiting]
    cells = [cell for cell in found if COUNTED[0] <= cell.power <= COUNTED[1]]
    text = report(cells, asked.studies, asked.prompts)
    print(text)
    if asked.out:
        asked.out.write_text(text)
    return int(not all(map(keeps, cells)))


if __name__ == "__main__":
    sys.exit(main())
