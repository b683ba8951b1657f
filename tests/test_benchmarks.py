"""Every measurement in a form of seconds: it runs, and prints its table. Never how fast."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_leasing_benchmark_prints_its_table():
    few = ["--few", "20", "--many", "60", "--votes", "10"]
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.leasing", *few], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "60 ballots" in run.stdout
    assert [line.split()[0] for line in run.stdout.splitlines()[1:3]] == ["lease", "vote"]
