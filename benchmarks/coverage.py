"""How often 95% intervals hold the truth when votes share raters and prompts, by simulation.

    ./dev bench coverage [--grid headline|full] [--runs 2000] [--out FILE.md] [--cells FILE.csv]
        [--fresh]

Each cell of the grid is one kind of study, simulated `runs` times with a seed of its own; four
intervals are made of the same votes: ours, Wilson's, the percentile bootstrap of single votes and
the sandwich clustered by rater. The votes do not depend on which intervals are made of them.
Cells that are done stay done (in var/coverage): a run that was stopped goes on.
They are kept by a fingerprint of the code that makes the votes and the intervals, so that cells of
two formulas never stand in one table; comments and the form of the code do not count.
Exit status 1 where ours misses the gate on the headline grid, or Wilson passes. On the full grid
the aim is .94 to .965 in every cell; how many reach it is counted, and nothing fails.
"""

import argparse
import ast
import csv
import hashlib
import inspect
import json
import os
import platform
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, astuple, dataclass
from datetime import date
from itertools import product
from pathlib import Path
from types import ModuleType

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: every core has a cell of its own

import numpy as np
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn
from scipy.special import ndtri

from evalsite.stats import clustered_interval, wilson_interval
from tests.stats import simulated
from tests.stats.simulated import draw_votes

METHODS = ("ours", "Wilson", "bootstrap", "sandwich")
AIM, GATE = (0.94, 0.965), (0.925, 0.975)
BOOTSTRAP_ROUNDS = 1000
Z = float(ndtri(0.975))


@dataclass(frozen=True, order=True)
class Cell:
    """One kind of study; `sd` and `prompt_sd` are logit deviations of raters and of prompts."""

    raters: int
    prompts: int
    per_prompt: int
    rate: float
    sd: float
    prompt_sd: float
    heavy: bool
    tie: float

    @property
    def truth(self) -> float:
        return (1 - self.tie) * self.rate + self.tie / 2

    @property
    def losses(self) -> float:
        """Votes that go to the second system, ties split, in the mean of all studies."""
        return self.prompts * self.per_prompt * (1 - self.truth)

    @property
    def seed(self) -> int:
        return zlib.crc32(repr(astuple(self)).encode())


RATES, SPREADS = (0.5, 0.6, 0.8, 0.95), ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0))


def headline_grid() -> list[Cell]:
    return [
        Cell(raters, 100, 3, rate, *sds, heavy, 0.0)
        for raters, heavy, sds, rate in product((5, 30), (False, True), SPREADS, RATES)
    ]


def full_grid() -> list[Cell]:
    """Everything at once; "mixed" are raters who differ by 0.5 on prompts that differ by 1."""
    sizes = product((3, 5, 10, 30, 100), (30, 100, 300), (1, 3, 5))
    return [
        Cell(*size, rate, *sds, heavy, tie)
        for size, heavy, tie, sds, rate in product(
            sizes, (False, True), (0.0, 0.2), (*SPREADS, (0.5, 1.0)), RATES
        )
        if size[2] <= size[0]  # nobody votes twice on a prompt
    ]


GRIDS = {"headline": headline_grid, "full": full_grid}


# One cell


def coverage_of(cell: Cell, runs: int, methods: Sequence[str]) -> dict[str, float]:
    """Share of runs in which each method's interval holds the truth."""
    rng, resampling = np.random.default_rng(cell.seed), np.random.default_rng([cell.seed, 1])
    held = dict.fromkeys(methods, 0)
    for _ in range(runs):
        votes = draw_votes(rng, **asdict(cell))
        for method in methods:
            low, high = INTERVALS[method](resampling, *votes)
            held[method] += low <= cell.truth <= high
    return {method: count / runs for method, count in held.items()}


def ours(
    _: np.random.Generator, outcomes: np.ndarray, raters: np.ndarray, prompts: np.ndarray
) -> tuple[float, float]:
    found = clustered_interval(outcomes, raters, prompts)
    return found.low, found.high


def wilson(
    _: np.random.Generator, outcomes: np.ndarray, raters: np.ndarray, prompts: np.ndarray
) -> tuple[float, float]:
    found = wilson_interval(outcomes.sum(), outcomes.size)
    return found.low, found.high


def bootstrap(
    rng: np.random.Generator, outcomes: np.ndarray, raters: np.ndarray, prompts: np.ndarray
) -> tuple[float, float]:
    shares = [(outcomes == value).mean() for value in (1.0, 0.5, 0.0)]
    rounds = rng.multinomial(outcomes.size, shares, size=BOOTSTRAP_ROUNDS) @ [1.0, 0.5, 0.0]
    low, high = np.quantile(rounds / outcomes.size, (0.025, 0.975))
    return low, high


def sandwich(
    _: np.random.Generator, outcomes: np.ndarray, raters: np.ndarray, prompts: np.ndarray
) -> tuple[float, float]:
    mean = outcomes.mean()
    sums = np.bincount(raters, weights=outcomes - mean)
    groups = np.unique(raters).size
    reach = Z * np.sqrt(sums @ sums * groups / max(groups - 1, 1)) / outcomes.size
    return mean - reach, mean + reach


INTERVALS = {"ours": ours, "Wilson": wilson, "bootstrap": bootstrap, "sandwich": sandwich}


# What made a cell


def fingerprint() -> str:
    """Eight digits that change with the code of a cell: its votes, its intervals, the counting."""
    pieces = [Cell, coverage_of, *INTERVALS.values(), simulated]
    modules = modules_behind(clustered_interval) | modules_behind(wilson_interval)
    pieces += [sys.modules[name] for name in sorted(modules)]
    meaning = "\n".join(code_of(inspect.getsource(piece)) for piece in pieces)
    meaning += f"\n{BOOTSTRAP_ROUNDS} {Z}"
    return hashlib.sha256(meaning.encode()).hexdigest()[:8]


def modules_behind(function: Callable[..., object]) -> set[str]:
    """The module of a statistic, and all modules of evalsite.stats that it is made of."""
    found, waiting = set(), [function.__module__]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += imported_by(sys.modules[name])
    return found


def imported_by(module: ModuleType) -> Iterator[str]:
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("evalsite.stats."):
            yield str(node.module)


def code_of(source: str) -> str:
    """The code without comments, docstrings and form."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            del node.body[0]
    return ast.dump(tree)


# All cells


def run_grid(grid: str, runs: int, store: Path) -> dict[Cell, dict[str, float]]:
    """Every cell's coverage: what `store` holds already, and the rest over all cores."""
    cells, done = GRIDS[grid](), read_store(store)
    missing = {cell: [m for m in METHODS if m not in done.get(cell, {})] for cell in cells}
    waiting = {cell: methods for cell, methods in missing.items() if methods}
    columns = (*Progress.get_default_columns()[:3], MofNCompleteColumn(), TimeElapsedColumn())
    with (
        store.open("a") as file,
        ProcessPoolExecutor() as pool,
        Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress,
    ):
        bar = progress.add_task("cells", total=len(cells), completed=len(cells) - len(waiting))
        futures = {
            pool.submit(coverage_of, cell, runs, methods): cell for cell, methods in waiting.items()
        }
        for future in as_completed(futures):
            cell = futures[future]
            found = future.result()
            done[cell] = done.get(cell, {}) | found
            # The line break comes first: a line that a kill cut off stays alone.
            file.write("\n" + json.dumps({"cell": asdict(cell), "coverage": found}))
            file.flush()
            progress.advance(bar)
    return {cell: {method: done[cell][method] for method in METHODS} for cell in cells}


def read_store(store: Path) -> dict[Cell, dict[str, float]]:
    """Cells that an earlier run has done; a last line cut off by a kill is passed over."""
    done: dict[Cell, dict[str, float]] = {}
    for line in store.read_text().splitlines() if store.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        done.setdefault(Cell(**row["cell"]), {}).update(row["coverage"])
    return done


def passes_gate(found: dict[Cell, dict[str, float]], method: str) -> bool:
    """Every cell in [.925, .975], and their mean in [.945, .960]."""
    shares = np.array([row[method] for row in found.values()])
    return inside(shares, GATE) == shares.size and 0.945 <= shares.mean() <= 0.960


def inside(shares: np.ndarray, limits: tuple[float, float], slack: float = 0.0) -> int:
    """How many shares lie between the limits, or within the slack of them."""
    return int(((shares >= limits[0] - slack) & (shares <= limits[1] + slack)).sum())


# Words


def cell_table(found: dict[Cell, dict[str, float]]) -> list[str]:
    """A line of Markdown for every cell."""
    lines = [
        "| raters | load | logit sd | win rate | " + " | ".join(METHODS) + " |",
        "|---|---|---|---|" + "---|" * len(METHODS),
    ]
    for cell, row in found.items():
        load = "heavy" if cell.heavy else "even"
        shares = " | ".join(f"{row[method]:.3f}" for method in METHODS)
        lines.append(f"| {cell.raters} | {load} | {cell.sd:g} | {cell.rate:g} | {shares} |")
    return lines


def summary_table(found: dict[Cell, dict[str, float]]) -> list[str]:
    """Lowest, mean and highest coverage of each method, by raters and by expected losses."""
    lines = [
        "| raters | expected losses | cells | "
        + " | ".join(f"{method} (lowest, mean, highest)" for method in METHODS)
        + " | ours in .94 to .965 | ours in .925 to .975 |",
        "|---|---|---|" + "---|" * (len(METHODS) + 2),
    ]
    groups: dict[tuple[int, str], list[dict[str, float]]] = {}
    for cell, row in sorted(found.items(), key=lambda pair: (pair[0].raters, pair[0].losses)):
        losses = round(cell.losses, 6)  # 100 * (1 - 0.8) is a little below 20
        few = "under 10" if losses < 10 else "10 to 20" if losses < 20 else "20 or more"
        groups.setdefault((cell.raters, few), []).append(row)
    for (raters, few), rows in groups.items():
        columns = {method: np.array([row[method] for row in rows]) for method in METHODS}
        spans = [f"{c.min():.3f}, {c.mean():.3f}, {c.max():.3f}" for c in columns.values()]
        counts = [f"{inside(columns['ours'], limits)} of {len(rows)}" for limits in (AIM, GATE)]
        lines.append(f"| {raters} | {few} | {len(rows)} | {' | '.join([*spans, *counts])} |")
    return lines


def report(found: dict[Cell, dict[str, float]], grid: str, runs: int) -> str:
    error = (0.95 * 0.05 / runs) ** 0.5
    head = (
        f"`./dev bench coverage --grid {grid} --runs {runs}`, {date.today()}, "
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}. "
        f"Monte-Carlo error of a share near .95: {error:.4f}."
    )
    verdicts = [f"- {method}: {verdict(found, method, grid, error)}" for method in METHODS]
    table = cell_table(found) if grid == "headline" else summary_table(found)
    return "\n".join([head, "", *verdicts, "", *table, ""])


def verdict(found: dict[Cell, dict[str, float]], method: str, grid: str, error: float) -> str:
    """Whether the gate is passed; on the full grid, how many cells reach what is aimed at."""
    shares = np.array([row[method] for row in found.values()])
    span = f"(mean {shares.mean():.3f}, lowest {shares.min():.3f}, highest {shares.max():.3f})"
    if grid == "headline":
        return f"{'passes' if passes_gate(found, method) else 'fails'} the gate {span}"
    aim, near, gate = inside(shares, AIM), inside(shares, AIM, 2 * error), inside(shares, GATE)
    return (
        f"{aim:,} of {shares.size:,} cells in .94 to .965, {near:,} within two Monte-Carlo errors "
        f"of it, {gate:,} in .925 to .975 {span}"
    )


def write_cells(found: dict[Cell, dict[str, float]], file: Path) -> None:
    """A line of CSV for every cell: what kind of study, and each method's coverage."""
    with file.open("w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        names = [*Cell.__dataclass_fields__, "expected_losses"]
        writer.writerow([*names, *next(iter(found.values()))])
        for cell, row in found.items():
            kind = {**asdict(cell), "heavy": int(cell.heavy), "losses": round(cell.losses, 2)}
            writer.writerow([*kind.values(), *(f"{share:.4f}" for share in row.values())])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid", choices=GRIDS, default="headline")
    parser.add_argument("--runs", type=int, default=2000, help="studies a cell (2000)")
    parser.add_argument("--out", type=Path, help="write the tables to this file too")
    parser.add_argument("--cells", type=Path, help="write every cell to this CSV file")
    parser.add_argument("--fresh", action="store_true", help="forget what was done before")
    asked = parser.parse_args()
    folder = Path(os.environ.get("VAR_DIR", "var")) / "coverage"
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / f"{asked.grid}-{asked.runs}-{fingerprint()}.jsonl"
    if asked.fresh:
        store.unlink(missing_ok=True)
    found = run_grid(asked.grid, asked.runs, store)
    text = report(found, asked.grid, asked.runs)
    print(text)
    if asked.out:
        asked.out.write_text(text)
    if asked.cells:
        write_cells(found, asked.cells)
    if asked.grid == "full":
        return 0
    return int(not passes_gate(found, "ours") or passes_gate(found, "Wilson"))


if __name__ == "__main__":
    sys.exit(main())
