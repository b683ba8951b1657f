import dataclasses
import itertools
import json

import numpy as np
import pytest
from scipy.special import expit

from evalsite.stats import (
    Options,
    check_votes,
    clustered_interval,
    holm,
    prompt_influence,
    slice_win_rates,
)

# Four prompts with two votes each, two of them in either slice; system 0 against 1.
FIRST = [0, 0, 0, 1, 0, 0, 1, 0]
OUTCOMES = [1, 1, 1, 1, 0, 0, 0.5, 0]
PROMPTS = list("wwxxyyzz")
SLICES = ["animals"] * 4 + ["people"] * 4


VOTES = {
    "first": FIRST,
    "second": [1 - system for system in FIRST],
    "outcomes": OUTCOMES,
    "raters": list("ABABABAB"),
    "prompts": PROMPTS,
}


def columns(**change):
    """The votes above as columns, some of them changed."""
    return check_votes(**{**VOTES, **change})


def draw_slices(rng, *, prompts=(30, 15, 15), spread=(0.8, 0.8, 0.8), shift=0.0, raters=20):
    """Votes on prompts of three slices, whose win rates are 1/2 apart from `shift` in the last.

    Busy raters vote more; each leans towards one of the systems; prompts have 2 to 6 votes.
    """
    slices = np.repeat(np.arange(3), prompts)
    pull = np.asarray(spread)[slices] * rng.standard_normal(slices.size) + shift * (slices == 2)
    prompt = np.repeat(np.arange(slices.size), rng.integers(2, 7, slices.size))
    load = 1 / np.arange(1, raters + 1)
    who = rng.choice(raters, prompt.size, p=load / load.sum())
    logits = pull[prompt] + 0.5 * rng.standard_normal(raters)[who]
    outcomes = (rng.random(prompt.size) < expit(logits)).astype(float)
    none, one = np.zeros(prompt.size, dtype=int), np.ones(prompt.size, dtype=int)
    return check_votes(none, one, outcomes, who, prompt), slices[prompt]


# -- win rates -----------------------------------------------------------------------------


def test_every_slice_gets_the_win_rate_of_its_own_votes():
    found = slice_win_rates(columns(), SLICES, rng=1).win_rates
    assert [(one.label, one.first, one.second) for one in found] == [
        ("animals", 0, 1),
        ("people", 0, 1),
    ]
    assert found[0].result == clustered_interval([1, 1, 1, 0], list("ABAB"), list("wwxx"))
    assert found[1].result == clustered_interval([0, 0, 0.5, 0], list("ABAB"), list("yyzz"))


def test_p_values_are_adjusted_over_all_pairs_and_slices():
    rng = np.random.default_rng(2)
    first, second = np.array(list(itertools.combinations(range(3), 2)) * 60).T
    votes = check_votes(
        first, second, rng.choice([0, 1], 180, p=[0.3, 0.7]), rng.integers(0, 9, 180), range(180)
    )
    found = slice_win_rates(votes, rng.choice(list("abcd"), 180), rng=1).win_rates
    assert len(found) == 12
    expected = holm([one.result.p_value for one in found])
    assert [one.p_holm for one in found] == pytest.approx(expected)


def test_a_planned_pair_without_votes_is_part_of_the_family():
    alone = slice_win_rates(columns(), SLICES, rng=1).win_rates
    found = slice_win_rates(columns(), SLICES, rng=1, pairs=[(1, 0), (0, 2)]).win_rates
    assert [(one.label, one.first, one.second) for one in found] == [
        (label, *pair) for label in ("animals", "people") for pair in ((1, 0), (0, 2))
    ]
    assert (found[1].result.n, found[1].p_holm) == (0, None)
    smallest = min(one.result.p_value for one in alone)
    assert min(one.p_holm for one in alone) == pytest.approx(2 * smallest)
    assert found[2].p_holm == pytest.approx(min(1, 4 * smallest))


def test_votes_without_a_slice_are_left_out_and_counted():
    kept = [*SLICES[:6], None, "none"]
    found = slice_win_rates(columns(), kept, rng=1)
    assert found.n_unlabelled == 2
    assert [one.result.n for one in found.win_rates] == [4, 2]


def test_options_reach_every_slice():
    found = slice_win_rates(columns(), SLICES, rng=1, options=Options(0.9, True, "drop"))
    for one in found.win_rates:
        assert one.result.confidence == 0.9
        assert one.result.estimand.endswith("these prompts, decided votes")


@pytest.mark.parametrize(
    ("labels", "ordered"),
    [
        (["people", None, "animals", "Dogs"], ["Dogs", "animals", "people"]),
        ([10, 9, "none", 2], [2, 9, 10]),
        (["b", 3, "a", 2], [2, 3, "a", "b"]),
    ],
)
def test_slices_come_in_one_order_whatever_the_order_of_the_votes(labels, ordered):
    slices = [label for label in labels for _ in range(2)]
    one = slice_win_rates(columns(), slices, rng=1)
    turned = check_votes(**{name: column[::-1] for name, column in VOTES.items()})
    other = slice_win_rates(turned, slices[::-1], rng=1)
    assert [rate.label for rate in one.win_rates] == ordered
    assert [rate.label for rate in other.win_rates] == ordered
    assert {rate.result.n for rate in other.win_rates} == {2}


def test_slices_may_be_numbers():
    votes, slices = draw_slices(np.random.default_rng(3))
    found = slice_win_rates(votes, slices, rng=1)
    assert [one.label for one in found.win_rates] == [0, 1, 2]
    json.dumps(dataclasses.asdict(found), allow_nan=False)


# -- heterogeneity -------------------------------------------------------------------------


def test_heterogeneity_by_hand():
    # Half-wins of two on w 2, x 1, y 0, z 1/2 (turned). Slices: rates 3/4 and 1/8; variances
    # 2/1 (1/4 + 1/4) / 16 = 1/16 and 2 (1/16 + 1/16) / 16 = 1/64, no less than a tenth of those
    # alike. Q = 16 (3/4)^2 + 64/64 - (12 + 8)^2 / 80 = 5. Only the exchange of both slices is
    # as large: 2 of the 6 ways to share four prompts out.
    found = slice_win_rates(columns(), SLICES, rng=1, rounds=6000).heterogeneity[0]
    assert (found.first, found.second, found.n_slices, found.n_clusters) == (0, 1, 2, 4)
    assert found.clusters == "prompt"
    assert found.statistic == pytest.approx(5)
    assert found.p_value == pytest.approx(2 / 6, abs=0.025)
    assert found.p_holm == found.p_value
    assert found.warnings == ()


# Votes and wins on twelve prompts of three slices, and what statsmodels 0.15 and scipy 1.17 make of
# them, with y the votes of a slice and prompt their prompts:
#
#     fit = sm.OLS(y, np.ones(y.size)).fit(cov_type="cluster", cov_kwds={"groups": prompt})
#     combine_effects(rates, variances).q        statsmodels.stats.meta_analysis; V_k = bse**2
#     permutation_test(([0, 1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11]), q, vectorized=False,
#         n_resamples=np.inf, alternative="greater").pvalue      all 27,720 ways, q as above
#     OLSInfluence(sm.OLS(w * wins / votes, w).fit()).dfbeta     w = np.sqrt(votes)
PROMPT_VOTES = [6, 3, 8, 4, 5, 7, 2, 9, 5, 4, 10, 6]
PROMPT_WINS = [5, 3, 5, 1, 3, 3, 1, 2, 2, 1, 3, 0]
THREE_SLICES = np.repeat(["a", "b", "c"], [5, 4, 3])
DFBETA = [
    *(0.0393375, 0.0263505, 0.0268472, -0.0104794, 0.0140399, 0.0009350),
    *(0.0023794, -0.0297101, -0.0015851, -0.0104794, -0.0203881, -0.0400276),
]


def votes_on_prompts():
    """One pair's votes with those wins, each of a rater of its own."""
    wins = zip(PROMPT_WINS, PROMPT_VOTES, strict=True)
    outcomes = np.concatenate([np.arange(n) < k for k, n in wins]).astype(float)
    n, prompts = outcomes.size, np.repeat(np.arange(12), PROMPT_VOTES)
    return check_votes(np.zeros(n, int), np.ones(n, int), outcomes, None, prompts)


def test_heterogeneity_agrees_with_statsmodels_and_scipy():
    votes = votes_on_prompts()
    found = slice_win_rates(votes, THREE_SLICES[votes.prompts], rng=1, rounds=20_000)
    rates = [one.result.win_rate for one in found.win_rates]
    assert rates == pytest.approx([0.65384615, 0.34782609, 0.2])
    (test,) = found.heterogeneity
    assert test.statistic == pytest.approx(11.849391518)
    assert test.p_value == pytest.approx(0.069336219, abs=0.006)  # three standard errors


def test_slices_of_raters_exchange_raters():
    groups = ["experts" if rater in "AB" else "crowd" for rater in "ABCD" * 5]
    rng = np.random.default_rng(4)
    votes = check_votes([0] * 20, [1] * 20, rng.choice([0, 1], 20), list("ABCD") * 5, None)
    found = slice_win_rates(votes, groups, rng=1).heterogeneity[0]
    assert (found.clusters, found.n_clusters, found.n_slices) == ("rater", 4, 2)


def reject(rng, **study):
    """Share of 100 studies in which the test finds slices that differ, at level 5%."""
    tests = [slice_win_rates(*draw_slices(rng, **study), rng=rng, rounds=99) for _ in range(100)]
    return np.mean([one.heterogeneity[0].p_value <= 0.05 for one in tests])


@pytest.mark.parametrize(
    "study",
    [
        {},
        {"prompts": (60, 20, 12), "spread": (0.2, 0.2, 2.0)},  # the small slice varies most
        {"prompts": (10, 5, 5)},
    ],
)
def test_slices_that_do_not_differ_are_told_apart_one_time_in_twenty(study):
    assert reject(np.random.default_rng(5), **study) < 0.115  # three standard errors


def test_slices_that_differ_are_told_apart():
    assert reject(np.random.default_rng(6), shift=1.5) > 0.7


def test_the_same_seed_gives_the_same_p_value_and_order_of_votes_none_other():
    votes, slices = draw_slices(np.random.default_rng(7), shift=0.5)
    order = np.random.default_rng(8).permutation(votes.n)
    shuffled = check_votes(
        *(getattr(votes, name)[order] for name in ("first", "second", "outcomes", "raters")),
        votes.prompts[order],
    )
    one = slice_win_rates(votes, slices, rng=9).heterogeneity[0]
    assert slice_win_rates(votes, slices, rng=9).heterogeneity[0] == one
    other = slice_win_rates(shuffled, slices[order], rng=9).heterogeneity[0]
    assert other.statistic == pytest.approx(one.statistic)
    assert other.p_value == pytest.approx(one.p_value, abs=0.002)


def test_each_pair_is_tested_on_its_own_votes_as_they_are_read():
    rng = np.random.default_rng(12)
    parts = [draw_slices(rng, shift=shift)[0] for shift in (0.0, 2.0)]
    first, raters, prompts = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("first", "raters", "prompts")
    )
    second = np.concatenate([part.second + k for k, part in enumerate(parts)])
    outcomes = np.concatenate([part.outcomes for part in parts])
    outcomes[::5] = 0.5
    slices = np.repeat([0, 1, 2], (30, 15, 15))[prompts]
    found = slice_win_rates(
        check_votes(first, second, outcomes, raters, prompts),
        slices,
        rng=1,
        rounds=9,
        options=Options(ties="drop"),
    ).heterogeneity
    for k, test in enumerate(found):
        own = (second == k + 1) & (outcomes != 0.5)
        votes = check_votes(first[own], second[own], outcomes[own], raters[own], prompts[own])
        alone = slice_win_rates(votes, slices[own], rng=1, rounds=9).heterogeneity[0]
        assert (test.first, test.second) == (0, k + 1)
        assert test.statistic == pytest.approx(alone.statistic)


def test_no_p_value_is_smaller_than_the_rounds_can_tell():
    votes, slices = draw_slices(np.random.default_rng(13), shift=9.0)
    found = slice_win_rates(votes, slices, rng=1, rounds=19).heterogeneity[0]
    assert found.p_value == pytest.approx(1 / 20)


def test_the_pairs_of_a_slicing_are_one_family():
    votes, slices = draw_slices(np.random.default_rng(10), shift=2.0)
    again = check_votes(
        np.tile(votes.first, 2),
        np.concatenate([votes.second, votes.second + 1]),
        np.tile(votes.outcomes, 2),
        np.tile(votes.raters, 2),
        np.tile(votes.prompts, 2),
    )
    found = slice_win_rates(again, np.tile(slices, 2), rng=1).heterogeneity
    assert [(one.first, one.second) for one in found] == [(0, 1), (0, 2)]
    assert found[0].p_value == found[1].p_value
    assert found[0].p_holm == pytest.approx(2 * found[0].p_value)


@pytest.mark.parametrize(
    ("votes", "slices", "warnings", "n_slices"),
    [
        (columns(), ["animals"] * 8, ("one slice",), 1),
        (columns(raters=None, prompts=None), SLICES, ("no labels",), 0),
        (columns(prompts=None), list("abbaabab"), ("no labels",), 0),
        (columns(raters=None), list("abbaabab"), ("no labels",), 0),
        (columns(outcomes=[1, 1, 1, 0, 1, 1, 0, 1]), SLICES, ("no variation",), 2),
        (
            # Three wins of eleven on each prompt; in a computer 55 * 3/11 is not quite 15.
            check_votes(
                [0] * 110,
                [1] * 110,
                [1, 1, 1, *[0] * 8] * 10,
                None,
                np.repeat([0, 1, 2, 3], [55, 11, 11, 33]),
            ),
            ["animals"] * 66 + ["people"] * 44,
            ("no variation",),
            2,
        ),
        (columns(), [None] * 8, ("no votes",), 0),
    ],
)
def test_what_slices_cannot_tell_is_left_open(votes, slices, warnings, n_slices):
    found = slice_win_rates(votes, slices, rng=1).heterogeneity[0]
    assert (found.statistic, found.p_value, found.p_holm) == (None, None, None)
    assert (found.warnings, found.n_slices) == (warnings, n_slices)


def test_a_slice_of_one_prompt_is_said():
    slices = ["animals"] * 6 + ["people"] * 2
    found = slice_win_rates(columns(), slices, rng=1).heterogeneity[0]
    assert found.warnings == ("single clusters",)
    assert 0 < found.p_value <= 1


def test_no_votes_have_no_slices():
    found = slice_win_rates(check_votes([], [], [], [], []), [], rng=1)
    assert (found.win_rates, found.heterogeneity, found.n_unlabelled) == ((), (), 0)


# -- influence -----------------------------------------------------------------------------


def test_influence_by_hand():
    # Half-wins 2, 1, 0, 1/2 of two votes each: 7/16 in all. Without w 3/12, x 5/12, y 7/12,
    # z 6/12. Pseudo-values 4 * 7/16 - 3 * that: the prompts' own win rates, for equal votes.
    found = prompt_influence(columns(), (0, 1))
    assert [one.prompt for one in found] == [0, 2, 3, 1]
    assert [one.without for one in found] == pytest.approx([3 / 12, 7 / 12, 6 / 12, 5 / 12])
    assert [one.influence for one in found] == pytest.approx([9 / 48, -7 / 48, -3 / 48, 1 / 48])
    assert [one.pseudo_value for one in found] == pytest.approx([1, 0, 1 / 4, 1 / 2])
    assert [one.win_rate for one in found] == pytest.approx([1, 0, 1 / 4, 1 / 2])
    assert [one.n for one in found] == [2, 2, 2, 2]


def test_influence_agrees_with_statsmodels():
    found = {one.prompt: one.influence for one in prompt_influence(votes_on_prompts(), (0, 1))}
    assert len(found) == 10  # the most influential ones
    assert found == pytest.approx({prompt: DFBETA[prompt] for prompt in found}, abs=1e-7)
    whole = prompt_influence(votes_on_prompts(), (0, 1), top=None)
    assert [one.prompt for one in whole] == sorted(range(12), key=lambda g: -abs(DFBETA[g]))


def test_without_a_prompt_is_the_win_rate_of_the_other_votes():
    votes, _ = draw_slices(np.random.default_rng(11))
    found = prompt_influence(votes, (0, 1), top=3)
    assert len(found) == 3
    for one in found:
        others = votes.prompts != one.prompt
        assert one.without == pytest.approx(votes.outcomes[others].mean())
        assert one.n == (~others).sum()


def test_pseudo_values_have_the_variance_of_the_jackknife():
    # V = sum (pseudo - mean)^2 / (G (G - 1)): for equal prompts that of the prompt jackknife.
    votes = check_votes([0] * 40, [1] * 40, np.arange(40) % 7 < 3, None, np.arange(40) // 4)
    values = [one.pseudo_value for one in prompt_influence(votes, (0, 1), top=None)]
    se = clustered_interval(votes.outcomes, None, votes.prompts).se
    assert np.sqrt(np.var(values, ddof=1) / 10) == pytest.approx(se)


def test_prompts_keep_their_numbers():
    votes = check_votes([0] * 6, [1, 1, 2, 2, 2, 2], [1, 0, 1, 1, 0, 1], None, list("vvwwxx"))
    assert [one.prompt for one in prompt_influence(votes, (0, 2))] == [1, 2]


def test_the_other_system_is_carried_the_other_way():
    one, other = (prompt_influence(columns(), pair) for pair in ((0, 1), (1, 0)))
    assert [o.influence for o in other] == pytest.approx([-o.influence for o in one])
    assert [o.prompt for o in other] == [o.prompt for o in one]


def test_dropped_ties_carry_nothing():
    found = prompt_influence(columns(), (0, 1), options=Options(ties="drop"))
    assert {one.prompt: one.n for one in found} == {0: 2, 1: 2, 2: 2, 3: 1}


def test_one_prompt_alone_has_no_influence_to_tell():
    assert prompt_influence(columns(prompts=["w"] * 8), (0, 1)) == ()
    assert prompt_influence(columns(), (0, 2)) == ()


# -- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: slice_win_rates(columns(), ["a"], rng=1), "1 slice labels for 8 votes"),
        (lambda: slice_win_rates(columns(), SLICES, rng=1, rounds=0), "a round or more"),
        (lambda: slice_win_rates(columns(), list("abbaabab"), rng=1), "a property of the prompt"),
        (lambda: slice_win_rates(columns(), SLICES, rng=1, pairs=[(0, 0)]), "two different"),
        (lambda: prompt_influence(columns(), (1, 1)), "two different systems"),
        (lambda: prompt_influence(columns(), (0, -1)), "two different systems"),
        (lambda: prompt_influence(columns(), (0, 1), top=-1), "there are no -1 prompts"),
    ],
)
def test_impossible_input_is_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
