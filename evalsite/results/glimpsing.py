"""What the page of an open study shows of its results: nothing, or what a declared look does."""

from collections.abc import Mapping
from typing import Any

from evalsite.results import charts, declared, queries, wording
from evalsite.results.documents import DEFAULTS, asked_of
from evalsite.results.judging import glimpse
from evalsite.results.looks import Looks
from evalsite.studies.models import Study
from evalsite.studies.spec_claims import looks_text, points
from evalsite.studies.wording import counted


def context(study: Study) -> Mapping[str, Any]:
    """For templates/results/running.html. Empty where no look was declared, and in a draft.

    study : as `queries.list_studies` gives it, with its counts.
    """
    if not study.looks or study.spec is None:
        return {}
    design = queries.load_design(study)
    stored = queries.load_votes(study, design)
    looks = queries.load_looks(study, stored)
    if looks is None:
        return {}
    said = {
        "looks_declared": looks_text(study.looks),
        "next_look": looks.next_at(study.n_votes),  # type: ignore[attr-defined]
    }
    if not looks.taken:
        return said
    seen = glimpse(design.keys, stored.votes, DEFAULTS, looks)
    return said | {
        "look": _look_text(looks),
        "declared": declared.claim_lines(
            seen.verdicts, design.keys.systems, design.names, so_far=True
        ),
        "parts": declared.glimpse_parts(seen, asked_of(design), design.names),
        "options": DEFAULTS,
        "confidence": wording.confidence_text(DEFAULTS.confidence),
        "ticks": charts.TICKS,
    }


def _look_text(looks: Looks) -> str:
    """Which votes are seen."""
    cut = looks.taken[-1]
    if cut.share is None:
        return f"All {counted(cut.n_votes, 'vote')} that count so far."
    return (
        f"The first {counted(cut.n_votes, 'vote')} that count: those that were in when "
        f"{points(cut.share)}% of the planned votes had been given."
    )
