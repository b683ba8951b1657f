"""What is on a rater's screen, on any screen: boxes, sizes, directions, access."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from evalsite.studies.models import Criterion
from evalsite.voting import services
from tests import world
from tests.voting.browsing import DESKTOP, box_of, enter, picture_of, wait_for_pair

PHONE = {"width": 390, "height": 844}
SIZES = {"desktop": DESKTOP, "phone": PHONE}
SCREENS = [(390, 844), (360, 640), (844, 390), (768, 1024), (1280, 800), (1920, 1080)]
LONG_PROMPT = "A keeper of a lighthouse reads a newspaper beside a green lamp. " * 6 + "The end."
LONG_QUESTION = """Which image shows better what the text says?
Think of things, their number, their colours and where they are.
Pay no heed to how beautiful the images are."""
Variant = tuple[Literal["desktop", "phone"], Literal["light", "dark"]]
FEW: list[Variant] = [("desktop", "light"), ("phone", "dark")]
VARIANTS: list[Variant] = [*FEW, ("desktop", "dark"), ("phone", "light")]
AXE = Axe()

pytestmark = pytest.mark.django_db(transaction=True)


def test_pictures_share_one_box_and_are_never_enlarged(live_server, page):
    study = world.open_study()
    enter(page, live_server, study)
    for size in (DESKTOP, {"width": 1024, "height": 400}, PHONE, {"width": 320, "height": 480}):
        page.set_viewport_size(size)
        left, right = (page.locator(f"#{side}-image").bounding_box() for side in ("left", "right"))
        assert (left["width"], left["height"]) == (right["width"], right["height"])
        assert left["width"] <= 64
        if size["width"] > size["height"]:
            assert left["x"] + left["width"] <= right["x"]
        else:
            assert left["y"] + left["height"] <= right["y"]


@pytest.mark.parametrize(
    ("prompt", "question", "fits"),
    [
        ("a small red circle above two blue squares", "Which image fits the text better?", True),
        (LONG_PROMPT, LONG_QUESTION, False),
    ],
)
def test_nothing_lies_over_a_picture_on_any_screen(live_server, page, prompt, question, fits):
    """Both pictures and every answer are on the screen at once; a long text may scroll away."""
    study = world.prepared_study(
        prompts=[prompt, "another"], display_size=512, upscaler="LANCZOS", tie_policy="ALLOWED"
    )
    Criterion.objects.filter(study=study).update(question=question)
    services.open_study(study=study, at=world.NOON)
    page.set_viewport_size(PHONE)
    enter(page, live_server, study)
    if page.locator("#prompt").inner_text() == "another":
        page.keyboard.press("ArrowLeft")
        wait_for_pair(page, "2 of 2")
    for width, height in SCREENS:
        page.set_viewport_size({"width": width, "height": height})
        picture_of(page, f"{'short' if fits else 'long'}-{width}x{height}")
        hidden = page.evaluate("document.documentElement.scrollHeight - innerHeight")
        assert not (fits and hidden > 0), f"{width}x{height}: {hidden} pixels are off the screen"
        page.evaluate("scrollTo(0, 10000)")
        boxes = [box_of(page, place) for place in ("#left-image", "#right-image")]
        assert min(box["height"] for box in boxes) >= 150, f"{width}x{height}: {boxes}"
        boxes += [button.bounding_box() for button in page.locator(".answer").all()]
        boxes.append(page.get_by_role("button", name="I cannot judge").bounding_box())
        assert overlaps(boxes) == [], f"{width}x{height}"
        assert outside(boxes, width, height) == [], f"{width}x{height}"


def overlaps(boxes: Sequence[dict[str, float]]) -> list[tuple[Any, Any]]:
    def apart(one: dict[str, float], other: dict[str, float]) -> bool:
        return any(
            one[start] + one[size] <= other[start] or other[start] + other[size] <= one[start]
            for start, size in (("x", "width"), ("y", "height"))
        )

    return [pair for pair in combinations(boxes, 2) if not apart(*pair)]


def outside(boxes: Sequence[dict[str, float]], width: int, height: int) -> list[dict[str, float]]:
    return [
        box
        for box in boxes
        if min(box["x"], box["y"]) < -0.5
        or box["x"] + box["width"] > width + 0.5
        or box["y"] + box["height"] > height + 0.5
    ]


def test_left_stays_left_in_a_right_to_left_page(live_server, page):
    study = world.open_study()
    enter(page, live_server, study)
    page.evaluate("document.documentElement.dir = 'rtl'")
    left, right = (page.locator(f"#{side}-image").bounding_box() for side in ("left", "right"))
    assert left["x"] < right["x"]
    buttons = [page.get_by_role("button", name=name).bounding_box() for name in ("Left", "Right")]
    assert buttons[0]["x"] < buttons[1]["x"]


def test_no_barrier_that_axe_can_find(live_server, browser):
    study = world.open_study(n_prompts=3, tie_policy="ALLOWED")
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{live_server.url}/s/{study.code}/")
    check_access(page, "landing", FEW)
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Start").click()
    check_access(page, "instructions", FEW)
    page.get_by_role("link", name="Show the first pair").click()
    wait_for_pair(page, "1 of 3")
    page.keyboard.press("ArrowLeft")
    wait_for_pair(page, "2 of 3")
    picture_of(page, "pair")
    check_access(page, "pair")
    page.get_by_role("button", name="I cannot judge this pair").click()
    check_access(page, "way-out", FEW)
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    check_access(page, "help", FEW)
    services.pause_study(study=study, at=world.NOON)
    page.goto(f"{live_server.url}/s/{study.code}/next")
    check_access(page, "paused", FEW)
    services.close_study(study=study, at=world.NOON)
    page.reload()
    check_access(page, "closed", FEW)
    context.close()


def check_access(page: Page, name: str, variants: Sequence[Variant] = VARIANTS) -> None:
    for device, scheme in variants:
        page.set_viewport_size(SIZES[device])
        page.emulate_media(color_scheme=scheme)
        picture_of(page, f"{name}-{device}-{scheme}")
        found = AXE.run(page)
        assert found.violations_count == 0, f"{name}\n{found.generate_report()}"
        sideways = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        assert not sideways, f"{name} scrolls sideways on a {device}"
