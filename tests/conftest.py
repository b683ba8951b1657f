"""Shared by every test; what must come before Django's settings is in tests/lanes.py."""

import os
from pathlib import Path

import pytest
from django.conf import settings


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """SQLite: a database in a file, since threads cannot share one in memory."""
    database = settings.DATABASES["default"]
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if database["ENGINE"].endswith("sqlite3"):
        database["TEST"]["NAME"] = str(Path(settings.VAR_DIR) / f"test{worker}.sqlite3")
    elif worker:
        database["TEST"]["NAME"] = f"test_{worker}"
