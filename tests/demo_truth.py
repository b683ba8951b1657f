"""Reads a finished demo run where it lies and prints, as JSON, how it stands to the truth.

A program of its own, because the run has a database of its own: python -m tests.demo_truth SLUG
"""

import json
import sys
from collections.abc import Callable

import django

django.setup()

from evalsite.results import queries as results  # noqa: E402
from evalsite.results.summary import summarise  # noqa: E402
from evalsite.stats import Options  # noqa: E402
from evalsite.studies.models import Study  # noqa: E402
from evalsite.voting import simulation  # noqa: E402

Outcome = Callable[[str, bool], float]


def main(slug: str) -> None:
    study = Study.objects.get(slug=slug)
    truth = simulation.truth(study)
    right = results.outcome_of_first
    readings: dict[str, Outcome] = {
        "right": right,
        "inverted": lambda choice, first_on_left: 1 - right(choice, first_on_left),
        "blind to sides": lambda choice, first_on_left: right(choice, True),
    }
    found = {}
    for name, reading in readings.items():
        results.outcome_of_first = reading
        found[name] = held_against(truth, study)
    print(json.dumps(found))


def held_against(truth: simulation.Truth, study: Study) -> list[dict[str, float]]:
    """Each interval for these prompts, with the true rate beside it."""
    design = results.load_design(study)
    votes = results.load_votes(study, design).votes
    summary = summarise(design.keys, votes, Options(fixed_prompts=True))
    return [
        {
            "low": pair.rate.low,
            "high": pair.rate.high,
            "truth": truth[criterion.key][pair.first, pair.second],
        }
        for criterion in summary.criteria
        for pair in criterion.pairs
    ]


if __name__ == "__main__":
    main(sys.argv[1])
