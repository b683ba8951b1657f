"""The demo's own run: painted by the worker's task, voted on over HTTP, held against the truth.

The truth is the expected answer over the distribution of the raters' tastes on these prompts, so
the intervals are those for these prompts. With 95% intervals twelve of which share raters, at
least ten must hold the truth, and at least six must exclude one half: effects are there to see.
"""

from collections.abc import Callable

import pytest
from django.core.management import call_command
from django.utils import timezone

from evalsite.results import queries as results
from evalsite.results.summary import Options, summarise
from evalsite.studies.display_files import make_display_files
from evalsite.studies.models import Study
from evalsite.studies.services import apply_spec, prepare
from evalsite.studies.spec import load_spec
from evalsite.voting import services, simulation
from evalsite.voting.queries import counted_votes
from generation.models import Image
from generation.tasks import paint_images


@pytest.mark.timeout(900)
@pytest.mark.django_db(transaction=True)
def test_the_demo_recovers_the_truth_and_mistaken_sides_do_not(live_server, monkeypatch):
    study = _painted_demo()
    services.open_study(study=study, at=timezone.now())
    call_command("simulate", study.slug, raters=30, seed=0, url=live_server.url)
    services.close_study(study=study, at=timezone.now())
    assert counted_votes(study).count() == 24 * 6 * 2 * 3
    truth = simulation.truth(study)

    covered, decided = _held_against(truth, study)
    assert covered >= 10
    assert decided >= 6

    right = results.outcome_of_first
    for mistaken in (_inverted(right), _blind_to_sides(right)):
        monkeypatch.setattr(results, "outcome_of_first", mistaken)
        covered, decided = _held_against(truth, study)
        assert covered < 10 or decided < 6


def _painted_demo() -> Study:
    """The preset, applied and prepared as `study prepare` does, painted by the worker's task."""
    study = apply_spec(load_spec("demo"), slug="demo-run", simulated=True, at=timezone.now())
    prepare(study, at=timezone.now())
    for system in study.systems.all():
        images = Image.objects.filter(entries__system=system, status=Image.Status.QUEUED)
        paint_images.apply(args=[list(images.values_list("pk", flat=True))], throw=True)
    make_display_files(at=timezone.now(), study=study, limit=1000)
    return study


def _held_against(truth: simulation.Truth, study: Study) -> tuple[int, int]:
    """Of the intervals for these prompts: how many hold the truth, how many exclude one half."""
    design = results.load_design(study)
    summary = summarise(design.keys, results.load_votes(study, design), Options(fixed_prompts=True))
    pairs = [
        (pair.rate, truth[criterion.key][pair.first, pair.second])
        for criterion in summary.criteria
        for pair in criterion.pairs
    ]
    assert len(pairs) == 12
    for rate, true in pairs:
        print(f"{rate.win_rate:.3f} [{rate.low:.3f}, {rate.high:.3f}] truth {true:.3f}")
    covered = sum(rate.low <= true <= rate.high for rate, true in pairs)
    decided = sum(rate.low > 0.5 or rate.high < 0.5 for rate, _ in pairs)
    return covered, decided


Outcome = Callable[[str, bool], float]


def _inverted(outcome: Outcome) -> Outcome:
    return lambda choice, first_on_left: 1 - outcome(choice, first_on_left)


def _blind_to_sides(outcome: Outcome) -> Outcome:
    """Takes the left picture for the first system's, always."""
    return lambda choice, first_on_left: outcome(choice, True)
