"""A real browser: the system's own Chromium, driven by playwright."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = ["--disable-background-networking", "--no-first-run", "--disable-component-update"]
PATIENCE_S = 30  # for a busy machine; a passing test never waits that long


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"browser tests left out: none of {', '.join(NAMES)} is on PATH")
    expect.set_options(timeout=PATIENCE_S * 1000)
    with sync_playwright() as playwright:
        # No sandbox: as root Chromium has none, and these pages are our own.
        launched = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", *QUIET]
        )
        yield launched
        launched.close()
