"""The whole job, as a newcomer runs it: a real broker, worker, sweep and web server; the demo's
images painted; simulated raters on the real pages; a report; and the truth beside it. Sixteen
raters, of the thirty that the study wants: each answers all that one may, and the rest is left.

The truth is the expected answer over the distribution of the raters' tastes on these prompts, so
the intervals are those for these prompts. With 95% intervals twenty of which share raters, at
least 18 must hold the truth, and at least nine must exclude one half: effects are there to see.
In 1000 drawings of other raters, 6 had fewer of the one and 2 of the other; of the mistaken
readings none held the truth more than 11 times.
"""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.conf import settings

from tests.processes import ROOT, processes_with, wait_until

N_RATERS = 16
N_VOTES = N_RATERS * 50 // 2  # every rater's share of each of the two criteria
N_IMAGES = 24 * 5

# Both tests live in one folder, where the second finds what the first has painted.
pytestmark = [pytest.mark.timeout(1200), pytest.mark.long]


@pytest.fixture(scope="module")
def var() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=settings.VAR_DIR) as folder:
        yield Path(folder) / "a folder"


@pytest.fixture(scope="module")
def environment(var: Path) -> dict[str, str]:
    """The demo's settings, and nothing of the tests' own site."""
    left_out = ("DATABASE_URL", "REDIS_URL", "STORAGE_URL", "ALLOWED_HOSTS")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    ours = {"DEBUG": "off", "SECURE_TLS": "off", "SECRET_KEY": "k" * 64, "LOG_LEVEL": "INFO"}
    place = {"DJANGO_SETTINGS_MODULE": "evalsite.settings", "VAR_DIR": str(var)}
    return kept | ours | place | {"PYTHONUNBUFFERED": "1"}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def said(environment: dict[str, str]) -> str:
    """What the finished job has printed."""
    job = run(environment, "manage.py", "demo", "--raters", str(N_RATERS), "--exit")
    assert job.returncode == 0, job.stdout + job.stderr
    return job.stdout


def stands(reading: list[dict[str, float]]) -> bool:
    """Whether a reading of the votes agrees with the truth, and says something."""
    assert len(reading) == 20
    covered = sum(pair["low"] <= pair["truth"] <= pair["high"] for pair in reading)
    decided = sum(pair["low"] > 0.5 or pair["high"] < 0.5 for pair in reading)
    return covered >= 18 and decided >= 9


def test_the_whole_job_recovers_the_truth_and_mistaken_sides_do_not(said, var, environment):
    report = json.loads((var / "demo" / "report" / "report.json").read_text())
    assert report["study"]["simulated"]
    for key in ("prompt_following", "image_quality"):
        assert report["criteria"][key]["n_votes"] == N_VOTES
        assert len(report["criteria"][key]["pairs"]) == 10
        assert f"{key}: {N_VOTES} votes of {N_RATERS} raters" in said
    assert "95% interval" in said
    assert len(report["declared_claims"]) == 3
    n_shown = sum(claim["shown"] for claim in report["declared_claims"])
    assert (said.count(" Shown.\n"), said.count(" Not shown.\n")) == (n_shown, 3 - n_shown)
    assert "prompt_following: tiny-turbo-1 is preferred over tiny-base-1. " in said
    found = run(environment, "-m", "tests.demo_truth", "demo-run-1")
    assert found.returncode == 0, found.stderr
    readings = json.loads(found.stdout)
    print(*readings["right"], sep="\n")
    assert stands(readings["right"])
    assert not stands(readings["inverted"])
    assert not stands(readings["blind to sides"])


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
def test_a_demo_starts_once_paints_nothing_again_and_stops_without_a_trace(
    said, var, environment, tmp_path
):
    out_file = tmp_path / "said"
    assert processes_with(f"VAR_DIR={var}") == []  # of the job before
    with socket.create_server(("127.0.0.1", 0)) as taken, out_file.open("w") as out:
        port = taken.getsockname()[1]
        command = ["manage.py", "demo", "--port", str(port)]
        demo = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=out, stderr=out
        )
        try:
            wait_until(lambda: demo.poll() is not None or "answers at" in out_file.read_text())
            second = run(environment, *command)
            wait_until(lambda: demo.poll() is not None or "  Ready.\n" in out_file.read_text())
            running = processes_with(f"VAR_DIR={var}")
        finally:
            demo.send_signal(signal.SIGTERM)
            demo.wait(90)
    told = out_file.read_text()
    assert f"Port {port} is taken: using " in told
    assert second.returncode == 1
    assert f"a demo already runs in {var}: process {demo.pid}" in second.stderr
    assert len(running) >= 5, "the demo, valkey, worker, sweep and web"
    assert "  Ready.\n" in told  # a new study over the same images
    assert told.endswith("Stopped.\n")
    assert demo.returncode == 0
    assert processes_with(f"VAR_DIR={var}") == []
    assert not (var / "demo" / "redis_url").exists()
    with closing(sqlite3.connect(var / "evalsite.sqlite3")) as database:
        painted = [at for (at,) in database.execute("select finished_at from generation_image")]
        ((first_vote,),) = database.execute("select min(voted_at) from voting_vote")
    assert len(painted) == N_IMAGES
    assert max(painted) < first_vote
