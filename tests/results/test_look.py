"""The pages of results in a real browser: on a desk, on a phone, in the dark and on paper.

EVALSITE_SCREENSHOTS=FOLDER keeps pictures of the pages.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from evalsite.results.documents import write_report
from evalsite.studies.models import Study, System
from evalsite.voting.models import Showing
from generation.models import Image, ImageEvent
from tests import world
from tests.results.voted import closed_study, preferring, time_systems, voted_study
from tests.world import NOON

DESK = (1280, 800)
PHONE = (390, 844)
PAPER = (688, 970)  # what A4 leaves between the margins
LABELS = ("SDXL base, fifty steps, guidance 7.5", "Turbo, one step", "A-fine-tuned-one-of-mine")
KEYS = ("sdxl-base-50-steps-guidance-7-5", "turbo-1", "finetuned")
AXE = Axe()
SCREENSHOTS = os.environ.get("EVALSITE_SCREENSHOTS", "")

pytestmark = pytest.mark.django_db(transaction=True)

# Whatever a reader cannot see whole, or only by scrolling the page sideways.
CUT_OFF = """() => {
  const wide = [...document.querySelectorAll("main *")].filter((element) => {
    const box = element.getBoundingClientRect();
    if (element.closest(".visually-hidden, thead, input") || !box.width) return false;
    const holds = element.matches("td, th") || getComputedStyle(element).overflow !== "visible";
    const cut = holds && element.scrollWidth > element.clientWidth + 1;
    return cut || box.right > innerWidth + 0.5 || box.left < -0.5;
  });
  return wide.map((element) => `${element.tagName}.${element.getAttribute("class")}`);
}"""
# As wide as numbers get.
WIDEST = """() => {
  const texts = { ".value": "99.99%", "td.interval": "0.01 to 99.99%",
    "td.p:not(:has(.alone))": "< 0.001", "td .alone": "(< 0.001)",
    "td.votes": "1432 · 1287 · 1433" };
  for (const [place, text] of Object.entries(texts))
    for (const cell of document.querySelectorAll(`.forest ${place}`)) cell.textContent = text;
}"""
# Texts of one row that run into each other.
OVERLAPS = """() => [...document.querySelectorAll(".sheet tr")].flatMap((row) => {
  const texts = [...row.querySelectorAll("th:not(.rate), td:not(.rate), .value, .heading, text")];
  const boxes = texts.filter((text) => text.getBoundingClientRect().width > 2)
    .map((cell) => {
      const range = document.createRange();
      range.selectNodeContents(cell);
      return [...range.getClientRects()].filter((box) => box.width > 1);
    });
  return boxes.flatMap((own, i) => boxes.slice(i + 1).flatMap((others) =>
    own.filter((a) => others.some((b) =>
      Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
      && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1))))
    .map(() => row.innerText);
})"""
# Points of a drawing that lie over each other, or over each other's intervals.
HIDDEN_POINTS = """() => [...document.querySelectorAll(".scatter")].flatMap((drawing) => {
  const boxes = [...drawing.querySelectorAll("circle")].map((c) => c.getBoundingClientRect());
  return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) =>
    Math.abs(a.x - b.x) < 20));
})"""
BROKEN_KEYS = """() => [...document.querySelectorAll(".systems .key")]
  .filter((key) => key.getBoundingClientRect().height > 30).map((key) => key.innerText)"""


@pytest.fixture
def page(browser: Browser, live_server: Any, admin_client: Any) -> Iterator[Page]:
    """Signed in."""
    context = browser.new_context(reduced_motion="reduce")
    session = admin_client.cookies["sessionid"].value
    context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
    yield context.new_page()
    context.close()


def noisy_study() -> Study:
    """Long names, ties, somebody ahead of somebody, latencies far apart and alike, and images to
    speak of."""
    chance = random.Random(2)
    liked = preferring("system-1", "system-0", "system-2")

    def choose(pair: Showing) -> str:
        return liked(pair) if chance.random() < 0.8 else "TIE"

    study = closed_study(
        choose, n_systems=3, n_prompts=2, n_raters=2, tie_policy="ALLOWED", simulated=True
    )
    name_at_length(study)
    card = {"device": "NVIDIA H100 80GB HBM3 SXM5 with a long name", "options": "graphs,compile"}
    time_systems(study, 4321.5, 51.2, 51.9, **card)
    time_systems(study, 61234, device="AMD EPYC 7R13 48-Core Processor, 1 thread")
    for image in Image.objects.filter(entries__prompt__study=study)[:2]:
        ImageEvent.objects.create(
            image=image, kind="REPAINTED", sha256_before="a" * 64, sha256_after="b" * 64, at=NOON
        )
    return study


def name_at_length(study: Study) -> None:
    """Long names for its systems, in what it declares too."""
    for system, key, label in zip(study.systems.all(), KEYS, LABELS, strict=False):
        System.objects.filter(pk=system.pk).update(key=key, label=label)
    assert study.spec is not None
    study.spec["claims"] = [
        {"kind": kind, "criterion": "image_quality", "margin": margin} | pair
        for kind, margin in (
            ("superiority", None),
            ("non_inferiority", 0.05),
            ("equivalence", 0.125),
        )
        for pair in ({"first": KEYS[1], "second": KEYS[0]},)
    ]
    study.save(update_fields=["spec"])


def looked_into() -> Study:
    """Open, with a planned look behind it."""
    study = voted_study(
        preferring("system-1", "system-0"),
        n_raters=4,
        n_prompts=12,
        looks={"at": [0.5, 0.75]},
        votes_per_comparison=5,
    )
    name_at_length(study)
    return study


def look(page: Page, name: str, size: tuple[int, int], scheme: Any, media: Any = "screen") -> None:
    """Nothing is cut off, nothing overlaps, no key is broken, and axe finds no barrier."""
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme=scheme, media=media)
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        taken = Path(SCREENSHOTS) / f"{name}-{size[0]}-{scheme}-{media}.png"
        page.screenshot(path=taken, full_page=True)
    page.evaluate(WIDEST)
    where = f"{name} at {size}, {scheme}, {media}"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), where
    assert page.evaluate(CUT_OFF) == [], where
    assert page.evaluate(OVERLAPS) == [], where
    assert page.evaluate(BROKEN_KEYS) == [], where
    if media == "screen":
        found = AXE.run(page)
        assert found.violations_count == 0, f"{where}\n{found.generate_report()}"


def test_results_fit_a_desk_a_phone_and_the_dark(live_server: Any, page: Page):
    page.goto(f"{live_server.url}/studies/{noisy_study().slug}/")
    for size in (DESK, PHONE):
        for scheme in ("light", "dark"):
            look(page, "results", size, scheme)
            assert page.locator(".scatter circle").count() == 3
            assert page.evaluate(HIDDEN_POINTS) == []
            for row in page.locator("tr:has(circle)").all():
                inner, outer = row.locator("circle").bounding_box(), row.bounding_box()
                assert outer["y"] <= inner["y"] + 1
                assert inner["y"] + inner["height"] <= outer["y"] + outer["height"] + 1
    plot = page.locator("tbody .forest-row").first.bounding_box()
    assert plot["width"] > 200, "on a phone the plot is as wide as the page allows"


def test_studies_and_a_running_one_fit_a_desk_and_a_phone(live_server: Any, page: Page):
    running = voted_study(preferring("system-1", "system-0"))
    world.prepared_study(title="A study whose title takes more than one line on any phone")
    slugs = {"running": running.slug, "looked-into": looked_into().slug}
    pages = {name: f"/studies/{slug}/" for name, slug in slugs.items()}
    for name, address in ({"studies": "/studies/"} | pages).items():
        page.goto(f"{live_server.url}{address}")
        look(page, name, DESK, "light")
        look(page, name, PHONE, "dark")


def test_a_report_fits_paper_and_a_phone(page: Page, tmp_path: Path):
    write_report(noisy_study(), tmp_path / "report", at=NOON)
    page.goto((tmp_path / "report" / "report.html").as_uri())
    look(page, "report", PAPER, "dark", media="print")
    paper = page.evaluate("getComputedStyle(document.querySelector('.card')).backgroundColor")
    assert paper == "rgb(255, 255, 255)", "paper is white in the dark too"
    assert not page.get_by_role("navigation").is_visible()
    assert page.locator("tbody .forest-row").first.bounding_box()["width"] > 150
    look(page, "report", PHONE, "light")
