import dataclasses
import json
import math

import numpy as np
import pytest
from scipy.integrate import quad, simpson
from scipy.optimize import brentq
from scipy.stats import multivariate_normal, norm
from scipy.stats import t as student

from evalsite.stats import (
    anytime_interval,
    clustered_interval,
    crossing_probabilities,
    look_interval,
    pair_win_rates,
    spending_boundaries,
    wilson_interval,
)
from tests.stats.simulated import draw_votes


def equal_looks(n_looks):
    return [k / n_looks for k in range(1, n_looks + 1)]


def test_one_look_is_no_look():
    assert spending_boundaries([1]) == pytest.approx([1.959964], abs=1e-6)
    assert spending_boundaries([1], confidence=0.9) == pytest.approx([1.644854], abs=1e-6)


def test_two_looks_by_hand():
    # Spent at one half: 4 (1 - Phi(2.241403 / sqrt(1/2))) = .003051; the look has half of it
    # on either side. For the second, with u = |Z_1| below 2.9626 and correlation sqrt(1/2):
    # P(|Z_2| >= c, |Z_1| < 2.9626) = .05 - .003051.
    first, second = spending_boundaries([0.5, 1])
    assert first == pytest.approx(norm.isf(0.0030506 / 2), abs=1e-4)
    both = multivariate_normal([0, 0], [[1, math.sqrt(0.5)], [math.sqrt(0.5), 1]])
    inside = both.cdf([first, second], lower_limit=[-first, -second])
    assert inside == pytest.approx(0.95, abs=1e-7)


def crossed(boundaries, looks):
    """The chance of crossing first at each look, by Simpson's rule over Z: another scale and
    another rule than the code has."""
    chances, grid, density, rho = [2 * norm.sf(boundaries[0])], np.zeros(1), np.ones(1), 0.0
    for k, (bound, look) in enumerate(zip(boundaries, looks, strict=True)):
        if k:
            rho = math.sqrt(looks[k - 1] / look)
            sd = math.sqrt(1 - rho**2)
            beyond = norm.sf((bound - rho * grid) / sd) + norm.cdf((-bound - rho * grid) / sd)
            chances.append(simpson(density * beyond, x=grid))
        place = np.linspace(-bound, bound, 801)
        steps = norm.pdf((place[:, None] - rho * grid) / sd) / sd if k else norm.pdf(place)
        density = simpson(density * steps, x=grid, axis=1) if k else steps
        grid = place
    return chances


# R: gsDesign(k = K, test.type = 1, alpha = .025, sfu = sfLDOF)$upper$bound, not run here but as two
# public validation suites of other programs record it (gsDesign 3.10.1; the four looks, to six
# places, under R 4.6.0). ldbounds is quoted with 3.3569 for the second look of five; Simpson's rule
# and a root search give 3.357012.
GSDESIGN = [
    ([2.9626, 1.9686], 5e-5),
    ([3.7103, 2.5114, 1.9930], 5e-5),
    ([4.332634, 2.963131, 2.359044, 2.014090], 1e-6),
    ([4.8769, 3.3570, 2.6803, 2.2898, 2.0310], 5e-5),
]
# Jennison and Turnbull (2000), tables 2.1 and 2.3: constants for a two-sided error of .05 at 2 to
# 5 looks. Simpson's rule and a root search give 2.1783, 2.2895, 2.3613, 2.4132 and 1.9774, 2.0040,
# 2.0243, 2.0401.
JENNISON_TURNBULL = [(2, 2.178, 1.977), (3, 2.289, 2.004), (4, 2.361, 2.024), (5, 2.413, 2.040)]


@pytest.mark.parametrize(("expected", "off"), GSDESIGN)
def test_boundaries_agree_with_those_of_another_program(expected, off):
    found = spending_boundaries(equal_looks(len(expected)))
    assert found == pytest.approx(expected, rel=0, abs=1.01 * off)


@pytest.mark.parametrize(("published", "off"), GSDESIGN)
def test_boundaries_spend_what_they_may_by_another_integration(published, off):
    looks = equal_looks(len(published))
    may = 4 * norm.sf(norm.isf(0.05 / 4) / np.sqrt(looks))
    assert np.cumsum(crossed(published, looks)) == pytest.approx(may, abs=off)
    assert np.cumsum(crossed(spending_boundaries(looks), looks)) == pytest.approx(may, abs=1e-9)


def test_boundaries_of_another_level_agree_with_those_of_a_second_program():
    # SeqBounds.jl's readme, bounds([0.25, 0.5, 0.75, 1.0], 0.05; h = 0.05): one-sided, and so half
    # of a two-sided error of .1; its grid is coarse.
    found = spending_boundaries([0.25, 0.5, 0.75, 1], confidence=0.9)
    assert found == pytest.approx([3.74955, 2.53993, 2.01604, 1.72014], abs=1e-4)


@pytest.mark.parametrize(("n_looks", "pocock", "o_brien_fleming"), JENNISON_TURNBULL)
def test_errors_agree_with_the_published_constants(n_looks, pocock, o_brien_fleming):
    looks = equal_looks(n_looks)
    falling = [o_brien_fleming / math.sqrt(look) for look in looks]
    for boundaries in ([pocock] * n_looks, falling):
        found = crossing_probabilities(boundaries, looks)
        assert sum(found) == pytest.approx(0.05, abs=1e-4)
        assert found == pytest.approx(crossed(boundaries, looks), abs=1e-9)


@pytest.mark.parametrize("looks", [[0.2, 0.21, 0.5, 0.9], equal_looks(40), [0.001, 0.002, 1]])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_every_look_spends_what_it_may(looks, confidence):
    found = spending_boundaries(looks, confidence=confidence)
    alpha = 1 - confidence
    may = 4 * norm.sf(norm.isf(alpha / 4) / np.sqrt(looks))
    spent = np.cumsum(crossing_probabilities(found, looks))
    assert spent == pytest.approx(may, rel=1e-7, abs=1e-10)


def test_close_looks_agree_with_the_joint_distribution_of_scores():
    # scipy integrates the same box by another method, Genz's.
    looks, boundaries = np.array([0.3, 0.302, 0.8]), np.array([1.9, 2.1, 1.7])
    scores = multivariate_normal([0, 0, 0], np.minimum.outer(looks, looks))
    edges = boundaries * np.sqrt(looks)
    inside = scores.cdf(edges, lower_limit=-edges, rng=np.random.default_rng(1))
    assert 1 - sum(crossing_probabilities(boundaries, looks)) == pytest.approx(inside, abs=1e-5)


def test_a_boundary_depends_on_earlier_looks_only():
    assert spending_boundaries([0.2, 0.5, 0.7])[:2] == spending_boundaries([0.2, 0.5])


def test_simulated_scores_cross_as_often_as_integrated():
    rng = np.random.default_rng(3)
    looks = np.array([0.1, 0.3, 0.35, 0.8])
    boundaries = [2.0, 1.5, 2.2, 1.7]
    steps = rng.standard_normal((200_000, 4)) * np.sqrt(np.diff(looks, prepend=0))
    beyond = np.abs(np.cumsum(steps, axis=1)) >= boundaries * np.sqrt(looks)
    first = np.where(beyond.any(axis=1), beyond.argmax(axis=1), 9)
    shares = [(first == k).mean() for k in range(4)]
    assert crossing_probabilities(boundaries, looks) == pytest.approx(shares, abs=0.002)


def test_a_look_by_hand():
    # 60 of 100 independent votes at z = 2: (.6 + .02 ± 2 sqrt(.0024 + .0001)) / 1.04.
    result = clustered_interval([1] * 60 + [0] * 40, None, None)
    found = look_interval(result, 2)
    assert (found.low, found.high) == pytest.approx((0.52 / 1.04, 0.72 / 1.04))
    assert (found.boundary, found.decided) == (2, False)
    assert look_interval(result, 1.99).decided


def test_a_look_reads_its_boundary_from_students_distribution():
    result = clustered_interval(*draw_votes(np.random.default_rng(1), raters=6))
    boundary = norm.isf(0.004)
    found = look_interval(result, boundary)
    same = clustered_interval(*draw_votes(np.random.default_rng(1), raters=6), confidence=0.992)
    assert result.df < 6
    assert (found.low, found.high) == pytest.approx((same.low, same.high))
    distance = abs(result.win_rate - 0.5) / math.sqrt(0.25 / result.n_eff)
    edge = norm.isf(student.sf(distance, result.df))
    assert look_interval(result, edge * 0.999).decided
    assert not look_interval(result, edge * 1.001).decided


def test_a_look_that_may_spend_nothing_decides_nothing():
    result = clustered_interval(*draw_votes(np.random.default_rng(1), raters=4, rate=0.95))
    (boundary,) = spending_boundaries([0.001])
    found = look_interval(result, boundary)
    assert (found.low, found.high, found.decided) == (0, 1, False)
    json.dumps(dataclasses.asdict(found), allow_nan=False)


def test_an_interval_at_any_time_by_hand():
    # a = .05: -W(-a^2/e) - 1 = x solves (x + 1) exp(-x) = a^2, x = 8.21197; at the chosen time
    # q^2 = (1 + 1/x)(log(1 + x) - 2 log a) = x + 1, since log(x + 1) = x + 2 log a there.
    result = clustered_interval([1] * 60 + [0] * 40, None, None)
    found = anytime_interval(result, tightest_at=100)
    x = 8.21197
    assert (x + 1) * math.exp(-x) == pytest.approx(0.05**2, rel=1e-4)
    assert found.boundary == pytest.approx(math.sqrt(x + 1), abs=1e-4)
    later = anytime_interval(result, tightest_at=25)
    x *= 4
    quantile = math.sqrt((1 + 1 / x) * (math.log(x + 1) - 2 * math.log(0.05)))
    assert later.boundary == pytest.approx(quantile, abs=1e-4)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("tightest_at", [20, 100, 3000])
def test_the_boundary_at_any_time_is_where_robbins_mixture_reaches_its_level(
    confidence, tightest_at
):
    # With S the sum of n standardised votes, exp(l S - l^2 n / 2) is a fair game for any l, and so
    # is its mean over l ~ N(0, rho^2), integrated here by scipy. Ville: it ever reaches 1/a with
    # chance a. rho is that of the formula, whose W is found by another root search.
    alpha, n = 1 - confidence, 100
    x = brentq(lambda x: math.log1p(x) - x - 2 * math.log(alpha), 1e-9, 100)
    rho = math.sqrt(x / tightest_at)
    result = clustered_interval([1] * 60 + [0] * 40, None, None)
    bound = anytime_interval(result, tightest_at=tightest_at, confidence=confidence).boundary
    total = bound * math.sqrt(n)
    centre = total / (n + rho**-2)  # of the integrand, which is as wide as 1 / sqrt(n + 1/rho^2)
    reach = 12 / math.sqrt(n + rho**-2)
    mixture, _ = quad(
        lambda a: math.exp(a * total - a * a * n / 2) * norm.pdf(a, scale=rho),
        centre - reach,
        centre + reach,
    )
    assert mixture == pytest.approx(1 / alpha, rel=1e-6)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_an_interval_at_any_time_is_tightest_where_it_was_told(confidence):
    result = clustered_interval([1] * 60 + [0] * 40, None, None)
    here, *others = (
        anytime_interval(result, tightest_at=at, confidence=confidence).boundary
        for at in (100, 80, 125)
    )
    assert norm.isf((1 - confidence) / 2) < here < min(others)


STUDIES, LOOKS = 300, equal_looks(5)


def test_looking_again_and_again_is_wrong_as_rarely_as_promised():
    # Raters come one after another; no difference exists. Of 5,000 such studies 4.8% were
    # wrong at a planned look, of 2,000 .8% at any one and 14% with the interval for one look.
    rng = np.random.default_rng(14)
    boundaries = spending_boundaries(LOOKS)
    wrong = np.zeros(3)
    for _ in range(STUDIES):
        columns = draw_votes(rng, raters=30, prompts=100, per_prompt=3, rate=0.5, sd=1.0)
        order = np.argsort(columns[1], kind="stable")
        ever = np.zeros(3, dtype=bool)
        for look, boundary in zip(LOOKS, boundaries, strict=True):
            votes = [column[order[: round(300 * look)]] for column in columns]
            result = clustered_interval(*votes)
            naive = wilson_interval(result.wins, result.n)
            ever |= [
                look_interval(result, boundary).decided,
                anytime_interval(result, tightest_at=300).decided,
                not naive.low <= 0.5 <= naive.high,
            ]
        wrong += ever
    planned, anytime, naive = wrong / STUDIES
    assert 0.02 <= planned <= 0.07
    assert anytime <= 0.05
    assert 0.23 <= naive <= 0.64


def test_a_pair_without_votes_is_undecided():
    nothing = pair_win_rates([], [], [], [], [], pairs=[(0, 1)])[0, 1]
    for found in (look_interval(nothing, 2), anytime_interval(nothing, tightest_at=100)):
        assert (found.low, found.high, found.decided) == (None, None, False)


@pytest.mark.parametrize(
    ("looks", "reason"),
    [
        ([], "at least one look"),
        ([0, 1], "between 0 and 1"),
        ([0.5, 1.2], "between 0 and 1"),
        ([0.5, math.nan], "between 0 and 1"),
        ([0.5, 0.4], "follow each other"),
        ([0.5, 0.5005], "follow each other"),
    ],
)
def test_impossible_plans_are_refused(looks, reason):
    with pytest.raises(ValueError, match=reason):
        spending_boundaries(looks)
    with pytest.raises(ValueError, match=reason):
        crossing_probabilities([2.0] * len(looks), looks)


def test_impossible_boundaries_are_refused():
    result = clustered_interval([1, 0], None, None)
    for boundary in (0, -1, math.nan):
        with pytest.raises(ValueError, match="positive"):
            look_interval(result, boundary)
        with pytest.raises(ValueError, match="positive"):
            crossing_probabilities([boundary], [1])
    with pytest.raises(ValueError, match="1 boundaries for 2 looks"):
        crossing_probabilities([2], [0.5, 1])


@pytest.mark.parametrize("confidence", [0, 1, 95, math.nan])
def test_impossible_confidence_is_refused(confidence):
    with pytest.raises(ValueError, match="confidence"):
        spending_boundaries([1], confidence=confidence)
    with pytest.raises(ValueError, match="confidence"):
        anytime_interval(
            clustered_interval([1, 0], None, None), tightest_at=9, confidence=confidence
        )


@pytest.mark.parametrize("tightest_at", [0, -5, math.inf, math.nan])
def test_impossible_times_are_refused(tightest_at):
    with pytest.raises(ValueError, match="tightest_at"):
        anytime_interval(clustered_interval([1, 0], None, None), tightest_at=tightest_at)
