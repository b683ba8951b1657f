"""Images that were painted and yet are none, found before a rater sees them.

Blank: one colour all over, to the eye, as a safety filter leaves it. Duplicate: a system's image,
pixel for pixel, under another prompt or another seed as well. Which of the two is right nobody can
tell, so each is one. The study's rules say what comes of them, the same for every system.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db.models import Count, Q, QuerySet

from evalsite.studies.models import Comparison, Entry, Prompt, Study, prompt_label
from evalsite.studies.wording import counted
from generation.models import Image

logger = logging.getLogger(__name__)
REASON_LENGTH = 300
Drop = Study.OnDefect.DROP

Reasons = Mapping[int, str]  # entry -> what is wrong with its image


class DefectKind(StrEnum):
    BLANK = "BLANK"
    DUPLICATE = "DUPLICATE"


@dataclass(frozen=True)
class Defect:
    """One entry whose image is blank, or another entry's of its system again."""

    kind: DefectKind
    rule: str  # the study's: REFUSE, DROP or KEEP
    entry_id: int
    prompt_id: int
    position: int  # the prompt's
    text: str  # the prompt's
    sample: int
    system: str  # its key
    detail: str  # what was seen, in words
    in_study: bool  # whether raters would see it: neither prompt nor comparisons have left

    @property
    def reason(self) -> str:
        """As it stands where the prompt or the comparison left."""
        return f"{self.kind.lower()} image of {self.system}: {self.detail}"

    @property
    def sentence(self) -> str:
        state = "in the study" if self.in_study else "left the study"
        prompt = f"{prompt_label(self.position)}, “{self.text[:60]}”"
        return f"{prompt}: {self.reason} ({self.rule.lower()}; {state})"

    def as_json(self) -> dict[str, Any]:
        """As frozen when the study opens. No ids: they mean nothing elsewhere."""
        return {
            "kind": self.kind,
            "rule": self.rule,
            "position": self.position,
            "sample": self.sample,
            "system": self.system,
            "detail": self.detail,
            "in_study": self.in_study,
        }


def find_defects(study: Study, *, of: Prompt | None = None) -> list[Defect]:
    """Every defect among a study's finished images, or only those that one prompt is part of.

    Those of prompts that have left are found as well: what is a duplicate does not hang on the
    order in which images came. A blank image is no duplicate besides. At most three queries.
    """
    ready = Entry.objects.filter(prompt__study=study, image__status=Image.Status.READY)
    blank = ready.exclude(image__flat_colour="")
    same = _repeated(ready.filter(image__flat_colour=""), of)
    if of is not None:
        blank = blank.filter(prompt=of)
    found = Q(pk__in=blank.values("pk")) | Q(image__sha256__in={sha256 for _, sha256 in same})
    rows = (
        ready.filter(found)
        .select_related("image", "system", "prompt")
        .order_by("prompt__position", "system__position", "sample")
    )
    entries = [
        entry
        for entry in rows
        if entry.image.flat_colour or (entry.system_id, entry.image.sha256) in same
    ]
    live = _seen(study, entries)
    alike: dict[tuple[int, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        alike[entry.system_id, entry.image.sha256].append(entry)
    return [
        _defect(study, entry, alike[entry.system_id, entry.image.sha256], entry.pk in live)
        for entry in entries
    ]


def _repeated(entries: QuerySet[Entry], of: Prompt | None) -> set[tuple[int, str]]:
    """System and hash of pixels that several entries share. Stored files are made by one
    encoder from pixels alone, so equal files are equal pixels, and the other way round."""
    if of is not None:
        own = Image.objects.filter(entries__prompt=of).values("sha256")
        entries = entries.filter(image__sha256__in=own)
    groups = entries.values("system_id", "image__sha256").annotate(n=Count("pk")).filter(n__gt=1)
    return set(groups.values_list("system_id", "image__sha256"))


def _seen(study: Study, entries: Iterable[Entry]) -> set[int]:
    """Those of the entries that stand in a comparison still in the study."""
    ids = [entry.pk for entry in entries if entry.prompt.removed_at is None]
    if not ids:
        return set()
    pairs = Comparison.objects.filter(first__prompt__study=study, removed_at=None)
    seen = pairs.values_list("first_id", "second_id")
    return set(ids) & {pk for pair in seen for pk in pair}


def _defect(study: Study, entry: Entry, alike: list[Entry], in_study: bool) -> Defect:
    colour = entry.image.flat_colour
    kind = DefectKind.BLANK if colour else DefectKind.DUPLICATE
    if colour:
        detail = f"one colour all over, {'black' if colour == '#000000' else colour}"
    else:
        others = [_place(one) for one in alike if one.pk != entry.pk]
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        detail = f"the same pixels as on {', '.join(others[:3])}{more}"
    return Defect(
        kind=kind,
        rule=study.on_blank if colour else study.on_duplicate,
        entry_id=entry.pk,
        prompt_id=entry.prompt_id,
        position=entry.prompt.position,
        text=entry.prompt.text,
        sample=entry.sample,
        system=entry.system.key,
        detail=detail,
        in_study=in_study,
    )


def _place(entry: Entry) -> str:
    sample = f", sample {entry.sample}" if entry.sample else ""
    return f"{prompt_label(entry.prompt.position)}{sample}"


def defect_obstacles(study: Study, defects: Iterable[Defect]) -> list[str]:
    """Why a study cannot be opened yet, in words: a defect that nobody has decided on, or one
    that was to leave and is still there. No query."""
    waiting = Counter(
        (defect.kind.lower(), defect.rule)
        for defect in defects
        if defect.in_study and defect.rule != Study.OnDefect.KEEP
    )
    return [
        f"{counted(n, f'{kind} image')} to leave the study and still there: prepare it again"
        if rule == Drop
        else f"{counted(n, f'{kind} image')}: look at them, then decide for every system alike "
        f'with on_{kind} = "drop" or "keep" in the study file or the admin, and prepare again'
        for (kind, rule), n in waiting.items()
    ]


def drop_defects(study: Study, *, at: datetime, of: Prompt | None = None) -> None:
    """Take out, as if they had failed, images that the study's rules say to drop.

    With `of`, only what one prompt is part of: itself, and others that share its pixels.
    """
    if Drop not in (study.on_blank, study.on_duplicate):
        return
    leaving: dict[int, dict[int, str]] = defaultdict(dict)
    for defect in find_defects(study, of=of):
        if defect.rule == Drop and defect.in_study:
            leaving[defect.prompt_id][defect.entry_id] = defect.reason
    for prompt_id, reasons in leaving.items():
        take_out(study, prompt_id, reasons, at=at)


def take_out(study: Study, prompt_id: int, reasons: Reasons, *, at: datetime) -> None:
    """What `on_failure` says leaves, with its reason: a prompt for all systems, or the
    comparisons of these entries."""
    reason = "; ".join(reasons.values())[:REASON_LENGTH]
    fields = {"removed_at": at, "removed_reason": reason}
    if study.on_failure == Study.OnFailure.DROP_PROMPT:
        n = Prompt.objects.filter(pk=prompt_id, removed_at=None).update(**fields)
        what = f"Prompt {prompt_id} leaves"
    else:
        touched = Q(first__in=reasons) | Q(second__in=reasons)
        n = Comparison.objects.filter(touched, removed_at=None).update(**fields)
        what = f"{counted(n, 'comparison')} {'leaves' if n == 1 else 'leave'}"
    if n:
        logger.warning("%s study %s: %s", what, study.slug, reason)
