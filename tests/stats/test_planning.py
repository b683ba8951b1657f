import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binom, chi2, norm
from scipy.stats import t as student

from evalsite.stats import (
    PROVED_PROMPTS,
    Correlations,
    Design,
    HalfWidth,
    OutOfReach,
    Power,
    check_votes,
    design_effect,
    fewest,
    intraclass_correlations,
    pair_win_rates,
    power,
    precision,
    rater_floor,
    smallest_difference,
    wilson_interval,
)
from tests.stats.simulated import correlation, draw_votes

ALIKE = Correlations(rater=0.1, prompt=0.2)
CROWD = 10_000_000
"""Raters of whom hardly anybody votes twice."""


def test_a_design_effect_by_hand():
    # Raters give 2, 2 and 4 of 8 votes, prompts get 4 each: m = 24/8 and 32/8.
    assert design_effect([2, 2, 4], [4, 4], ALIKE) == pytest.approx(1 + 2 * 0.1 + 3 * 0.2)
    assert design_effect([1] * 8, [1] * 8, ALIKE) == 1


def test_a_design_effect_is_the_variance_written_with_matrices():
    rng = np.random.default_rng(1)
    raters, prompts = rng.integers(0, 7, 60), rng.integers(0, 9, 60)
    of_rater, of_prompt = np.eye(7)[raters], np.eye(9)[prompts]
    covariance = 0.1 * of_rater @ of_rater.T + 0.2 * of_prompt @ of_prompt.T + 0.7 * np.eye(60)
    sizes = np.bincount(raters), np.bincount(prompts)
    assert design_effect(*sizes, ALIKE) == pytest.approx(covariance.sum() / 60)


@pytest.fixture(scope="module")
def by_hand():
    """What 10 raters on all of 20 prompts may see at a win rate of .6, drawn: p and t^2 / n_eff.

    m = 20 and 10, so deff = 1 + 1.9 + 1.8 = 4.7. The raters' totals share all prompts, and the
    prompts' all raters: v_R = 20 * .1 + .7 and v_P = 10 * .2 + .7. A cell is a vote; its
    distance from the mean of all lacks .1 / 10 + .2 / 20, but for a factor of 200 / 199.
    """
    rng = np.random.default_rng(7)
    n_eff, draws = 200 / 4.7, 400_000
    p = rng.beta(0.6 * (n_eff - 1), 0.4 * (n_eff - 1), draws)
    of_raters, of_prompts = (2.7 * rng.chisquare(df, draws) / df for df in (9, 19))
    of_cells = (1 - 0.1 / 10 - 0.2 / 20) * 200 / 199
    seen = np.maximum(of_raters + of_prompts - of_cells, of_cells * chi2.ppf(0.04, 9) / 9)
    # 4.7 - .7 of the variance goes with the square of p (1 - p), .7 with p (1 - p) itself.
    pull = np.mean(p * (1 - p)) / np.mean((p * (1 - p)) ** 2) * p * (1 - p)
    per_vote = seen / 200 * 0.24 / np.mean(p * (1 - p)) * (0.7 + 4 * pull) / 4.7
    return p, student.ppf(0.975, 9) ** 2 * per_vote


def test_precision_by_hand(by_hand):
    found = precision(Design(10, 20, 10), rate=0.6, correlations=ALIKE)
    assert (found.votes, found.design_effect) == (200, pytest.approx(4.7))
    assert found.df == pytest.approx(9)
    assert found.n_eff == pytest.approx(200 / 4.7)
    p, x = by_hand
    reach = np.sqrt(x * p * (1 - p) + x**2 / 4)
    assert found.low == pytest.approx(np.mean((p + x / 2 - reach) / (1 + x)), abs=5e-4)
    assert found.high == pytest.approx(np.mean((p + x / 2 + reach) / (1 + x)), abs=5e-4)
    assert found.half_width == pytest.approx((found.high - found.low) / 2)


def test_power_by_hand(by_hand):
    p, x = by_hand
    decided = np.mean(np.abs(p - 0.5) > 0.5 * np.sqrt(x))
    assert power(Design(10, 20, 10), 0.6, correlations=ALIKE) == pytest.approx(decided, abs=3e-3)


def test_chance_makes_loads_differ():
    # Three of ten raters on each of 20 prompts, drawn: a load is binomial with mean 6 and
    # variance 20 * .3 * .7 = 4.2, so m_R = 6 + 4.2 / 6.
    found = precision(Design(10, 20, 3), correlations=ALIKE)
    assert found.design_effect == pytest.approx(1 + 5.7 * 0.1 + 2 * 0.2)
    assert 7 < found.df < 9
    more = precision(Design(10, 20, 3, load_spread=1.0), correlations=ALIKE)
    assert more.design_effect == pytest.approx(1 + 11.7 * 0.1 + 2 * 0.2)
    assert 2 < more.df < 6


def test_fixed_prompts_leave_the_raters():
    # deff = 1 + 4 * .1 - .2, df = 9 of the raters though there are but five prompts.
    found = precision(Design(10, 5, 10, fixed_prompts=True), correlations=ALIKE)
    assert (found.design_effect, found.df) == pytest.approx((1.2, 9))


def test_votes_that_share_nobody_are_independent():
    # statsmodels 0.15.0: samplesize_confint_proportion(.5, .05) gives 384.1459 for Wald's
    # interval; Wilson's needs z^2 = 3.8415 fewer at one half, Student's t (z^2 + 1) / 2 more,
    # and the mean over the observed rate is a little less than what stands at one half.
    found = fewest("prompts", Design(CROWD, 1, 1), HalfWidth(0.05))
    assert (found.prompts, found.votes) == (384, 384)
    assert precision(found).df == pytest.approx(383, abs=0.1)
    on_one = precision(Design(60, 1, 60))
    rates = binom.pmf(np.arange(61), 60, 0.5)
    alone = [wilson_interval(k, 60) for k in range(61)]
    widths = np.array([found.high - found.low for found in alone])
    assert on_one.df is None
    assert on_one.half_width == pytest.approx(rates @ widths / 2, rel=1e-3)


@pytest.mark.parametrize(("votes", "rate"), [(100, 0.6), (200, 0.6), (400, 0.45), (60, 0.8)])
def test_power_of_independent_votes_agrees_with_the_binomial_distribution(votes, rate):
    # Exact, not simulated: the mass of the counts whose interval excludes one half.
    intervals = [wilson_interval(k, votes) for k in range(votes + 1)]
    decided = [not i.low <= 0.5 <= i.high for i in intervals]
    exact = binom.pmf(np.arange(votes + 1), votes, rate)[decided].sum()
    assert power(Design(votes, 1, votes), rate) == pytest.approx(exact, abs=0.03)
    assert power(Design(CROWD, votes, 1), rate) == pytest.approx(exact, abs=0.04)


@pytest.mark.parametrize("design", [Design(10, 100, 3), Design(30, 100, 3), Design(200, 900, 3)])
@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_without_a_difference_the_power_is_the_error(design, confidence):
    found = power(design, 0.5, confidence=confidence)
    assert found == pytest.approx(1 - confidence, rel=0.1)


def test_power_grows_with_the_difference():
    for design in (Design(4, 50, 2), Design(10, 100, 3), Design(60, 20, 6)):
        found = [power(design, rate) for rate in np.linspace(0.5, 0.999, 50)]
        assert (np.diff(found) >= 0).all()
        assert found[-1] > 0.99


STUDIES = 2000


def simulated(seed, rate, sd, prompt_sd, **size):
    """The power and the mean half-width of simulated studies."""
    rng = np.random.default_rng(seed)
    studies = [
        draw_votes(rng, **size, rate=rate, sd=sd, prompt_sd=prompt_sd) for _ in range(STUDIES)
    ]
    outcomes, who, what = (np.concatenate(column) for column in zip(*studies, strict=True))
    number = np.repeat(np.arange(1, STUDIES + 1), size["prompts"] * size["per_prompt"])
    found = pair_win_rates(0 * number, number, outcomes, who, what).values()
    decided = sum(result.p_value < 0.05 for result in found) / STUDIES
    return decided, np.mean([(result.high - result.low) / 2 for result in found])


@pytest.mark.parametrize(
    ("raters", "prompts", "votes", "rate", "sd", "prompt_sd"),
    [
        (3, 100, 3, 0.64, 0.0, 1.35),  # correlations 0 and .25
        (3, 100, 3, 0.75, 0.5, 1.0),
        (3, 100, 1, 0.7, 0.65, 1.27),  # .05 and .2
        (3, 100, 3, 0.85, 0.9, 0.9),
        (5, 100, 3, 0.61, 0.0, 1.35),
        (10, 100, 3, 0.7, 1.0, 1.0),
        (30, 60, 3, 0.62, 0.7, 0.4),
        (30, 30, 1, 0.71, 1.05, 0.6),  # .15 and .05, and as many raters as votes
        (40, 25, 5, 0.65, 0.6, 1.0),
    ],
)
def test_promises_are_kept_by_simulated_studies(raters, prompts, votes, rate, sd, prompt_sd):
    size = {"raters": raters, "prompts": prompts, "per_prompt": votes}
    decided, width = simulated(raters, rate, sd, prompt_sd, **size)
    design = Design(raters, prompts, votes)
    alike = Correlations(correlation(rate, sd, prompt_sd), correlation(rate, prompt_sd, sd))
    assert power(design, rate, correlations=alike) == pytest.approx(decided, abs=0.03)
    expected = precision(design, rate=rate, correlations=alike)
    assert expected.half_width == pytest.approx(width, rel=0.05)
    if raters == 10:  # what the normal quantile promises is too much
        naive = norm.sf(norm.isf(0.025) - (rate - 0.5) * 2 * math.sqrt(expected.n_eff))
        assert naive > decided + 0.05


def test_fixed_prompts_promise_what_they_keep():
    # Five raters on the same 100 prompts in all studies, which differ by 1.35 on the logit scale.
    rng = np.random.default_rng(6)
    pull = norm.ppf((np.arange(100) + 0.5) / 100)
    pull *= 1.35 / pull.std()
    centre = brentq(lambda c: expit(c + pull).mean() - 0.58, -5, 5)
    what = np.repeat(np.arange(100), 3)
    chances = np.tile(expit(centre + pull)[what], STUDIES)
    who = rng.random((100 * STUDIES, 5)).argsort(axis=1)[:, :3].ravel()
    number = np.repeat(np.arange(1, STUDIES + 1), 300)
    outcomes = (rng.random(chances.size) < chances).astype(float)
    prompts = np.tile(what, STUDIES)
    found = pair_win_rates(0 * number, number, outcomes, who, prompts, fixed_prompts=True)
    decided = sum(result.p_value < 0.05 for result in found.values()) / STUDIES
    alike = Correlations(0, correlation(0.58, 1.35, 0))
    design = Design(5, 100, 3, fixed_prompts=True)
    assert power(design, 0.58, correlations=alike) == pytest.approx(decided, abs=0.03)


NUMBERS = (*range(3, 13), 20, 30, 31, 50, 100, 300, 1000)


@pytest.mark.parametrize("alike", [Correlations(), Correlations(0, 0), Correlations(0, 0.25)])
@pytest.mark.parametrize(
    "designs",
    [
        [Design(n, 30, 3) for n in NUMBERS],
        [Design(n, 100, 1) for n in NUMBERS],
        [Design(3, n, 3) for n in NUMBERS if n > 6],
        [Design(30, n, 1) for n in NUMBERS if n >= 20],
        [Design(30, 20, n) for n in range(1, 31)],
    ],
    ids=["raters", "raters of single votes", "prompts of three", "prompts", "votes on each"],
)
def test_more_of_anything_does_not_hurt(designs, alike):
    found = [power(design, 0.65, correlations=alike) for design in designs]
    widths = [precision(design, correlations=alike).half_width for design in designs]
    assert np.diff(found).min() > -0.007
    assert np.diff(widths).max() < 0.001


def test_uneven_loads_cost_power():
    # 30 raters, the k-th busiest with a share like 1/k: 1,500 such studies had a power of .28.
    alike = Correlations(correlation(0.6, 1, 1), correlation(0.6, 1, 1))
    even = power(Design(30, 100, 3), 0.6, correlations=alike)
    uneven = power(Design(30, 100, 3, load_spread=1.3), 0.6, correlations=alike)
    assert even > 0.5
    assert uneven == pytest.approx(0.28, abs=0.03)


@pytest.mark.parametrize("quantity", ["raters", "prompts", "votes_per_prompt"])
@pytest.mark.parametrize("goal", [HalfWidth(0.08), Power(0.8, 0.62), Power(0.9, 0.365)])
@pytest.mark.parametrize("fixed", [False, True])
def test_one_less_than_the_fewest_is_not_enough(quantity, goal, fixed):
    found = fewest(quantity, Design(60, 60, 4, fixed_prompts=fixed), goal)

    def reached(design):
        if isinstance(goal, Power):
            return power(design, goal.rate) >= goal.value
        return precision(design, rate=goal.rate).half_width <= goal.value

    sizes = {"raters": found.raters, "prompts": found.prompts, "votes": found.votes_per_prompt}
    one_less = {**sizes, quantity.split("_")[0]: getattr(found, quantity) - 1}
    assert reached(found)
    assert not reached(Design(*one_less.values(), fixed_prompts=fixed))
    others = {"raters", "prompts", "votes_per_prompt"} - {quantity}
    kept = Design(60, 60, 4)
    assert all(getattr(found, name) == getattr(kept, name) for name in others)


@pytest.mark.parametrize("goal", [Power(0.8, 0.97), Power(0.8, 0.03), HalfWidth(0.3)])
def test_no_plan_is_smaller_than_what_promises_are_proved_for(goal):
    # 4 raters, 4 prompts, 3 votes on each were promised .87 at .97: 2,000 studies decided .75.
    independent = Correlations(0, 0)
    assert fewest("prompts", Design(10, 1, 3), goal).prompts == PROVED_PROMPTS
    assert fewest("raters", Design(1, 100, 1), goal, correlations=independent).raters == 3
    assert rater_floor(goal, correlations=independent) == 3


def test_a_budget_below_that_is_answered_with_a_warning():
    assert fewest("raters", Design(3, 4, 3), Power(0.3, 0.97)).prompts == 4
    assert precision(Design(5, 30, 3)).warnings == ()
    assert precision(Design(4, 29, 3), rate=0.1).warnings == (
        "few raters",
        "few prompts",
        "few losses",
    )
    alone = precision(Design(1, 1, 1)).warnings
    assert {"one rater", "one prompt"} <= set(alone)
    assert "never decides" not in alone  # of one rater alone a report decides what a plan does not


@pytest.mark.parametrize("design", [Design(30, 2, 3), Design(3, 1, 3), Design(2, 50, 2)])
def test_a_plan_that_never_decides_says_so(design):
    assert power(design, 0.999) < 0.02
    assert "never decides" in precision(design).warnings


def test_nobody_is_planned_who_gives_no_vote():
    assert "idle raters" in precision(Design(91, 30, 3)).warnings
    assert "idle raters" not in precision(Design(90, 30, 3)).warnings
    # A crowd of ten million would do with 30 prompts, but 90 votes have 90 raters at most.
    goal = HalfWidth(precision(Design(CROWD, 30, 3)).half_width + 1e-6)
    with pytest.raises(OutOfReach, match=r"any number of raters: at least 3[1-9] prompts") as error:
        fewest("raters", Design(3, 30, 3), goal)
    needed = int(str(error.value).split("at least ")[1].split()[0])
    assert fewest("raters", Design(3, needed, 3), goal).raters <= 3 * needed
    with pytest.raises(OutOfReach):
        fewest("raters", Design(3, needed - 1, 3), goal)


@pytest.mark.parametrize("half_width", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("rho", [0.07, 0.17])
def test_no_number_of_votes_replaces_raters(half_width, rho):
    alike = Correlations(rater=rho, prompt=0.1)
    floor = rater_floor(HalfWidth(half_width), correlations=alike)
    by_formula = norm.isf(0.025) ** 2 * 0.25 * rho / half_width**2
    assert by_formula - 1 <= floor <= by_formula + 5
    design = Design(floor - 1, 1, 1)
    with pytest.raises(OutOfReach, match=rf"at least {floor:,} raters are needed"):
        fewest("prompts", design, HalfWidth(half_width), correlations=alike)
    enough = Design(floor + 1, 1, 1)
    assert fewest("prompts", enough, HalfWidth(half_width), correlations=alike).prompts > 100


def test_the_message_says_what_is_missing():
    with pytest.raises(OutOfReach) as error:
        fewest("prompts", Design(12, 50, 3), HalfWidth(0.03))
    assert str(error.value) == (
        "12 raters, 3 votes on each prompt cannot give a half-width of 0.03 at a win rate of 0.5 "
        "with any number of prompts: at least 130 raters are needed, since votes of one rater "
        "are alike (correlation 0.12)"
    )
    with pytest.raises(OutOfReach, match=r"any number of raters: at least [\d,]+ prompts"):
        fewest("raters", Design(5, 20, 3), HalfWidth(0.03))
    with pytest.raises(OutOfReach, match=r"votes per prompt: at least [\d,]+ prompts"):
        fewest("votes_per_prompt", Design(200, 20, 1), HalfWidth(0.04))
    with pytest.raises(OutOfReach, match=r"votes per prompt: at least [\d,]+ raters"):
        fewest("votes_per_prompt", Design(12, 20, 1), Power(0.8, 0.55))


def test_the_smallest_difference_has_the_wanted_power():
    design = Design(30, 100, 3)
    for wanted in (0.5, 0.8, 0.95):
        found = smallest_difference(design, power=wanted)
        assert power(design, 0.5 + found) == pytest.approx(wanted)
        assert power(design, 0.5 - found) == pytest.approx(wanted)
    strict = smallest_difference(design, confidence=0.999)
    assert strict > smallest_difference(design)


def test_two_raters_find_nothing():
    words = "2 raters, 50 prompts, 2 votes on each prompt find no difference with a power of 0.8"
    with pytest.raises(OutOfReach, match=words):
        smallest_difference(Design(2, 50, 2))
    with pytest.raises(OutOfReach, match="1 rater, 1 prompt, 1 vote on each prompt find"):
        smallest_difference(Design(1, 1, 1))


def test_correlations_recover_what_the_votes_were_made_of():
    rng = np.random.default_rng(5)
    sizes = {"raters": 100, "prompts": 400, "per_prompt": 10}
    pairs = [draw_votes(rng, **sizes, rate=0.6, sd=0.8, prompt_sd=1.2) for _ in range(5)]
    columns = [np.concatenate(column) for column in zip(*pairs, strict=True)]
    second = np.repeat(np.arange(1, 6), 4000)
    found = intraclass_correlations(check_votes(0 * second, second, *columns))
    assert found.rater == pytest.approx(correlation(0.6, 0.8, 1.2), abs=0.02)
    assert found.prompt == pytest.approx(correlation(0.6, 1.2, 0.8), abs=0.02)
    assert found.n_pairs == 5
    turned = rng.random(20_000) < 0.5
    first, second = np.where(turned, second, 0), np.where(turned, 0, second)
    outcomes = np.where(turned, 1 - columns[0], columns[0])
    again = intraclass_correlations(check_votes(first, second, outcomes, *columns[1:]))
    assert (again.rater, again.prompt) == pytest.approx((found.rater, found.prompt))


def test_a_pilot_tells_only_what_it_can():
    nothing = check_votes([], [], [], [], [])
    assert intraclass_correlations(nothing).n_pairs == 0
    raters_alone = check_votes([0] * 4, [1, 1, 1, 2], [1, 0, 0, 1], list("AABA"), list("wxyz"))
    found = intraclass_correlations(raters_alone)
    assert (found.rater is not None, found.prompt, found.n_pairs) == (True, None, 1)


DATA = os.environ.get("EVALSITE_REFERENCE_DATA")


@pytest.mark.skipif(not DATA, reason="EVALSITE_REFERENCE_DATA names no reference folder")
@pytest.mark.parametrize("name", ["tmo", "llmfao"])
def test_correlations_of_real_votes_lie_where_they_were_seen(name):
    with (Path(DATA) / f"votes/{name}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    systems = sorted({row[side] for row in rows for side in ("model_a", "model_b")})
    votes = check_votes(
        [systems.index(row["model_a"]) for row in rows],
        [systems.index(row["model_b"]) for row in rows],
        [{"a": 1, "tie": 0.5, "b": 0}[row["winner"]] for row in rows],
        [row["rater_id"] for row in rows],
        [row["prompt_id"] for row in rows],
    )
    found = intraclass_correlations(votes)
    assert 0.07 <= found.rater <= 0.17
    assert 0.03 <= found.prompt <= 0.26


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Design(0, 5, 1), "at least one of its raters"),
        (lambda: Design(5, 0, 1), "at least one of its prompts"),
        (lambda: Design(5, 5, 0), "at least one of its votes per prompt"),
        (lambda: Design(2, 5, 3), "nobody votes twice"),
        (lambda: Design(5, 5, 1, load_spread=-1), "spread of loads"),
        (lambda: Design(5, 5, 1, load_spread=math.inf), "spread of loads"),
        (lambda: Correlations(-0.1, 0.1), "shares of one whole"),
        (lambda: Correlations(0.6, 0.6), "shares of one whole"),
        (lambda: Correlations(math.nan, 0.1), "shares of one whole"),
        (lambda: HalfWidth(0), "half-width"),
        (lambda: HalfWidth(0.5), "half-width"),
        (lambda: HalfWidth(0.1, rate=1), "win rate to plan for"),
        (lambda: Power(1, 0.6), "power lies between"),
        (lambda: Power(0.8, 0.5), "nothing to find"),
        (lambda: Power(0.8, 0), "win rate to plan for"),
        (lambda: precision(Design(5, 5, 1), rate=0), "win rate to plan for"),
        (lambda: precision(Design(5, 5, 1), confidence=95), "confidence"),
        (lambda: power(Design(5, 5, 1), 1.2), "win rate to plan for"),
        (lambda: smallest_difference(Design(5, 5, 1), power=0.01), "a power lies between"),
        (lambda: fewest("raters", Design(5, 5, 1), HalfWidth(0.1), confidence=0), "confidence"),
        (lambda: rater_floor(HalfWidth(0.1), confidence=2), "confidence"),
        (lambda: design_effect([], []), "positive numbers"),
        (lambda: design_effect([1, 0], [1]), "positive numbers"),
        (lambda: design_effect([1, 2], [1, 1]), "raters give 3 votes, prompts get 2"),
    ],
)
def test_impossible_input_is_refused(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()
