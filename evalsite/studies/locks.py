"""The lock under which a draft's design, and what it wants to have painted, may change."""

from evalsite.studies.models import Study

ANOTHER_STUDY = "Another design is another study, under another slug."


class StudyNotDraft(Exception):
    """An opened study refuses any change of its design; `instead` says what follows from that."""

    def __init__(self, study: Study, instead: str = ANOTHER_STUDY) -> None:
        super().__init__(
            f"study {study.slug} is {study.state.lower()}: its design stands since it was "
            f"opened. {instead}"
        )


def lock_draft(study: Study, *, instead: str = ANOTHER_STUDY) -> Study:
    """The study as it now is, locked and still a draft; else StudyNotDraft.

    Every draft is locked with it, in order. Drafts share images, and cancelling reads what all of
    them want: under the lock of its own row alone it would not see an entry that another draft
    lays at the same moment, and that draft would wait for ever.
    """
    drafts = Study.objects.select_for_update().filter(state=Study.State.DRAFT).order_by("pk")
    is_draft = study.pk in set(drafts.values_list("pk", flat=True))
    locked = Study.objects.get(pk=study.pk)
    if not is_draft:
        raise StudyNotDraft(locked, instead)
    return locked
