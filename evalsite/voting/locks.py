"""Who takes turns with whom when votes, exclusions and closings come at once.

Whoever acts for a rater first locks that rater's row, so that two tabs, a vote and an exclusion
take turns; closing locks them all. Only then are the states of study and rater read, by a query
of their own: a joined row could be older than the lock. On SQLite every transaction is
IMMEDIATE and takes its turn as a whole. The lasting guarantees are the unique keys and the
conditional updates; the locks only keep the answers sensible.

Locks are taken in one order: study, raters, comparison, ballots.
"""

from django.db.models import QuerySet

from evalsite.studies.models import Study
from evalsite.voting.models import Ballot, Rater


def lock_study(pk: int) -> Study:
    return Study.objects.select_for_update().get(pk=pk)


def lock_rater(pk: int) -> tuple[Rater, Study]:
    """The rater, locked, and the study as it is after the wait."""
    rater = Rater.objects.select_for_update().get(pk=pk)
    # Of the study only what an answer depends on: its spec holds every prompt.
    return rater, Study.objects.only("slug", "state", "votes_per_rater").get(pk=rater.study_id)


def lock_raters_of(study: Study) -> None:
    list(Rater.objects.filter(study=study).select_for_update().order_by("pk").values_list("pk"))


def release(ballots: QuerySet[Ballot]) -> None:
    """Back to the pool, sides kept; rows locked in one order, so that no two block each other."""
    held = ballots.filter(holder__isnull=False)
    list(held.order_by("pk").select_for_update(of=("self",)).values_list("pk"))
    held.update(holder=None, lease_expires_at=None, answered_at=None)
