"""The sweep: does what is to be done, says one line, and outlives its database's absence."""

import logging
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from evalsite.studies import queries, services
from tests.studies.files import draft
from tests.world import NOON


@pytest.mark.django_db
def test_a_sweep_makes_display_files_and_says_so_once(tmp_path, caplog):
    study = draft(tmp_path)
    services.prepare(study, at=NOON)
    with caplog.at_level(logging.INFO, logger="evalsite.studies"):
        call_command("sweep", "--once")
        call_command("sweep", "--once")
    assert caplog.messages == ["Sent 0 images again, made 6 display files"]
    assert queries.is_prepared(study)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="needs a database in a file")
@pytest.mark.django_db(transaction=True)
def test_a_sweep_waits_for_its_database_and_stops_when_told(tmp_path):
    database = tmp_path / "later" / "evalsite.sqlite3"
    process = subprocess.Popen(
        [sys.executable, "manage.py", "sweep", "--every", "0.2"],
        cwd=settings.BASE_DIR,
        env={**os.environ, "DATABASE_URL": f"sqlite:///{database}", "LOG_LEVEL": "INFO"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert "The database is away, trying again" in next_line(process)
        bring_database(database)
        assert "The database is back" in next_line(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()


def next_line(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    return process.stderr.readline()


def bring_database(path: Path) -> None:
    """A copy of the tests' own, with every table."""
    path.parent.mkdir()
    connection.ensure_connection()
    with sqlite3.connect(path) as copy:
        connection.connection.backup(copy)
