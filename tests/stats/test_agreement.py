import dataclasses
import math
import time

import evalica
import numpy as np
import pandas as pd
import pytest

from evalsite.stats import check_votes, krippendorff_alpha, vote_alpha

_ = math.nan
# Four observers of twelve units: K. Krippendorff, Computing Krippendorff's Alpha-Reliability
# (2011), section C.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
        [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
    ]
).T
METRICS = ["nominal", "ordinal", "interval", "ratio"]


def draw_ratings(rng, *, units, raters=5, copies=0.55, missing=0.3):
    """Ratings of which a share is the unit's own value and the rest chance.

    Two raters both copy it with probability copies^2, which is what alpha estimates.
    """
    chances = [0.45, 0.15, 0.4]
    own = rng.choice(3, units, p=chances)[:, None]
    ratings = np.where(
        rng.random((units, raters)) < copies, own, rng.choice(3, (units, raters), p=chances)
    ).astype(float)
    ratings[rng.random(ratings.shape) < missing] = math.nan
    return ratings / 2


def test_alpha_by_hand():
    # One of three units is disputed: D_o = 2/6; three ones, three zeros: D_e = 18/30.
    found = krippendorff_alpha([[1, 1], [1, 0], [0, 0]])
    assert found.alpha == pytest.approx(1 - (2 / 6) / (18 / 30))
    assert (found.n_units, found.n_values) == (3, 6)
    assert (found.low, found.high) == (None, None)


def test_a_value_alone_in_its_unit_says_nothing():
    found = krippendorff_alpha([[1, 1, _], [1, 0, _], [0, _, 0], [_, 7, _], [_, _, _]])
    assert found.alpha == pytest.approx(4 / 9)
    assert (found.n_units, found.n_values) == (3, 6)


def test_the_interval_by_hand():
    # Two mirrored units. A round draws both (alpha -1/9) or one of them twice (alpha -1/4),
    # each in half of the rounds.
    found = krippendorff_alpha([[1, 1, 0], [0, 0, 1]], rng=1)
    assert found.alpha == pytest.approx(-1 / 9)
    assert (found.low, found.high) == pytest.approx((-1 / 4, -1 / 9))


@pytest.mark.parametrize(
    ("metric", "alpha"),
    [("nominal", 0.743421), ("ordinal", 0.815388), ("interval", 0.849107), ("ratio", 0.797403)],
)
def test_the_published_matrix_has_its_published_alpha(metric, alpha):
    found = krippendorff_alpha(PUBLISHED, metric=metric)
    assert found.alpha == pytest.approx(alpha, abs=1e-6)
    assert (found.n_units, found.n_values) == (11, 40)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", range(3))
def test_alpha_agrees_with_evalica(metric, seed):
    # evalica 0.4.2: alpha(observers x units, distance)
    ratings = draw_ratings(np.random.default_rng(seed), units=25) * 3 + seed
    expected = evalica.alpha(pd.DataFrame(ratings.T), distance=metric).alpha
    assert krippendorff_alpha(ratings, metric=metric).alpha == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_the_interval_agrees_with_evalica_on_redrawn_units(metric):
    rng = np.random.default_rng(8)
    ratings = draw_ratings(rng, units=60) + 1
    redrawn = [
        evalica.alpha(pd.DataFrame(ratings[rng.integers(0, 60, 60)].T), distance=metric).alpha
        for _ in range(200)
    ]
    found = krippendorff_alpha(ratings, metric=metric, rng=rng)
    assert (found.low, found.high) == pytest.approx(np.quantile(redrawn, [0.025, 0.975]), abs=0.05)


@pytest.mark.parametrize("copies", [0.3, 0.6, 0.9])
def test_alpha_recovers_how_often_raters_share_a_value(copies):
    ratings = draw_ratings(np.random.default_rng(2), units=20_000, copies=copies)
    assert krippendorff_alpha(ratings).alpha == pytest.approx(copies**2, abs=0.015)


def test_the_interval_holds_the_truth_as_often_as_promised():
    rng = np.random.default_rng(3)
    found = [krippendorff_alpha(draw_ratings(rng, units=80), rng=rng) for _ in range(200)]
    covered = np.mean([one.low <= 0.55**2 <= one.high for one in found])
    assert 0.9 < covered < 0.98


def test_thousands_of_rounds_over_many_votes_take_no_time():
    rng = np.random.default_rng(4)
    first = rng.integers(0, 20, 200_000)
    second = (first + rng.integers(1, 20, first.size)) % 20
    votes = check_votes(
        first, second, rng.choice([0, 0.5, 1], first.size), None, rng.integers(0, 200, first.size)
    )
    started = time.process_time()  # not the clock's, which a busy machine stretches
    found = vote_alpha(votes, rng=1)
    assert time.process_time() - started < 3  # a third of a second
    assert found.low < found.alpha < found.high


# -- votes ---------------------------------------------------------------------------------

COLUMNS = {
    "first": [0, 0, 1, 0, 0, 1, 1, 2],
    "second": [1, 1, 0, 1, 1, 0, 2, 1],
    "outcomes": [1, 1, 1, 0.5, 0.5, 0.5, 1, 1],
    "raters": list("ABCABCAB"),
    "prompts": list("xxxyyyxx"),
}


def test_a_unit_is_a_prompt_and_a_pair_in_either_order():
    # System 0 against 1: won, won, lost on x; three ties on y. System 1 against 2 on x: won, lost.
    expected = krippendorff_alpha([[1, 1, 0], [0.5, 0.5, 0.5], [1, 0, _]])
    found = vote_alpha(check_votes(**COLUMNS))
    assert found == expected
    assert (found.n_units, found.n_values) == (3, 8)


def test_interval_metric_takes_a_tie_for_half_a_disagreement():
    votes = check_votes([0] * 4, [1] * 4, [1, 0.5, 1, 0], list("ABAB"), list("xxyy"))
    # D_o = 1/4 (2/4 + 2); D_e with two wins, a tie, a loss: (2/4 * 2 + 2/4 * 1 + 2 * 2) / 12.
    assert vote_alpha(votes, metric="interval").alpha == pytest.approx(1 - (2.5 / 4) / (5.5 / 12))
    assert vote_alpha(votes).alpha == pytest.approx(1 - (4 / 4) / (10 / 12))


def test_without_prompts_the_unit_is_the_pair():
    found = vote_alpha(check_votes(**{**COLUMNS, "prompts": None}))
    assert (found.n_units, found.n_values, found.n_unlabelled) == (2, 8, 0)
    assert found.warnings == ("no prompt labels", "few units")


def test_votes_without_a_prompt_among_others_that_have_one_are_left_out_and_counted():
    # Three more votes on pair 0, 1 about nobody knows what: they are no unit of three.
    more = {"first": [0, 0, 1], "second": [1, 1, 0], "outcomes": [0, 1, 1], "raters": list("DEF")}
    more["prompts"] = [None, "none", None]
    votes = check_votes(**{name: [*column, *more[name]] for name, column in COLUMNS.items()})
    expected = vote_alpha(check_votes(**COLUMNS), rng=7)
    found = vote_alpha(votes, rng=7)
    assert found.warnings == ("some prompts unknown", *expected.warnings)
    assert found.n_unlabelled == 3
    assert dataclasses.replace(found, n_unlabelled=0, warnings=expected.warnings) == expected


def test_votes_of_one_rater_on_a_unit_count_once():
    # Rater A says won twice and lost once on x, won and lost on y; B lost and tied; C repeats z.
    votes = check_votes(
        [0, 0, 1, 0, 1, 0, 0, 0, 0, 0],
        [1, 1, 0, 1, 0, 1, 1, 1, 1, 1],
        [1, 0, 0, 1, 1, 0, 0.5, 1, 1, 1],
        list("AAAAABBCCC"),
        list("xxxyyxyzzz"),
    )
    assert vote_alpha(votes) == krippendorff_alpha([[1, 0], [0.5, 0.5]])
    back = {name: getattr(votes, name)[::-1] for name in ("first", "second", "outcomes")}
    turned = check_votes(*back.values(), votes.raters[::-1], votes.prompts[::-1])
    assert vote_alpha(turned) == vote_alpha(votes)


@pytest.mark.parametrize(("prompts", "word"), [(list("xxyy"), ()), (None, ("no prompt labels",))])
def test_one_rater_alone_agrees_with_nobody(prompts, word):
    found = vote_alpha(check_votes([0] * 4, [1] * 4, [1, 1, 0, 0], list("AAAA"), prompts))
    assert (found.alpha, found.warnings) == (None, (*word, "no shared units"))
    unnamed = vote_alpha(check_votes([0] * 4, [1] * 4, [1, 1, 0, 0], None, prompts))
    assert unnamed.alpha is not None


def test_order_of_votes_changes_nothing():
    order = np.random.default_rng(5).permutation(8)
    shuffled = {name: [column[k] for k in order] for name, column in COLUMNS.items()}
    expected = vote_alpha(check_votes(**COLUMNS), rng=7)
    assert vote_alpha(check_votes(**shuffled), rng=7) == expected


# -- nothing to compute, and refusals --------------------------------------------------------


def test_equal_values_leave_alpha_open():
    found = krippendorff_alpha([[1, 1], [1, 1]], rng=1)
    assert (found.alpha, found.low, found.warnings) == (None, None, ("few units", "no variation"))


def test_rounds_of_equal_values_are_left_out():
    # Half of the rounds draw one unit twice, all of whose values are equal.
    found = krippendorff_alpha([[1, 1], [0, 0]], rng=1)
    assert (found.alpha, found.low, found.high) == (1, 1, 1)


@pytest.mark.parametrize("prompts", [list("xyz"), None, ["x", "none", "none"]])
def test_votes_that_share_no_unit_leave_alpha_open(prompts):
    alone = check_votes([0, 0, 1], [1, 2, 2], [1, 0, 1], list("ABC"), prompts)
    found = vote_alpha(alone, rng=1)
    assert (found.alpha, found.warnings[-1]) == (None, "no shared units")
    assert vote_alpha(check_votes([], [], [], [], [])).alpha is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"values": [1, 0]}, "a table of units and raters"),
        ({"values": [[1, math.inf]]}, "finite"),
        ({"values": [[1, -1]], "metric": "ratio"}, "no negative values"),
        ({"metric": "cosine"}, "metric must be one of nominal, ordinal, interval, ratio"),
        ({"rounds": 0}, "a round or more"),
        ({"confidence": 95}, "confidence must lie between 0 and 1"),
    ],
)
def test_impossible_input_is_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        krippendorff_alpha(**{"values": [[1, 0], [1, 1]], **change})
