"""Every measurement in a form of seconds: it runs, and prints its table. Never how fast."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.analysis import over_ours
from benchmarks.coverage import (
    METHODS,
    Cell,
    clustered_interval,
    code_of,
    coverage_of,
    fingerprint,
    full_grid,
    modules_behind,
    read_store,
    report,
    summary_table,
)

ROOT = Path(__file__).resolve().parent.parent


def test_the_leasing_benchmark_prints_its_table():
    few = ["--few", "20", "--many", "60", "--votes", "10"]
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.leasing", *few], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "60 ballots" in run.stdout
    assert [line.split()[0] for line in run.stdout.splitlines()[1:3]] == ["lease", "vote"]


def run_program(name: str, *options: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *options],
        cwd=ROOT,
        env={**os.environ, **extra},
        capture_output=True,
        text=True,
    )


def test_coverage_goes_on_where_it_was_stopped_and_stops_wilson(tmp_path):
    out = tmp_path / "coverage.md"
    (tmp_path / "coverage").mkdir()
    of_other_code = tmp_path / "coverage" / "headline-4-00000000.jsonl"
    of_other_code.write_text("what another formula gave")
    first = run_program("coverage", "--runs", "4", "--out", str(out), VAR_DIR=str(tmp_path))
    assert first.returncode in (0, 1), first.stderr  # four runs say little about the gate
    assert "- Wilson: fails the gate" in first.stdout
    assert first.stdout.count("\n| 5 | ") == first.stdout.count("\n| 30 | ") == 24
    store = tmp_path / "coverage" / f"headline-4-{fingerprint()}.jsonl"
    assert of_other_code.read_text() == "what another formula gave"
    lines = store.read_text().splitlines()
    parted = json.loads(lines[1])  # a cell whose bootstrap is still to come
    del parted["coverage"]["bootstrap"]
    store.write_text("\n".join([json.dumps(parted), *lines[2:-2], lines[-1][:20]]))
    table = tmp_path / "cells.csv"
    again = run_program("coverage", "--runs", "4", "--cells", str(table), VAR_DIR=str(tmp_path))
    assert again.stdout == first.stdout
    assert len(read_store(store)) == 48
    header, *rows = table.read_text().splitlines()
    assert header.startswith(
        "raters,prompts,per_prompt,rate,sd,prompt_sd,heavy,tie,expected_losses,"
    )
    assert len(rows) == 48
    assert rows[0].startswith("5,100,3,0.5,0.0,0.0,0,0.0,150.0,")


def test_cells_are_kept_apart_by_the_code_that_made_them_not_by_its_comments():
    plain = "def f(p):\n    return p + 1\n"
    told = 'def f(p):\n    """Adds."""\n    return (p + 1)  # one more\n'
    assert code_of(told) == code_of(plain) != code_of(plain.replace("1", "2"))
    assert modules_behind(clustered_interval) >= {
        f"evalsite.stats.{name}" for name in ("win_rate", "variance", "intervals", "clusters")
    }


def test_the_votes_of_a_cell_do_not_depend_on_the_intervals_made_of_them():
    cell = next(cell for cell in full_grid() if cell.sd == 1)  # where naive intervals often miss
    some = ["sandwich", "Wilson"]
    alone, among = (coverage_of(cell, 100, methods) for methods in (some, METHODS))
    assert alone == {method: among[method] for method in some}


def test_the_full_grid_counts_the_cells_that_reach_its_aim():
    cells = [cell for cell in full_grid() if cell.raters == 3 and cell.losses < 10][:4]
    found = {
        cell: {"ours": ours, "Wilson": 0.8, "bootstrap": 0.7, "sandwich": 0.9}
        for cell, ours in zip(cells, (0.94, 0.966, 0.93, 0.976), strict=True)
    }
    text = report(found, "full", 2000)
    assert (
        "- ours: 1 of 4 cells in .94 to .965, 2 within two Monte-Carlo errors of it, "
        "3 in .925 to .975 (mean 0.953, lowest 0.930, highest 0.976)" in text
    )
    assert "\n| 3 | under 10 | 4 | 0.930, 0.953, 0.976 | 0.800, 0.800, 0.800 | 0.700" in text
    assert text.endswith("| 1 of 4 | 3 of 4 |\n")


def test_a_cell_of_twenty_losses_stands_under_twenty_or_more():
    cell = Cell(5, 100, 1, 0.8, 0.0, 0.0, heavy=False, tie=0.0)
    assert cell.losses < 20  # as floats have it
    (line,) = summary_table({cell: dict.fromkeys(METHODS, 0.95)})[2:]
    assert line.startswith("| 5 | 20 or more | 1 |")


def test_the_published_table_is_that_of_the_published_cells():
    with (ROOT / "docs" / "coverage-full.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {}
    for row in rows:
        whole = {name: int(row[name]) for name in ("raters", "prompts", "per_prompt")}
        real = {name: float(row[name]) for name in ("rate", "sd", "prompt_sd", "tie")}
        cell = Cell(**whole, **real, heavy=row["heavy"] == "1")
        found[cell] = {method: float(row[method]) for method in METHODS}
    assert len(found) == len(rows)
    page = (ROOT / "docs" / "coverage.md").read_text()
    assert "\n".join(summary_table(found)) in page


def test_the_analysis_benchmark_prints_its_table(tmp_path):
    out = tmp_path / "table.md"
    run = run_program("analysis", "--quick", "--out", str(out))
    assert run.returncode == 0, run.stderr
    assert out.read_text() == run.stdout
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in run.stdout.splitlines()]
    assert [row[2] for row in rows[2:]] == [
        "report",
        "report, slices",
        "fit",
        "bootstrap",
        "evalica fit",
        "evalica rounds",
        "statsmodels",
    ]
    assert all(row[:2] == ["20,000", "5"] for row in rows[2:])
    assert float(rows[2][4]) > 0


def test_rounds_are_compared_without_the_fit_before_them():
    cpu = {"fit": 1.0, "bootstrap": 3.0, "evalica fit": 2.0, "evalica rounds": 6.0}
    assert over_ours("evalica rounds", cpu) == "200"  # 4 for ten of theirs, 2 for our thousand
    assert over_ours("evalica fit", cpu) == "2.0"


def test_the_planning_benchmark_prints_its_table(tmp_path):
    out = tmp_path / "table.md"
    run = run_program(
        *("planning", "--quick", "--studies", "100", "--prompts", "20", "--out", str(out))
    )
    assert "--studies 100 --prompts 20`" in run.stdout
    assert run.returncode in (0, 1), run.stderr  # a hundred studies say little
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in run.stdout.splitlines()]
    rows = [row for row in rows if row and row[0] == "3"]
    assert [row[1] for row in rows] == ["under 10", "10 or more"][: len(rows)]
    assert 0 < sum(int(row[2]) for row in rows) <= 15
    assert out.read_text() + "\n" == run.stdout
