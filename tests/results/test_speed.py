"""The speed axis of a report: what was measured where, and what may be drawn together."""

import csv
import io
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from django.contrib.auth.models import User
from django.test import Client

from evalsite.results import charts, imported, wording
from evalsite.results.documents import Report, page_context, read_report, write_report
from evalsite.results.speed import SpeedFigure
from evalsite.studies.models import Study, System
from tests import world
from tests.results import contract
from tests.results.voted import closed_study, preferring, time_systems
from tests.world import HOUR, NOON

pytestmark = pytest.mark.django_db
LIKED = preferring("system-1", "system-0", "system-2")
CARD = {"device": "a card", "options": "graphs,compile"}


def closed(**options: Any) -> Study:
    return closed_study(LIKED, **{"n_systems": 3} | options)


def read(study: Study) -> Report:
    return read_report(study, at=NOON + 2 * HOUR)


def figure(study: Study) -> SpeedFigure | None:
    drawn: SpeedFigure | None = page_context(read(study))["speed"]
    return drawn


def test_a_report_says_how_long_each_system_takes_and_where(tmp_path: Path):
    study = closed()
    time_systems(study, 4321.5, 51.25, batch_size=16, images_per_s=75.5, **CARD)
    time_systems(study, 61234.5, n_paints=1)
    write_report(study, tmp_path / "report", at=NOON)

    report = json.loads((tmp_path / "report" / "report.json").read_text())
    contract.check(report)
    rows = report["study"]["latencies"]
    assert [(row["system"], row["device"], row["latency_ms"]) for row in rows] == [
        ("system-0", "a card", 4321.5),
        ("system-0", "paper", 61234.5),
        ("system-1", "a card", 51.25),
    ]
    assert rows[2] == {
        "system": "system-1",
        "device": "a card",
        "options": ["graphs", "compile"],
        "latency_ms": 51.25,
        "n_paints": 5,
        "batch_size": 16,
        "images_per_s": 75.5,
        "versions": {"torch": "2.11"},
        "measured_at": "2025-06-02T12:00:00.000Z",
    }
    table = io.StringIO((tmp_path / "report" / "latencies.csv").read_text())
    lines = [(row["system"], row["options"], row["latency_ms"]) for row in csv.DictReader(table)]
    assert lines == [
        ("system-0", "graphs; compile", "4321.5"),
        ("system-0", "", "61234.5"),
        ("system-1", "graphs; compile", "51.25"),
        ("system-2", "", ""),
    ]
    words = re.sub(r"<[^>]+>", "", (tmp_path / "report" / "report.html").read_text())
    assert "51.2 ms a card, graphs, compile; 2025-06-02" in words
    assert "61.2 s paper; 2025-06-02" in words
    assert "not measured" in words


def test_a_recipe_timed_for_one_study_is_timed_for_all_and_for_those_closed_before():
    before, after = closed(), closed()
    assert read(before).data["study"]["latencies"] == []
    time_systems(after, 100, at=NOON + HOUR)
    assert [row["system"] for row in read(before).data["study"]["latencies"]] == ["system-0"]


def test_of_a_device_s_latencies_the_last_is_told():
    """Another version of the libraries is timed anew."""
    study = closed()
    time_systems(study, 90, at=NOON + HOUR, versions={"torch": "2.13"})
    time_systems(study, 100, versions={"torch": "2.11"})
    time_systems(study, 80, device="parchment")
    rows = read(study).data["study"]["latencies"]
    assert [(row["device"], row["latency_ms"]) for row in rows] == [
        ("paper", 90),
        ("parchment", 80),
    ]


def test_only_a_timed_pace_is_told():
    study = closed()
    time_systems(study, None, n_paints=0, at=None, batch_size=8)
    assert read(study).data["study"]["latencies"] == []


def test_what_is_drawn_needs_two_systems_timed_alike():
    study = closed()
    time_systems(study, 4000, **CARD)
    assert figure(study) is None
    time_systems(study, 0, 30, device="another card")
    time_systems(study, 0, 20, device="a card")  # with no options
    assert figure(study) is None
    time_systems(study, 0, 40, **CARD)
    drawn = figure(study)
    assert drawn is not None
    assert drawn.device == "a card, graphs, compile"
    assert [(line.name, line.latency) for line in drawn.lines] == [
        ("System 1", "40 ms"),
        ("System 0", "4 s"),
    ]


def test_of_several_devices_that_is_drawn_which_most_systems_were_timed_on_then_the_last():
    study = closed()
    time_systems(study, 1, 2, at=NOON + HOUR, device="new card")
    time_systems(study, 1, 2, device="an old card")
    assert figure(study).device == "new card"
    time_systems(study, 1, 2, 3, device="every card")
    assert figure(study).device == "every card"


def test_a_point_stands_where_its_numbers_say():
    study = closed(criteria=("image_quality", "prompt_following"))
    time_systems(study, 1000, 10, 100)
    drawn = figure(study)
    assert [panel.key for panel in drawn.panels] == ["image_quality", "prompt_following"]
    fast, middle, slow = drawn.panels[0].points
    assert middle.x == pytest.approx((fast.x + slow.x) / 2, abs=0.01)  # a factor of ten each
    assert fast.x < middle.x < slow.x
    assert [point.y for point in (fast, middle, slow)] == [0, 100, 50]  # liked best, least, between
    for point in (fast, middle, slow):
        assert 0 <= point.top <= point.y <= point.bottom <= 100
    system = read(study).data["criteria"]["image_quality"]["systems"][0]
    assert (slow.top, slow.bottom) == (
        pytest.approx(100 - 100 * system["high"], abs=0.01),
        pytest.approx(100 - 100 * system["low"], abs=0.01),
    )
    low, high = system["low"], system["high"]
    assert drawn.lines[2].shares[0] == (
        "Image quality",
        f"50% ({wording.interval_text(low, high)})",
    )


def test_points_of_nearly_the_same_latency_stand_side_by_side(client: Client):
    keys = [f"system-{n}" for n in range(6)]
    study = closed_study(preferring(*keys), n_systems=6)
    time_systems(study, 3150, 207.1, 209.4, 211, 540, 61_234)
    drawn = figure(study)
    points = drawn.panels[0].points
    assert points[2].x - points[0].x < 1, "each keeps the place of its latency"
    for width in (charts.NARROWEST, 270, 520):  # of the plot, on phones and on a desk
        centres = [width * point.x / 100 + point.shift for point in points]
        assert min(after - before for before, after in pairwise(centres)) > 20  # a point is 20 wide
        assert centres[0] > 0
        assert centres[-1] < width
    client.force_login(User.objects.create_user("staff", is_staff=True))
    said = "Points of nearly the same latency stand side by side"
    assert said in client.get(f"/studies/{study.slug}/").content.decode()

    apart = closed()
    time_systems(apart, 10, 100, 1000, device="another", at=NOON + HOUR)
    assert {point.shift for point in figure(apart).panels[0].points} == {0}
    assert said not in client.get(f"/studies/{apart.slug}/").content.decode()


@pytest.mark.parametrize(
    ("places", "shifts"),
    [
        ([], ()),
        ([50], (0,)),
        ([20, 50, 80], (0, 0, 0)),
        ([50, 50], (-11, 11)),
        ([50, 50, 51], (-21.3, 0.7, 20.7)),  # around their mean, 100.7 pixels
        ([4, 4, 30], (0, 22, 0)),  # not over the edge
        ([96, 96], (-22, 0)),
        ([50] * 9, (-88, -66, -44, -22, 0, 22, 44, 66, 88)),
        ([50] * 24, tuple(8 * n - 92 for n in range(24))),  # closer, where they would not fit
    ],
)
def test_crowded_points_move_no_more_than_they_must(places, shifts):
    assert charts.side_by_side(places) == pytest.approx(shifts, abs=0.06)


def test_a_system_without_votes_is_listed_and_not_drawn():
    study = world.open_study(n_systems=2, criteria=("fit",))
    world.services.close_study(study=study, at=NOON + HOUR)
    time_systems(study, 10, 20)
    drawn = figure(study)
    assert drawn.panels[0].points == ()
    assert [line.shares for line in drawn.lines] == [(("Fit", "–"),)] * 2


def test_each_drawing_is_a_file_of_its_own(tmp_path: Path):
    study = closed(criteria=("image_quality", "fit"))
    System.objects.filter(study=study, key="system-1").update(label="Sharp & <quick>")
    time_systems(study, 1000, 10)
    for _ in range(2):  # the second replaces the first
        write_report(study, tmp_path / "report", at=NOON)
    names = {path.name for path in (tmp_path / "report").glob("latency-*.svg")}
    assert names == {"latency-image_quality.svg", "latency-fit.svg"}
    drawn = ElementTree.parse(tmp_path / "report" / "latency-fit.svg")
    texts = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert "1  Sharp & <quick>: 10 ms, 100% (" in "\n".join(map(str, texts))
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}circle"))) == 2


def test_the_same_latencies_give_the_same_bytes():
    study = closed()
    time_systems(study, 10, 20, 30)
    assert read(study).data == read(study).data


def test_votes_from_elsewhere_have_no_speed():
    assert "latencies.csv" not in imported.FILES


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([51.2, 117], (50, 100, 200)),
        ([10, 100], (10, 20, 50, 100)),
        ([50, 50], (50, 100)),
        ([0.3, 0.9], (0.2, 0.5, 1)),
        ([23, 4300], (100, 1000)),  # from 20 to 5000
        ([20, 100_000], (100, 1000, 10_000, 100_000)),
        ([207], (200, 500)),
    ],
)
def test_an_axis_has_round_ticks_around_all_values(values, ticks):
    axis = charts.log_axis(values)
    assert axis.ticks == pytest.approx(ticks)
    assert all(4 <= axis.place(value) <= 96 for value in values)
    assert all(4 <= axis.place(tick) <= 96 for tick in axis.ticks)
    assert (axis.place(axis.low), axis.place(axis.high)) == (4, 96)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (8.444, "8.44 ms"),
        (51.2, "51.2 ms"),
        (207.4, "207 ms"),
        (999.4, "999 ms"),
        (999.6, "1 s"),
        (4321.5, "4.32 s"),
        (61_234, "61.2 s"),
        (99_960, "100 s"),
        (1_234_567, "1,235 s"),
    ],
)
def test_a_latency_is_told_to_three_digits(ms, text):
    assert wording.duration_text(ms) == text
