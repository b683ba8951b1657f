"""A real Celery worker on a real broker, and what survives when they break."""

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.painting.faults import FAULTS
from chaos.painting.mutants import MUTANTS
from generation.celery import app

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.timeout(600)
def test_no_fault_breaks_a_promise_and_a_broken_promise_is_noticed():
    """One run, since loading torch is most of it: the short faults, then code that is broken."""
    mutant = MUTANTS["token-not-checked"]
    run = subprocess.run(
        [sys.executable, "-m", "chaos.generation", "--short", "--mutants", mutant.name],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    kept = re.findall(r"^(\S+) +kept ", run.stdout, re.MULTILINE)
    assert kept == [fault.name for fault in FAULTS.values() if fault.short]
    assert re.findall(r"^(\S+) +noticed ", run.stdout, re.MULTILINE) == [mutant.name]


def test_every_fault_can_be_seen_to_fail():
    assert {mutant.fault for mutant in MUTANTS.values()} == set(FAULTS)


def test_every_fault_and_mutant_is_documented():
    told = (ROOT / "docs" / "faults.md").read_text()
    assert [name for name in (*FAULTS, *MUTANTS) if f"| {name} " not in told] == []


def test_a_worker_logs_as_loudly_as_the_settings_say(monkeypatch: pytest.MonkeyPatch):
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    monkeypatch.setattr(app.log, "already_setup", False)
    app.log.setup(loglevel="CRITICAL")
    try:
        assert (root.level, root.handlers) == (level, handlers)
    finally:
        root.setLevel(level)
