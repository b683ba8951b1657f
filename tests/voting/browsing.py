"""The steps of a rater in a browser. EVALSITE_SCREENSHOTS=FOLDER keeps pictures of the pages."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from evalsite.studies.models import Study
from tests import world
from tests.conftest import PATIENCE_S

DESKTOP = {"width": 1280, "height": 800}
SCREENSHOTS = os.environ.get("EVALSITE_SCREENSHOTS", "")


def walk_in(page: Page, site: Any, study: Study) -> None:
    """Consent, read the instructions, and ask for the first pair."""
    page.goto(f"{site.url}/s/{study.code}/")
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Start").click()
    page.get_by_role("link", name="Show the first pair").click()


def enter(page: Page, site: Any, study: Study) -> None:
    """The short way: as somebody who consented before, by their own link."""
    pictures: list[str] = []
    page.on("requestfinished", lambda request: pictures.append(request.url))
    page.goto(f"{site.url}/r/{world.rater(study).code}")
    wait_for_pair(page, "1 of")
    # The pair behind it has been fetched, pictures and all.
    until(page, lambda: len([url for url in pictures if re.search("/(left|right)$", url)]) == 4)


def wait_for_pair(page: Page, progress: str) -> None:
    """The pair is on the screen, and it has been there long enough to be answered."""
    expect(page.locator("#progress")).to_contain_text(progress)
    expect(page.locator(".pair:not(.pending)")).to_be_visible()
    page.wait_for_timeout(450)


def picture_of(page: Page, name: str) -> None:
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")


def until(page: Page, true: Callable[[], bool]) -> None:
    """Wait for something that only the server knows."""
    for _ in range(PATIENCE_S * 20):
        if true():
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"waited {PATIENCE_S} seconds in vain")


def box_of(page: Page, place: str) -> dict[str, float]:
    box = page.locator(place).bounding_box()
    assert box is not None
    return box
