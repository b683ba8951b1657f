"""`manage.py analyze_votes`: a report on anybody's votes. No database: these tests have none."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from evalsite.stats import pair_win_rates
from tests.results.contract import SCHEMA, check

COLUMNS = "criterion,rater_id,prompt_id,system_a,system_b,winner"
STRENGTH = {"ant": 0.0, "bee": 0.8, "cat": 1.6}


def rows(n: int = 240, *, seed: int = 5) -> list[list[str]]:
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        one, two = rng.choice(list(STRENGTH), size=2, replace=False)
        wins = rng.random() < 1 / (1 + np.exp(STRENGTH[two] - STRENGTH[one]))
        winner = "tie" if i % 10 == 0 else "ab"[1 - wins]
        made.append(["q", f"r{i % 8}", f"p{i % 15}", one, two, winner])
    return made


def write(path: Path, made: list[list[str]], head: str = COLUMNS) -> Path:
    path.write_text("\n".join([head, *(",".join(row) for row in made)]) + "\n")
    return path


def analyze(votes: Path, out: Path, *options: str) -> tuple[dict[str, Any], str]:
    """report.json as written, held against its schema, and what the terminal says."""
    said = io.StringIO()
    call_command("analyze_votes", str(votes), "--out", str(out), *options, stdout=said)
    report = json.loads((out / "report.json").read_text())
    check(report)
    return report, said.getvalue()


def test_votes_from_anywhere_become_a_whole_report(tmp_path):
    votes = write(tmp_path / "votes.csv", rows())
    report, said = analyze(votes, tmp_path / "out", "--a-is-left")
    part = report["criteria"]["q"]
    assert report["study"] is None
    assert [(p["first"], p["second"]) for p in part["pairs"]] == [
        ("ant", "bee"),
        ("ant", "cat"),
        ("bee", "cat"),
    ]
    ratings = {row["system"]: row["rating"] for row in part["systems"]}
    assert ratings["ant"] < ratings["bee"] < ratings["cat"]
    assert sum(ratings.values()) == pytest.approx(0, abs=1e-9)
    assert part["davidson"]["abilities"].keys() == ratings.keys()
    assert part["davidson"]["tie_parameter"] > 0
    assert -1 <= part["agreement"]["low"] <= part["agreement"]["alpha"]
    assert part["side"]["n"] == 240
    better = {(c["first"], c["second"]): c["better"] for c in part["claims"]}
    assert better["ant", "cat"] == "cat"
    assert said.index("cat") < said.index("bee") < said.index("ant")
    assert f"Written to {tmp_path / 'out'}" in said


def test_the_folder_holds_tables_figures_and_a_page(tmp_path):
    analyze(write(tmp_path / "votes.csv", rows()), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "claims.csv",
        "declared_claims.csv",
        "pairs-q.svg",
        "pairs.csv",
        "ranking-q.svg",
        "report.html",
        "report.json",
        "slices.csv",
        "systems.csv",
    ]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "votes.csv" in page
    assert "Left out" not in page
    assert "cat over ant" in (tmp_path / "out" / "pairs-q.svg").read_text()


def test_a_pair_is_what_the_arithmetic_says_of_it(tmp_path):
    made = rows()
    report, _ = analyze(write(tmp_path / "v.csv", made), tmp_path / "out")
    systems = sorted(STRENGTH)
    outcome = {"a": 1.0, "b": 0.0, "tie": 0.5}
    rates = pair_win_rates(
        [systems.index(row[3]) for row in made],
        [systems.index(row[4]) for row in made],
        [outcome[row[5]] for row in made],
        [row[1] for row in made],
        [row[2] for row in made],
    )
    for pair in report["criteria"]["q"]["pairs"]:
        rate = rates[systems.index(pair["first"]), systems.index(pair["second"])]
        assert (pair["low"], pair["win_rate"], pair["high"]) == pytest.approx(
            (rate.low, rate.win_rate, rate.high)
        )


def test_options_are_obeyed_and_written_down(tmp_path):
    votes = write(tmp_path / "v.csv", [*rows(), ["other", "r1", "p1", "ant", "eel", "a"]])
    plain, _ = analyze(votes, tmp_path / "plain")
    report, _ = analyze(
        votes, tmp_path / "out", "--fixed-prompts", "--ties", "drop", "--confidence", "0.9",
        "--criterion", "q", "--seed", "3",
    )  # fmt: skip
    assert report["settings"]["options"] == {
        "confidence": 0.9,
        "fixed_prompts": True,
        "ties": "drop",
        "seed": 3,
    }
    assert list(plain["criteria"]) == ["other", "q"]
    assert list(report["criteria"]) == ["q"]
    assert [row["system"] for row in report["criteria"]["q"]["systems"]] == ["ant", "bee", "cat"]
    pair = report["criteria"]["q"]["pairs"][0]
    assert pair["estimand"] == "random rater, these prompts, decided votes"
    assert pair["win_rate"] == pair["win_rate_decided"]
    assert report["criteria"]["q"]["agreement"]["low"] != plain["criteria"]["q"]["agreement"]["low"]


def test_the_same_votes_give_the_same_report_in_any_order_of_rows(tmp_path):
    sorts = ["warm", "cold", "none"]
    made = [[*row, sorts[int(row[2][1:]) % 3], "one" if row[1] < "r4" else "two"] for row in rows()]
    head = COLUMNS + ",category,rater_group"
    one, _ = analyze(write(tmp_path / "a.csv", made, head), tmp_path / "one")
    two, _ = analyze(write(tmp_path / "b.csv", made[::-1], head), tmp_path / "two")
    same_numbers(one["criteria"], two["criteria"])


def same_numbers(one: Any, two: Any, where: str = "criteria") -> None:
    """Both say the same in the same order, but for the last digits."""
    if isinstance(one, dict):
        assert list(one) == list(two), where
        one, two = list(one.items()), list(two.items())
    if isinstance(one, list | tuple):
        assert len(one) == len(two), where
        for place, (here, there) in enumerate(zip(one, two, strict=True)):
            same_numbers(here, there, f"{where} {place}")
    elif isinstance(one, float):
        assert one == pytest.approx(two, rel=1e-8, abs=1e-10), where
    else:
        assert one == two, where


def test_votes_are_cut_by_category_and_the_difference_is_found(tmp_path):
    cut = [[*row, ["warm", "cold", "none"][int(row[2][1:]) % 3]] for row in rows(600)]
    for row in cut:  # on cold prompts the ant wins
        if row[6] == "cold" and "ant" in row[3:5]:
            row[5] = "a" if row[3] == "ant" else "b"
    votes = write(tmp_path / "v.csv", cut, COLUMNS + ",category")
    report, _ = analyze(votes, tmp_path / "out")
    slicing = report["criteria"]["q"]["slices"]["category"]
    assert slicing["n_unlabelled"] == sum(row[6] == "none" for row in cut)
    shares = {
        row["label"]: row["win_rate"]
        for row in slicing["win_rates"]
        if (row["first"], row["second"]) == ("ant", "cat")
    }
    assert shares["cold"] == 1.0 > shares["warm"]
    assert {t["second"] for t in slicing["heterogeneity"] if t["p_holm"] < 0.05} == {"bee", "cat"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "By category" in page
    assert "ant over cat: " in page
    assert "cold 100%" in page


def test_a_category_that_is_no_property_of_the_prompt_is_refused(tmp_path):
    cut = [[*row, "ab"[i % 7 % 2]] for i, row in enumerate(rows(60))]
    votes = write(tmp_path / "v.csv", cut, COLUMNS + ",category")
    with pytest.raises(CommandError, match="category: "):
        call_command("analyze_votes", str(votes), "--out", str(tmp_path / "out"))


def test_without_prompts_a_category_is_cut_by_and_not_tested(tmp_path):
    cut = [[*row[:2], *row[3:], "ab"[i % 7 % 2]] for i, row in enumerate(rows(60))]
    votes = write(tmp_path / "v.csv", cut, "criterion,rater_id,model_a,model_b,winner,category")
    report, _ = analyze(votes, tmp_path / "out")
    slicing = report["criteria"]["q"]["slices"]["category"]
    assert {row["label"] for row in slicing["win_rates"] if row["n"]} == {"a", "b"}
    assert {tuple(test["warnings"]) for test in slicing["heterogeneity"]} == {("no labels",)}


def test_a_rater_who_always_takes_the_left_is_named_and_changes_no_number(tmp_path):
    sides = np.random.default_rng(1).choice(["a", "b"], size=600)
    made = [[*row, side] for row, side in zip(rows(600), sides, strict=True)]
    for i, row in enumerate(made):
        if i % 8 == 5:
            row[5] = row[6]
    head = COLUMNS + ",left"
    report, _ = analyze(write(tmp_path / "v.csv", made, head), tmp_path / "out")
    assert [r["rater"] for r in report["raters"]] == [f"r{i}" for i in range(8)]
    flagged = {r["rater"]: r["flags"] for r in report["raters"] if r["flags"]}
    assert list(flagged) == ["r5"]
    assert "one-sided" in flagged["r5"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "r5: one-sided" in page
    assert "leave a rater&#x27;s votes out" in page or "leave a rater's votes out" in page
    assert "in the admin" not in page
    unsided = [row[:6] for row in made]
    plain, _ = analyze(write(tmp_path / "w.csv", unsided), tmp_path / "plain")
    assert plain["raters"] == []
    assert plain["criteria"]["q"]["pairs"] == report["criteria"]["q"]["pairs"]


def test_without_sides_there_is_no_side_effect_and_the_terminal_says_so(tmp_path):
    report, said = analyze(write(tmp_path / "v.csv", rows()), tmp_path / "out")
    assert report["criteria"]["q"]["side"] is None
    assert "Sides are not known" in said


def test_sides_that_lean_to_a_system_are_warned_of(tmp_path):
    by_chance = np.random.default_rng(2).choice(["a", "b"], size=240)
    alphabetical = ["ab"[row[3] > row[4]] for row in rows()]
    for name, sides, are_even in (("even", by_chance, True), ("first", alphabetical, False)):
        made = [[*row, side] for row, side in zip(rows(), sides, strict=True)]
        votes = write(tmp_path / f"{name}.csv", made, COLUMNS + ",left")
        report, said = analyze(votes, tmp_path / name)
        page = " ".join((tmp_path / name / "report.html").read_text().split())
        warned = "sides unbalanced" in report["criteria"]["q"]["side"]["warnings"]
        assert warned is not are_even
        assert ("Sides are not balanced" in said) is not are_even
        assert ("Sides are not balanced" in page) is not are_even
        assert ("so the pull favours none" in page) is are_even
        assert "sides at random" not in page


def test_where_sides_cannot_be_told_from_systems_page_and_terminal_say_so(tmp_path):
    made = [["q", f"r{i}", f"p{i}", "ant", "bee", "ab"[i % 2]] for i in range(6)]
    report, said = analyze(write(tmp_path / "v.csv", made), tmp_path / "out", "--a-is-left")
    assert "no estimate" in report["criteria"]["q"]["side"]["warnings"]
    page = (tmp_path / "out" / "report.html").read_text()
    for text in (" ".join(said.split()), page):
        assert "cannot be told apart from the systems" in text


def test_columns_for_raters_and_prompts_may_be_missing(tmp_path):
    bare = [row[3:] for row in rows()]
    votes = write(tmp_path / "v.csv", bare, "model_a,model_b,winner")
    report, said = analyze(votes, tmp_path / "out")
    pair = report["criteria"]["overall"]["pairs"][0]
    assert pair["warnings"][:2] == ["no rater labels", "no prompt labels"]
    assert "do not say who gave them" in said
    assert report["criteria"]["overall"]["agreement"]["warnings"][0] == "no prompt labels"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "each pair is one comparison here" in page
    assert "3 comparisons with two votes or more" in page
    assert "several raters" not in page
    assert "The votes do not name their raters or prompts: in that respect" in page
    assert "jackknife" not in page


def test_agreement_on_few_comparisons_is_said_in_words(tmp_path):
    _, said = analyze(write(tmp_path / "v.csv", rows(40)), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Agreement is computed from fewer than 30 comparisons" in " ".join(said.split())
    assert "Agreement is computed from fewer than 30 comparisons" in page


def test_the_page_speaks_only_of_what_the_votes_have(tmp_path):
    sides = np.random.default_rng(1).choice(["a", "b"], size=240)
    made = [[*row, side] for row, side in zip(rows(), sides, strict=True) if row[5] != "tie"]
    analyze(write(tmp_path / "v.csv", made, COLUMNS + ",left"), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "no ties among the votes" in page
    assert "ties not allowed" not in page
    assert "sides, streaks and agreement with the others are as honest work" in page
    unnamed = [row[:1] + row[2:] for row in made]
    head = COLUMNS.replace("rater_id,", "") + ",left"
    analyze(write(tmp_path / "w.csv", unnamed, head), tmp_path / "unnamed")
    page = (tmp_path / "unnamed" / "report.html").read_text()
    assert "jackknife over prompts, not" in page
    assert "do not name their raters: in that respect" in page


def test_votes_without_a_prompt_are_left_out_of_the_agreement_and_counted(tmp_path):
    made = rows()
    for row in made[:25]:
        row[2] = "none"
    report, _ = analyze(write(tmp_path / "v.csv", made), tmp_path / "out")
    rest, _ = analyze(write(tmp_path / "w.csv", made[25:]), tmp_path / "rest")
    found = report["criteria"]["q"]["agreement"]
    assert (found["n_unlabelled"], found["warnings"]) == (25, ["some prompts unknown"])
    assert found["alpha"] == pytest.approx(rest["criteria"]["q"]["agreement"]["alpha"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "25 votes without a prompt left out." in page


def test_a_system_that_never_loses_is_not_estimable(tmp_path):
    votes = [*rows(), *(["q", f"r{i}", f"p{i}", "dog", "ant", "a"] for i in range(6))]
    report, _ = analyze(write(tmp_path / "v.csv", votes), tmp_path / "out")
    dog = next(r for r in report["criteria"]["q"]["systems"] if r["system"] == "dog")
    assert (dog["estimable"], dog["rating"], dog["win_rate"]) == (False, None, 1.0)


def test_votes_of_programs_stay_marked(tmp_path):
    marked = [[*row, "True"] for row in rows()]
    votes = write(tmp_path / "v.csv", marked, COLUMNS + ",simulated")
    report, said = analyze(votes, tmp_path / "out")
    assert report["settings"]["n_simulated"] == 240
    assert "The raters of this study are programs." in said
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<title>[Simulated] v.csv: results</title>" in page
    assert "<strong>Simulated.</strong> The raters of this study are programs." in page
    for name in ("pairs", "systems", "claims"):
        head, *lines = (tmp_path / "out" / f"{name}.csv").read_text().splitlines()
        assert head.endswith(",simulated")
        assert {line.rpartition(",")[2] for line in lines} == {"true"}


def test_some_votes_of_programs_are_counted(tmp_path):
    marked = [[*row, "yes" if i < 30 else "no"] for i, row in enumerate(rows())]
    votes = write(tmp_path / "v.csv", marked, COLUMNS + ",simulated")
    report, said = analyze(votes, tmp_path / "out")
    assert report["settings"]["n_simulated"] == 30
    assert "Programs gave 30 of these 240 votes" in said
    unmarked, said = analyze(write(tmp_path / "w.csv", rows()), tmp_path / "unmarked")
    assert unmarked["settings"]["n_simulated"] == 0
    assert "Programs" not in said
    assert (
        "imulated" not in (tmp_path / "unmarked" / "report.html").read_text().split("</style>")[1]
    )


def test_every_warning_of_a_report_is_explained_in_the_docs():
    text = (settings.BASE_DIR / "docs" / "report.md").read_text()
    explained = text.partition("### warnings")[2].partition("\n### ")[0]
    lists = re.findall(r'"warnings": \{"type": "array", "items": (\{.*?\})', json.dumps(SCHEMA))
    codes = {code for found in lists for code in json.loads(found).get("enum", [])}
    assert len(codes) > 25
    assert [code for code in sorted(codes) if f"`{code}`" not in explained] == []


def test_bad_rows_are_refused_and_nothing_is_written(tmp_path):
    votes = write(tmp_path / "v.csv", [*rows(), ["q", "r", "p", "ant", "ant", "a"]])
    with pytest.raises(CommandError, match=r"v\.csv: line 242: system_b: expected another"):
        call_command("analyze_votes", str(votes), "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--confidence", "1.5"], "confidence must lie between 0 and 1"),
        (["--criterion", "beauty"], "no votes on criterion beauty; found q"),
        (["--seed", "-1"], "--seed: expected a whole number from 0, found -1"),
    ],
)
def test_impossible_options_are_refused(tmp_path, options, reason):
    votes = write(tmp_path / "v.csv", rows(20))
    with pytest.raises(CommandError, match=reason):
        call_command("analyze_votes", str(votes), "--out", str(tmp_path / "out"), *options)


def test_a_place_where_nothing_can_be_written_is_named(tmp_path):
    votes = write(tmp_path / "v.csv", rows(20))
    with pytest.raises(CommandError, match=r"v\.csv/out: cannot be written: .*(exists|directory)"):
        call_command("analyze_votes", str(votes), "--out", str(votes / "out"))


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    votes = write(tmp_path / "v.csv", rows(20))
    with pytest.raises(CommandError, match=r"found thesis\.tex"):
        call_command("analyze_votes", str(votes), "--out", str(tmp_path))
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
