"""`manage.py plan_study`: how large a study must be. No database: these tests have none."""

import io
import re

import pytest
from django.core.management import CommandError, call_command

from evalsite.stats import Correlations, Design, HalfWidth, Power, fewest, power, precision


def plan(*options: object) -> str:
    said = io.StringIO()
    call_command("plan_study", *map(str, options), stdout=said)
    return said.getvalue()


def refused(*options: object) -> str:
    with pytest.raises(CommandError) as caught:
        plan(*options)
    return str(caught.value)


def rows(said: str) -> list[list[str]]:
    """The rows of numbers, each as its cells."""
    cells = [re.split(r"\s{2,}", line.strip().replace(",", "")) for line in said.splitlines()]
    return [row for row in cells if len(row) == 6 and row[0].isdigit()]


def test_a_design_says_what_it_gives():
    said = plan("--raters", 30, "--prompts", 100)
    found = precision(Design(30, 100, 3))
    assert re.search(r"votes +300\n", said)
    assert re.search(rf"independent votes +{found.n_eff:.0f}\n", said)
    assert "41 to 59%" in said
    assert re.search(rf"60% +{100 * power(Design(30, 100, 3), 0.6):.0f}%\n", said)
    assert re.search(r"80% +over 99%\n", said)
    assert "first of" not in said


def test_many_claims_cost_power_and_votes():
    said = plan("--raters", 30, "--prompts", 100, "--systems", 4, "--criteria", 2)
    assert "as first of 12 claims" in said
    assert re.search(r"votes in all +3,600\n", said)
    strict = power(Design(30, 100, 3), 0.6, confidence=1 - 0.05 / 12)
    assert re.search(rf"60% +56% +{100 * strict:.0f}%\n", said)


def test_a_half_width_says_what_it_takes():
    said = plan("--half-width", 0.05)
    assert "At least 48 raters, however many votes they give." in said
    choice = rows(said)
    assert len(choice) == 6
    for row in choice:
        design = Design(*map(int, row[:3]))
        assert design == fewest("prompts", design, HalfWidth(0.05))
        assert int(row[3]) == design.votes == int(row[5])


@pytest.mark.parametrize(
    ("given", "free"),
    [
        (("--raters", 40), "prompts"),
        (("--prompts", 150), "raters"),
        (("--raters", 40, "--prompts", 150), "votes_per_prompt"),
    ],
)
def test_what_is_given_stays(given, free):
    (row,) = rows(plan("--against", 0.62, "--power", 0.7, *given))
    design = Design(*map(int, row[:3]))
    assert design == fewest(free, design, Power(0.7, 0.62))
    for name, number in zip(given[::2], given[1::2], strict=True):
        assert getattr(design, name.lstrip("-")) == number


def test_a_finding_is_planned_as_the_first_of_its_table():
    (alone,) = rows(plan("--against", 0.65, "--raters", 40))
    said = plan("--against", 0.65, "--raters", 40, "--systems", 4)
    (beside,) = rows(said)
    assert "as the first of 6 claims" in said
    assert int(beside[1]) > int(alone[1])
    assert int(beside[5]) == 6 * int(beside[3])


def test_too_few_raters_are_told_how_many_there_must_be():
    assert "at least 26 raters are needed" in refused("--against", 0.6, "--raters", 10)


def test_options_reach_the_plan():
    (row,) = rows(
        plan(
            *("--half-width", 0.1, "--raters", 40, "--rho-rater", 0.17, "--rho-prompt", 0.2),
            *("--confidence", 0.9, "--load-spread", 1, "--votes-per-prompt", 2, "--fixed-prompts"),
        )
    )
    wanted = fewest(
        "prompts",
        Design(40, 1, 2, fixed_prompts=True, load_spread=1),
        HalfWidth(0.1),
        correlations=Correlations(0.17, 0.2),
        confidence=0.9,
    )
    assert int(row[1]) == wanted.prompts


def test_a_pilot_gives_the_correlations(tmp_path):
    # Two raters of opposite tastes: all of a vote's variance is theirs.
    lines = [f"r{k % 2},p{k // 2},a,b,{'ab'[k % 2]}" for k in range(40)]
    pilot = tmp_path / "pilot.csv"
    pilot.write_text("\n".join(["rater_id,prompt_id,system_a,system_b,winner", *lines]) + "\n")
    said = plan("--raters", 30, "--prompts", 100, "--pilot", pilot)
    assert "1 of votes of one rater, 0 of votes on one prompt" in said
    overruled = plan("--raters", 30, "--prompts", 100, "--pilot", pilot, "--rho-rater", 0.1)
    assert "0.1 of votes of one rater, 0 of votes on one prompt" in overruled
    assert "no.csv" in refused("--half-width", 0.1, "--pilot", tmp_path / "no.csv")


@pytest.mark.parametrize(
    "options",
    [
        ("--against", 0.6, "--rho-rater", 0, "--rho-prompt", 0),
        ("--against", 0.6, "--rho-rater", 0, "--rho-prompt", 0, "--votes-per-prompt", 8),
        ("--against", 0.97),
        ("--against", 0.97, "--votes-per-prompt", 1),
        ("--half-width", 0.3, "--votes-per-prompt", 1),
        ("--against", 0.55, "--rho-rater", 0.3, "--rho-prompt", 0),
    ],
)
def test_each_plan_offered_is_another_one_that_can_be_run(options):
    said = plan(*options)
    choice = [Design(*map(int, row[:3])) for row in rows(said)]
    assert choice
    assert len(set(choice)) == len(choice)
    least = int(re.search(r"At least (\d+) raters", said)[1])
    for design in choice:
        assert least <= design.raters <= design.votes
        assert least >= design.votes_per_prompt
        assert design.prompts >= 30


def test_as_many_raters_as_votes_on_a_prompt_are_needed_anyway():
    said = plan("--against", 0.6, "--rho-rater", 0, "--votes-per-prompt", 8)
    assert "At least 8 raters, since nobody votes twice on a prompt." in said


def cautions(said: str) -> list[str]:
    return re.findall(r"Caution, ([a-z ]+):", said)


def test_a_plan_says_where_its_promises_are_not_kept():
    assert cautions(plan("--raters", 30, "--prompts", 100)) == []
    assert cautions(plan("--half-width", 0.05)) == []
    assert cautions(plan("--raters", 5, "--prompts", 29)) == ["few prompts"]
    tiny = ["few raters", "few prompts", "few losses"]
    assert cautions(plan("--raters", 4, "--prompts", 4)) == tiny
    assert cautions(plan("--against", 0.97, "--raters", 4, "--prompts", 10)) == tiny
    offered = plan("--against", 0.97)
    assert cautions(offered) == ["few raters", "few losses"]  # each once, of several rows
    assert "at a win rate of 97%" in offered
    assert cautions(plan("--raters", 100, "--prompts", 30)) == ["idle raters"]


def test_a_plan_that_never_decides_says_why():
    two_prompts = " ".join(plan("--raters", 30, "--prompts", 2).split())
    assert "Even with 6 votes for one system and none for the other, the interval" in two_prompts
    assert "would hold one half: 2 prompts leave 1 degree" in two_prompts
    two_raters = plan("--raters", 2, "--prompts", 30, "--votes-per-prompt", 2)
    assert "2 raters leave 1 degree of freedom" in " ".join(two_raters.split())
    one_prompt = plan("--raters", 3, "--prompts", 1)
    assert cautions(one_prompt) == ["few raters", "one prompt", "few losses", "never decides"]
    assert "they are too few" in one_prompt


def test_a_single_vote_is_told_as_one():
    said = " ".join(plan("--raters", 2, "--prompts", 1, "--votes-per-prompt", 1).split())
    assert "Even with 1 vote for one system" in said
    assert "2 raters for 1 vote: some will have none to give." in said


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), "Say what is wanted"),
        (("--raters", 30), "Say what is wanted"),
        (("--half-width", 0.1, "--against", 0.6), "one of --half-width and --against"),
        (("--half-width", 5), "a half-width lies between 0 and 1/2"),
        (("--against", 0.5), "nothing to find"),
        (("--against", 0.6, "--power", 2), "a power lies between 0 and 1"),
        (("--raters", 0, "--prompts", 10), "--raters: at least 1, not 0"),
        (("--against", 0.6, "--prompts", 0), "--prompts: at least 1, not 0"),
        (("--raters", -1, "--prompts", 0), "--raters: at least 1, not -1\n--prompts: at least 1"),
        (("--raters", 2, "--prompts", 10), "3 votes on a prompt need as many raters"),
        (("--raters", 30, "--prompts", 10, "--systems", 1), "two systems or more"),
        (("--raters", 30, "--prompts", 10, "--rho-rater", 2), "shares of one whole"),
        (("--raters", 30, "--prompts", 10, "--confidence", 95), "confidence"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(options, reason):
    assert reason in refused(*options)
