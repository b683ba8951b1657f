"""The whole job, as a newcomer runs it: a real broker, worker, sweep and web server; the demo's
images painted; thirty simulated raters on the real pages; a report; and the truth beside it.

The truth is the expected answer over the distribution of the raters' tastes on these prompts, so
the intervals are those for these prompts. With 95% intervals twelve of which share raters, at
least ten must hold the truth, and at least six must exclude one half: effects are there to see.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
N_VOTES = 24 * 6 * 3  # prompts, pairs and votes a comparison, for each criterion

Run = subprocess.CompletedProcess[str]


def run_in(var: Path, *arguments: str) -> Run:
    """A Python of its own, with the demo's settings and its state in `var`."""
    left_out = ("DATABASE_URL", "REDIS_URL", "STORAGE_URL", "ALLOWED_HOSTS")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    ours = {"DEBUG": "off", "SECURE_TLS": "off", "SECRET_KEY": "k" * 64, "LOG_LEVEL": "INFO"}
    settings = {"DJANGO_SETTINGS_MODULE": "evalsite.settings", "VAR_DIR": str(var)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=kept | ours | settings,
        capture_output=True,
        text=True,
    )


def demo(var: Path, raters: int) -> str:
    run = run_in(var, "manage.py", "demo", "--raters", str(raters), "--exit")
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def reading_of(var: Path, slug: str) -> dict[str, Any]:
    run = run_in(var, "-m", "tests.demo_truth", slug)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def stands(reading: list[dict[str, float]]) -> bool:
    """Whether a reading of the votes agrees with the truth, and says something."""
    assert len(reading) == 12
    covered = sum(pair["low"] <= pair["truth"] <= pair["high"] for pair in reading)
    decided = sum(pair["low"] > 0.5 or pair["high"] < 0.5 for pair in reading)
    return covered >= 10 and decided >= 6


@pytest.mark.timeout(1200)
def test_the_whole_job_recovers_the_truth_and_mistaken_sides_do_not(tmp_path):
    var = tmp_path / "a folder"
    said = demo(var, raters=30)

    report = json.loads((var / "demo" / "report" / "report.json").read_text())
    assert report["study"]["simulated"]
    for key in ("prompt_following", "image_quality"):
        assert report["criteria"][key]["n_votes"] == N_VOTES
        assert len(report["criteria"][key]["pairs"]) == 6
        assert f"{key}: {N_VOTES} votes of 30 raters" in said
    found = reading_of(var, "demo-run-1")
    readings = found["readings"]
    print(*readings["right"], sep="\n")
    assert stands(readings["right"])
    assert not stands(readings["inverted"])
    assert not stands(readings["blind to sides"])

    demo(var, raters=1)  # a new study over the same images: nothing is painted again
    assert len(found["painted"]) == 24 * 4
    assert reading_of(var, "demo-run-2")["painted"] == found["painted"]
