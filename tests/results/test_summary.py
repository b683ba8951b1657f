"""From arrays to report.json's numbers: every planned pair, and nothing that cannot be known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import ValidationError

from evalsite.results import wording
from evalsite.results.report import report_of
from evalsite.results.summary import Design, Votes, summarise
from evalsite.stats import Options
from tests.results.contract import SCHEMA, check

DESIGN = Design(
    criteria=("quality", "following"),
    systems=("a", "b", "c"),
    pairs=((0, 1), (0, 2), (1, 2)),
)
PROVENANCE = {
    "versions": {"evalsite": "0"},
    "input_sha256": "0" * 64,
    "n_simulated": 0,
    "written_at": "2025-06-02T12:00:00.000Z",
}
Row = tuple[int, int, int, float, int, int]


def votes(rows: list[Row]) -> Votes:
    """Rows of criterion, first, second, outcome, rater, prompt."""
    columns = np.array(rows or np.empty((0, 6))).T
    whole = columns.astype(np.int64)
    n = len(rows)
    return Votes(
        criteria=whole[0],
        first=whole[1],
        second=whole[2],
        outcomes=columns[3].astype(np.float64),
        raters=whole[4],
        prompts=whole[5],
        first_on_left=np.ones(n, dtype=np.bool_),
    )


def report(
    rows: list[Row], design: Design = DESIGN, options: Options | None = None
) -> dict[str, Any]:
    summary = summarise(design, votes(rows), options or Options())
    made = report_of(summary, study=None, provenance=PROVENANCE)
    check(made)
    return made


def pair_of(
    report: dict[str, Any], first: str, second: str, criterion: str = "quality"
) -> dict[str, Any]:
    pairs = report["criteria"][criterion]["pairs"]
    (found,) = [pair for pair in pairs if (pair["first"], pair["second"]) == (first, second)]
    return found


def mixed(n_raters: int = 8, n_prompts: int = 12, *, share: int = 3) -> list[Row]:
    """System a wins against b on all but every `share`-th vote."""
    cells = [(rater, prompt) for rater in range(n_raters) for prompt in range(n_prompts)]
    return [
        (0, 0, 1, float(bool((rater + prompt) % share)), rater, prompt) for rater, prompt in cells
    ]


def test_every_planned_pair_stands_once_in_study_order():
    made = report(mixed())
    for criterion in ("quality", "following"):
        pairs = made["criteria"][criterion]["pairs"]
        assert [(pair["first"], pair["second"]) for pair in pairs] == [
            ("a", "b"),
            ("a", "c"),
            ("b", "c"),
        ]


def test_a_planned_pair_without_votes_has_nulls_and_a_warning():
    pair = pair_of(report(mixed()), "a", "c")
    assert (pair["n"], pair["wins"], pair["ties"], pair["losses"]) == (0, 0, 0, 0)
    unknown = ("win_rate", "low", "high", "se", "df", "design_effect", "p_value")
    assert [pair[name] for name in (*unknown, "win_rate_decided")] == [None] * 8
    assert pair["warnings"] == ["no votes"]


def test_a_pair_with_votes_that_was_not_planned_is_there_too():
    against_baseline = Design(DESIGN.criteria, DESIGN.systems, pairs=((0, 1), (0, 2)))
    made = report([(0, 1, 2, 1.0, 1, 1)], against_baseline)
    pairs = made["criteria"]["quality"]["pairs"]
    assert [(p["first"], p["second"], p["n"]) for p in pairs] == [
        ("a", "b", 0),
        ("a", "c", 0),
        ("b", "c", 1),
    ]


def test_an_empty_study_has_a_report():
    made = report([])
    assert made["criteria"]["quality"]["n_votes"] == 0
    assert pair_of(made, "a", "b")["win_rate"] is None


def test_counts_are_of_the_criterion():
    made = report([*mixed(4, 5), (1, 0, 1, 1.0, 77, 0)])
    quality, following = made["criteria"]["quality"], made["criteria"]["following"]
    assert [quality[n] for n in ("n_votes", "n_raters", "n_prompts")] == [20, 4, 5]
    assert [following[n] for n in ("n_votes", "n_raters", "n_prompts")] == [1, 1, 1]


def test_a_tie_is_half_a_win_unless_ties_are_dropped():
    rows: list[Row] = [(0, 0, 1, o, r, r) for r, o in enumerate([1, 1, 1, 0, 0.5, 0.5])]
    half = pair_of(report(rows), "a", "b")
    dropped = pair_of(report(rows, options=Options(ties="drop")), "a", "b")
    assert (half["wins"], half["ties"], half["losses"]) == (3, 2, 1)
    assert half["win_rate"] == pytest.approx(4 / 6)
    assert half["win_rate_decided"] == dropped["win_rate"] == pytest.approx(3 / 4)
    assert dropped["estimand"].endswith("decided votes")


def test_fixed_prompts_speak_of_these_prompts():
    rows = mixed(n_raters=8, n_prompts=6)
    drawn = pair_of(report(rows), "a", "b")
    fixed = pair_of(report(rows, options=Options(fixed_prompts=True)), "a", "b")
    assert drawn["estimand"] == "random rater, random prompt"
    assert "few prompts" in drawn["warnings"]
    assert fixed["estimand"] == "random rater, these prompts"
    assert "few prompts" not in fixed["warnings"]
    assert fixed["win_rate"] == drawn["win_rate"]


def test_one_rater_is_named_as_a_limit():
    pair = pair_of(report(mixed(n_raters=1, n_prompts=12)), "a", "b")
    assert "one rater" in pair["warnings"]
    assert pair["estimand"].startswith("this rater")


def test_a_pair_won_on_every_vote_still_has_an_interval():
    rows: list[Row] = [(0, 0, 1, 1.0, r, p) for r in range(6) for p in range(12)]
    pair = pair_of(report(rows), "a", "b")
    assert (pair["win_rate"], pair["high"]) == (1.0, 1.0)
    assert 0.8 < pair["low"] < 1
    assert "all won" in pair["warnings"]
    assert pair["se"] is None


def test_confidence_widens_the_interval():
    wide = pair_of(report(mixed(), options=Options(confidence=0.99)), "a", "b")
    narrow = pair_of(report(mixed()), "a", "b")
    assert wide["low"] < narrow["low"] < narrow["high"] < wide["high"]
    assert wide["confidence"] == 0.99


def test_the_schema_refuses_what_is_not_in_the_contract():
    made = report(mixed())
    made["criteria"]["quality"]["pairs"][0]["surprise"] = 1
    with pytest.raises(ValidationError, match="surprise"):
        check(made)


def test_every_warning_has_words():
    codes = SCHEMA["$defs"]["pair"]["properties"]["warnings"]["items"]["enum"]
    assert set(codes) == set(wording.WARNINGS)


def test_every_field_is_explained():
    told = (Path(__file__).parents[2] / "docs" / "report.md").read_text()
    names = {name for part in SCHEMA["$defs"].values() for name in part.get("properties", {})}
    assert {name for name in names if f"`{name}`" not in told} == set()


def test_what_undoes_a_claim_is_looked_for_on_the_forty_weakest():
    systems = tuple(f"s{k:02}" for k in range(11))
    rng = np.random.default_rng(3)
    rows = [
        (0, i, j, float(rng.random() > 0.05 + 0.005 * i), rater, prompt)
        for i in range(11)
        for j in range(i + 1, 11)
        for rater in range(6)
        for prompt in range(10)
    ]
    made = report(rows, Design(criteria=("quality",), systems=systems, pairs=None))
    claims = made["criteria"]["quality"]["claims"]
    assert all(claim["decided"] for claim in claims)
    tried = [c["p_holm"] for c in claims if c["n_votes_to_undo"] is not None]
    assert len(claims) == 55
    assert len(tried) == 40
    assert min(tried) >= max(c["p_holm"] for c in claims if c["n_votes_to_undo"] is None)


def test_what_is_left_without_the_busiest_raters_has_the_confidence_asked_for():
    rows = [(0, 0, 1, float((r + p) % 7 > 0), r, p) for r in range(8) for p in range(10)]
    widths = []
    for confidence in (0.9, 0.99):
        made = report(rows, options=Options(confidence=confidence))
        claims = made["criteria"]["quality"]["claims"]
        (claim,) = (c for c in claims if c["decided"])
        widths.append(claim["high_without_top"] - claim["low_without_top"])
    assert widths[0] < 0.8 * widths[1]


def test_elo_as_in_the_add_paper_stands_beside_the_rating_and_shrinks():
    rows = [(c, 0, 1, float(p % 5 > 0), r, p) for c in (0, 1) for r in range(4) for p in range(20)]
    made = report(rows)
    shown = [made["criteria"][key]["systems"] for key in ("quality", "following")]
    for first, second, unseen in shown:
        assert first["elo"] > first["elo_as_in_add"] > 1000 > second["elo_as_in_add"]
        assert first["elo_as_in_add"] + second["elo_as_in_add"] == pytest.approx(2000)
        assert unseen["elo_as_in_add"] is None
    once = report([*rows, (0, 0, 2, 1.0, 0, 0)])  # on one of the two criteria alone
    assert once["criteria"]["quality"]["systems"][2]["elo_as_in_add"] is not None
    assert once["elo_as_in_add"]["mean"]["c"] is None
    mean = made["elo_as_in_add"]["mean"]
    assert mean["a"] == pytest.approx(sum(part[0]["elo_as_in_add"] for part in shown) / 2)
    assert mean["c"] is None
    assert made["elo_as_in_add"]["warnings"] == []


def test_elo_as_in_the_add_paper_is_left_out_where_votes_are_too_many():
    rows = [(0, 0, 1, float(v % 3 > 0), v % 50, v % 70) for v in range(20_001)]
    made = report(rows, Design(criteria=("quality",), systems=("a", "b"), pairs=None))
    assert made["elo_as_in_add"] == {
        "mean": {"a": None, "b": None},
        "warnings": ["more than 20000 votes"],
    }
