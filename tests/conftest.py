"""Shared by every test; what must come before Django's settings is in tests/lanes.py."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from playwright.sync_api import Browser, expect, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = ["--disable-background-networking", "--no-first-run", "--disable-component-update"]
PATIENCE_S = 30  # for a busy machine; a passing test never waits that long


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """SQLite: a database in a file, since threads cannot share one in memory."""
    database = settings.DATABASES["default"]
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if database["ENGINE"].endswith("sqlite3"):
        database["TEST"]["NAME"] = str(Path(settings.VAR_DIR) / f"test{worker}.sqlite3")
    elif worker:
        database["TEST"]["NAME"] = f"test_{worker}"


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> None:
    """The site's own hasher takes half a second on purpose, and no test is about it."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's own Chromium, driven by playwright."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"browser tests left out: none of {', '.join(BROWSERS)} is on PATH")
    expect.set_options(timeout=PATIENCE_S * 1000)
    with sync_playwright() as playwright:
        # No sandbox: as root Chromium has none, and these pages are our own.
        launched = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", *QUIET]
        )
        yield launched
        launched.close()
