import math

import numpy as np
import pytest

from evalsite.stats import holm


def test_holm_by_hand():
    # Sorted .005 .01 .03 .04 times 4 3 2 1 is .02 .03 .06 .04; none may fall below the last.
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == [0.03, 0.06, 0.06, 0.02]


def test_holm_agrees_with_statsmodels():
    # statsmodels 0.15.0: multipletests(p, method="holm")[1]
    p = [0.2, 0.013, 0.6, 0.04, 0.0002, 0.013]
    expected = [0.4, 0.065, 0.6, 0.12, 0.0012000000000000001, 0.065]
    assert holm(p) == pytest.approx(expected, abs=1e-15)


def test_one_claim_needs_no_adjustment():
    assert holm([0.03]).tolist() == [0.03]
    assert holm([]).tolist() == []


def test_adjusted_values_stay_probabilities():
    assert holm([0.9, 0.8, 1.0]).tolist() == [1, 1, 1]


def test_holm_keeps_the_chance_of_any_false_claim_below_the_level():
    rng = np.random.default_rng(8)
    # Ten true hypotheses, dependent through a common part.
    p = rng.random((4000, 10)) * 0.5 + rng.random((4000, 1)) * 0.5
    p = np.argsort(np.argsort(p, axis=0), axis=0) / 4000  # uniform, each of them
    false = np.mean([(holm(row) < 0.05).any() for row in p])
    assert 0.01 < false < 0.055
    naive = np.mean((p < 0.05).any(axis=1))
    assert naive > 0.1


@pytest.mark.parametrize("wrong", [[0.1, 1.2], [-0.1], [0.1, math.nan], [[0.1, 0.2]]])
def test_impossible_p_values_are_refused(wrong):
    with pytest.raises(ValueError, match="p-values"):
        holm(wrong)
