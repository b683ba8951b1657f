"""Claims declared before the votes: one family, whatever their kinds, over all looks."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from evalsite.stats import (
    Declared,
    Look,
    anytime_interval,
    clustered_interval,
    holm,
    judge,
    look_interval,
    non_inferiority,
    p_any_time,
    p_over_looks,
    pair_win_rates,
    spending_boundaries,
    superiority,
)
from tests.stats.simulated import draw_votes

NOTHING = pair_win_rates([], [], [], [], [], pairs=[(0, 1)])[0, 1]


def counted(wins, losses):
    """Independent votes: n_eff is their number, and quantiles are normal."""
    return clustered_interval([1] * wins + [0] * losses, None, None)


def closed(**rates):
    return [Look(1.0, {(name, (0, 1)): rate for name, rate in rates.items()})]


def test_claims_of_every_kind_are_one_family_by_hand():
    # 100 votes each, T = (p - r) / sqrt(r (1 - r) / 100), at r = 1/2, .45, and .4 and .6.
    looks = closed(a=counted(60, 40), b=counted(55, 45), c=counted(48, 52))
    declared = [
        Declared("superiority", "a", 0, 1),
        Declared("non_inferiority", "b", 0, 1, 0.05),
        Declared("equivalence", "c", 0, 1, 0.1),
    ]
    found = judge(declared, looks)
    one = 2 * norm.sf(0.1 / 0.05)
    two = norm.sf(0.10 / math.sqrt(0.45 * 0.55 / 100))
    three = norm.sf(0.08 / math.sqrt(0.24 / 100))
    assert [v.p_value for v in found] == pytest.approx([one, two, three])
    assert [v.p_holm for v in found] == pytest.approx([2 * one, 3 * two, 2 * one])
    assert [v.shown for v in found] == [False, False, False]
    # Alone, each but the last would have been shown: the family costs something.
    alone = [judge([claim], looks)[0] for claim in declared]
    assert [v.shown for v in alone] == [True, True, False]
    assert [v.confidence for v in found] == pytest.approx([0.95, 0.9, 0.9])


def test_a_closed_study_judges_as_the_tables_of_one_kind_do():
    rate = clustered_interval(*draw_votes(np.random.default_rng(3), rate=0.56, raters=40))
    table = {("q", (0, 1)): rate}
    looks = [Look(1.0, table)]
    (better,) = judge([Declared("superiority", "q", 0, 1)], looks)
    assert better.p_value == pytest.approx(superiority(table)[0].p_value, rel=1e-12)
    assert (better.low, better.high) == pytest.approx((rate.low, rate.high), rel=1e-9)
    (as_good,) = judge([Declared("non_inferiority", "q", 0, 1, 0.05)], looks)
    (known,) = non_inferiority(table, margin=0.05)
    assert (as_good.p_value, as_good.low) == pytest.approx((known.p_value, known.low), rel=1e-9)


def test_a_claim_has_a_direction():
    looks = closed(q=counted(70, 30))
    forth, back = judge(
        [Declared("superiority", "q", 0, 1), Declared("superiority", "q", 1, 0)], looks
    )
    assert (forth.shown, back.shown) == (True, False)
    assert back.p_value == 1
    assert back.rate is not None
    assert (back.rate.win_rate, back.rate.wins) == (pytest.approx(0.3), 30)
    assert (back.low, back.high) == pytest.approx((1 - forth.high, 1 - forth.low))


def test_a_claim_without_votes_is_a_test_that_failed():
    looks = closed(q=counted(61, 39), r=NOTHING)
    asked, unasked, unknown = judge(
        [Declared("superiority", name, 0, 1) for name in ("q", "r", "s")], looks
    )
    assert asked.p_holm == pytest.approx(3 * asked.p_value)
    for verdict in (unasked, unknown):
        assert (verdict.p_value, verdict.p_holm, verdict.shown) == (None, None, False)
    assert not judge([Declared("superiority", "q", 0, 1)], [])[0].shown


@pytest.mark.parametrize("error", [0.2, 0.05, 0.001, 1e-6])
@pytest.mark.parametrize("crossed", [0, 1, 2])
def test_a_p_value_over_looks_is_the_error_whose_boundary_was_just_met(error: float, crossed: int):
    looks = (0.4, 0.7, 1.0)
    p_values = [1.0, 1.0, 1.0]
    p_values[crossed] = 2 * norm.sf(spending_boundaries(looks, confidence=1 - error)[crossed])
    assert p_over_looks(p_values, looks) == pytest.approx(error, rel=1e-6)


def test_looks_cost_something_and_one_look_nothing():
    assert p_over_looks([0.03], [1.0]) == 0.03
    assert p_over_looks([1.0, 0.03], [0.5, 1.0]) > 0.03
    assert p_over_looks([1.0, 1.0], [0.5, 1.0]) == 1
    assert 0 < p_over_looks([0.0, 1.0], [0.5, 1.0]) < 1e-14


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["superiority", "non_inferiority", "equivalence"])
def test_one_claim_is_shown_exactly_where_some_look_s_interval_says_so(kind, seed):
    rng = np.random.default_rng(seed)
    margin = None if kind == "superiority" else 0.1
    votes = draw_votes(rng, rate=0.5 + 0.04 * seed, raters=30, prompts=60)
    n = len(votes[0])
    looks, fractions = [], (0.4, 0.7, 1.0)
    for fraction in fractions:
        rate = clustered_interval(*(column[: round(fraction * n)] for column in votes))
        looks.append(Look(fraction, {("q", (0, 1)): rate}))
    (verdict,) = judge([Declared(kind, "q", 0, 1, margin)], looks)
    boundaries = spending_boundaries(fractions, confidence=0.95 if margin is None else 0.9)
    intervals = [
        look_interval(look.rates["q", (0, 1)], boundary)
        for look, boundary in zip(looks, boundaries, strict=True)
    ]
    low, high = 0.5 - (margin or 0), 0.6 if kind == "equivalence" else 1
    assert verdict.shown == any(low < i.low and i.high < high for i in intervals)
    assert (verdict.low, verdict.high) == (intervals[-1].low, intervals[-1].high)


@pytest.mark.parametrize("n", [60, 400, 3000])
@pytest.mark.parametrize("p_value", [0.2, 0.01, 0.001, 1e-5])
def test_at_any_time_a_claim_is_shown_where_the_sequence_excludes_a_half(n: int, p_value: float):
    rate = clustered_interval([1] * n + [0] * n, None, None)
    joined = p_any_time(p_value, rate.n, tightest_at=400)
    assert joined > p_value
    # Move the votes until their own p-value is the one asked for.
    score = -norm.ppf(p_value / 2)
    wins = n + round(score * math.sqrt(2 * n) / 2)
    moved = counted(wins, 2 * n - wins)
    assert moved.p_value is not None
    found = p_any_time(moved.p_value, moved.n, tightest_at=400)
    assert (found < 0.05) == anytime_interval(moved, tightest_at=400).decided
    (verdict,) = judge(
        [Declared("superiority", "q", 0, 1)], [Look(0.5, {("q", (0, 1)): moved})], tightest_at=400
    )
    assert verdict.p_value == pytest.approx(found)


def test_false_claims_over_looks_are_as_rare_as_promised():
    # Two claims at looks of normal scores, no difference. Holm says that either is false at .05
    # where one has a p-value over looks below .025: where it crossed the boundaries of .025.
    rng, looks = np.random.default_rng(5), np.array([0.5, 0.75, 1.0])
    steps = rng.normal(size=(4000, 2, 3)) * np.sqrt(np.diff(looks, prepend=0))
    scores = np.abs(steps.cumsum(axis=2) / np.sqrt(looks))
    wrong = (scores > spending_boundaries(looks, confidence=0.975)).any(axis=(1, 2))
    for study in np.concatenate([np.flatnonzero(wrong)[:8], np.flatnonzero(~wrong)[:4]]):
        joined = [p_over_looks(list(p), looks) for p in 2 * norm.sf(scores[study])]
        assert (min(holm(joined)) < 0.05) == wrong[study]
    assert 0.04 < wrong.mean() < 0.06
    assert (scores > norm.isf(0.0125)).any(axis=(1, 2)).mean() > 0.08  # without boundaries


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        (("superior", "q", 0, 1), "of kind superiority, non_inferiority, equivalence"),
        (("superiority", "q", 0, 1, 0.05), "a margin belongs"),
        (("equivalence", "q", 0, 1), "a margin belongs"),
        (("equivalence", "q", 0, 1, 0.5), "a margin lies between"),
    ],
)
def test_impossible_claims_are_refused(claim, reason):
    with pytest.raises(ValueError, match=reason):
        Declared(*claim)


def test_impossible_judgements_are_refused():
    claim, looks = Declared("non_inferiority", "q", 0, 1, 0.1), closed(q=counted(5, 5))
    with pytest.raises(ValueError, match=r"confidence above 0\.5, not 0\.4"):
        judge([claim], looks, alpha=0.6)
    with pytest.raises(ValueError, match="alpha"):
        judge([claim], looks, alpha=1)
    with pytest.raises(ValueError, match="p-value"):
        p_over_looks([0.5], [0.5, 1.0])
    with pytest.raises(ValueError, match="p-value"):
        p_any_time(1.5, 10, tightest_at=10)
