"""A study's report made again from its files alone: votes.csv, report.json and the study file."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from evalsite.results.documents import write_report
from evalsite.stats import Options
from evalsite.studies.models import Study, System
from evalsite.voting import services
from evalsite.voting.models import Showing
from tests import world
from tests.results import contract
from tests.results.voted import BETTER, KEY, answer, declaring, mostly
from tests.studies.files import write_toml
from tests.world import HOUR, NOON

pytestmark = pytest.mark.django_db
TOLD_BY_VOTES = ("criteria", "raters", "elo_as_in_add", "declared_claims", "looks")


def any_choice(pair: Showing) -> str:
    """Not the same for everybody, nor on every pair, and a tie now and then."""
    assert pair.comparison is not None
    return ["LEFT", "RIGHT", "LEFT", "TIE", "RIGHT"][(7 * pair.comparison.pk + pair.rater_id) % 5]


def study_with_all_that_happens(looks: Any) -> tuple[Study, list[dict[str, Any]]]:
    """Closed: three systems that do not stand in alphabetical order, two criteria, ties; a vote
    taken back, a rater excluded, a prompt that left, an answer that came too late to count."""
    claims = [
        {"kind": "superiority", "first": "zebra", "second": "ant", "criterion": KEY},
        {"kind": "non_inferiority", "first": "moth", "second": "zebra", "criterion": "fit"},
        {"kind": "equivalence", "first": "moth", "second": "ant", "criterion": KEY},
    ]
    margins = (None, 0.2, 0.3)
    study = world.prepared_study(
        n_systems=3, n_prompts=4, criteria=("fit", KEY), votes_per_comparison=4, looks=looks,
        tie_policy="ALLOWED",
        claims=[claim | {"margin": margin} for claim, margin in zip(claims, margins, strict=True)],
    )  # fmt: skip
    for position, key in enumerate(("zebra", "moth", "ant")):
        System.objects.filter(study=study, position=position).update(key=key)
    for position in range(4):
        kind = {
            "category": ["warm", "cold"][position % 2],
            "challenge": ["=hard", "easy"][position // 2],
        }
        study.prompts.filter(position=position).update(**kind)
    services.open_study(study=study, at=NOON)  # 96 votes planned
    answer(study, 20, any_choice)
    last = Showing.objects.latest("pk")
    world.vote(last, "RIGHT", take=2)
    answer(study, 10, any_choice)
    services.exclude_rater(rater=study.raters.latest("pk"), reason="asleep", at=NOON)
    answer(study, 30, any_choice)
    study.prompts.filter(position=2).update(removed_at=NOON, removed_reason="a typo")
    answer(study, 12, any_choice)
    answer(study, 4, any_choice)  # 76, of which the last ones count for nothing but the look at 79%
    services.withdraw_rater(rater=study.raters.latest("pk"), at=NOON)
    late = world.showing(world.rater(study))
    services.close_study(study=study, at=NOON + HOUR)
    world.vote(late, "LEFT", at=NOON + 2 * HOUR)
    return study, [
        {name: value for name, value in claim.items() if value is not None}
        for claim in study.claims
    ]


def own_report(study: Study, out: Path, **options: Any) -> dict[str, Any]:
    write_report(study, out, at=NOON, options=Options(**options))
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def recompute(folder: Path, out: Path, *options: str) -> tuple[dict[str, Any], str]:
    """From the votes and the report of a folder, by command line."""
    said = io.StringIO()
    files = (str(folder / "votes.csv"), "--report", str(folder / "report.json"))
    call_command("analyze_votes", *files, "--out", str(out), *options, stdout=said)
    report = json.loads((out / "report.json").read_text())
    contract.check(report)
    return report, said.getvalue()


@pytest.mark.parametrize(
    ("looks", "n_taken"),
    [
        ({"at": [0.25, 0.5, 0.79]}, 3),
        ({"at": [0.79]}, 1),
        ({"at": [0.9]}, 1),
        ({"at": "any_time"}, 1),
        (None, 0),
    ],
)
def test_a_study_s_own_files_give_its_report_again_to_the_last_digit(
    tmp_path: Path, looks: Any, n_taken: int
):
    study, claims = study_with_all_that_happens(looks or {})
    report = own_report(study, tmp_path / "own")
    if looks:
        assert len(report["looks"]["taken"]) == n_taken
    file = {"title": "Any", "claims": claims} | ({"looks": looks} if looks else {})
    path = write_toml(tmp_path / "study.toml", file)
    again, said = recompute(tmp_path / "own", tmp_path / "again", "--claims", str(path))
    assert again["study"] is None
    for part in TOLD_BY_VOTES:
        assert again[part] == report[part], part
    if looks and looks["at"] == [0.25, 0.5, 0.79]:
        assert "taken at 25% (" in said


def test_another_reading_and_any_order_of_rows_are_recomputed_too(tmp_path: Path):
    study, _ = study_with_all_that_happens({"at": [0.5]})
    reading = {"confidence": 0.9, "fixed_prompts": True, "ties": "drop"}
    report = own_report(study, tmp_path / "own", **reading)
    votes = tmp_path / "own" / "votes.csv"
    head, *rows = votes.read_text().splitlines()
    votes.write_text("\n".join([head, *rows[::-1]]))
    again, said = recompute(
        tmp_path / "own", tmp_path / "again",
        "--confidence", "0.9", "--fixed-prompts", "--ties", "drop",
    )  # fmt: skip
    assert again["looks"] == report["looks"]  # without a file of claims, looks at none
    assert again["declared_claims"] == []
    assert "report.json is of other votes than these" in " ".join(said.split())


def closed_with_looks(**options: Any) -> Study:
    study = declaring(looks={"at": [0.5]}, **options)
    answer(study, 24, mostly(0.75))
    return services.close_study(study=study, at=NOON + HOUR)


def test_a_simulated_study_is_recomputed_as_one(tmp_path: Path):
    report = own_report(closed_with_looks(simulated=True), tmp_path / "own")
    claims = write_toml(tmp_path / "study.toml", STUDY_FILE)
    again, _ = recompute(tmp_path / "own", tmp_path / "again", "--claims", str(claims))
    assert report["settings"]["n_simulated"] == again["settings"]["n_simulated"] == 24
    for name in ("pairs.csv", "systems.csv", "claims.csv", "slices.csv"):
        assert (tmp_path / "own" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    notice = "<strong>Simulated.</strong> The raters of this study are programs."
    for folder in ("own", "again"):
        page = (tmp_path / folder / "report.html").read_text()
        assert notice in page
        assert "<title>[Simulated] " in page


STUDY_FILE = {"title": "Any", "claims": [BETTER], "looks": {"at": [0.5]}}


def refused(folder: Path, *options: str) -> str:
    with pytest.raises(CommandError) as caught:
        call_command(
            "analyze_votes", str(folder / "votes.csv"), "--out", str(folder / "again"), *options
        )
    assert not (folder / "again").exists()
    return str(caught.value)


def test_looks_without_the_study_s_report_are_refused(tmp_path: Path):
    own_report(closed_with_looks(), tmp_path)
    claims = write_toml(tmp_path / "study.toml", STUDY_FILE)
    told = refused(tmp_path, "--claims", str(claims))
    assert told.startswith("study.toml: [looks]: expected the study's own report.json beside it")


@pytest.mark.parametrize(
    ("at", "in_report", "problem"),
    [
        ([0.4], {"at": [0.5]}, "study.toml: [looks], at: expected [0.5] as in report.json, found"),
        ([0.5], {}, "study.toml: [looks], at: expected none as in report.json, found [0.5]"),
        ([1.5], {"at": [0.5]}, "study.toml: [looks], at: expected"),
    ],
)
def test_looks_other_than_those_of_the_study_are_refused(
    tmp_path: Path, at: Any, in_report: Any, problem: str
):
    study = declaring(looks=in_report)
    answer(study, 24, mostly(0.75))
    services.close_study(study=study, at=NOON + HOUR)
    own_report(study, tmp_path)
    claims = write_toml(tmp_path / "study.toml", STUDY_FILE | {"looks": {"at": at}})
    files = ("--claims", str(claims), "--report", str(tmp_path / "report.json"))
    assert refused(tmp_path, *files).startswith(problem)


def test_every_field_that_a_report_lacks_is_named(tmp_path: Path):
    report = own_report(closed_with_looks(), tmp_path)
    path = tmp_path / "report.json"
    for name in ("n_given", "tightest_at"):
        del report["looks"][name]
    report["looks"]["n_planned"] = "forty"
    report["study"]["design"]["systems"][1] = {}
    path.write_text(json.dumps(report))
    assert refused(tmp_path, "--report", str(path)).splitlines() == [
        "report.json: study.design.systems.1.key: expected a key, found nothing",
        "report.json: looks.n_planned: expected a whole number: votes planned when the study "
        'opened, found "forty"',
        "report.json: looks.tightest_at: expected a number above 0: votes planned for one pair, "
        "found nothing",
        "report.json: looks.n_given: expected a whole number: answers given before it closed, "
        "found nothing",
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "report.json: cannot be read: No such file or directory"),
        ("{", "report.json: line 1, column 2: expected JSON: "),
        ("[" * 100_000, "report.json: expected a report's JSON: "),
        (f'{{"a": {"9" * 5000}}}', "report.json: expected a report's JSON: "),
        ("[]", "report.json: expected a study's report.json, an object"),
        (b"\xff", "report.json: expected UTF-8 text"),
        (
            '{"study": null, "settings": {"input_sha256": ""}, "looks": null}',
            "report.json: study: expected what was asked, as in the report of a study, found null",
        ),
    ],
)
def test_what_is_no_report_of_a_study_is_refused(tmp_path: Path, content: Any, problem: str):
    own_report(closed_with_looks(), tmp_path)
    path = tmp_path / "report.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert refused(tmp_path, "--report", str(path)).startswith(problem)


def test_votes_of_another_study_are_refused(tmp_path: Path):
    own_report(closed_with_looks(), tmp_path)
    votes, path = tmp_path / "votes.csv", str(tmp_path / "report.json")
    text = votes.read_text()
    votes.write_text(text.replace("system-1", "bee").replace(KEY, "fit"))
    assert refused(tmp_path, "--report", path).splitlines() == [
        f"votes.csv: criterion: expected one of {KEY} as in report.json, found fit",
        "votes.csv: system_a or system_b: expected one of system-0, system-1 as in report.json, "
        "found bee",
    ]
    votes.write_text(text.replace(",24,false", ",25,false"))
    told = "votes.csv: n_given: expected at most 24 as in report.json (looks.n_given), found 25"
    assert refused(tmp_path, "--report", path) == told
    votes.write_text(text.replace(",24,false", ",many,false"))
    told = "votes.csv: line 25: n_given: expected a whole number of at least 1, found many"
    assert refused(tmp_path, "--report", path) == told
    votes.write_text(text.replace("n_given", "order"))
    assert refused(tmp_path, "--report", path).startswith("votes.csv: no column n_given; found")


def test_one_criterion_of_a_study_is_refused_beside_its_report(tmp_path: Path):
    own_report(closed_with_looks(), tmp_path)
    told = refused(tmp_path, "--report", str(tmp_path / "report.json"), "--criterion", KEY)
    assert told.startswith("report.json: expected every criterion of the study, found --criterion")
