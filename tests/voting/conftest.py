"""A real browser: the system's own Chromium, driven by playwright."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = ["--disable-background-networking", "--no-first-run", "--disable-component-update"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"browser tests left out: none of {', '.join(NAMES)} is on PATH")
    with sync_playwright() as playwright:
        # No sandbox: as root Chromium has none, and these pages are our own.
        launched = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", *QUIET]
        )
        yield launched
        launched.close()
