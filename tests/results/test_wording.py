"""Numbers in words: no rounding may claim more than the votes do, whichever system is ahead."""

import re

import pytest

from evalsite.results import charts, wording
from evalsite.results.standings import Standing, standing_of
from evalsite.results.summary import PairSummary
from evalsite.stats import Ties, clustered_interval, pair_win_rates

NAMES = {"a": "Alpha", "b": "Beta", "c": "<script>"}


def pair(
    wins: int,
    losses: int,
    ties: int = 0,
    *,
    first: str = "a",
    second: str = "b",
    read: Ties = "half",
    confidence: float = 0.95,
) -> Standing:
    """A pair's standing, from independent votes."""
    outcomes = [1.0] * wins + [0.0] * losses + [0.5] * ties
    labels = list(range(len(outcomes)))
    rate = clustered_interval(outcomes, labels, labels, ties=read, confidence=confidence)
    return standing_of(PairSummary(first, second, rate), NAMES, read)


def unasked() -> Standing:
    rate = pair_win_rates([], [], [], [], [], pairs=[(0, 1)])[0, 1]
    return standing_of(PairSummary("a", "b", rate), NAMES, "half")


@pytest.mark.parametrize(
    ("probability", "text"),
    [
        (0.0, "0"),
        (0.5, "50"),
        (1.0, "100"),
        (0.776, "78"),
        (0.503, "50.3"),
        (0.4999, "49.99"),
        (0.996, "99.6"),
        (0.002, "0.2"),
        (0.99997, "99.99"),
        (0.00001, "0.01"),
        (0.50004, "50.01"),
        (0.49996, "49.99"),
    ],
)
def test_percent_never_rounds_onto_a_landmark(probability: float, text: str):
    assert wording.percent(probability) == text


@pytest.mark.parametrize(("n", "text"), [(0, "0 raters"), (1, "1 rater"), (1200, "1,200 raters")])
def test_one_is_no_plural(n: int, text: str):
    assert wording.counted(n, "rater") == text


# Who is ahead


def test_a_pair_is_seen_from_the_system_that_is_ahead():
    for seen in (pair(80, 15, 5), pair(15, 80, 5, first="b", second="a")):
        assert (seen.ahead, seen.behind) == ("Alpha", "Beta")
        assert (seen.rate.wins, seen.rate.ties, seen.rate.losses) == (80, 5, 15)
        assert seen.rate.win_rate == pytest.approx(0.825)
        assert seen.rate.win_rate_decided == pytest.approx(80 / 95)
        assert 0.7 < seen.rate.low < 0.825 < seen.rate.high < 0.9
    assert pair(0, 20).rate.warnings == pair(20, 0).rate.warnings


def test_where_neither_is_ahead_the_study_s_order_stands():
    assert (pair(5, 5).ahead, pair(5, 5, first="b", second="a").ahead) == ("Alpha", "Beta")


# Sentences


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        (
            pair(80, 20),
            "Alpha is preferred over Beta in 80% of 100 votes (95% interval 71 to 87%).",
        ),
        (
            pair(20, 80),
            "Beta is preferred over Alpha in 80% of 100 votes (95% interval 71 to 87%).",
        ),
        (
            pair(26, 24),
            "Undecided: Alpha is preferred over Beta in 52% of 50 votes (95% interval 39 to 65%).",
        ),
        (
            pair(2, 0),
            "Undecided: Alpha is preferred over Beta in 100% of 2 votes (95% interval 34 to 100%).",
        ),
        (
            pair(1, 1),
            "Undecided: Alpha and Beta are each preferred in 50% of 2 votes "
            "(95% interval 9 to 91%).",
        ),
        (
            pair(80, 10, 10),
            "Alpha is preferred over Beta in 85% of 100 votes, 10 of them ties "
            "(95% interval 78 to 90%).",
        ),
        (
            pair(3, 0, 1),
            "Alpha is preferred over Beta in 88% of 4 votes, 1 of them a tie "
            "(95% interval 56 to 98%).",
        ),
        (
            pair(0, 0, 3),
            "Undecided: all 3 votes between Alpha and Beta are ties, 50% each "
            "(95% interval 13 to 87%).",
        ),
        (
            pair(0, 0, 1),
            "Undecided: the only vote between Alpha and Beta is a tie, 50% each "
            "(95% interval 5 to 95%).",
        ),
        (
            pair(0, 1),
            "The only vote between Beta and Alpha prefers Beta, 100% (95% interval 21 to 100%).",
        ),
        (unasked(), "There are no votes that compare Alpha with Beta."),
        (
            pair(80, 10, 10, read="drop"),
            "Alpha is preferred over Beta in 89% of 90 votes, 10 ties left out "
            "(95% interval 81 to 94%).",
        ),
        (
            pair(0, 0, 3, read="drop"),
            "Undecided: all 3 votes between Alpha and Beta are ties, and ties are left out.",
        ),
        (
            pair(80, 20, confidence=0.975),
            "Alpha is preferred over Beta in 80% of 100 votes (97.5% interval 70 to 87%).",
        ),
    ],
)
def test_a_claim_says_who_is_ahead_how_often_and_how_sure(seen: Standing, sentence: str):
    assert wording.claim(seen) == sentence
    assert re.sub(r"<[^>]+>", "", wording.claim_html(seen)) == sentence


def test_a_name_cannot_bring_markup_into_a_claim():
    html = wording.claim_html(pair(80, 20, first="c"))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_what_a_warning_implies_is_not_said_again():
    codes = ("one rater", "few raters", "few prompts", "few losses", "all won")
    assert wording.worth_saying(codes) == ("one rater", "few prompts", "all won")
    assert wording.worth_saying(("few raters", "few losses")) == ("few raters", "few losses")


# Drawings


def test_a_bar_spans_the_interval_and_holds_the_point():
    seen = pair(20, 80)
    drawn = charts.bar(seen)
    assert drawn.point == pytest.approx(80)
    assert drawn.start == pytest.approx(100 * seen.rate.low, abs=0.01)
    assert drawn.start + drawn.width == pytest.approx(100 * seen.rate.high, abs=0.02)


def test_a_bar_stays_inside_the_plot():
    for seen in (pair(300, 0), pair(0, 1), pair(0, 0, 2)):
        drawn = charts.bar(seen)
        assert 0 <= drawn.start <= drawn.point <= drawn.start + drawn.width <= 100


def test_a_pair_without_votes_is_not_drawn():
    assert charts.bar(unasked()) is None
