import math

import numpy as np
import pytest
from scipy.stats import binom

from evalsite.stats import clopper_pearson_interval, jeffreys_interval, wilson_interval

ALL = [wilson_interval, clopper_pearson_interval, jeffreys_interval]


def test_wilson_by_hand():
    # 5 wins of 10 at z = 2 (confidence .9544997): (.5 + .2 ± 2 sqrt(.025 + .01)) / 1.4
    found = wilson_interval(5, 10, confidence=0.9544997361036416)
    assert found.low == pytest.approx((0.7 - 2 * math.sqrt(0.035)) / 1.4)
    assert found.high == pytest.approx((0.7 + 2 * math.sqrt(0.035)) / 1.4)


def test_clopper_pearson_by_hand():
    # No win in n: only a rate above high would show none with a chance below 2.5%,
    # (1 - high)^n = .025. One win in one mirrors it.
    found = clopper_pearson_interval(0, 20)
    assert found.low == 0
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert clopper_pearson_interval(1, 1).low == pytest.approx(0.025)


def test_jeffreys_by_hand():
    # One win of one: the posterior Beta(3/2, 1/2) has the distribution function
    # 1 - (2/pi) (u + sin u cos u) with cos u = sqrt(x); at the low bound it is .025.
    angle = math.acos(math.sqrt(jeffreys_interval(1, 1).low))
    assert 1 - 2 / math.pi * (angle + math.sin(angle) * math.cos(angle)) == pytest.approx(0.025)
    assert jeffreys_interval(1, 1).high == 1


# Published with R: prop.test(k, n, correct = FALSE) and binom.test(k, n).
TABLE = [
    (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
    (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
    (0, 20, (0.0, 0.1611), (0.0, 0.1684)),
    (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
]


@pytest.mark.parametrize(("wins", "trials", "wilson", "exact"), TABLE)
def test_wilson_and_clopper_pearson_agree_with_the_published_table(wins, trials, wilson, exact):
    for interval, expected in ((wilson_interval, wilson), (clopper_pearson_interval, exact)):
        found = interval(wins, trials)
        assert (found.low, found.high) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("interval", "method", "low", "high"),
    [
        (wilson_interval, "wilson", 0.481901114351048, 0.7217283176848325),
        (clopper_pearson_interval, "beta", 0.47374228993891443, 0.7318539565739899),
        (jeffreys_interval, "jeffreys", 0.48211495143116145, 0.7243784212644651),
    ],
)
def test_half_wins_agree_with_statsmodels(interval, method, low, high):
    # statsmodels 0.15.0: proportion_confint(36.5, 60, method=method)
    found = interval(36.5, 60)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("interval", [wilson_interval, jeffreys_interval])
def test_wilson_and_jeffreys_cover_the_truth_as_often_as_promised(interval, p):
    assert 0.92 < exact_coverage(interval, 60, p) < 0.98


@pytest.mark.parametrize("p", [0.01, 0.1, 0.3, 0.5, 0.9, 0.99])
def test_clopper_pearson_never_covers_less_than_promised(p):
    assert exact_coverage(clopper_pearson_interval, 60, p) >= 0.95


def exact_coverage(interval, n, p):
    # Exact, not simulated: the binomial mass of every count whose interval holds p.
    found = [interval(k, n) for k in range(n + 1)]
    holds = [i.low <= p <= i.high for i in found]
    return binom.pmf(np.arange(n + 1), n, p)[holds].sum()


@pytest.mark.parametrize("interval", ALL)
@pytest.mark.parametrize("wins", [0, 0.5, 7, 12.5, 20])
def test_losses_have_the_mirrored_interval(interval, wins):
    one, other = interval(wins, 20), interval(20 - wins, 20)
    assert (other.low, other.high) == pytest.approx((1 - one.high, 1 - one.low), abs=1e-12)


@pytest.mark.parametrize("interval", ALL)
@pytest.mark.parametrize("trials", [1, 3, 41, 3_000_001])
def test_the_observed_rate_is_never_excluded(interval, trials):
    for wins in (0, trials / 3, trials):
        found = interval(wins, trials)
        assert 0 <= found.low <= wins / trials <= found.high <= 1


@pytest.mark.parametrize("interval", ALL)
@pytest.mark.parametrize(
    ("wins", "trials"),
    [(0, 0), (1, -1), (-1, 10), (11, 10), (math.nan, 10), (1, math.nan), (1, math.inf)],
)
def test_impossible_counts_are_refused(interval, wins, trials):
    with pytest.raises(ValueError, match=r"trials|wins"):
        interval(wins, trials)


@pytest.mark.parametrize("interval", ALL)
@pytest.mark.parametrize("confidence", [0, 1, 95, -0.5, math.nan])
def test_impossible_confidence_is_refused(interval, confidence):
    with pytest.raises(ValueError, match="confidence"):
        interval(5, 10, confidence=confidence)
