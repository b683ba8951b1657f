"""Numbers in words: no rounding may claim more than the votes do."""

import pytest

from evalsite.results import charts, wording
from evalsite.results.summary import CriterionSummary, PairSummary
from evalsite.stats import clustered_interval, pair_win_rates


def pair(wins: int, losses: int, ties: int = 0, first: str = "a", second: str = "b") -> PairSummary:
    outcomes = [1.0] * wins + [0.0] * losses + [0.5] * ties
    labels = list(range(len(outcomes)))
    return PairSummary(first, second, clustered_interval(outcomes, labels, labels))


def unasked() -> PairSummary:
    return PairSummary("a", "b", pair_win_rates([], [], [], [], [], pairs=[(0, 1)])[0, 1])


def criterion(*pairs: PairSummary) -> CriterionSummary:
    return CriterionSummary("quality", 1, 1, 1, 0, pairs)


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
    ],
)
def test_percent_never_rounds_onto_a_landmark(probability: float, text: str):
    assert wording.percent(probability) == text


def test_a_claim_names_the_preferred_system_first():
    assert wording.claim(pair(80, 20)) == (
        "a is preferred over b in 80% of votes (95% interval 71 to 87%)."
    )
    assert wording.claim(pair(20, 80)) == (
        "b is preferred over a in 80% of votes (95% interval 71 to 87%)."
    )


def test_a_claim_says_when_the_votes_do_not_decide():
    assert wording.claim(pair(26, 24)) == (
        "The votes do not decide between a and b: "
        "a is preferred in 52% of votes (95% interval 39 to 65%)."
    )


def test_a_pair_without_votes_claims_nothing():
    assert wording.claim(unasked()) == "There are no votes that compare a with b."


def test_a_name_cannot_bring_markup_into_a_claim():
    html = wording.claim_html(pair(80, 20, first="<script>"))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize("layout", [charts.WIDE, charts.NARROW])
def test_the_point_lies_nearer_to_the_preferred_system(layout: charts.Layout):
    forest = charts.forest(criterion(pair(80, 20), pair(20, 80), pair(25, 25)), layout)
    first, second, neither = forest.rows
    assert (first.left, first.right) == ("b", "a")
    assert (first.ahead, second.ahead, neither.ahead) == ("right", "left", "")
    assert second.x < forest.half_x < first.x
    assert neither.x == forest.half_x


@pytest.mark.parametrize("layout", [charts.WIDE, charts.NARROW])
def test_bars_span_the_interval_and_hold_the_point(layout: charts.Layout):
    one = pair(80, 20)
    forest = charts.forest(criterion(one), layout)
    (row,) = forest.rows
    left, right = forest.ticks[0].x, forest.ticks[-1].x
    assert row.bar_x == pytest.approx(left + one.rate.low * (right - left), abs=0.06)
    end = row.bar_x + row.bar_width
    assert end == pytest.approx(left + one.rate.high * (right - left), abs=0.2)
    assert row.bar_x < row.x < end


@pytest.mark.parametrize("layout", [charts.WIDE, charts.NARROW])
def test_everything_lies_inside_the_drawing(layout: charts.Layout):
    long = "a-system-with-a-name-of-sixty-letters-that-nobody-can-remember"
    forest = charts.forest(
        criterion(pair(300, 0, first=long, second=long[::-1]), pair(0, 300), unasked()), layout
    )
    for row in forest.rows:
        assert row.text_y < row.rule_y <= forest.height
        assert len(row.left) <= layout.longest_name
        if row.x is not None:
            assert 0 <= row.bar_x <= row.x <= forest.width
            assert row.bar_x + row.bar_width <= forest.width
    assert forest.half_width > 60
    assert [tick.label for tick in forest.ticks] == ["0%", "25%", "50%", "75%", "100%"]


def test_a_pair_without_votes_has_no_point():
    (row,) = charts.forest(criterion(unasked()), charts.WIDE).rows
    assert (row.x, row.bar_width, row.value, row.ahead) == (None, None, "", "")


def test_a_long_name_keeps_both_ends():
    assert charts.shorten("sdxl-turbo-at-512-pixels-4-steps", 13) == "sdxl-t…-steps"
    assert charts.shorten("lcm", 13) == "lcm"


def test_the_description_says_what_the_picture_shows():
    pairs = (pair(80, 20), pair(26, 24))
    forest = charts.forest(criterion(*pairs), charts.WIDE)
    assert forest.description == " ".join(wording.claim(one) for one in pairs)
