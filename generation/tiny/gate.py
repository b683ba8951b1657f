"""Hold the shipped weights to their gate, on prompts that training never saw.

    python -m generation.tiny.gate [--prompts 500]

Prints every bound with what was found, and ends with status 1 where one is not met.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot
from pathlib import Path

from rich.console import Console
from rich.table import Table

from generation.tiny.evaluate import (
    GUIDANCE,
    SHIPPED,
    STUDENTS,
    Rate,
    draw_held_out,
    evaluate,
    load,
)
from generation.tiny.scenes import Asked

System = tuple[str, int]  # a folder's name, and steps

N_PROMPTS = 500
MOST_BYTES = 16_000_000  # of all folders together
LEAST = {  # of colours, relations and everything right
    ("tiny-base", 20): (0.97, 0.95, 0.85),
    ("tiny-turbo", 1): (0.97, 0.95, 0.80),
}
MEASURES = ("colours", "relation", "all_right")
WORST = ("tiny-base", 1)
BETTER = (("tiny-lcm", 4, 1), ("tiny-turbo", 4, 1))  # with more steps than with fewer
SYSTEMS: tuple[System, ...] = (
    ("tiny-base", 20),
    WORST,
    ("tiny-lcm", 4),
    ("tiny-lcm", 1),
    ("tiny-turbo", 4),
    ("tiny-turbo", 1),
)


@dataclass(frozen=True)
class Bound:
    """One thing that shipped weights must reach, and what was found."""

    what: str
    found: str
    is_met: bool


def rates_of(system: System, asks: Sequence[Asked]) -> dict[str, Rate]:
    """The scores of a shipped system, a mean and its standard error for each measure."""
    name, steps = system
    guidance = 0.0 if name in STUDENTS else GUIDANCE
    return evaluate(load(SHIPPED / name), asks, steps=steps, guidance=guidance)


def n_bytes(folder: Path = SHIPPED) -> int:
    """The size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def bounds(rates: Mapping[System, dict[str, Rate]], size: int) -> list[Bound]:
    """The whole gate, from the scores of every one of SYSTEMS and the weights' size in bytes.

    One system is below another by more than two standard errors where the difference of their
    means is more than twice the root of the sum of both squared errors.
    """
    found = []
    for system, least in LEAST.items():
        for measure, bound in zip(MEASURES, least, strict=True):
            rate = rates[system][measure]
            what = f"{_named(system)}: {measure} at least {bound:.2f}"
            found.append(Bound(what, _shown(rate), rate.mean >= bound))
    worst = rates[WORST]["all_right"]
    for system in SYSTEMS:
        if system != WORST:
            other = rates[system]["all_right"]
            far, error = other.mean - worst.mean, hypot(worst.se, other.se)
            what = f"{_named(WORST)}: all_right below {_named(system)} by 2 standard errors"
            shown = f"{far:.3f}, standard error {error:.3f}"
            found.append(Bound(what, shown, far > 2 * error))
    for name, more, fewer in BETTER:
        more_rate, fewer_rate = (rates[name, steps]["all_right"] for steps in (more, fewer))
        what = f"{name}: all_right at {more} steps above that at {fewer}"
        shown = f"{_shown(more_rate)}, {_shown(fewer_rate)}"
        found.append(Bound(what, shown, more_rate.mean > fewer_rate.mean))
    what = f"all weights together: {MOST_BYTES / 1e6:.0f} MB at most"
    return [*found, Bound(what, f"{size / 1e6:.1f} MB", size <= MOST_BYTES)]


def _named(system: System) -> str:
    name, steps = system
    return f"{name} at {steps}"


def _shown(rate: Rate) -> str:
    return f"{rate.mean:.3f} ± {rate.se:.3f}" if rate.n else "no prompt asks for it"


def _at_least_two(text: str) -> int:
    """Of fewer prompts there is no standard error."""
    if not (text.isascii() and text.isdigit() and int(text[:9]) >= 2):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 2, got {text!r}")
    return int(text[:9])


def main(arguments: Sequence[str] | None = None) -> None:
    """Score, print, and say by the exit status whether all is met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompts", type=_at_least_two, default=N_PROMPTS)
    parser.add_argument("--seed", type=int, default=0, help="of the draw of prompts")
    options = parser.parse_args(arguments)
    asks = draw_held_out(options.prompts, options.seed)
    table = Table("bound", "found", "", title=f"{len(asks)} held-out prompts")
    found = bounds({system: rates_of(system, asks) for system in SYSTEMS}, n_bytes())
    for one in found:
        table.add_row(one.what, one.found, "met" if one.is_met else "NOT MET")
    Console(width=None if Console().is_terminal else 120).print(table)
    if not all(one.is_met for one in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
