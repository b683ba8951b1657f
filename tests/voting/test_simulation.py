"""Simulated raters over the real pages, and the truth that they are held against."""

from io import StringIO

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from evalsite.studies.models import Study
from evalsite.voting import queries, services, simulation
from evalsite.voting.browser import Browser, BrowserError
from evalsite.voting.models import Rater, Vote
from evalsite.voting.tastes import FEATURES, chances, draw_tastes, kind_of
from tests import world
from tests.world import NOON

SERVED = pytest.mark.django_db(transaction=True)


def _simulate(study: Study, live_server, *, raters: int = 4, seed: int = 0) -> str:
    out = StringIO()
    call_command("simulate", study.slug, raters=raters, seed=seed, url=live_server.url, stdout=out)
    return out.getvalue()


def _answers(study: Study) -> list[tuple[str, ...]]:
    """Who preferred what, in order: rater by number, systems instead of sides."""
    raters = list(Rater.objects.filter(study=study).order_by("pk").values_list("pk", flat=True))
    answers = []
    for vote in Vote.objects.filter(showing__rater__study=study).order_by("pk"):
        pair = vote.showing.comparison
        on_left = pair.first if vote.showing.first_on_left else pair.second
        on_right = pair.second if vote.showing.first_on_left else pair.first
        chosen = {"LEFT": on_left, "RIGHT": on_right}.get(vote.choice)
        answers.append(
            (
                str(raters.index(vote.showing.rater_id)),
                vote.showing.criterion.key,
                pair.first.prompt.text,
                f"{pair.first.system.key} {pair.second.system.key}",
                chosen.system.key if chosen else "TIE",
            )
        )
    return answers


@SERVED
def test_simulated_raters_fill_a_study_over_http(live_server):
    study = world.scene_study(
        n_prompts=2, criteria=("fit", "quality"), votes_per_comparison=2, tie_policy="ALLOWED"
    )
    said = _simulate(study, live_server)
    assert said.strip() == f"4 simulated raters gave 24 votes in {study.slug}"
    counts = queries.study_counts(study)
    assert (counts.n_ballots, counts.n_answered, counts.n_votes) == (24, 24, 24)
    assert counts.n_raters == counts.n_finished == 4
    raters = Rater.objects.filter(study=study).order_by("pk")
    assert {rater.recruiter for rater in raters} == {"SIMULATED"}
    assert [rater.criterion_order[0] for rater in raters] == ["fit", "quality"] * 2
    assert all(vote.response_ms > 200 for vote in Vote.objects.all())


@SERVED
def test_a_run_repeats_exactly_in_a_twin_study_and_not_with_another_seed(live_server):
    runs = []
    for seed in (3, 3, 4):
        study = world.scene_study(n_prompts=2, votes_per_comparison=2)
        _simulate(study, live_server, raters=2, seed=seed)
        runs.append(_answers(study))
    assert len(runs[0]) == 12
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@SERVED
def test_raters_go_by_what_they_see(live_server):
    study = world.scene_study(n_prompts=4, votes_per_comparison=2)
    _simulate(study, live_server, raters=2)
    right = [
        chosen == "system-0" for *_, pair, chosen in _answers(study) if pair == "system-0 system-2"
    ]
    assert len(right) == 8
    assert sum(right) >= 7


@pytest.mark.django_db
def test_the_truth_says_what_the_pictures_show():
    study = world.scene_study(n_prompts=4, criteria=("fit", "quality"))
    truth = simulation.truth(study)
    assert list(truth) == ["fit", "quality"]
    fit = truth["fit"]
    assert list(fit) == [
        ("system-0", "system-1"),
        ("system-0", "system-2"),
        ("system-1", "system-2"),
    ]
    assert fit["system-0", "system-2"] > fit["system-0", "system-1"] > 0.6
    assert fit["system-0", "system-2"] > 0.9


@pytest.mark.django_db
def test_the_truth_is_the_mean_of_many_raters_answers():
    study = world.scene_study(n_prompts=2)
    truth = simulation.truth(study)["fit"]["system-0", "system-1"]
    eyes, shares = simulation.Eyes(), []
    for rater in range(200):
        tastes = draw_tastes(1, np.random.default_rng([99, rater]))
        for prompt in study.prompts.all():
            first, second = (
                eyes.look(entry.display.read(), prompt.text).features
                for entry in prompt.entries.order_by("system__position")[:2]
            )
            on_left = chances(tastes, "fit", first, second, ties=False)[0]
            on_right = chances(tastes, "fit", second, first, ties=False)[0]
            shares.append((on_left[0] + on_right[2]) / 2)
    error = np.std(shares) / np.sqrt(len(shares))
    assert abs(np.mean(shares) - truth) < 4 * error


@pytest.mark.django_db
def test_the_truth_leaves_out_what_left_the_study():
    study = world.scene_study(n_prompts=4)
    whole = simulation.truth(study)["fit"]["system-0", "system-1"]
    spoilt = [1, 3]  # where system-1 has the colours wrong
    study.prompts.filter(position__in=spoilt).update(removed_at=NOON, removed_reason="a typo")
    kept = simulation.truth(study)["fit"]["system-0", "system-1"]
    assert kept == pytest.approx(0.5)
    assert whole > 0.6


@pytest.mark.django_db
def test_the_truth_is_printed_on_request():
    study, out = world.scene_study(n_prompts=2), StringIO()
    call_command("simulate", study.slug, truth=True, stdout=out)
    lines = [line.split("\t") for line in out.getvalue().splitlines()]
    assert lines[0][:3] == ["fit", "system-0", "system-1"]
    assert all(0 < float(line[3]) < 1 for line in lines)


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("kind", ["fit", "looks"])
def test_chances_are_chances_and_turn_with_the_sides(kind, ties):
    tastes = draw_tastes(50, np.random.default_rng(1))
    rng = np.random.default_rng(2)
    left, right = rng.random(len(FEATURES)), rng.random(len(FEATURES))
    found = chances(tastes, kind, left, right, ties=ties)
    assert found.sum(axis=1) == pytest.approx(1)
    assert (found >= 0).all()
    assert (found[:, 1] > 0).all() == ties
    unbiased = type(tastes)(tastes.weights, tastes.scale, np.zeros(50))
    turned = chances(unbiased, kind, right, left, ties=ties)[:, ::-1]
    assert chances(unbiased, kind, left, right, ties=ties) == pytest.approx(turned)


def test_a_question_is_about_the_fit_to_the_text_or_about_the_looks():
    assert kind_of("Which image looks more representative of the text shown above?") == "fit"
    assert kind_of("Given the prompt above, which image is of higher quality?") == "looks"


# Refusals


@pytest.mark.django_db
def test_a_study_for_people_refuses_simulated_raters():
    study = world.open_study()
    with pytest.raises(CommandError, match="is for people"):
        call_command("simulate", study.slug)
    assert not Rater.objects.exists()


@pytest.mark.django_db
def test_a_study_that_is_not_open_refuses_simulated_raters():
    study = world.scene_study(n_prompts=1)
    services.close_study(study=study, at=NOON)
    with pytest.raises(CommandError, match="is closed; expected: open"):
        call_command("simulate", study.slug)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"raters": 0}, "--raters of 1 or more"),
        ({"seed": -1}, "--seed of 0 or more"),
        ({"url": "localhost:8000"}, "expected http://host:port"),
        ({"url": "http://127.0.0.1:9"}, "does not answer"),
    ],
)
def test_what_cannot_work_is_said_at_once(options, words):
    study = world.scene_study(n_prompts=1)
    with pytest.raises(CommandError, match=words):
        call_command("simulate", study.slug, **options)


@pytest.mark.django_db
def test_an_unknown_study_is_named():
    with pytest.raises(CommandError, match="no study has the slug 'nowhere'"):
        call_command("simulate", "nowhere")


@SERVED
def test_a_prompt_outside_the_grammar_cannot_be_judged_and_says_so(live_server):
    study = world.open_study(simulated=True)
    with pytest.raises(CommandError, match="prompt number"):
        _simulate(study, live_server)
    assert not Vote.objects.exists()


@SERVED
def test_a_browser_says_which_address_failed(live_server):
    browser = Browser(live_server.url)
    with pytest.raises(BrowserError, match="GET /nowhere: expected a page, got 404"):
        browser.open("/nowhere")
    study = world.scene_study(n_prompts=1)
    page = browser.open(reverse("voting:landing", args=[study.code]))
    form = page.forms["consent"]
    del form.fields["agree"]
    with pytest.raises(BrowserError, match="expected it to be taken, got 400"):
        browser.submit(form)
