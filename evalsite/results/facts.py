"""What a report says of its study beside the votes: the `study` part of report.json."""

from collections.abc import Sequence

from evalsite.results.queries import Record, StudyDesign
from evalsite.results.report import Json
from evalsite.results.tables import timestamp
from evalsite.studies.models import Study, System, prompt_label
from generation.models import Pace
from generation.spec import LEFT_OUT, Recipe, places_of, public_place


def study_json(
    design: StudyDesign, record: Record, paces: Sequence[tuple[System, Pace]], n_counted: int
) -> Json:
    """The design as frozen, all that keeps a vote or a prompt from being counted, and how fast
    its systems were found to be by now."""
    study = design.study
    return {
        "slug": study.slug,
        "title": study.title,
        "simulated": study.simulated,
        "state": study.state,
        "spec_sha256": study.spec_sha256,
        "opened_at": timestamp(study.opened_at) if study.opened_at else None,
        "closed_at": timestamp(study.closed_at) if study.closed_at else None,
        "design": _design_json(design),
        "counts": _counts_json(record, n_counted),
        **_left_out_json(record, design),
        "image_defects": _defects_json(study),
        "image_events": _events_json(record),
        "latencies": [_latency_json(system, pace) for system, pace in paces],
    }


def _defects_json(study: Study) -> list[Json]:
    """As frozen when the study opened: what was found then, and what its rules made of it."""
    return [
        {
            "kind": defect["kind"],
            "rule": defect["rule"],
            "prompt_id": prompt_label(defect["position"]),
            "system": defect["system"],
            "sample": defect["sample"],
            "detail": defect["detail"],
            "in_study": defect["in_study"],
        }
        for defect in (study.spec or {}).get("defects", [])
    ]


def _events_json(record: Record) -> list[Json]:
    """What befell finished images of the study, in order of time."""
    return [
        {
            "kind": event.kind,
            "prompt_id": prompt_label(entry.prompt.position),
            "system": entry.system.key,
            "sample": entry.sample,
            "sha256_before": event.sha256_before,
            "sha256_after": event.sha256_after,
            "at": timestamp(event.at),
        }
        for event, entry in record.image_events
    ]


def _latency_json(system: System, pace: Pace) -> Json:
    return {
        "system": system.key,
        "device": pace.device,
        "options": pace.options.split(",") if pace.options else [],
        "latency_ms": pace.latency_ms,
        "n_paints": pace.n_paints,
        "batch_size": pace.batch_size if pace.images_per_s is not None else None,
        "images_per_s": pace.images_per_s,
        "versions": pace.versions,
        "measured_at": timestamp(pace.measured_at) if pace.measured_at else None,
    }


def _design_json(design: StudyDesign) -> Json:
    study = design.study
    return {
        "pairing": study.pairing,
        "baseline": study.baseline or None,
        "votes_per_comparison": study.votes_per_comparison,
        "votes_per_rater": study.votes_per_rater,
        "display_size": study.display_size,
        "resampler": study.resampler,
        "upscaler": study.upscaler or None,
        "on_failure": study.on_failure,
        "on_blank": study.on_blank,
        "on_duplicate": study.on_duplicate,
        "criteria": [
            {
                "key": criterion.key,
                "question": criterion.question,
                "show_prompt": criterion.show_prompt,
                "tie_policy": criterion.tie_policy,
            }
            for criterion in design.criteria
        ],
        "systems": [
            {
                "key": system.key,
                "label": system.label,
                "licence": system.licence,
                "recipe": Recipe.model_validate(system.recipe).as_public_json(),
                **_left_out_of_pictures(system),
            }
            for system in design.systems
        ],
    }


def _left_out_of_pictures(system: System) -> Json:
    """Filters and marks that a painted image never goes through; of imported ones nobody knows."""
    imported = system.recipe["family"] == "imported"
    return {name: None if imported else state for name, state in LEFT_OUT.items()}


def _counts_json(record: Record, n_counted: int) -> Json:
    return {
        "n_prompts": len(record.prompts),
        "n_prompts_removed": sum(prompt.removed_at is not None for prompt in record.prompts),
        "n_comparisons_removed": len(record.removed_comparisons),
        "n_ballots": record.n_ballots,
        "n_votes_stored": record.n_stored,
        "n_votes_counted": n_counted,
        "n_votes_surplus": record.n_stored - n_counted,
        "n_votes_taken_back": record.n_taken_back,
        "n_raters": len(record.raters),
        "n_raters_excluded": sum(rater.excluded_at is not None for rater in record.raters),
        "n_raters_withdrawn": sum(rater.withdrawn_at is not None for rater in record.raters),
        "n_flags": sum(record.flags.values()),
    }


def _left_out_json(record: Record, design: StudyDesign) -> Json:
    prompts, raters = record.prompt_labels, record.rater_labels
    return {
        "removed_prompts": [
            {
                "prompt_id": prompts[prompt.pk],
                "prompt": prompt.text,
                "reason": _without_folders(prompt.removed_reason, design),
                "removed_at": timestamp(prompt.removed_at),
            }
            for prompt in record.prompts
            if prompt.removed_at is not None
        ],
        "removed_comparisons": [
            {
                "prompt_id": prompts[comparison.first.prompt_id],
                "first": comparison.first.system.key,
                "second": comparison.second.system.key,
                "reason": _without_folders(comparison.removed_reason, design),
                "removed_at": timestamp(comparison.removed_at),
            }
            for comparison in record.removed_comparisons
            if comparison.removed_at is not None
        ],
        "exclusions": [
            {
                "rater_id": raters[rater.pk],
                "reason": rater.excluded_reason,
                "excluded_at": timestamp(rater.excluded_at),
            }
            for rater in record.raters
            if rater.excluded_at is not None
        ],
        "flags": record.flags,
    }


def _without_folders(reason: str, design: StudyDesign) -> str:
    """What went wrong with an image may name the folder that its checkpoint lies in."""
    recipes = [system.recipe for system in design.systems]
    places = {place for recipe in recipes for place, _ in places_of(recipe)}
    for place in sorted(places, key=len, reverse=True):  # one may lie inside another
        reason = reason.replace(place, public_place(place))
    return reason
