"""Writing a study's design: apply a file, lay entries and comparisons, make what raters see."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Q, QuerySet

from evalsite.studies import display, queries
from evalsite.studies.defects import find_defects
from evalsite.studies.locks import StudyNotDraft, lock_draft
from evalsite.studies.models import (
    Comparison,
    Criterion,
    Entry,
    Prompt,
    Study,
    System,
)
from evalsite.studies.painting import bring_back
from evalsite.studies.queries import design_of, seed_of
from evalsite.studies.resolve import Resolved, answers, lacking, planned_pairs, resolve
from evalsite.studies.spec import StudySpec
from evalsite.studies.spec_problems import flat_sources
from generation.importing import ImportRefusedError, import_images
from generation.manifest import ImportedImage, ManifestError, read_manifest
from generation.models import Image
from generation.queries import ids_of
from generation.services import (
    PENDING,
    Want,
    ask_again,
    request_images,
    retry_failed,
    withdraw,
)
from generation.spec import Recipe

ROWS = 500  # written by one statement
NOTHING_TO_PREPARE = "Nothing of it is left to prepare."


# From a file to rows


class DraftEdited(Exception):
    """The draft was edited since a file was applied to it, or never came from a file."""

    def __init__(self, study: Study) -> None:
        super().__init__(
            f"study {study.slug} was edited elsewhere since a file was last applied to it. "
            "Apply with --replace to give up those edits."
        )


class CannotApply(Exception):
    """The file names things that are missing; `problems` lists them."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def apply_spec(
    spec: StudySpec,
    *,
    slug: str | None = None,
    simulated: bool | None = None,
    owner: User | None = None,
    replace: bool = False,
    at: datetime,
) -> Study:
    """Make a draft of a study file, or bring an existing draft to it.

    Applying what is already there changes nothing, in whatever state the study is. A draft
    that was edited elsewhere is only overwritten with `replace`; an opened study never.
    Images belong to their recipes, so nothing that was painted is lost; what is still to be
    painted for the draft alone is cancelled until it is prepared again.
    """
    resolved = resolve(spec, checkpoint_dirs=settings.CHECKPOINT_DIRS)
    if resolved.problems:
        raise CannotApply(resolved.problems)
    design = _design_from(resolved, simulated)
    slug = slug or spec.study_slug
    with transaction.atomic():
        study = Study.objects.filter(slug=slug).first()
        if study is not None and study.state == Study.State.DRAFT:
            study = lock_draft(study)
        if study is None:
            study = Study(slug=slug, owner=owner, created_at=at)
        elif digest_of(design_of(study)) == digest_of(design):
            return study
        else:
            _check_may_replace(study, replace)
            _remove_rows(study)
        _write_rows(study, design)
    return study


def _check_may_replace(study: Study, replace: bool) -> None:
    if study.state != Study.State.DRAFT:
        raise StudyNotDraft(study)
    if not replace and study.prompt_source.get("applied_sha256") != digest_of(design_of(study)):
        raise DraftEdited(study)


def digest_of(design: Mapping[str, Any]) -> str:
    """sha256 of a design's canonical JSON."""
    text = json.dumps(design, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def freeze_spec(study: Study) -> None:
    """Set `spec` and `spec_sha256` from the rows; whoever opens the study saves them.

    They are not saved here: the database allows a frozen spec only together with the state.
    """
    removed = study.prompts.filter(removed_at__isnull=False)
    study.spec = {
        "schema_version": 1,
        "slug": study.slug,
        **design_of(study),
        "consent": study.consent_text,  # as shown: what was agreed to can be proved later
        "display_codec": display.CODEC,
        "removed_prompts": list(removed.values("position", "text", "removed_reason")),
        "defects": [defect.as_json() for defect in find_defects(study)],
    }
    study.spec_sha256 = digest_of(study.spec)


def _design_from(resolved: Resolved, simulated: bool | None) -> dict[str, Any]:
    """The design that a file asks for, in the form of `design_of`."""
    spec = resolved.spec
    return {
        "title": spec.title,
        "instructions": spec.instructions,
        "consent": spec.consent,
        "seed": spec.seed,
        "simulated": spec.simulated if simulated is None else simulated,
        "pairing": spec.pairs.upper(),
        "baseline": spec.baseline,
        "votes_per_comparison": spec.votes_per_comparison,
        "votes_per_rater": spec.votes_per_rater,
        "display_size": spec.display.size,
        "resampler": spec.display.resampler.upper(),
        "upscaler": (spec.display.upscaler or "").upper(),
        "on_failure": spec.on_failure.upper(),
        "on_blank": spec.on_blank.upper(),
        "on_duplicate": spec.on_duplicate.upper(),
        "notes": flat_sources(spec.sources),
        "claims": [claim.model_dump() for claim in spec.claims],
        "looks": spec.looks.model_dump() if spec.looks else {},
        "prompt_source": resolved.prompt_source,
        "criteria": [
            {
                "key": criterion.key,
                "question": criterion.question,
                "show_prompt": criterion.show_prompt,
                "tie_policy": criterion.ties.upper(),
            }
            for criterion in spec.criteria
        ],
        "systems": [
            {
                "key": system.key,
                "label": system.label,
                "recipe": system.recipe.as_json() if system.recipe else {},
                "licence": system.licence,
            }
            for system in resolved.systems
        ],
        "prompts": [
            {"text": row.text, "category": row.category, "challenge": row.challenge}
            for row in resolved.prompts
        ],
    }


def _write_rows(study: Study, design: dict[str, Any]) -> None:
    for name in queries.DESIGN_FIELDS:
        setattr(study, name, design[name])
    study.prompt_source = {**design["prompt_source"], "applied_sha256": digest_of(design)}
    study.save()
    Criterion.objects.bulk_create(
        [Criterion(study=study, position=i, **row) for i, row in enumerate(design["criteria"])]
    )
    System.objects.bulk_create(
        [System(study=study, position=i, **row) for i, row in enumerate(design["systems"])]
    )
    Prompt.objects.bulk_create(
        [Prompt(study=study, position=i, **row) for i, row in enumerate(design["prompts"])],
        batch_size=ROWS,
    )


def _remove_rows(study: Study) -> None:
    remove_entries(Entry.objects.filter(prompt__study=study))
    study.prompts.all().delete()
    study.systems.all().delete()
    study.criteria.all().delete()


# Laying a draft out


class CannotPrepare(Exception):
    """Images cannot be had; `problems` lists why, system by system."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def prepare(study: Study, *, retry: bool = False, at: datetime) -> queries.Preparation:
    """Lay entries and comparisons of a draft and ask for every image that is not there yet.

    Running it again brings the rows to the design as it now stands and asks for nothing twice;
    what was cancelled is asked for again. With `retry`, so is what failed, and its prompts come
    back.
    """
    imported = _import(study, at)
    with transaction.atomic():
        draft = lock_draft(study, instead=NOTHING_TO_PREPARE)
        draft.systems.update(painting_cancelled_at=None)
        entries = _wanted_entries(draft, imported, at)
        _lay_entries(draft, entries)
        _lay_comparisons(draft)
        images = queries.images_of(draft.systems.values_list("pk", flat=True))
        ask_again(images, at=at)  # of a system, what had been another's
        if retry:
            retry_failed(images, at=at)
        bring_back(draft, at=at)
        problems = queries.too_small(draft)
        if problems:
            raise CannotPrepare(problems)
    return queries.preparation(study, at=at)


def _import(study: Study, at: datetime) -> dict[int, dict[str, ImportedImage]]:
    """Store the images of imported systems: system id -> prompt -> image. All or none of each.

    Before the transaction: files are read and written, which takes time.
    """
    if study.state != Study.State.DRAFT:
        raise StudyNotDraft(study, NOTHING_TO_PREPARE)
    texts = list(study.prompts.values_list("text", flat=True))
    found: dict[int, dict[str, ImportedImage]] = {}
    problems: list[str] = []
    for system in study.systems.filter(recipe__family="imported"):
        try:
            found[system.pk] = _import_system(system, texts, at)
        except (ManifestError, ImportRefusedError, CannotPrepare) as error:
            problems += [f"{system.key}: {text}" for text in error.problems]
    if problems:
        raise CannotPrepare(problems)
    return found


def _import_system(system: System, texts: list[str], at: datetime) -> dict[str, ImportedImage]:
    recipe = Recipe.model_validate(system.recipe)
    manifest = read_manifest(Path(recipe.checkpoint))
    revision = manifest.revision(system.key)
    if revision != recipe.revision:
        raise CannotPrepare(
            [
                f"the images in {recipe.checkpoint} are not those that the study names: "
                f"expected {recipe.revision}, found {revision}"
            ]
        )
    images = answers(manifest.of_system(system.key))
    problems = lacking(images, texts)
    if problems:
        raise CannotPrepare(problems)
    wanted = {text: images[text] for text in texts}
    import_images(recipe, list(wanted.values()), at=at)
    return wanted


Wanted = dict[tuple[int, int], tuple[int, int]]  # (system, prompt) -> (seed, image)


def _wanted_entries(
    study: Study, imported: Mapping[int, Mapping[str, ImportedImage]], at: datetime
) -> Wanted:
    """Every entry that the design wants, its image asked for where it is not there yet.

    Painted systems share one seed per prompt; an imported image keeps the seed it came with.
    """
    prompts = list(study.prompts.all())
    asked: dict[tuple[int, int], tuple[int, str]] = {}
    wants = []
    for system in study.systems.all():
        recipe = Recipe.model_validate(system.recipe)
        for prompt in prompts:
            if recipe.family == "imported":
                image = imported[system.pk][prompt.text]
                want = Want(recipe, image.prompt, image.seed)
            else:
                want = Want(recipe, prompt.text, seed_of(study.seed, prompt.text))
                wants.append(want)
            asked[system.pk, prompt.pk] = (want.seed, want.digest)
    painted = request_images(wants, at=at)
    ids = painted | ids_of({digest for _, digest in asked.values()} - painted.keys())
    return {place: (seed, ids[digest]) for place, (seed, digest) in asked.items()}


def _lay_entries(study: Study, wanted: Wanted) -> None:
    """Add what is missing, remove what is no longer wanted.

    Where a prompt's entries change, all its display files are made anew: they share a length.
    """
    existing = {
        (entry.system_id, entry.prompt_id): entry
        for entry in Entry.objects.filter(prompt__study=study, sample=0)
    }
    stale = [
        entry.pk
        for place, entry in existing.items()
        if wanted.get(place) != (entry.seed, entry.image_id)
    ]
    kept = {place for place, entry in existing.items() if entry.pk not in set(stale)}
    new = [
        Entry(system_id=system, prompt_id=prompt, seed=seed, image_id=image)
        for (system, prompt), (seed, image) in wanted.items()
        if (system, prompt) not in kept
    ]
    if stale:
        remove_entries(Entry.objects.filter(pk__in=stale))
    changed = {entry.prompt_id for entry in new}
    if changed:
        forget_display_files(Entry.objects.filter(prompt__study=study, prompt__in=changed))
    Entry.objects.bulk_create(new, batch_size=ROWS)


def _lay_comparisons(study: Study) -> None:
    systems = dict(study.systems.values_list("key", "pk"))
    pairs = [
        (systems[first], systems[second])
        for first, second in planned_pairs(list(systems), study.baseline)
    ]
    entries = {
        (system, prompt): pk
        for pk, system, prompt in Entry.objects.filter(prompt__study=study, sample=0).values_list(
            "pk", "system_id", "prompt_id"
        )
    }
    wanted = {
        (entries[first, prompt], entries[second, prompt]): None
        for prompt in study.prompts.values_list("pk", flat=True)
        for first, second in pairs
    }
    rows = Comparison.objects.filter(first__prompt__study=study)
    existing = {(c.first_id, c.second_id): c.pk for c in rows}
    surplus = [pk for pair, pk in existing.items() if pair not in wanted]
    for i in range(0, len(surplus), ROWS):
        Comparison.objects.filter(pk__in=surplus[i : i + ROWS]).delete()
    new = [Comparison(first_id=a, second_id=b) for a, b in wanted if (a, b) not in existing]
    Comparison.objects.bulk_create(new, batch_size=ROWS)


@transaction.atomic
def delete_draft(study: Study) -> None:
    """Take a draft away with all that was laid for it. Painted images stay: others may use them.

    Raises StudyNotDraft: what raters may have seen is never deleted.
    """
    locked = lock_draft(study, instead="What raters may have seen is never deleted.")
    remove_entries(Entry.objects.filter(prompt__study=locked))
    for rows in (locked.prompts, locked.systems, locked.criteria):
        rows.all().delete()
    locked.delete()


def remove_entries(entries: QuerySet[Entry]) -> None:
    """Take entries of a locked draft out, with their comparisons and display files.

    Painted images stay; what is still to be painted for these entries alone is cancelled.
    """
    ids = list(entries.values_list("pk", flat=True))
    pending = entries.filter(image__status__in=PENDING).order_by("image_id")
    image_ids = list(pending.values_list("image_id", flat=True))
    for i in range(0, len(ids), ROWS):
        chunk = ids[i : i + ROWS]
        Comparison.objects.filter(Q(first__in=chunk) | Q(second__in=chunk)).delete()
        forget_display_files(Entry.objects.filter(pk__in=chunk))
        Entry.objects.filter(pk__in=chunk).delete()
    for i in range(0, len(image_ids), ROWS):
        images = Image.objects.filter(pk__in=image_ids[i : i + ROWS])
        withdraw(queries.unwanted(images))


def forget_display_files(entries: QuerySet[Entry]) -> None:
    """Let display files be made anew; the old ones go once that is committed."""
    names = list(entries.exclude(display="").values_list("display", flat=True))
    entries.update(display="")
    if names:
        transaction.on_commit(partial(_delete_files, names))


def _delete_files(names: Iterable[str]) -> None:
    for name in names:
        default_storage.delete(name)
