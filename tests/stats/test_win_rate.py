import dataclasses
import json
import math

import numpy as np
import pytest
from scipy.stats import t as student

from evalsite.stats import clustered_interval, wilson_interval
from tests.stats.simulated import draw_votes

# Three raters on two prompts: A prefers the first system twice, B once, C never.
OUTCOMES = [1, 1, 1, 0, 0, 0]
RATERS = list("AABBCC")
PROMPTS = list("xyxyxy")


def limits(result):
    return result.low, result.high


def test_fixed_prompts_by_hand():
    # Rater sums of residuals 1, 0, -1: V = 2/3 (1/16 + 1/16) = 1/12, df = 2, t = 4.30265,
    # n_eff = 1/4 / V = 3; at p = 1/2 Wilson's half-width is 1/2 sqrt(x / (1 + x)), x = t^2 / 3.
    found = clustered_interval(OUTCOMES, RATERS, PROMPTS, fixed_prompts=True)
    assert (found.n, found.wins, found.ties, found.losses) == (6, 3, 0, 3)
    assert (found.win_rate, found.df, found.n_eff) == pytest.approx((0.5, 2, 3))
    assert found.se == pytest.approx(math.sqrt(1 / 12))
    assert found.design_effect == pytest.approx(5 / 3)
    assert limits(found) == pytest.approx((0.03617, 0.96383), abs=5e-6)
    assert found.p_value == 1
    assert found.method == "rater jackknife"
    assert found.estimand == "random rater, these prompts"


def test_two_way_by_hand():
    # V_rater = 1/12 as above; prompt sums 1/2, -1/2: V_prompt = 1/2 (1/36 + 1/36) = 1/36;
    # six cells of one vote: V_cell = 5/6 * 6 (1/10)^2 = 1/20. V = 11/180. Prompts have df 1, raters
    # 2; the share of prompts is 1/36 / (1/36 + 1/12 - 1/20) = 5/11, drawn to 1 27/33 = 9/11, and
    # df = 1 / ((9/11)^2 + (2/11)^2 / 2) = 121/83.
    found = clustered_interval(OUTCOMES, RATERS, PROMPTS)
    assert found.se == pytest.approx(math.sqrt(11 / 180))
    assert (found.df, found.n_eff) == pytest.approx((121 / 83, 45 / 11))
    assert found.design_effect == pytest.approx(11 / 9)
    x = student.ppf(0.975, 121 / 83) ** 2 / (45 / 11)
    half = 0.5 * math.sqrt(x / (1 + x))
    assert limits(found) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-7)
    assert found.method == "two-way jackknife"
    assert found.estimand == "random rater, random prompt"
    assert found.warnings == ("few raters", "few prompts", "few losses")


def test_a_tie_is_half_a_win_or_dropped():
    outcomes = [1, 0.5, 1, 0, 0, 0.5]
    half = clustered_interval(outcomes, RATERS, PROMPTS)
    dropped = clustered_interval(outcomes, RATERS, PROMPTS, ties="drop")
    assert half.win_rate == pytest.approx(0.5)
    assert half.win_rate_decided == pytest.approx(0.5)
    for found in (half, dropped):
        assert (found.n, found.wins, found.ties, found.losses) == (6, 2, 2, 2)
    kept = clustered_interval([1, 1, 0, 0], list("ABBC"), list("xxyx"))
    assert limits(dropped) == limits(kept)
    assert dropped.estimand == "random rater, random prompt, decided votes"


def test_ties_alone_decide_nothing():
    found = clustered_interval([0.5] * 4, list("AABB"), list("xyxy"), ties="drop")
    assert found.warnings == ("no decided votes",)
    assert (found.n, found.ties, found.win_rate, found.low) == (4, 4, None, None)


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_excludes_one_half_exactly_when_the_p_value_is_small(seed):
    votes = draw_votes(np.random.default_rng(seed), rate=0.6, sd=0.5)
    p_value = clustered_interval(*votes).p_value
    wider = clustered_interval(*votes, confidence=1 - p_value * 0.999)
    narrower = clustered_interval(*votes, confidence=1 - p_value * 1.001)
    assert wider.low < 0.5 < wider.high
    assert not narrower.low < 0.5 < narrower.high


def test_quantiles_are_students():
    found = clustered_interval(*draw_votes(np.random.default_rng(4), rate=0.6))
    distance = abs(found.win_rate - 0.5) / math.sqrt(0.25 / found.n_eff)
    assert found.p_value == pytest.approx(2 * student.sf(distance, found.df), rel=1e-9)


# -- dimensions that say nothing -----------------------------------------------------------


def test_votes_that_share_nothing_get_wilsons_interval():
    found = clustered_interval([1, 1, 0, 1], list("ABCD"), list("wxyz"))
    expected = wilson_interval(3, 4)
    assert limits(found) == pytest.approx((expected.low, expected.high))
    assert (found.method, found.df, found.n_eff) == ("independent votes", None, pytest.approx(4))


def test_independent_ties_count_as_more_than_one_vote_each():
    # sum e^2 = 1/2 where four decided votes have 1: n_eff = 1/4 * 16 / (1/2).
    found = clustered_interval([1, 0.5, 0.5, 0], None, None)
    assert found.n_eff == pytest.approx(8)


def test_a_dimension_where_nobody_votes_twice_drops_out():
    votes = draw_votes(np.random.default_rng(1), prompts=40)
    alone = clustered_interval(votes[0], np.arange(120), votes[2])
    assert alone.method == "prompt jackknife"
    assert alone.estimand == "random rater, random prompt"
    assert limits(alone) == limits(clustered_interval(votes[0], None, votes[2]))


@pytest.mark.parametrize("missing", [None, ["none"] * 120, [None] * 120])
def test_missing_labels_drop_out_and_are_said(missing):
    outcomes, _, prompts = draw_votes(np.random.default_rng(1), prompts=40)
    found = clustered_interval(outcomes, missing, prompts)
    assert found.method == "prompt jackknife"
    assert found.n_raters is None
    assert found.estimand == "unknown rater, random prompt"
    assert found.warnings == ("no rater labels",)


def test_no_labels_at_all_make_independent_votes():
    found = clustered_interval([1] * 30 + [0] * 20, None, ["none"] * 50)
    assert found.method == "independent votes"
    assert found.estimand == "unknown rater, unknown prompt"
    assert found.warnings == ("no rater labels", "no prompt labels")


def test_one_rater_speaks_for_nobody_else():
    found = clustered_interval([1, 0, 1, 1], ["A"] * 4, list("xxyy"))
    assert found.method == "prompt jackknife"
    assert found.estimand == "this rater, random prompt"
    assert found.warnings[:2] == ("one rater", "few raters")


def test_one_prompt_speaks_for_no_other():
    found = clustered_interval([1, 0, 1, 1], list("AABB"), ["x"] * 4)
    assert found.method == "rater jackknife"
    assert found.estimand == "random rater, this prompt"
    assert "one prompt" in found.warnings


def test_raters_who_are_their_prompts_are_counted_once():
    outcomes, raters, _ = draw_votes(np.random.default_rng(2), prompts=40)
    both = clustered_interval(outcomes, raters, raters)
    one = clustered_interval(outcomes, raters, None)
    assert both.se == pytest.approx(one.se)
    assert 1 <= both.df <= 29


# -- all votes equal -----------------------------------------------------------------------


def test_all_won_borrows_the_design_effect_of_other_pairs():
    # n_eff = 12 / 3 = 4, df = 3 - 1 = 2, t^2 = 18.5128: low = 1 / (1 + t^2 / 4).
    found = clustered_interval([1] * 12, list("ABCD") * 3, list("xyz") * 4, typical_design_effect=3)
    assert found.low == pytest.approx(1 / (1 + 18.5128205 / 4), abs=1e-8)
    assert found.high == 1
    assert (found.n_eff, found.df, found.se, found.design_effect) == (4, 2, None, None)
    assert found.method == "borrowed design effect"
    assert found.warnings == ("few raters", "few prompts", "few losses", "all won")


def test_a_design_effect_below_one_is_not_borrowed():
    found = clustered_interval([0] * 4, list("AABB"), list("xxyy"), typical_design_effect=0.5)
    assert found.n_eff == 4
    assert found.warnings[-1] == "all lost"


def test_nothing_to_borrow_is_said():
    found = clustered_interval([0.5] * 4, list("AABB"), list("xxyy"))
    assert found.warnings[-2:] == ("all tied", "no design effect")
    assert found.low < 0.5 < found.high


def test_a_single_vote_has_the_interval_of_a_single_vote():
    found = clustered_interval([1], ["A"], ["x"], typical_design_effect=2)
    expected = wilson_interval(1, 1)
    assert limits(found) == pytest.approx((expected.low, 1))
    assert found.estimand == "this rater, this prompt"


# -- invariances ---------------------------------------------------------------------------


@pytest.mark.parametrize("tie", [0, 0.3])
def test_swapping_the_systems_mirrors_the_interval(tie):
    outcomes, raters, prompts = draw_votes(np.random.default_rng(5), rate=0.8, tie=tie)
    one = clustered_interval(outcomes, raters, prompts)
    other = clustered_interval(1 - outcomes, raters, prompts)
    assert limits(other) == pytest.approx((1 - one.high, 1 - one.low), abs=1e-12)
    assert other.p_value == pytest.approx(one.p_value)
    assert (other.wins, other.losses) == (one.losses, one.wins)
    assert other.warnings == one.warnings


def test_order_and_names_change_nothing():
    rng = np.random.default_rng(6)
    outcomes, raters, prompts = draw_votes(rng, heavy=True)
    one = clustered_interval(outcomes, raters, prompts)
    order = rng.permutation(outcomes.size)
    names = rng.permutation(30)
    other = clustered_interval(
        outcomes[order],
        [f"rater {names[r]}" for r in raters[order]],
        [f"prompt {-p}" for p in prompts[order]],
    )
    for field, value in dataclasses.asdict(one).items():
        found = getattr(other, field)
        assert found == (pytest.approx(value) if isinstance(value, float) else value)


@pytest.mark.parametrize("seed", range(20))
def test_neither_order_nor_which_is_which_matters_to_few_raters_on_few_prompts(seed):
    # All of them saw all: both dimensions have the same degrees of freedom, but for rounding.
    rng = np.random.default_rng(seed)
    raters, prompts = np.repeat(np.arange(3), 6), np.tile(np.arange(3), 6)
    likes = 0.5 + 0.15 * rng.normal(size=3)[raters] + 0.3 * rng.normal(size=3)[prompts]
    outcomes = (rng.random(18) < likes).astype(float)
    order = rng.permutation(18)
    one = clustered_interval(outcomes, raters, prompts)
    shuffled = clustered_interval(outcomes[order], raters[order], prompts[order])
    exchanged = clustered_interval(outcomes, prompts, raters)
    assert limits(shuffled) == pytest.approx(limits(one))
    assert limits(exchanged) == pytest.approx(limits(one))


@pytest.mark.parametrize("seed", range(8))
def test_doubling_every_vote_buys_next_to_nothing(seed):
    rng = np.random.default_rng(seed)
    votes = draw_votes(rng, raters=30, prompts=40, per_prompt=1 + seed % 3, rate=0.6, tie=0.1)
    once = clustered_interval(*votes)
    twice = clustered_interval(*(np.tile(column, 2) for column in votes))
    assert limits(twice) == pytest.approx(limits(once), abs=0.02)


# -- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"outcomes": []}, "at least one vote"),
        ({"outcomes": [1, 0, 2, 1]}, "outcomes must be 0, 0.5 or 1"),
        ({"outcomes": [1, 0, math.nan, 1]}, "outcomes must be 0, 0.5 or 1"),
        ({"outcomes": [[1, 0], [0, 1]]}, "flat list"),
        ({"raters": ["A"]}, "1 rater labels for 4 votes"),
        ({"prompts": ["A"] * 5}, "5 prompt labels for 4 votes"),
        ({"raters": ["A", "B", "C", math.nan]}, "a rater label is NaN"),
        ({"confidence": 95}, "confidence must lie between 0 and 1"),
        ({"ties": "ignore"}, "ties must be 'half' or 'drop'"),
        ({"typical_design_effect": 0}, "positive number"),
        ({"typical_design_effect": math.nan}, "positive number"),
    ],
)
def test_impossible_input_is_refused(change, reason):
    good = {"outcomes": [1, 0, 0.5, 1], "raters": list("AABB"), "prompts": list("xyxy")}
    clustered_interval(**good)
    with pytest.raises(ValueError, match=reason):
        clustered_interval(**{**good, **change})


@pytest.mark.parametrize("outcomes", [[1, 0, 1, 1], [1, 1, 1, 1], [0.5, 0.5, 0.5, 0.5]])
@pytest.mark.parametrize("ties", ["half", "drop"])
@pytest.mark.parametrize("raters", [None, list("AABB"), list("AAAA"), list("ABCD")])
def test_every_result_can_be_written_as_strict_json(outcomes, ties, raters):
    found = clustered_interval(outcomes, raters, list("xxyy"), ties=ties)
    json.dumps(dataclasses.asdict(found), allow_nan=False)
