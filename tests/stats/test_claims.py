import dataclasses
import json
import math

import numpy as np
import pytest
from scipy.stats import binom, norm

from evalsite.stats import (
    clustered_interval,
    equivalence,
    holm,
    non_inferiority,
    pair_win_rates,
    superiority,
)
from tests.stats.simulated import draw_votes


def counted(wins, losses):
    """Independent votes: n_eff is their number, and quantiles are normal."""
    return clustered_interval([1] * wins + [0] * losses, None, None)


def study(rng, rates, **votes):
    """One table: a criterion and a pair for each rate."""
    return {
        (f"question {k % 2}", (0, k + 1)): clustered_interval(*draw_votes(rng, rate=rate, **votes))
        for k, rate in enumerate(rates)
    }


NOTHING = pair_win_rates([], [], [], [], [], pairs=[(0, 1)])[0, 1]


def test_a_table_of_differences_by_hand():
    # z = 2, 3, 0 and -4 of 100 votes: p = .0455, .0027, 1 and .0000633; Holm over four.
    table = {
        ("realism", (0, 1)): counted(60, 40),
        ("realism", (0, 2)): counted(65, 35),
        ("text", (0, 1)): counted(50, 50),
        ("text", (2, 0)): counted(30, 70),
    }
    found = superiority(table)
    p = [2 * norm.sf(z) for z in (2, 3, 0, 4)]
    assert [claim.p_value for claim in found] == pytest.approx(p)
    assert [claim.p_holm for claim in found] == pytest.approx([2 * p[0], 3 * p[1], 1, 4 * p[3]])
    assert [claim.decided for claim in found] == [False, True, False, True]
    assert [claim.direction for claim in found] == [None, "first", None, "second"]
    assert (found[3].criterion, found[3].first, found[3].second) == ("text", 2, 0)
    # Two others pass their steps whatever the first row says, one passes for a decided row.
    assert [claim.level for claim in found] == pytest.approx([0.025, 0.05 / 3, 0.025, 0.05 / 3])


@pytest.mark.parametrize("seed", range(5))
def test_a_row_is_decided_exactly_below_its_level(seed):
    rng = np.random.default_rng(seed)
    table = study(rng, [0.5, 0.55, 0.6, 0.62, 0.7], raters=20, prompts=40, sd=0.3)
    claims = superiority(table)
    rows = list(table)
    for row, claim in zip(rows, claims, strict=True):
        assert claim.decided == (claim.p_value < claim.level)
        for factor in (0.999, 1.001):
            moved = dataclasses.replace(table[row], p_value=claim.level * factor)
            again = superiority({**table, row: moved})[rows.index(row)]
            assert again.decided == (factor < 1)


def test_a_row_without_votes_still_belongs_to_the_table():
    alone = superiority({("realism", (0, 1)): counted(60, 40)})
    beside = superiority({("realism", (0, 1)): counted(60, 40), ("realism", (0, 2)): NOTHING})
    assert [claim.decided for claim in alone] == [True]
    assert beside[0].p_holm == pytest.approx(2 * alone[0].p_value)
    assert (beside[1].p_value, beside[1].p_holm, beside[1].decided) == (None, None, False)


def test_a_table_without_any_difference_is_rarely_claimed_to_have_one():
    rng = np.random.default_rng(7)
    wrong = plain = 0
    for _ in range(200):
        claims = superiority(study(rng, [0.5] * 6, raters=20, prompts=40, sd=0.5))
        wrong += any(claim.decided for claim in claims)
        plain += any(claim.p_value < 0.05 for claim in claims)
    assert wrong / 200 < 0.05 + 2 * math.sqrt(0.05 * 0.95 / 200)
    assert plain / 200 > 0.15  # what Holm is there for


def test_equivalence_by_hand():
    # 52 of 100 within .4 to .6: T = .12 / sqrt(.0024) = 2.449 and -.08 / sqrt(.0024) = -1.633.
    (found,) = equivalence({("realism", (0, 1)): counted(52, 48)}, margin=0.1)
    assert found.p_value == pytest.approx(norm.sf(0.08 / math.sqrt(0.0024)))
    assert (found.kind, found.margin, found.confidence) == ("equivalence", 0.1, 0.9)
    assert not found.decided
    (lower,) = non_inferiority({("realism", (0, 1)): counted(52, 48)}, margin=0.1)
    assert lower.p_value == pytest.approx(norm.sf(0.12 / math.sqrt(0.0024)))
    assert (lower.kind, lower.decided) == ("non_inferiority", True)


@pytest.mark.parametrize(
    ("wins", "votes", "margin", "both", "lower"),
    [
        (52, 100, 0.1, 0.05123521742987478, 0.007152939217714809),
        (205, 400, 0.05, 0.06583400801140668, 0.005992349461393382),
        (430, 900, 0.05, 0.046960933257852534, 0.046960933257852534),
    ],
)
def test_margins_agree_with_statsmodels(wins, votes, margin, both, lower):
    # statsmodels 0.15.0:
    # proportions_ztost(wins, votes, .5 - margin, .5 + margin, prop_var="limits")
    table = {("realism", (0, 1)): counted(wins, votes - wins)}
    assert equivalence(table, margin=margin)[0].p_value == pytest.approx(both, rel=1e-9)
    assert non_inferiority(table, margin=margin)[0].p_value == pytest.approx(lower, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_p_value_and_interval_of_a_margin_agree(seed, alpha):
    outcomes, *labels = draw_votes(np.random.default_rng(seed), sd=0.4, prompts=60)
    outcomes = outcomes if outcomes.mean() < 0.5 else 1 - outcomes
    table = {("realism", (0, 1)): clustered_interval(outcomes, *labels)}
    (narrow,) = equivalence(table, margin=0.1, alpha=alpha)
    plain = clustered_interval(outcomes, *labels, confidence=1 - 2 * alpha)
    assert (narrow.low, narrow.high) == pytest.approx((plain.low, plain.high))
    # The smallest margin that the interval fits into is where the p-value reaches alpha.
    edge = max(0.5 - narrow.low, narrow.high - 0.5)
    assert equivalence(table, margin=edge, alpha=alpha)[0].p_value == pytest.approx(alpha)
    assert equivalence(table, margin=edge * 1.001, alpha=alpha)[0].decided
    assert not equivalence(table, margin=edge * 0.999, alpha=alpha)[0].decided
    below = 0.5 - narrow.low
    assert non_inferiority(table, margin=below, alpha=alpha)[0].p_value == pytest.approx(alpha)


def test_margin_claims_are_adjusted_over_their_table():
    table = {("realism", (0, w)): counted(w, 1000 - w) for w in (476, 477, 478, 490)}
    for claims in (equivalence(table, margin=0.05), non_inferiority(table, margin=0.05)):
        adjusted = holm([claim.p_value for claim in claims])
        assert [claim.p_holm for claim in claims] == pytest.approx(adjusted.tolist())
        assert [claim.decided for claim in claims] == [False, False, False, True]
        assert all(claim.p_value < 0.05 for claim in claims)


@pytest.mark.parametrize("claim", [equivalence, non_inferiority])
def test_a_pair_at_its_margin_is_claimed_as_rarely_as_promised(claim):
    # Exact, not simulated: the binomial mass of the counts that lead to the claim.
    n, theta = 500, 0.45
    decided = [claim({("a", (0, 1)): counted(k, n - k)}, margin=0.05)[0].decided for k in range(n)]
    assert 0.03 < binom.pmf(np.arange(n), n, theta)[decided].sum() < 0.06


def test_equivalence_needs_votes():
    (few,) = equivalence({("realism", (0, 1)): counted(10, 10)}, margin=0.05)
    (many,) = equivalence({("realism", (0, 1)): counted(1000, 1000)}, margin=0.05)
    assert (few.decided, many.decided) == (False, True)


def test_swapping_the_systems_turns_the_claims_round():
    votes = draw_votes(np.random.default_rng(2), rate=0.7)
    one = {("realism", (0, 1)): clustered_interval(*votes)}
    other = {("realism", (1, 0)): clustered_interval(1 - votes[0], *votes[1:])}
    assert superiority(one)[0].direction == "first"
    assert superiority(other)[0].direction == "second"
    there, back = equivalence(one, margin=0.3)[0], equivalence(other, margin=0.3)[0]
    assert back.p_value == pytest.approx(there.p_value)
    assert (back.low, back.high) == pytest.approx((1 - there.high, 1 - there.low))
    assert non_inferiority(one, margin=0.01)[0].decided
    assert not non_inferiority(other, margin=0.01)[0].decided


def test_an_empty_table_claims_nothing():
    assert superiority({}) == ()
    assert equivalence({}, margin=0.05) == ()


def test_claims_can_be_written_as_strict_json():
    table = {("realism", (0, 1)): counted(60, 40), ("realism", (0, 2)): NOTHING}
    rows = [*superiority(table), *equivalence(table, margin=0.1)]
    json.dumps([dataclasses.asdict(row) for row in rows], allow_nan=False)


@pytest.mark.parametrize("margin", [0, 0.5, -0.1, 5, math.nan])
@pytest.mark.parametrize("claim", [equivalence, non_inferiority])
def test_impossible_margins_are_refused(claim, margin):
    with pytest.raises(ValueError, match="a margin lies between 0 and 1/2"):
        claim({}, margin=margin)


@pytest.mark.parametrize("alpha", [0, 0.5, 1, 5, math.nan])
def test_impossible_alphas_are_refused(alpha):
    for claim in (equivalence, non_inferiority):
        with pytest.raises(ValueError, match="alpha must lie between 0 and 1/2"):
            claim({}, margin=0.05, alpha=alpha)
    if alpha != 0.5:
        with pytest.raises(ValueError, match="alpha must lie between 0 and 1"):
            superiority({}, alpha=alpha)
