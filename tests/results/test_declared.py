"""What was declared before the votes: claims and their verdicts, and looks at an open study."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from evalsite.results.declared import verdict_text
from evalsite.results.documents import DOCUMENTS, write_report
from evalsite.results.wording import interval_text
from evalsite.stats import (
    Declared,
    Look,
    Options,
    Verdict,
    anytime_interval,
    judge,
    look_interval,
    pair_win_rates,
    spending_boundaries,
)
from evalsite.studies.models import Study
from evalsite.voting import services
from evalsite.voting.models import Vote
from tests import world
from tests.results import contract
from tests.results.voted import (
    AS_GOOD,
    BETTER,
    CLAIMS,
    EQUAL,
    KEY,
    answer,
    closed_study,
    declaring,
    mostly,
    preferring,
)
from tests.studies.files import write_toml
from tests.world import HOUR, NOON

pytestmark = pytest.mark.django_db


def report_of(study: Study, out: Path, **options: Any) -> dict[str, Any]:
    write_report(study, out, at=NOON, options=Options(**options))
    report = json.loads((out / "report.json").read_text())
    contract.check(report)
    return report


def table_of(rows: list[dict[str, str]]) -> dict[Any, Any]:
    """Win rates from lines of votes.csv, by nothing but the arithmetic."""
    number = {"system-0": 0, "system-1": 1}
    found = pair_win_rates(
        [number[row["system_a"]] for row in rows],
        [number[row["system_b"]] for row in rows],
        [{"a": 1.0, "b": 0.0, "tie": 0.5}[row["winner"]] for row in rows],
        [row["rater_id"] for row in rows],
        [row["prompt_id"] for row in rows],
        pairs=[(0, 1)],
    )
    return {(KEY, pair): rate for pair, rate in found.items()}


def votes_in(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "votes.csv").read_text())))


DECLARED = [
    Declared("superiority", KEY, 1, 0),
    Declared("non_inferiority", KEY, 1, 0, 0.1),
    Declared("equivalence", KEY, 1, 0, 0.2),
]


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(User.objects.create_user("staff", is_staff=True))
    return client


def page_of(staff: Client, study: Study) -> str:
    return words(staff.get(f"/studies/{study.slug}/").content.decode())


# Claims


def test_a_declared_claim_gets_its_verdict_in_every_file(tmp_path: Path, staff: Client):
    study = declaring()
    answer(study, 40, mostly(0.85))
    services.close_study(study=study, at=NOON + HOUR)
    found = report_of(study, tmp_path / "out")["declared_claims"]
    assert [claim["kind"] for claim in found] == ["superiority", "non_inferiority", "equivalence"]
    assert [claim["shown"] for claim in found] == [True, True, False]
    (row, *_) = rows = list(
        csv.DictReader(io.StringIO((tmp_path / "out" / "declared_claims.csv").read_text()))
    )
    assert len(rows) == 3
    assert (row["criterion"], row["first"], row["shown"]) == (KEY, "system-1", "true")
    assert float(row["p_holm"]) == found[0]["p_holm"]
    for text in (page_of(staff, study), words((tmp_path / "out" / "report.html").read_text())):
        assert "System 1 is preferred over System 0. Shown." in text
        assert "p is adjusted over these claims alone." in text
        assert (
            "System 1 is as good as System 0, to within 10 points: preferred in more than 40% of "
            "votes. Shown." in text
        )
        assert (
            "System 1 and System 0 are equally good, to within 20 points: System 1 is preferred "
            "in 30 to 70% of votes. Not shown: its interval is not wholly within 30 to 70%." in text
        )
        assert "3 claims declared before the study opened." in text
        assert text.index("Shown.") < text.rindex("What the votes say")


def test_the_votes_and_the_claims_alone_give_the_same_verdicts(tmp_path: Path):
    study = declaring()
    answer(study, 30, mostly(0.6))
    services.close_study(study=study, at=NOON + HOUR)
    report = report_of(study, tmp_path / "out")
    by_hand = judge(DECLARED, [Look(1.0, table_of(votes_in(tmp_path / "out")))])
    for claim, verdict in zip(report["declared_claims"], by_hand, strict=True):
        assert claim["p_value"] == pytest.approx(verdict.p_value, rel=1e-9)
        assert claim["p_holm"] == pytest.approx(verdict.p_holm, rel=1e-9)
        assert (claim["low"], claim["high"]) == pytest.approx((verdict.low, verdict.high))
    claims = write_toml(tmp_path / "claims.toml", {"claims": [BETTER, AS_GOOD, EQUAL]})
    analyze(tmp_path / "out" / "votes.csv", tmp_path / "again", "--claims", str(claims))
    again = json.loads((tmp_path / "again" / "report.json").read_text())
    assert len(again["declared_claims"]) == 3
    for one, other in zip(report["declared_claims"], again["declared_claims"], strict=True):
        numbers = {name: value for name, value in one.items() if isinstance(value, float)}
        assert {name: other[name] for name in numbers} == pytest.approx(numbers, rel=1e-9)
        assert {**other, **numbers} == one


def test_claims_are_judged_as_they_stood_when_the_study_opened(tmp_path: Path):
    study = declaring()
    answer(study, 8, mostly(0.5))
    Study.objects.update(claims=[], looks={"at": "any_time"})  # past the front door
    services.close_study(study=study, at=NOON + HOUR)
    report = report_of(Study.objects.get(), tmp_path / "out")
    assert len(report["declared_claims"]) == 3
    assert report["looks"] is None


def test_another_reading_is_told_from_the_declared_one(staff: Client):
    study = closed_study(mostly(0.7), claims=CLAIMS, tie_policy="ALLOWED")
    told = "These verdicts are of another reading than the usual one"
    assert told not in page_of(staff, study)
    assert told in words(staff.get(f"/studies/{study.slug}/?ties=drop").content.decode())


def test_a_margin_and_a_small_confidence_are_refused_together():
    study = closed_study(mostly(0.7), claims=[AS_GOOD])
    with pytest.raises(CommandError, match=r"confidence above 0\.5, not 0\.4"):
        call_command("study", "report", study.slug, "--confidence", "0.4")


@pytest.mark.parametrize(
    ("kind", "limits", "shown", "text"),
    [
        ("superiority", (0.51, 0.7), True, "Shown."),
        ("superiority", (0.49, 0.7), True, "Shown, by its interval at an earlier look."),
        ("superiority", (0.51, 0.7), False, "Not shown once adjusted for all claims declared."),
        ("superiority", (0.49, 0.7), False, "Not shown: its interval is not wholly above 50%."),
        ("superiority", (0.2, 0.4), False, "Not shown: no part of its interval lies above 50%."),
        ("non_inferiority", (0.46, 1.0), True, "Shown."),
        ("non_inferiority", (0.44, 0.6), False, "Not shown: its interval is not wholly above 45%."),
        ("equivalence", (0.46, 0.54), True, "Shown."),
        ("equivalence", (0.46, 0.56), False, "Not shown: its interval is not wholly within 45 to"),
        ("equivalence", (0.6, 0.9), False, "Not shown: no part of its interval lies within 45 to"),
    ],
)
def test_a_verdict_says_by_what(kind: Any, limits: Any, shown: bool, text: str):
    claim = Declared(kind, KEY, 0, 1, None if kind == "superiority" else 0.05)
    verdict = Verdict(claim, None, 0.95, *limits, p_value=0.04, p_holm=0.04, shown=shown)
    assert verdict_text(verdict).startswith(text)
    later = text.replace("Not shown", "Not shown so far")
    assert verdict_text(verdict, so_far=True).startswith(later)


# Claims about votes from elsewhere


def analyze(votes: Path, out: Path, *options: str) -> str:
    said = io.StringIO()
    call_command("analyze_votes", str(votes), "--out", str(out), *options, stdout=said)
    return said.getvalue()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"claims": [BETTER | {"first": "bee"}]}, "[[claims]] number 1, first: expected the key"),
        ({"claims": [BETTER | {"criterion": "x"}]}, "[[claims]] number 1, criterion: expected one"),
        ({"claims": [BETTER | {"kind": "best"}]}, "[[claims]] number 1, kind: expected"),
        ({"title": "none"}, "[[claims]]: expected at least one [[claims]], found nothing"),
        (
            {"claims": [BETTER], "looks": {"at": "any_time"}},
            "[looks]: expected the study's own report.json",
        ),
    ],
)
def test_claims_that_the_votes_cannot_bear_are_refused(tmp_path: Path, content: Any, problem: str):
    votes = tmp_path / "votes.csv"
    votes.write_text(f"criterion,system_a,system_b,winner\n{KEY},system-0,system-1,a\n")
    claims = write_toml(tmp_path / "claims.toml", content)
    with pytest.raises(CommandError) as caught:
        analyze(votes, tmp_path / "out", "--claims", str(claims))
    assert str(caught.value).startswith(f"claims.toml: {problem}")
    assert not (tmp_path / "out").exists()


def test_a_whole_study_file_may_name_the_claims(tmp_path: Path):
    votes = tmp_path / "votes.csv"
    rows = ["criterion,system_a,system_b,winner", *[f"{KEY},system-0,system-1,b"] * 40]
    votes.write_text("\n".join(rows))
    claims = write_toml(tmp_path / "study.toml", {"title": "A study", "claims": [BETTER]})
    said = analyze(votes, tmp_path / "out", "--claims", str(claims))
    assert "system-1 is preferred over system-0. Shown." in said
    assert (
        "1 claim declared in a file of their own" in (tmp_path / "out" / "report.html").read_text()
    )


# Looks at an open study


TELLING = ("%", "preferred", "<svg", "win rate", "system 0")


def test_before_its_first_look_a_study_tells_nothing(staff: Client):
    study = declaring(looks={"at": [0.5]})
    answer(study, 19, mostly(0.9))
    html = staff.get(f"/studies/{study.slug}/").content.decode()
    text = words(html)
    assert "Results may be read once 50% of the planned votes are in." in text
    assert "The next look is at 20 votes." in text
    assert [word for word in TELLING if word in html.lower().replace("once 50%", "")] == []
    for name in DOCUMENTS:
        assert staff.get(f"/studies/{study.slug}/{name}").status_code == 409


def test_a_look_shows_its_own_votes_at_its_boundary_until_the_next(staff: Client):
    study = declaring(looks={"at": [0.5, 0.75]})
    answer(study, 20, mostly(0.9))
    seen = page_of(staff, study)
    assert "The first 20 votes that count: those that were in when 50% of the planned votes" in seen
    assert "The next look is at 30 votes." in seen
    # By hand: the first twenty votes, at the boundary of a first look at one half.
    rate = table_of([row_of(vote) for vote in Vote.objects.order_by("pk")])[KEY, (0, 1)]
    (boundary,) = spending_boundaries([0.5])
    limits = look_interval(rate, boundary)
    assert limits.low is not None
    assert limits.high is not None
    assert interval_text(1 - limits.high, 1 - limits.low) in seen
    assert rate.low is not None
    assert rate.high is not None
    assert interval_text(1 - rate.high, 1 - rate.low) not in seen  # never that of a closed study
    answer(study, 9, mostly(0.1))
    later = page_of(staff, study)
    assert later.split("The last look")[1] == seen.split("The last look")[1]
    answer(study, 1, mostly(0.1))
    assert "The first 30 votes that count" in page_of(staff, study)
    for name in DOCUMENTS:
        assert staff.get(f"/studies/{study.slug}/{name}").status_code == 409


def row_of(vote: Vote) -> dict[str, str]:
    """One stored vote as votes.csv would have it."""
    showing = vote.showing
    first, second = "system-0", "system-1"
    left, right = (first, second) if showing.first_on_left else (second, first)
    assert showing.comparison is not None
    return {
        "system_a": left,
        "system_b": right,
        "winner": {"LEFT": "a", "RIGHT": "b", "TIE": "tie"}[vote.choice],
        "rater_id": str(showing.rater_id),
        "prompt_id": str(showing.comparison.first.prompt_id),
    }


def test_a_look_once_taken_stays_taken_whoever_is_excluded(staff: Client):
    study = declaring(looks={"at": [0.5]})
    answer(study, 20, mostly(0.9))
    services.exclude_rater(rater=study.raters.earliest("pk"), reason="asleep", at=NOON)
    seen = page_of(staff, study)
    assert "The first 12 votes that count: those that were in when 50%" in seen
    assert "The next look" not in seen
    answer(study, 4, mostly(0.1))  # others fill the place: these votes are none of that look
    assert "The first 12 votes that count: those that were in when 50%" in page_of(staff, study)


def remove_prompts(study: Study, positions: list[int]) -> None:
    prompts = study.prompts.filter(position__in=positions)
    prompts.update(removed_at=NOON, removed_reason="a typo")


def test_what_leaves_an_open_study_brings_no_look_about(staff: Client):
    study = declaring(looks={"at": [0.5]})
    answer(study, 19, mostly(0.9))
    remove_prompts(study, [0])
    seen = page_of(staff, study)
    assert "The next look is at 20 votes." in seen  # of the 40 planned, not of the 35 left
    assert "The last look" not in seen


def test_what_leaves_later_changes_no_look(tmp_path: Path):
    study = declaring(votes_per_comparison=1, looks={"at": [0.5]})
    answer(study, 4, mostly(0.9))
    voted = set(Vote.objects.values_list("showing__comparison__first__prompt__position", flat=True))
    unseen = sorted(set(range(8)) - voted)
    remove_prompts(study, unseen[:2])
    answer(study, 2, mostly(0.9))
    services.close_study(study=study, at=NOON + HOUR)
    looks = report_of(study, tmp_path / "out")["looks"]
    assert looks["n_planned"] == 8
    taken = [(cut["share"], cut["n_votes"], cut["information"]) for cut in looks["taken"]]
    assert taken == [(0.5, 4, 0.5), (None, 6, 0.75)]


def test_looks_at_any_time_follow_the_votes(staff: Client):
    study = declaring(looks={"at": "any_time"})
    assert "There are no votes yet." in page_of(staff, study)
    for n in (20, 21):
        answer(study, n - Vote.objects.count(), mostly(0.9))
        seen = page_of(staff, study)
        assert f"All {n} votes that count so far." in seen
    rate = table_of([row_of(vote) for vote in Vote.objects.order_by("pk")])[KEY, (0, 1)]
    limits = anytime_interval(rate, tightest_at=40)  # eight prompts, five votes each
    assert limits.low is not None
    assert limits.high is not None
    assert interval_text(1 - limits.high, 1 - limits.low) in seen


# Looks in the report


def test_a_study_that_stopped_at_a_look_says_so_and_its_claims_pay(tmp_path: Path, staff: Client):
    study = declaring(looks={"at": [0.25, 0.5, 0.75]})
    answer(study, 24, mostly(0.75))
    services.close_study(study=study, at=NOON + HOUR)
    report = report_of(study, tmp_path / "out")
    looks = report["looks"]
    assert (looks["at"], looks["n_planned"]) == ([0.25, 0.5, 0.75], 40)
    taken = [(cut["share"], cut["n_votes"], cut["information"]) for cut in looks["taken"]]
    assert taken == [(0.25, 10, 0.25), (0.5, 20, 0.5), (None, 24, 0.6)]
    boundaries = spending_boundaries([0.25, 0.5, 0.6])
    assert [cut["boundary"] for cut in looks["taken"]] == pytest.approx(boundaries)
    # votes.csv and what the report says of its looks are enough.
    rows = votes_in(tmp_path / "out")
    by_hand = judge(
        DECLARED,
        [Look(cut["information"], table_of(rows[: cut["n_votes"]])) for cut in looks["taken"]],
    )
    for claim, verdict in zip(report["declared_claims"], by_hand, strict=True):
        assert claim["p_value"] == pytest.approx(verdict.p_value, rel=1e-6)
        assert (claim["low"], claim["high"]) == pytest.approx((verdict.low, verdict.high))
    (pair,) = report["criteria"][KEY]["pairs"]
    assert report["declared_claims"][0]["p_value"] > pair["p_value"]
    text = page_of(staff, study)
    assert "it closed with 60% of the planned votes counted" in text
    assert "Declared at 25%, 50% and 75% of the votes; taken at 25% (10 votes), at 50%" in text
    assert "on closing (24 votes)" in text
    assert "p is adjusted for all looks and over these claims alone." in text
    for told in (text, words((tmp_path / "out" / "report.html").read_text())):
        assert "the interval is as wide as the last look asks, and p is over all looks" in told
        assert "of pairs further down take the number of votes as fixed beforehand" in told


def test_a_look_that_nobody_could_take_costs_nothing(tmp_path: Path, staff: Client):
    study = declaring(looks={"at": [0.75]})
    answer(study, 20, mostly(0.65))
    services.close_study(study=study, at=NOON + HOUR)
    report = report_of(study, tmp_path / "out")
    assert [cut["share"] for cut in report["looks"]["taken"]] == [None]
    (pair,) = report["criteria"][KEY]["pairs"]
    assert report["declared_claims"][0]["p_value"] == pytest.approx(pair["p_value"], rel=1e-9)
    text = page_of(staff, study)
    assert "closed with" not in text
    assert "p is adjusted over these claims alone." in text
    assert "pay for that" not in text


def test_an_answer_after_closing_brings_no_look_about(tmp_path: Path):
    study = declaring(looks={"at": [0.5]})
    answer(study, 19, mostly(0.65))
    late = world.showing(world.rater(study))
    services.close_study(study=study, at=NOON + HOUR)
    before = report_of(study, tmp_path / "before")
    world.vote(late, at=NOON + 2 * HOUR)
    after = report_of(study, tmp_path / "after")
    assert [cut["share"] for cut in after["looks"]["taken"]] == [None]
    assert (after["looks"], after["declared_claims"]) == (
        before["looks"],
        before["declared_claims"],
    )


def test_looks_at_any_time_bear_on_the_claims(tmp_path: Path, staff: Client):
    study = declaring(looks={"at": "any_time"})
    answer(study, 20, mostly(0.8))
    services.close_study(study=study, at=NOON + HOUR)
    report = report_of(study, tmp_path / "out")
    assert report["looks"]["at"] == "any_time"
    assert [cut["boundary"] for cut in report["looks"]["taken"]] == [None]
    rate = table_of(votes_in(tmp_path / "out"))[KEY, (0, 1)]
    limits = anytime_interval(rate, tightest_at=40)
    (claim, *_) = report["declared_claims"]
    assert (claim["low"], claim["high"]) == pytest.approx((1 - limits.high, 1 - limits.low))
    assert claim["p_value"] > report["criteria"][KEY]["pairs"][0]["p_value"]
    text = page_of(staff, study)
    assert "it closed with 50% of the planned votes counted" in text
    assert "whenever somebody looked, their interval and p hold." in text


def test_a_study_closed_without_votes_reports_its_looks(tmp_path: Path, staff: Client):
    study = declaring(looks={"at": [0.5]})
    services.close_study(study=study, at=NOON + HOUR)
    report = report_of(study, tmp_path / "out")
    assert report["looks"]["taken"] == []
    assert [claim["shown"] for claim in report["declared_claims"]] == [False] * 3
    text = page_of(staff, study)
    assert "Not shown: there are no votes." in text
    assert "None was taken: no vote counts." in text


# Elo as in the ADD paper


def test_elo_as_in_the_add_paper_stands_on_the_page_with_what_it_is(tmp_path: Path, staff: Client):
    study = closed_study(preferring("system-1", "system-0"), criteria=("fit", KEY), n_prompts=4)
    report = report_of(study, tmp_path / "out")
    html = staff.get(f"/studies/{study.slug}/").content.decode()
    section = words(html.split('id="elo"')[1].split("</section>")[0])
    mean = report["elo_as_in_add"]["mean"]
    scores = [
        f"{system['elo_as_in_add']:.0f}"
        for part in report["criteria"].values()
        for system in part["systems"]
        if system["system"] == "system-1"
    ]
    assert "Elo as in the ADD paper" in section
    assert "Fit Image quality Mean" in section
    assert f"System 1 {scores[0]} {scores[1]} {mean['system-1']:.0f}" in section
    assert section.index("System 1") < section.index("System 0")
    assert "Differences shrink towards 1000" in section


def test_without_votes_there_is_no_elo_to_show(staff: Client):
    study = closed_study(mostly(0.5), n_raters=0, votes_per_comparison=1)
    assert "Elo as in" not in page_of(staff, study)
