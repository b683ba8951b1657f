import dataclasses
import statistics

import numpy as np
import pytest

from evalsite.stats import clustered_interval, pair_win_rates
from tests.stats.simulated import draw_votes

NO_VOTES = {"first": [], "second": [], "outcomes": [], "raters": [], "prompts": []}


def one_study(seed=0, pairs=((0, 1), (0, 2), (1, 2)), rates=(0.5, 0.7, 0.8)):
    """Votes on some pairs of systems, shuffled together, as columns."""
    rng = np.random.default_rng(seed)
    parts = []
    for (i, j), rate in zip(pairs, rates, strict=True):
        votes = draw_votes(rng, raters=10, prompts=20, per_prompt=6, rate=rate, tie=0.2)
        parts.append((np.full(120, i), np.full(120, j), *votes))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = rng.permutation(columns[0].size)
    names = ("first", "second", "outcomes", "raters", "prompts")
    return {name: column[order] for name, column in zip(names, columns, strict=True)}


def with_a_clean_sweep(study, pair=(2, 3)):
    """The study, and a further pair whose first system wins all of 40 votes."""
    votes = np.arange(40)
    extra = (np.full(40, pair[0]), np.full(40, pair[1]), np.ones(40), votes % 20, votes // 2)
    return {name: np.concatenate([study[name], x]) for name, x in zip(study, extra, strict=True)}


def test_every_pair_gets_the_interval_of_its_own_votes():
    study = one_study()
    found = pair_win_rates(**study)
    assert list(found) == [(0, 1), (0, 2), (1, 2)]
    for (i, j), result in found.items():
        own = (study["first"] == i) & (study["second"] == j)
        columns = (study[name][own] for name in ("outcomes", "raters", "prompts"))
        expected = clustered_interval(*columns)
        assert (result.n, result.wins, result.ties) == (120, expected.wins, expected.ties)
        assert (result.low, result.high) == pytest.approx((expected.low, expected.high))


def of_every_kind(seed=0):
    """Votes on 190 pairs: many and few, labelled or not, of one rater, all won, all tied."""
    rng = np.random.default_rng(seed)
    first, second = np.triu_indices(20, 1)
    pair = np.concatenate([rng.integers(0, 190, 3_000), np.arange(190).repeat(2)])
    votes = {"first": first[pair], "second": second[pair]}
    votes["outcomes"] = rng.choice([0, 0.5, 1], pair.size, p=[0.4, 0.2, 0.4])
    votes["outcomes"][pair % 10 == 1] = 1
    votes["outcomes"][pair % 10 == 2] = 0.5
    votes["raters"] = rng.integers(0, 12, pair.size).astype(object)
    votes["raters"][pair % 10 == 3] = 5
    votes["raters"][pair % 10 == 4] = None
    votes["raters"][rng.random(pair.size) < 0.05] = None
    votes["prompts"] = rng.integers(0, 40, pair.size).astype(object)
    votes["prompts"][pair % 10 == 5] = 7
    votes["prompts"][pair % 7 == 6] = None
    votes["prompts"][pair % 11 == 0] = np.arange(1000, 1000 + (pair % 11 == 0).sum())
    return votes


@pytest.mark.parametrize("options", [{}, {"fixed_prompts": True}, {"ties": "drop"}])
def test_all_pairs_at_once_give_what_each_gives_alone(options):
    votes = of_every_kind()
    found = pair_win_rates(**votes, **options)
    effects = [rate.design_effect for rate in found.values() if rate.design_effect is not None]
    states = set()
    for (i, j), rate in found.items():
        own = (votes["first"] == i) & (votes["second"] == j)
        if options.get("ties") == "drop" and not (votes["outcomes"][own] != 0.5).any():
            assert rate.warnings == ("no decided votes",)
            continue
        alone = clustered_interval(
            *(votes[name][own] for name in ("outcomes", "raters", "prompts")),
            **options,
            typical_design_effect=statistics.median(effects),
        )
        states.add((rate.method, rate.estimand))
        for name, value in dataclasses.asdict(alone).items():
            same = pytest.approx(value, rel=1e-12) if isinstance(value, float) else value
            assert getattr(rate, name) == same
    assert len(states) >= 4  # methods and estimands


def test_pairs_do_not_depend_on_what_they_are_computed_with():
    # More votes than are gone through at once, so that some pairs start a batch of their own.
    rng = np.random.default_rng(1)
    first = rng.integers(0, 2, 400_000)
    columns = rng.integers(0, 2, 400_000), rng.integers(0, 50, (2, 400_000))
    votes = (first, first + 1 + rng.integers(0, 2, 400_000), columns[0], *columns[1])
    found = pair_win_rates(*votes)
    assert len(found) == 4
    for pair, rate in found.items():
        own = (votes[0] == pair[0]) & (votes[1] == pair[1])
        assert pair_win_rates(*(column[own] for column in votes)) == {pair: rate}


def test_options_reach_every_pair():
    found = pair_win_rates(**one_study(), confidence=0.9, fixed_prompts=True, ties="drop")
    for result in found.values():
        assert result.confidence == 0.9
        assert result.estimand == "random rater, these prompts, decided votes"
        assert result.win_rate == result.win_rate_decided


def test_results_follow_the_plan_in_order_and_orientation():
    study = one_study()
    plain = pair_win_rates(**study)
    found = pair_win_rates(**study, pairs=[(2, 1), (0, 3), (0, 1)])
    assert list(found) == [(2, 1), (0, 3), (0, 1), (0, 2)]  # unplanned votes come last
    assert found[2, 1].win_rate == pytest.approx(1 - plain[1, 2].win_rate)
    assert (found[2, 1].wins, found[2, 1].losses) == (plain[1, 2].losses, plain[1, 2].wins)
    assert found[2, 1].high == pytest.approx(1 - plain[1, 2].low)
    assert found[0, 1] == plain[0, 1]


def test_rows_may_name_their_systems_in_either_order():
    study = one_study()
    turned = dict(study)
    flip = np.random.default_rng(3).random(360) < 0.5
    turned["first"] = np.where(flip, study["second"], study["first"])
    turned["second"] = np.where(flip, study["first"], study["second"])
    turned["outcomes"] = np.where(flip, 1 - study["outcomes"], study["outcomes"])
    assert pair_win_rates(**turned) == pair_win_rates(**study)


def test_a_planned_pair_without_votes_has_no_numbers():
    found = pair_win_rates(**NO_VOTES, pairs=[(0, 1)], fixed_prompts=True)
    result = found[0, 1]
    assert (result.n, result.wins, result.ties, result.losses) == (0, 0, 0, 0)
    assert (result.win_rate, result.low, result.high, result.p_value) == (None,) * 4
    assert result.warnings == ("no votes",)
    assert result.estimand == "random rater, these prompts"


def test_no_votes_and_no_plan_give_nothing():
    assert pair_win_rates(**NO_VOTES) == {}


def test_a_clean_sweep_borrows_the_median_design_effect_of_the_others():
    study = with_a_clean_sweep(one_study())
    found = pair_win_rates(**study, pairs=[(3, 2)])
    typical = statistics.median(found[pair].design_effect for pair in [(0, 1), (0, 2), (1, 2)])
    assert typical > 1
    sweep = found[3, 2]
    assert sweep.n_eff == pytest.approx(40 / typical)
    assert (sweep.low, sweep.df) == (0, 19)
    assert sweep.warnings == ("few losses", "all lost")


def test_a_clean_sweep_alone_says_that_it_borrowed_nothing():
    study = {name: column[360:] for name, column in with_a_clean_sweep(one_study()).items()}
    found = pair_win_rates(**study)[2, 3]
    assert found.n_eff == 40
    assert found.warnings == ("few losses", "all won", "no design effect")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"second": [0, 0]}, "compares a system with itself"),
        ({"second": [1, -1]}, "numbered from 0"),
        ({"second": [1.0, 1.5]}, "whole numbers"),
        ({"first": [0]}, "1 systems named for 2 votes"),
        ({"outcomes": [1, 0.3]}, "outcomes must be 0, 0.5 or 1"),
        ({"raters": ["A"]}, "1 rater labels for 2 votes"),
        ({"pairs": [(0, 1), (1, 0)]}, "planned twice"),
        ({"pairs": [(1, 1)]}, "two different systems"),
        ({"pairs": [(0, -1)]}, "two different systems"),
        ({"confidence": 0}, "confidence"),
    ],
)
def test_impossible_input_is_refused(change, reason):
    good = {"first": [0, 0], "second": [1, 1], "outcomes": [1, 0]}
    good |= {"raters": ["A", "B"], "prompts": ["x", "y"]}
    pair_win_rates(**good)
    with pytest.raises(ValueError, match=reason):
        pair_win_rates(**{**good, **change})
