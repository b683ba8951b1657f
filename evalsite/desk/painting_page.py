"""The page of the admin that shows how far a study's painting is."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from evalsite.desk.wording import notes_of, removed_words
from evalsite.studies.models import Study
from evalsite.studies.progress import SystemProgress, progress
from evalsite.studies.queries import count_prompts, images_to_come

REFRESH_S = 5  # with a script, while images come in
REFRESH_WITHOUT_SCRIPT_S = 30  # the whole page is loaded anew


@dataclass(frozen=True)
class Stretch:
    """One part of a bar, in percent of its length."""

    kind: str
    x: str
    width: str


@dataclass(frozen=True)
class Row:
    """A system as the page shows it."""

    system: SystemProgress
    stretches: tuple[Stretch, ...]
    notes: str
    may_retry: bool
    may_cancel: bool


def painting_context(study: Study, *, may_act: bool, at: datetime) -> dict[str, Any]:
    """What the page shows. Seven queries at most.

    Of a draft for which nothing is to be painted, also what else it waits for.
    """
    is_draft = study.state == Study.State.DRAFT
    may_act = may_act and is_draft
    rows = [_row(system, may_act) for system in progress(study, at=at)]
    pending = sum(row.system.pending for row in rows)
    return {
        "study": study,
        "at": at,
        "rows": rows,
        "n_ready": sum(row.system.ready for row in rows),
        "n_wanted": sum(row.system.wanted for row in rows),
        "removed": removed_words(*count_prompts(study)),
        "to_come": images_to_come(study) if is_draft and not pending else [],
        "refresh_s": REFRESH_S if pending else 0,
        "refresh_without_script_s": REFRESH_WITHOUT_SCRIPT_S if pending else 0,
        "may_retry": sum(row.may_retry for row in rows) > 1,
        "may_cancel": sum(row.may_cancel for row in rows) > 1,
    }


def _row(system: SystemProgress, may_act: bool) -> Row:
    return Row(
        system=system,
        stretches=tuple(_stretches(system)),
        notes=", ".join(notes_of(system)),
        may_retry=may_act and bool(system.failed or system.cancelled_at),
        may_cancel=may_act and bool(system.pending) and not system.cancelled_at,
    )


def _stretches(system: SystemProgress) -> Iterator[Stretch]:
    """Ready, failed and being painted, from left to right; the rest of the bar is empty."""
    x = 0.0
    for kind, n in (
        ("ready", system.ready),
        ("failed", system.failed),
        ("claimed", system.claimed),
    ):
        width = 100 * n / max(system.wanted, 1)
        if n:
            yield Stretch(kind, f"{x:.2f}", f"{width:.2f}")
        x += width
