"""The files of a report: complete, safe to open, all of one reading, replaced whole."""

import csv
import hashlib
import io
import json
import random
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evalsite.results import documents, tables
from evalsite.results.documents import DOCUMENTS, NotAReport, StudyStillOpen, write_report
from evalsite.stats import Options
from evalsite.studies.models import Comparison, Prompt, Study, System
from evalsite.voting import services
from evalsite.voting.models import Showing
from generation.spec import Recipe
from tests import world
from tests.results import contract
from tests.results.voted import closed_study, preferring
from tests.world import HOUR, NOON

pytestmark = pytest.mark.django_db
LATER = datetime(2025, 7, 1, tzinfo=UTC)
KEYS = ("image_quality", "prompt_following")
BEST_FIRST = ("system-1", "system-0", "system-2")


def noisy(seed: int = 1):
    """A rater who mostly prefers system-1, then system-0."""
    chance, liked = random.Random(seed), preferring(*BEST_FIRST)

    def choose(pair: Showing) -> str:
        return liked(pair) if chance.random() < 0.8 else chance.choice(["LEFT", "RIGHT"])

    return choose


def closed(**options) -> Study:
    """Two criteria, one pair, one prompt, three raters: six votes, unless more are asked for."""
    return closed_study(noisy(), criteria=KEYS, **options)


def closed_with_more() -> Study:
    """Two criteria, three pairs, two prompts, three raters: 36 votes."""
    return closed(n_systems=3, n_prompts=2)


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def report_in(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def test_a_report_keeps_the_contract(tmp_path: Path):
    write_report(closed_with_more(), tmp_path / "report", at=LATER)

    figures = {f"{plot}-{key}.svg" for plot in ("pairs", "ranking") for key in KEYS}
    assert {path.name for path in (tmp_path / "report").iterdir()} == {*DOCUMENTS, *figures}
    report = report_in(tmp_path / "report")
    contract.check(report)
    assert list(report["criteria"]) == ["image_quality", "prompt_following"]
    assert report["study"]["counts"]["n_votes_counted"] == 36
    assert report["settings"]["written_at"] == "2025-07-01T00:00:00.000Z"


def test_the_system_that_raters_prefer_wins_in_every_file(tmp_path: Path):
    """Sides and systems mixed up would show here: the oracle looks at what was on each side."""
    study = closed_study(preferring(*BEST_FIRST), n_systems=3, n_prompts=2, title="All agree")
    write_report(study, tmp_path / "report", at=LATER)

    pairs = report_in(tmp_path / "report")["criteria"]["image_quality"]["pairs"]
    assert [(p["first"], p["second"], p["win_rate"]) for p in pairs] == [
        ("system-0", "system-1", 0.0),
        ("system-0", "system-2", 1.0),
        ("system-1", "system-2", 1.0),
    ]
    html = re.sub(r"<[^>]+>", "", (tmp_path / "report" / "report.html").read_text())
    assert "System 1 is preferred over System 0 in 100% of 6 votes" in html
    for row in rows_of(tmp_path / "report" / "votes.csv"):
        better = min(row["system_a"], row["system_b"], key=BEST_FIRST.index)
        assert row[f"system_{row['winner']}"] == better


def test_the_votes_file_alone_gives_the_same_counts(tmp_path: Path):
    write_report(closed_with_more(), tmp_path / "report", at=LATER)
    won = Counter()
    for row in rows_of(tmp_path / "report" / "votes.csv"):
        loser = {"a": "b", "b": "a"}[row["winner"]]
        won[row["criterion"], row[f"system_{row['winner']}"], row[f"system_{loser}"]] += 1
    for key, criterion in report_in(tmp_path / "report")["criteria"].items():
        for pair in criterion["pairs"]:
            assert pair["wins"] == won[key, pair["first"], pair["second"]]
            assert pair["losses"] == won[key, pair["second"], pair["first"]]


def test_the_input_is_named_by_the_hash_of_the_votes_file(tmp_path: Path):
    write_report(closed(), tmp_path / "report", at=LATER)
    content = (tmp_path / "report" / "votes.csv").read_bytes()
    named = report_in(tmp_path / "report")["settings"]["input_sha256"]
    assert named == hashlib.sha256(content).hexdigest()


def test_ties_are_votes_for_both(tmp_path: Path):
    study = closed_study(lambda pair: "TIE", tie_policy="ALLOWED")
    write_report(study, tmp_path / "report", at=LATER)
    (pair,) = report_in(tmp_path / "report")["criteria"]["image_quality"]["pairs"]
    assert (pair["ties"], pair["win_rate"], pair["win_rate_decided"]) == (3, 0.5, None)
    assert {row["winner"] for row in rows_of(tmp_path / "report" / "votes.csv")} == {"tie"}


def test_a_pair_against_the_baseline_is_planned_and_no_other(tmp_path: Path):
    study = world.prepared_study(
        n_systems=3, criteria=("image_quality",), pairing="BASELINE", baseline="system-1"
    )
    services.open_study(study=study, at=NOON)
    services.close_study(study=study, at=NOON + HOUR)
    write_report(study, tmp_path / "report", at=LATER)
    pairs = report_in(tmp_path / "report")["criteria"]["image_quality"]["pairs"]
    assert [(p["first"], p["second"], p["warnings"]) for p in pairs] == [
        ("system-0", "system-1", ["no votes"]),
        ("system-1", "system-2", ["no votes"]),
    ]


def test_what_was_left_out_is_told_with_its_reason(tmp_path: Path):
    study = closed_with_more()
    rater = study.raters.earliest("pk")
    services.exclude_rater(rater=rater, reason="always the left one", at=NOON + HOUR)
    gone, other = study.prompts.all()[:2]
    Prompt.objects.filter(pk=gone.pk).update(removed_at=NOON, removed_reason="not painted")
    broken = Comparison.objects.filter(first__prompt=other).earliest("pk")
    Comparison.objects.filter(pk=broken.pk).update(removed_at=NOON, removed_reason="half a face")

    write_report(study, tmp_path / "report", at=LATER)

    facts = report_in(tmp_path / "report")["study"]
    assert facts["exclusions"][0]["reason"] == "always the left one"
    assert facts["removed_prompts"][0]["reason"] == "not painted"
    assert facts["removed_comparisons"][0]["reason"] == "half a face"
    counts = facts["counts"]
    # 36 answers; of the other two raters' 24, 12 on the prompt and 4 on the comparison are out.
    assert (counts["n_votes_stored"], counts["n_votes_counted"]) == (36, 8)
    assert counts["n_votes_surplus"] == 28
    html = (tmp_path / "report" / "report.html").read_text()
    for reason in ("always the left one", "not painted", "half a face", "28 votes not counted"):
        assert reason in html


def test_no_file_names_a_folder_of_this_machine(tmp_path: Path):
    study = closed_with_more()
    system, other = study.systems.all()[:2]
    pinned = {"checkpoint": "/srv/anna/models/mine", "revision": f"sha256:{'a' * 64}"}
    System.objects.filter(pk=system.pk).update(recipe=system.recipe | pinned)
    inside = {"unet": "/srv/anna/models/mine/unet", "unet_revision": f"sha256:{'b' * 64}"}
    System.objects.filter(pk=other.pk).update(recipe=other.recipe | pinned | inside)
    why = "no image of system-1: /srv/anna/models/mine/unet is no folder"
    Prompt.objects.filter(study=study, position=0).update(removed_at=NOON, removed_reason=why)

    write_report(study, tmp_path / "report", at=LATER)

    for path in (tmp_path / "report").iterdir():
        assert "anna" not in path.read_text(), path.name
    facts = report_in(tmp_path / "report")["study"]
    told = facts["design"]["systems"][1]["recipe"]
    assert (told["checkpoint"], told["revision"]) == ("mine", pinned["revision"])
    assert (told["unet"], told["unet_revision"]) == ("unet", inside["unet_revision"])
    assert facts["removed_prompts"][0]["reason"] == "no image of system-1: unet is no folder"
    html = (tmp_path / "report" / "report.html").read_text()
    assert pinned["revision"] in html


def test_filters_and_marks_are_told_of_painted_images_and_not_known_of_imported_ones(
    tmp_path: Path,
):
    study = closed_with_more()
    pinned = {"checkpoint": "theirs", "revision": f"sha256:{'a' * 64}"}
    theirs = Recipe(family="imported", **pinned).as_json()
    System.objects.filter(pk=study.systems.all()[0].pk).update(recipe=theirs)
    write_report(study, tmp_path / "report", at=LATER)
    systems = report_in(tmp_path / "report")["study"]["design"]["systems"]
    told = [(one["safety_checker"], one["watermark"]) for one in systems]
    assert told == [(None, None)] + [("off", "off")] * (len(systems) - 1)
    page = (tmp_path / "report" / "report.html").read_text()
    assert "No safety filter blanked a painted image, and none was stamped with a mark. " in page
    assert "What imported images went through before they came is not known." in page


def test_the_design_s_hash_is_that_of_the_frozen_design(tmp_path: Path):
    """As docs/report.md says how to check it, without any code of this project."""
    study = closed()
    write_report(study, tmp_path / "report", at=LATER)
    frozen = Study.objects.get(pk=study.pk).spec
    text = json.dumps(frozen, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    told = report_in(tmp_path / "report")["study"]["spec_sha256"]
    assert told == hashlib.sha256(text.encode()).hexdigest()


def test_people_read_labels_and_programs_keys(tmp_path: Path):
    study = closed_study(
        noisy(),
        n_systems=3,
        n_prompts=2,
        criteria=("fit",),
        pairing="BASELINE",
        baseline="system-1",
    )
    for system in study.systems.all():
        label = "The same name" if system.position else "Sharp & quick"
        System.objects.filter(pk=system.pk).update(label=label)
    broken = Comparison.objects.filter(first__prompt__study=study).earliest("pk")
    Comparison.objects.filter(pk=broken.pk).update(removed_at=NOON, removed_reason="half a face")

    write_report(study, tmp_path / "report", at=LATER)

    html = (tmp_path / "report" / "report.html").read_text()
    without_table = re.sub(r'<table class="systems">.*?</table>', "", html, flags=re.DOTALL)
    # The key only where a label alone would not say which system is meant.
    assert "system-0" not in without_table
    for words in (
        '<span class="ahead">The same name (system-1)</span>',
        '<span class="behind">over Sharp &amp; quick</span>',
        "every system was compared with The same name (system-1)",
        "Sharp &amp; quick against The same name (system-1) on prompt p000",
    ):
        assert words in without_table
    table = html[html.index('<table class="systems">') :]
    assert re.findall(r'<code class="key">([^<]*)</code></th>', table) == [
        "system-0",
        "system-1",
        "system-2",
    ]
    report = report_in(tmp_path / "report")
    assert {pair["first"] for pair in report["criteria"]["fit"]["pairs"]} == {
        "system-0",
        "system-1",
    }
    for name in ("votes.csv", "pairs.csv"):
        assert "The same name" not in (tmp_path / "report" / name).read_text()


def test_raters_appear_under_labels_that_mean_nothing_elsewhere(tmp_path: Path):
    study = closed()
    write_report(study, tmp_path / "report", at=LATER)
    labels = {row["rater_id"] for row in rows_of(tmp_path / "report" / "votes.csv")}
    assert labels == {"r001", "r002", "r003"}
    everything = b"".join(path.read_bytes() for path in (tmp_path / "report").iterdir()).decode()
    codes = [study.code, *study.raters.values_list("code", flat=True)]
    assert [code for code in codes if code in everything] == []


def test_the_page_needs_no_other_file_and_no_script(tmp_path: Path):
    write_report(closed(), tmp_path / "report", at=LATER)
    html = (tmp_path / "report" / "report.html").read_text()
    forbidden = ("http:", "https:", "//", "src=", "url(", "@import", "<script", "<link")
    assert [word for word in forbidden if word in html] == []
    within = set(re.findall(r'href="#([^"]+)"', html))
    assert len(within) == html.count("href=") > 4
    assert within <= set(re.findall(r'id="([^"]+)"', html))
    assert html.count("<circle") == 2  # two criteria, one pair


def test_texts_of_a_study_cannot_bring_markup_into_the_page(tmp_path: Path):
    study = closed(title="<script>alert(1)</script>")
    write_report(study, tmp_path / "report", at=LATER)
    assert "<script" not in (tmp_path / "report" / "report.html").read_text()


@pytest.mark.parametrize("simulated", [True, False])
def test_a_simulated_study_says_so_in_every_file(tmp_path: Path, simulated: bool):
    write_report(closed(simulated=simulated), tmp_path / "report", at=LATER)
    assert report_in(tmp_path / "report")["study"]["simulated"] is simulated
    html = (tmp_path / "report" / "report.html").read_text()
    for word in ("[Simulated]", "Simulated raters", "say nothing about what people prefer"):
        assert (word in html) is simulated
    for name in ("votes.csv", "pairs.csv"):
        cells = {row["simulated"] for row in rows_of(tmp_path / "report" / name)}
        assert cells == {str(simulated).lower()}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1"])
def test_no_cell_is_a_formula(text: str):
    assert tables.cell(text) == f"'{text}"


@pytest.mark.parametrize(
    ("value", "cell"),
    [(-0.25, "-0.25"), (1 / 3, "0.3333333333333333"), (7, "7"), (True, "true"), (None, "")],
)
def test_numbers_stay_numbers(value: float | None, cell: str):
    assert tables.cell(value) == cell


def test_prompts_and_keys_that_begin_like_formulas_are_escaped(tmp_path: Path):
    study = closed()
    Prompt.objects.filter(study=study).update(text='=HYPERLINK("evil")', category="@cat")
    System.objects.filter(study=study, key="system-0").update(key="-system")
    write_report(study, tmp_path / "report", at=LATER)
    lines = (tmp_path / "report" / "votes.csv").read_text().splitlines()[1:]
    cells = [cell for line in csv.reader(lines) for cell in line]
    assert '\'=HYPERLINK("evil")' in cells
    assert [cell for cell in cells if cell.startswith(tables.FORMULA_STARTS)] == []
    assert report_in(tmp_path / "report")["study"]["design"]["systems"][0]["key"] == "-system"


def test_the_same_votes_give_the_same_bytes_but_for_the_time(tmp_path: Path):
    study = closed()
    for name, at in (("one", LATER), ("two", LATER), ("late", LATER + HOUR)):
        write_report(study, tmp_path / name, at=at)
    for name in DOCUMENTS:
        one, two, late = ((tmp_path / run / name).read_bytes() for run in ("one", "two", "late"))
        assert one == two
        assert one == late.replace(
            b"2025-07-01T01:00:00.000Z", b"2025-07-01T00:00:00.000Z"
        ).replace(b"Read 2025-07-01 01:00 UTC", b"Read 2025-07-01 00:00 UTC")


@pytest.mark.parametrize("state", ["DRAFT", "OPEN", "PAUSED"])
def test_a_study_that_is_not_closed_has_no_report(tmp_path: Path, state: str):
    study = world.prepared_study()
    if state != "DRAFT":
        services.open_study(study=study, at=NOON)
        world.vote(world.showing(world.rater(study)))
    if state == "PAUSED":
        services.pause_study(study=study, at=NOON)
    with pytest.raises(
        StudyStillOpen, match=f"{study.slug} is {state.lower()}: .* once it is closed"
    ):
        write_report(study, tmp_path / "report", at=LATER)
    assert not (tmp_path / "report").exists()


def test_an_earlier_report_is_replaced_whole(tmp_path: Path):
    study = closed()
    out = tmp_path / "deep" / "report"
    write_report(study, out, at=LATER)
    (out / "pairs.csv").unlink()
    write_report(study, out, at=LATER, options=Options(fixed_prompts=True))
    assert report_in(out)["settings"]["options"]["fixed_prompts"] is True
    assert set(DOCUMENTS) < {path.name for path in out.iterdir()}
    assert [path.name for path in out.parent.iterdir()] == ["report"]


def test_a_folder_with_other_things_is_never_replaced(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(NotAReport, match=r"expected an empty folder .* found thesis\.tex"):
        write_report(closed(), tmp_path, at=LATER)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_file_in_the_way_is_named(tmp_path: Path):
    (tmp_path / "report").write_text("x")
    with pytest.raises(NotAReport, match="expected a folder, found a file"):
        write_report(closed(), tmp_path / "report", at=LATER)


def test_a_report_that_fails_leaves_the_earlier_one(tmp_path: Path, monkeypatch):
    study = closed()
    write_report(study, tmp_path / "report", at=LATER)
    before = report_in(tmp_path / "report")

    def fail(report: documents.Report) -> bytes:
        raise OSError("disk full")

    monkeypatch.setitem(documents.DOCUMENTS, "report.html", ("text/html", fail))
    with pytest.raises(OSError, match="disk full"):
        write_report(study, tmp_path / "report", at=LATER + HOUR)
    assert report_in(tmp_path / "report") == before
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("text", ["=x", "'=x", "''=x", "'x", "-1", "x", ""])
def test_a_cell_gives_back_the_text_that_it_was_written_for(text: str):
    assert tables.text_in(tables.cell(text)) == text
