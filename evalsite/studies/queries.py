"""Reading across a study's rows. Nothing here writes."""

import hashlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet
from pydantic import ValidationError

from evalsite.studies.defects import Defect, defect_obstacles, find_defects
from evalsite.studies.models import Comparison, Entry, Prompt, Study
from evalsite.studies.progress import SystemProgress, progress
from evalsite.studies.resolve import missing_for, planned_pairs
from evalsite.studies.spec_claims import claim_problems
from evalsite.studies.spec_problems import recipe_words
from evalsite.studies.wording import counted
from generation.models import Image
from generation.spec import Recipe

DONE_WITH = (Image.Status.READY, Image.Status.FAILED)
DESIGN_FIELDS = (
    "title",
    "instructions",
    "consent",
    "seed",
    "simulated",
    "pairing",
    "baseline",
    "votes_per_comparison",
    "votes_per_rater",
    "display_size",
    "resampler",
    "upscaler",
    "on_failure",
    "on_blank",
    "on_duplicate",
    "notes",
    "claims",
    "looks",
)
CRITERION_FIELDS = ("key", "question", "show_prompt", "tie_policy")
SYSTEM_FIELDS = ("key", "label", "recipe", "licence")
PROMPT_FIELDS = ("text", "category", "challenge")


def seed_of(study_seed: int, text: str, sample: int = 0) -> int:
    """The seed that every system gets on a prompt: the same wherever the same is asked.

    Below 2**53, so that JSON and browsers keep it exactly.
    """
    digest = hashlib.sha256(f"{study_seed}\n{sample}\n{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 11


def design_of(study: Study) -> dict[str, Any]:
    """All that a study asks, from its rows; what opening freezes. Three queries."""
    source = {k: v for k, v in study.prompt_source.items() if k != "applied_sha256"}
    return {
        **{name: getattr(study, name) for name in DESIGN_FIELDS},
        "prompt_source": source,
        "criteria": list(study.criteria.values(*CRITERION_FIELDS)),
        "systems": list(study.systems.values(*SYSTEM_FIELDS)),
        "prompts": list(study.prompts.values(*PROMPT_FIELDS)),
    }


def live_prompts(study: Study) -> QuerySet[Prompt]:
    """Prompts that have not left the study."""
    return study.prompts.filter(removed_at=None)


def count_prompts(study: Study) -> tuple[int, int]:
    """How many prompts a study has, and how many of them have left it. One query."""
    n = study.prompts.aggregate(all=Count("pk"), removed=Count("removed_at"))
    return n["all"], n["removed"]


def live(comparison: str = "") -> Q:
    """That a comparison has not left its study, nor its prompt; `comparison` is the way to it."""
    way = f"{comparison}__" if comparison else ""
    return Q(**{f"{way}removed_at": None, f"{way}first__prompt__removed_at": None})


def live_comparisons(study: Study) -> QuerySet[Comparison]:
    """Comparisons that have not left the study, nor their prompt."""
    return Comparison.objects.filter(live(), first__prompt__study=study)


@dataclass(frozen=True)
class Preparation:
    """How far a study's images have come, and what still stands in the way of opening it."""

    systems: tuple[SystemProgress, ...]
    n_prompts: int
    n_prompts_removed: int
    n_comparisons: int
    n_comparisons_removed: int
    obstacles: tuple[str, ...]
    defects: tuple[Defect, ...] = ()

    @property
    def is_prepared(self) -> bool:
        return not self.obstacles

    @property
    def pending(self) -> int:
        return sum(system.pending for system in self.systems)

    @property
    def failed(self) -> int:
        return sum(system.failed for system in self.systems)

    @property
    def ready(self) -> int:
        return sum(system.ready for system in self.systems)

    @property
    def displayed(self) -> int:
        return sum(system.displayed for system in self.systems)


def preparation(study: Study, *, at: datetime) -> Preparation:
    """Counts per system and what is missing. Seventeen queries at most, whatever the size."""
    found = find_defects(study)
    n_prompts, n_prompts_removed = count_prompts(study)
    comparisons = Comparison.objects.filter(first__prompt__study=study)
    gone = Q(removed_at__isnull=False) | Q(first__prompt__removed_at__isnull=False)
    counts = comparisons.aggregate(n=Count("pk"), removed=Count("pk", filter=gone))
    return Preparation(
        systems=progress(study, at=at),
        n_prompts=n_prompts,
        n_prompts_removed=n_prompts_removed,
        n_comparisons=counts["n"],
        n_comparisons_removed=counts["removed"],
        obstacles=tuple(obstacles(study, found)),
        defects=tuple(found),
    )


def is_prepared(study: Study) -> bool:
    """Whether raters may come: every pair is laid and every file that they would see exists."""
    return not obstacles(study)


def obstacles(study: Study, defects: list[Defect] | None = None) -> list[str]:
    """What stands in the way of opening, in words. Nine queries; seven where defects are known, and
    one more where claims are declared."""
    keys = list(study.systems.values_list("key", flat=True))
    pairs = planned_pairs(keys, study.baseline)
    n_live = live_prompts(study).count()
    found = []
    if not study.criteria.exists():
        found.append("no criterion: raters would be asked nothing")
    if study.baseline and study.baseline not in keys:
        found.append(f'the baseline "{study.baseline}" is none of its systems')
    if study.claims:
        criteria = list(study.criteria.values_list("key", flat=True))
        found += claim_problems(
            study.claims, systems=keys, criteria=criteria, baseline=study.baseline
        )
    if not pairs or not n_live:
        return [
            *found,
            f"nothing to compare: {counted(len(keys), 'system')}, "
            f"{counted(n_live, 'prompt')} in the study",
        ]
    laid = _count_laid_pairs(study)
    wanted = Counter(dict.fromkeys(pairs, n_live))
    if laid != wanted:
        n_missing, n_surplus = (wanted - laid).total(), (laid - wanted).total()
        found.append(
            f"the pairs are not laid: {n_missing:,} missing, {n_surplus:,} no longer wanted"
        )
    found += images_to_come(study)
    found += too_small(study)  # a painted size is known only now
    found += defect_obstacles(study, find_defects(study) if defects is None else defects)
    if not found and not live_comparisons(study).exists():
        found.append("every comparison has left the study")
    return found


def images_to_come(study: Study) -> list[str]:
    """What raters would see and cannot yet, in words, with what brings it about. One query.

    What was cancelled will not come, and while one image of a prompt is not there none of that
    prompt is put into the form that raters see.
    """
    of_prompt = Entry.objects.filter(prompt=OuterRef("prompt"))
    waits = Exists(of_prompt.exclude(image__status__in=DONE_WITH))
    status = {name: Q(image__status=name) for name in Image.Status.values}
    n = (
        entries_without_display(study)
        .annotate(waits=waits)
        .aggregate(
            to_paint=Count("pk", filter=status["QUEUED"] | status["CLAIMED"]),
            beside_others=Count("pk", filter=status["READY"] & Q(waits=True)),
            painted=Count("pk", filter=status["READY"] & Q(waits=False)),
            failed=Count("pk", filter=status["FAILED"]),
            cancelled=Count("pk", filter=status["CANCELLED"]),
        )
    )
    how = f"or: study prepare {study.slug}"
    form = "painted, but not yet in the form that raters see: the sweep makes that, " + how
    again = f"asked for again with: study retry {study.slug}"
    told = (  # of one, and of more
        (n["to_paint"], "is not ready to be shown yet", "are not ready to be shown yet"),
        (
            n["beside_others"],
            "is painted, but another of its prompt is not",
            "are painted, but others of their prompts are not",
        ),
        (n["painted"], f"is {form}", f"are {form}"),
        (
            n["failed"],
            f"failed: the sweep takes out what needs it, {how}",
            f"failed: the sweep takes out what needs them, {how}",
        ),
        (
            n["cancelled"],
            f"was cancelled; it is {again}",
            f"were cancelled; they are {again}",
        ),
    )
    return [
        f"{counted(count, 'image')} {of_one if count == 1 else of_more}"
        for count, of_one, of_more in told
        if count
    ]


def _count_laid_pairs(study: Study) -> Counter[tuple[str, str]]:
    rows = (
        Comparison.objects.filter(first__prompt__study=study, first__prompt__removed_at=None)
        .values_list("first__system__key", "second__system__key")
        .annotate(n=Count("pk"))
    )
    return Counter({(first, second): n for first, second, n in rows})


def _in_live_comparison() -> Exists:
    either = Q(first=OuterRef("pk")) | Q(second=OuterRef("pk"))
    return Exists(Comparison.objects.filter(either, removed_at=None))


def entries_without_display(study: Study) -> QuerySet[Entry]:
    """Entries that raters would see and cannot yet: of a comparison still in the study."""
    return Entry.objects.filter(
        _in_live_comparison(), prompt__study=study, prompt__removed_at=None, display=""
    )


def prompts_to_finish(study: Study | None = None) -> QuerySet[Prompt]:
    """Prompts of drafts whose images are all painted or failed, and not all of them shown yet.

    One with a cancelled image waits: it may be asked for again.
    """
    entries = Entry.objects.filter(prompt=OuterRef("pk"))
    bare = entries.filter(_in_live_comparison(), display="")
    prompts = Prompt.objects.filter(
        ~Exists(entries.exclude(image__status__in=DONE_WITH)),
        Exists(bare),
        study__state=Study.State.DRAFT,
        removed_at=None,
    )
    if study is not None:
        prompts = prompts.filter(study=study)
    return prompts.select_related("study").order_by("study_id", "position")


def images_of(system_ids: Collection[int]) -> QuerySet[Image]:
    """Every image that these systems answer with."""
    return Image.objects.filter(
        Exists(Entry.objects.filter(image=OuterRef("pk"), system__in=system_ids))
    )


def unwanted(images: QuerySet[Image]) -> QuerySet[Image]:
    """Those of some images that no draft wants to have painted."""
    wanting = Entry.objects.filter(
        image=OuterRef("pk"),
        system__painting_cancelled_at=None,
        system__study__state=Study.State.DRAFT,
    )
    return images.filter(~Exists(wanting))


def is_being_painted(study: Study) -> bool:
    """Whether some worker holds an image of this study."""
    claimed = Q(image__status=Image.Status.CLAIMED)
    return Entry.objects.filter(claimed, prompt__study=study).exists()


def missing_by_system(study: Study) -> dict[str, list[str]]:
    """System key -> what keeps its images from being painted here; nothing once all are there."""
    missing = {}
    for system in study.systems.all():
        ready = system.entries.filter(image__status=Image.Status.READY).count()
        if ready and ready == study.prompts.count():
            continue
        try:
            problems = missing_for(Recipe.model_validate(system.recipe))
        except ValidationError as error:
            problems = recipe_words(error)
        if problems:
            missing[system.key] = problems
    return missing


def recovered_prompts(study: Study) -> QuerySet[Prompt]:
    """Prompts that left for a failed image of which none is failed any more."""
    failed = Entry.objects.filter(prompt=OuterRef("pk"), image__status=Image.Status.FAILED)
    return study.prompts.filter(~Exists(failed), removed_at__isnull=False)


def recovered_comparisons(study: Study) -> QuerySet[Comparison]:
    """Comparisons that left for a failed image and have two good ones now."""
    return Comparison.objects.filter(first__prompt__study=study, removed_at__isnull=False).exclude(
        Q(first__image__status=Image.Status.FAILED) | Q(second__image__status=Image.Status.FAILED)
    )


def too_small(study: Study) -> list[str]:
    """Systems with images below the display size in a study that declares no upscaler."""
    if study.upscaler:
        return []
    small = Entry.objects.filter(
        prompt__study=study,
        prompt__removed_at=None,
        image__width__lt=study.display_size,
        image__height__lt=study.display_size,
    )
    rows = small.values("system__key").annotate(n=Count("pk")).order_by(F("system__position"))
    return [
        f"{row['system__key']}: "
        f"{counted(row['n'], 'image')} {'is' if row['n'] == 1 else 'are'} smaller than the "
        f"display size of {study.display_size} pixels; choose a smaller one or declare an upscaler"
        for row in rows
    ]
