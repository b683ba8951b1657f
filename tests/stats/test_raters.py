"""Who is flagged, and who is not: honest raters of many kinds, and some who do not look."""

import dataclasses
import json
import math

import numpy as np
import pytest
from scipy.special import expit

from evalsite.stats import (
    Checks,
    RaterRules,
    Repeats,
    check_votes,
    clustered_interval,
    rater_diagnostics,
)

PAIRS = np.array([(0, 1), (0, 2), (1, 2)])
RATINGS = np.array([1.5, 0.5, -1.0])


def draw_study(rng, *, honest=36, bad=(), prompts=120, side_sd=0.3, taste=0.5, heavy=False):
    """The arguments of `rater_diagnostics` for four votes on each of three pairs per prompt.

    Honest raters lean to one side and have tastes, each their own, tie one time in ten, are of
    different pace and miss one check in twenty. The others follow, after them, and do what
    their name says; all but those named "fast" at an ordinary pace.
    """
    n_raters, n_units = honest + len(bad), prompts * 3
    load = rng.permutation(1 / np.arange(1, n_raters + 1)) if heavy else np.ones(n_raters)
    load[honest:] = np.median(load)
    order = np.argsort(-(np.log(load) + rng.gumbel(size=(n_units, n_raters))), axis=1)[:, :4]
    shuffled = rng.permutation(order.size)
    who, unit = order.ravel()[shuffled], np.repeat(np.arange(n_units), 4)[shuffled]
    pair = unit % 3
    first, second = PAIRS[pair].T
    logits = RATINGS[first] - RATINGS[second] + rng.standard_normal(n_units)[unit]
    logits += taste * rng.standard_normal((n_raters, 3))[who, pair]
    lean = 0.1 + side_sd * rng.standard_normal(n_raters)

    def answers(logits, on_left, who):
        left = rng.random(who.size) < expit(np.where(on_left, logits, -logits) + lean[who])
        for number, kind in enumerate(bad, start=honest):
            own = np.flatnonzero(who == number)
            left[own] = {
                "left": np.ones(own.size, dtype=bool),
                "coin": rng.random(own.size) < 0.5,
                "blocks": np.arange(own.size) // 25 % 2 == 0,
            }.get(kind.removeprefix("fast "), left[own])
        return (left == on_left).astype(float)

    on_left = rng.random(who.size) < 0.5
    outcomes = answers(logits, on_left, who)
    outcomes[(who < honest) & (rng.random(who.size) < 0.1)] = 0.5
    pace = np.exp(0.4 * rng.standard_normal(n_raters))
    pace[honest:] = [0.2 if kind.startswith("fast") else 1.0 for kind in bad]
    checked, repeated = (np.repeat(np.arange(n_raters), times) for times in (12, 6))
    looks = (checked < honest) | (np.array([*[""] * honest, *bad]) == "fast honest")[checked]
    again, then_left = rng.normal(0, 2, repeated.size), rng.random(repeated.size) < 0.5
    return {
        "votes": check_votes(first, second, outcomes, who, unit // 3),
        "first_on_left": on_left,
        "response_ms": 3000 * pace[who] * np.exp(0.5 * rng.standard_normal(who.size)),
        "checks": Checks(checked, rng.random(checked.size) < np.where(looks, 0.05, 0.5)),
        "repeats": Repeats(
            repeated,
            answers(again, then_left, repeated),
            answers(again, ~then_left, repeated),
            then_left,
        ),
    }


def profiles_of(study, **others):
    return rater_diagnostics(**{**study, **others}).profiles


# -- honest raters -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def honest():
    """The profiles of some 2,000 honest raters of many kinds, at default arguments."""
    rng = np.random.default_rng(10)
    kinds = [{}, {"heavy": True}, {"taste": 1.0}, {"side_sd": 0.6}, {"honest": 12, "prompts": 40}]
    studies = [draw_study(rng, **kind) for kind in kinds for _ in range(12)]
    return [profile for study in studies for profile in profiles_of(study)]


def test_two_in_a_hundred_honest_raters_are_flagged_and_for_missed_checks(honest):
    assert len(honest) > 1800
    assert np.mean([bool(profile.flags) for profile in honest]) < 0.035
    behaviour = [set(profile.flags) - {"missed checks", "too fast"} for profile in honest]
    assert np.mean([bool(flags) for flags in behaviour]) < 0.01


@pytest.mark.parametrize("name", ["left_p", "streak_p", "agreement_p", "checks_p", "repeats_p"])
@pytest.mark.parametrize("level", [0.02, 0.2])
def test_p_values_of_honest_raters_are_small_no_more_often_than_they_say(honest, name, level):
    found = [value for profile in honest if (value := getattr(profile, name)) is not None]
    share = np.mean(np.array(found) <= level)
    assert share < level + 3 * math.sqrt(level * (1 - level) / len(found))


def test_speed_alone_is_never_a_flag(honest):
    rng = np.random.default_rng(11)
    fast = [
        profile
        for _ in range(15)
        for profile in profiles_of(draw_study(rng, honest=30, bad=["fast honest"] * 3))[30:]
    ]
    assert all(profile.speed < 0.5 for profile in fast)
    assert np.mean([bool(profile.flags) for profile in fast]) < 0.15
    assert all(len(p.flags) > 1 for p in [*honest, *fast] if "too fast" in p.flags)


# -- raters who do not look ----------------------------------------------------------------


@pytest.fixture(scope="module")
def bad():
    """Flags of ten raters of each bad kind, one of each in a study: with and without checks.

    Some 360 votes each: it takes that many until a coin is seen in agreement alone.
    """
    rng = np.random.default_rng(13)
    kinds = ["left", "coin", "fast coin", "blocks"]
    found = {(kind, checks): [] for kind in kinds for checks in (True, False)}
    for _ in range(10):
        study = draw_study(rng, bad=kinds, prompts=1200)
        for checks, others in ((True, {}), (False, {"checks": None, "repeats": None})):
            for kind, profile in zip(kinds, profiles_of(study, **others)[36:], strict=True):
                found[kind, checks].append(set(profile.flags))
    return found


@pytest.mark.parametrize(
    ("kind", "checks", "flag"),
    [
        ("left", True, "one-sided"),
        ("left", False, "one-sided"),
        ("coin", True, "missed checks"),
        ("coin", False, "low agreement"),
        ("fast coin", True, "too fast"),
        ("fast coin", False, "too fast"),
        ("blocks", False, "side streaks"),
    ],
)
def test_raters_who_do_not_look_are_flagged(bad, kind, checks, flag):
    assert np.mean([flag in flags for flags in bad[kind, checks]]) >= 0.8


def test_signs_change_no_number():
    # One-sided and all: every vote of the rater is still in the win rate.
    study = draw_study(np.random.default_rng(14), honest=8, bad=["left"])
    before = clustered_interval(study["votes"].outcomes, study["votes"].raters, None)
    assert profiles_of(study)[8].flags
    assert clustered_interval(study["votes"].outcomes, study["votes"].raters, None) == before


# -- one rater's profile ---------------------------------------------------------------------

# A and B and C on two prompts; system 0 against 1, named in either order.
VOTES = check_votes(
    [0, 0, 1, 0, 0, 1], [1, 1, 0, 1, 1, 0], [1, 1, 1, 1, 0.5, 0], list("ABCABC"), list("xxxyyy")
)
LEFT = np.array([True, False, False, True, True, True])


def test_profiles_by_hand():
    # On x A and B chose system 0, C system 1; on y A chose system 0, C (named the other way
    # round) too, B tied. A stayed on the left, B and C on the right.
    found = rater_diagnostics(VOTES, LEFT, response_ms=[100, 300, 500, 200, math.nan, 700])
    a, b, c = found.profiles
    assert [(p.n, p.n_ties, p.left_share) for p in (a, b, c)] == [(2, 0, 1), (2, 1, 0), (2, 0, 0)]
    assert [p.longest_streak for p in (a, b, c)] == [2, 1, 2]
    assert [p.n_compared for p in (a, b, c)] == [1, 0, 2]
    assert (a.agreement, b.agreement, c.agreement) == (1, None, 0.5)
    assert [p.median_ms for p in (a, b, c)] == [150, 300, 600]
    assert [p.speed for p in (a, b, c)] == [0.5, 1, 2]
    assert found.median_ms == 300
    assert found.consistency is None
    assert (a.checks_p, a.repeats_p, a.flags) == (None, None, ())


def test_criteria_make_units_of_their_own():
    # Under two questions A stands alone on x, B and C meet there, and A and C meet on y.
    found = rater_diagnostics(VOTES, LEFT, criteria=["p", "q", "q", "p", "q", "p"])
    assert [profile.n_compared for profile in found.profiles] == [1, 1, 2]


def test_votes_without_a_prompt_are_held_against_nobody_where_others_have_one():
    more = check_votes(
        [*VOTES.first, 0, 0, 0],
        [*VOTES.second, 1, 1, 1],
        [*VOTES.outcomes, 1, 0, 0],
        list("ABCABCABC"),
        [*"xxxyyy", None, None, None],
    )
    found = rater_diagnostics(more, np.append(LEFT, [True] * 3)).profiles
    assert [profile.n_compared for profile in found] == [1, 0, 2]


def test_order_in_columns_tells_streaks():
    sides = np.array([True, False] * 20)
    votes = check_votes([0] * 40, [1] * 40, np.ones(40), ["A"] * 40, range(40))
    mixed = rater_diagnostics(votes, sides).profiles[0]
    blocks = rater_diagnostics(votes, np.sort(sides)).profiles[0]
    assert (mixed.longest_streak, mixed.flags) == (1, ())
    assert (blocks.longest_streak, blocks.flags) == (20, ("side streaks",))


def test_three_misses_of_twelve_are_flagged_and_two_are_not():
    checks = Checks(np.repeat([0, 1], 12), np.arange(24) % 12 < np.repeat([3, 2], 12))
    found = rater_diagnostics(VOTES, LEFT, checks=checks).profiles
    assert [profile.flags for profile in found] == [("missed checks",), (), ()]


def test_two_signs_together_are_named_together():
    # A chose left thirty times of forty: too often for chance, but not for a flag of its own.
    raters = np.repeat([0, 1, 2], 40)
    votes = check_votes([0] * 120, [1] * 120, np.ones(120), raters, range(120))
    left = np.arange(120) % 4 < np.repeat([3, 2, 2], 40)
    ordinary = rater_diagnostics(votes, left, response_ms=[9] * 120).profiles
    fast = rater_diagnostics(votes, left, response_ms=np.where(raters == 0, 4, 9)).profiles
    assert 0.001 < ordinary[0].left_p < 0.02
    assert [profile.flags for profile in ordinary] == [(), (), ()]
    assert [profile.flags for profile in fast] == [("one-sided", "too fast"), (), ()]


def test_consistency_by_hand():
    # A: the same system, then left twice. B: no preference twice, then a tie turned a choice.
    # C: right twice, on two comparisons.
    repeats = Repeats(
        raters=[0, 0, 1, 1, 2, 2],
        outcomes=[1, 1, 0.5, 0.5, 1, 0],
        again=[1, 0, 0.5, 1, 0, 1],
        first_on_left=[True, True, False, True, False, True],
    )
    found = rater_diagnostics(VOTES, LEFT, repeats=repeats)
    together = found.consistency
    assert (together.n, together.n_consistent, together.share) == (6, 2, pytest.approx(1 / 3))
    assert (together.n_left_twice, together.n_right_twice, together.n_raters) == (1, 2, 3)
    expected = clustered_interval([1, 0, 1, 0, 0, 0], [0, 0, 1, 1, 2, 2], None)
    assert (together.low, together.high) == (expected.low, expected.high)
    assert [(p.n_repeats, p.n_consistent) for p in found.profiles] == [(2, 1), (2, 1), (2, 0)]


def test_raters_without_a_counted_vote_have_a_profile():
    checks = Checks([4], [True])
    found = rater_diagnostics(VOTES, LEFT, checks=checks).profiles
    assert [profile.rater for profile in found] == [0, 1, 2, 3, 4]
    assert (found[4].n, found[4].n_missed, found[4].left_share) == (0, 1, None)


def test_votes_without_raters_have_no_profiles():
    unknown = check_votes([0], [1], [1], None, None)
    assert rater_diagnostics(unknown, [True], response_ms=[5]).profiles == ()
    assert rater_diagnostics(check_votes([], [], [], [], []), []).profiles == ()


def test_profiles_can_be_written_as_strict_json():
    study = draw_study(np.random.default_rng(15), honest=5, prompts=4)
    json.dumps(dataclasses.asdict(rater_diagnostics(**study)), allow_nan=False)
    json.dumps(dataclasses.asdict(rater_diagnostics(VOTES, LEFT)), allow_nan=False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"first_on_left": [True]}, "1 values of 'side' where there should be 6"),
        ({"first_on_left": [1] * 6}, "every 'side' must be true or false"),
        ({"criteria": ["p"]}, "1 criterion labels for 6 votes"),
        ({"response_ms": [5]}, "1 response times for 6 votes"),
        ({"response_ms": [-5] * 6}, "milliseconds from 0"),
        ({"response_ms": [math.inf] * 6}, "milliseconds from 0"),
        ({"checks": Checks(["A"], [True])}, "raters of checks must be a flat list of whole"),
        ({"checks": Checks([-1], [True])}, "whole numbers from 0"),
        ({"checks": Checks([0], [0.5])}, "every 'missed check' must be true or false"),
        ({"repeats": Repeats([0], [1, 0], [1], [True])}, "2 and 1 outcomes for 1 repeats"),
        ({"repeats": Repeats([0], [3], [1], [True])}, "outcomes must be 0, 0.5 or 1"),
    ],
)
def test_impossible_input_is_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        rater_diagnostics(**{"votes": VOTES, "first_on_left": LEFT, **change})


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(RaterRules)])
def test_impossible_rules_are_refused(field):
    with pytest.raises(ValueError, match=f"{field} must lie between 0 and 1"):
        RaterRules(**{field: 0})
