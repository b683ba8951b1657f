import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from scipy.stats import chi2, norm

from evalsite.stats import Fragility, check_votes, clustered_interval, fragility
from tests.stats.simulated import draw_votes


def of_one_pair(outcomes, raters, prompts):
    n = len(outcomes)
    return check_votes(np.zeros(n, int), np.ones(n, int), outcomes, raters, prompts)


def claimed(outcomes, raters, prompts, kept, level=0.05):
    """Whether the interval of the votes kept still says that the first system is better."""
    if not kept.any():
        return False
    found = clustered_interval(outcomes[kept], raters[kept], prompts[kept])
    return found.win_rate > 0.5 and found.p_value < level


def fewest_by_brute_force(votes, units, at_most):
    """The size of the smallest set of units without which nothing is claimed, and its sizes."""
    for size in range(1, at_most + 1):
        for gone in itertools.combinations(np.unique(units), size):
            if not claimed(*votes, ~np.isin(units, gone)):
                return size
    return None


@pytest.mark.parametrize(("wins", "losses"), [(60, 40), (90, 10), (30, 70), (900, 700), (905, 700)])
@pytest.mark.parametrize("level", [0.05, 0.001])
def test_independent_votes_by_formula(wins, losses, level):
    # Without k of the winner's votes z = (lead - k) / sqrt(n - k), and no other votes do as well.
    votes = of_one_pair([1] * wins + [0] * losses, None, None)
    found = fragility(votes, (0, 1), level=level)
    lead, n, needed = abs(wins - losses), wins + losses, norm.isf(level / 2)
    if lead / math.sqrt(n) < needed:
        assert not found.decided
        assert (found.n_votes, found.n_raters) == (None, None)
    else:
        ks = range(1, n)
        assert found.n_votes == next(k for k in ks if (lead - k) / math.sqrt(n - k) < needed)
    assert (found.n_raters, found.n_top_raters, found.without_top_raters) == (None, 0, None)


def test_sixty_to_forty_hangs_on_one_vote():
    # z = 2 with it, 19 / sqrt(99) = 1.91 without.
    found = fragility(of_one_pair([1] * 60 + [0] * 40, None, None), (0, 1))
    assert (found.decided, found.n_votes, found.n_votes_exact) == (True, 1, True)


@pytest.mark.parametrize("seed", [80, 109, 114])
def test_the_fewest_votes_of_small_studies_agree_with_brute_force(seed):
    rng = np.random.default_rng(seed)
    votes = draw_votes(rng, raters=8, prompts=9, per_prompt=3, rate=0.85, sd=0.3)
    found = fragility(of_one_pair(*votes), (0, 1))
    assert found.n_votes == fewest_by_brute_force(votes, np.arange(27), found.n_votes)
    assert found.n_votes_exact


@pytest.mark.parametrize("seed", [1, 19, 79, 114])
def test_the_fewest_raters_of_small_studies_agree_with_brute_force(seed):
    # In the last two the greedy search alone finds a rater more than is needed.
    rng = np.random.default_rng(seed)
    votes = draw_votes(rng, raters=8, prompts=20, per_prompt=3, rate=0.75, sd=0.7, heavy=True)
    found = fragility(of_one_pair(*votes), (0, 1))
    assert found.n_raters == fewest_by_brute_force(votes, votes[1], found.n_raters)
    assert found.n_raters_exact


@pytest.mark.parametrize(
    ("seed", "study", "fewest"),
    [
        (148, {"raters": 5, "prompts": 60, "rate": 0.72, "sd": 0}, 35),
        (150, {"raters": 10, "prompts": 100, "rate": 0.62, "sd": 0.2}, 32),
    ],
)
def test_where_the_variance_stands_at_its_floor_influence_is_reckoned_with_the_floor(
    seed, study, fewest
):
    # Reckoned with a floor of a tenth of independent votes, the search finds a vote more in both.
    votes = draw_votes(np.random.default_rng(seed), **study)
    whole = clustered_interval(*votes)
    floor = chi2.ppf(0.04, whole.df) / whole.df
    assert whole.design_effect == pytest.approx(floor)
    assert fragility(of_one_pair(*votes), (0, 1)).n_votes <= fewest


def test_a_rater_whose_absence_turns_the_result_round_undoes_the_claim():
    # The other four agree on the other system, so nothing is unclear after the fifth has left.
    outcomes = [1] * 30 + ([1] * 4 + [0] * 6) * 4
    raters = [0] * 30 + [1 + k // 10 for k in range(40)]
    found = fragility(of_one_pair(outcomes, raters, None), (0, 1), level=0.6)
    assert (found.decided, found.n_raters, found.raters) == (True, 1, (0,))
    assert found.without_top_raters.p_value < 0.6


@pytest.mark.parametrize("seed", [0, 1])
def test_a_set_that_is_found_undoes_the_claim_and_its_last_rater_is_needed(seed):
    rng = np.random.default_rng(seed)
    votes = draw_votes(rng, raters=60, prompts=60, per_prompt=4, rate=0.72, sd=0.5)
    found = fragility(of_one_pair(*votes), (0, 1))
    assert found.decided
    assert not found.n_raters_exact
    codes = of_one_pair(*votes).raters
    assert len(set(found.raters)) == found.n_raters
    assert not claimed(*votes, ~np.isin(codes, found.raters))
    assert claimed(*votes, ~np.isin(codes, found.raters[:-1]))


def test_the_result_without_the_busiest_twentieth():
    votes = draw_votes(np.random.default_rng(4), raters=50, prompts=90, rate=0.7, heavy=True)
    found = fragility(of_one_pair(*votes), (0, 1), confidence=0.9)
    codes = of_one_pair(*votes).raters
    busy = np.argsort(-np.bincount(codes), kind="stable")
    n_top = math.ceil(np.unique(codes).size / 20)
    assert found.n_top_raters == n_top
    rest = ~np.isin(codes, busy[:n_top])
    expected = clustered_interval(*(column[rest] for column in votes), confidence=0.9)
    assert found.without_top_raters.n == expected.n
    assert found.without_top_raters.low == pytest.approx(expected.low)


def test_of_equally_busy_raters_the_most_favourable_leaves():
    outcomes = [won for wins in (1, 4, 4, 4, 4, 1, 4, 4) for won in [1] * wins + [0] * (5 - wins)]
    found = fragility(of_one_pair(outcomes, np.repeat(np.arange(8), 5), None), (0, 1))
    assert found.n_top_raters == 1
    assert found.without_top_raters.wins == sum(outcomes) - 4


def test_both_orders_of_a_pair_are_the_same_claim():
    votes = draw_votes(np.random.default_rng(6), rate=0.75, prompts=30, tie=0.1)
    one = fragility(of_one_pair(*votes), (0, 1))
    other = fragility(of_one_pair(*votes), (1, 0))
    turned = fragility(of_one_pair(1 - votes[0], *votes[1:]), (0, 1))
    for found in (other, turned):
        assert (found.n_votes, found.n_raters) == (one.n_votes, one.n_raters)
        assert found.without_top_raters.win_rate == pytest.approx(
            1 - one.without_top_raters.win_rate
        )


def test_only_the_pairs_own_votes_count():
    votes = draw_votes(np.random.default_rng(6), rate=0.7, prompts=40)
    alone = fragility(of_one_pair(*votes), (0, 1))
    others = draw_votes(np.random.default_rng(7), rate=0.3, prompts=40)
    n = votes[0].size
    first = np.concatenate([np.zeros(n, int), np.ones(n, int)])
    second = np.concatenate([np.ones(n, int), np.full(n, 2)])
    columns = [np.concatenate(column) for column in zip(votes, others, strict=True)]
    beside = fragility(check_votes(first, second, *columns), (0, 1))
    assert dataclasses.replace(beside, raters=alone.raters) == alone


def test_a_stricter_level_takes_fewer_votes():
    votes = of_one_pair(*draw_votes(np.random.default_rng(9), rate=0.7, prompts=40, sd=0.5))
    usual, strict = (fragility(votes, (0, 1), level=level) for level in (0.05, 0.005))
    assert strict.n_votes < usual.n_votes
    assert strict.n_raters <= usual.n_raters


def test_votes_without_a_rater_stay():
    outcomes, raters, prompts = draw_votes(np.random.default_rng(3), rate=0.8, prompts=60)
    raters = np.where(np.arange(180) % 10 < 3, None, raters.astype(object))
    found = fragility(of_one_pair(outcomes, raters, prompts), (0, 1))
    codes = of_one_pair(outcomes, raters, prompts).raters
    assert found.decided
    assert set(found.raters) <= set(codes) - {-1}
    assert not claimed(outcomes, raters, prompts, ~np.isin(codes, found.raters))
    assert claimed(outcomes, raters, prompts, ~np.isin(codes, found.raters[:-1]))


def test_dropped_ties_are_no_votes_that_could_leave():
    outcomes, raters, prompts = draw_votes(np.random.default_rng(3), rate=0.75, prompts=50, tie=0.3)
    decided = outcomes != 0.5
    found = fragility(of_one_pair(outcomes, raters, prompts), (0, 1), ties="drop")
    plain = fragility(
        of_one_pair(*(column[decided] for column in (outcomes, raters, prompts))), (0, 1)
    )
    assert (found.n_votes, found.n_raters) == (plain.n_votes, plain.n_raters)
    assert found.without_top_raters.ties > 0


def test_fixed_prompts_change_the_claim():
    votes = of_one_pair(*draw_votes(np.random.default_rng(3), rate=0.7, prompts=30, sd=1.0))
    found = fragility(votes, (0, 1), fixed_prompts=True)
    assert found.without_top_raters.estimand == "random rater, these prompts"


def test_a_clean_sweep_is_fragile_too():
    votes = np.ones(24), np.arange(24) % 8, np.arange(24) % 6
    found = fragility(of_one_pair(*votes), (0, 1), typical_design_effect=2)

    def p_value(gone):
        rest = (column[~np.isin(votes[1], gone)] for column in votes)
        return clustered_interval(*rest, typical_design_effect=2).p_value

    assert found.decided
    assert p_value(found.raters[:-1]) < 0.05 <= p_value(found.raters)


def test_a_pair_without_votes_claims_nothing():
    votes = check_votes([0], [1], [1], ["A"], ["x"], n_systems=3)
    assert fragility(votes, (1, 2)) == Fragility(False, None, False, None, False, (), 0, None)


def test_order_and_names_change_nothing():
    rng = np.random.default_rng(8)
    outcomes, raters, prompts = draw_votes(rng, rate=0.75, prompts=50, heavy=True)
    one = fragility(of_one_pair(outcomes, raters, prompts), (0, 1))
    order, names = rng.permutation(outcomes.size), rng.permutation(30)
    other = fragility(of_one_pair(outcomes[order], names[raters[order]], -prompts[order]), (0, 1))
    assert (other.n_votes, other.n_raters) == (one.n_votes, one.n_raters)
    assert other.without_top_raters.low == pytest.approx(one.without_top_raters.low)


def test_of_votes_that_carry_the_same_no_row_goes_first():
    rng, n = np.random.default_rng(7), 150
    rng.integers(0, 20, n)
    prompts, outcomes = rng.integers(0, 10, n), (rng.random(n) < 0.8).astype(float)
    rng.random(n)
    outcomes[rng.random(n) < 0.2] = 0.5
    found = set()
    for _ in range(3):
        order = rng.permutation(n)
        votes = check_votes([0] * n, [1] * n, outcomes[order], None, prompts[order])
        found.add(fragility(votes, (0, 1)).n_votes)
    assert len(found) == 1


def test_many_votes_take_few_intervals(monkeypatch):
    # Counted, not timed: a shared machine must not fail this.
    n_intervals = 0

    def count(samples, *options):
        nonlocal n_intervals
        n_intervals += samples.sizes.size
        return original(samples, *options)

    original = fragility.__globals__["win_rates_of"]
    monkeypatch.setitem(fragility.__globals__, "win_rates_of", count)
    rng = np.random.default_rng(4)
    raters, prompts = rng.integers(0, 300, 60_000), rng.integers(0, 900, 60_000)
    wins = rng.random(60_000) < 0.6 + 0.15 * rng.standard_normal(300)[raters]
    votes = wins.astype(float), raters, prompts
    found = fragility(of_one_pair(*votes), (0, 1))
    assert found.n_votes > 1000
    assert found.n_raters > 20
    assert n_intervals < 35
    assert not claimed(*votes, ~np.isin(raters, found.raters))
    assert claimed(*votes, ~np.isin(raters, found.raters[:-1]))


def test_a_tie_of_all_votes_is_no_claim():
    found = fragility(of_one_pair([1, 0] * 10, list("AABBCCDDEE") * 2, None), (0, 1))
    assert (found.decided, found.n_votes, found.n_top_raters) == (False, None, 1)


def test_a_result_can_be_written_as_strict_json():
    votes = of_one_pair(*draw_votes(np.random.default_rng(6), rate=0.8))
    json.dumps(dataclasses.asdict(fragility(votes, (0, 1))), allow_nan=False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pair": (0, 0)}, "is not a pair of 2 systems"),
        ({"pair": (0, 2)}, "is not a pair of 2 systems"),
        ({"pair": (-1, 1)}, "is not a pair of 2 systems"),
        ({"level": 0}, "a level lies between 0 and 1"),
        ({"level": math.nan}, "a level lies between 0 and 1"),
        ({"confidence": 95}, "confidence"),
        ({"ties": "ignore"}, "ties"),
    ],
)
def test_impossible_input_is_refused(change, reason):
    votes = of_one_pair([1, 0], ["A", "B"], ["x", "y"])
    with pytest.raises(ValueError, match=reason):
        fragility(votes, **{"pair": (0, 1), **change})
