"""Giving out pairs: every ballot to one rater at a time, no pair to a rater twice."""

from collections import Counter
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Case, Count, Exists, Max, OuterRef, Q, QuerySet, When

from evalsite.studies.models import Comparison, Criterion, Study
from evalsite.studies.queries import live
from evalsite.voting.locks import lock_rater
from evalsite.voting.models import Ballot, Rater, Showing

LEASE = timedelta(minutes=10)
N_OPEN = 2  # pairs a rater holds at most: the one in front and the one loaded behind it


class StudyNotOpen(Exception):
    """The act needs a study in another state."""

    def __init__(self, study: Study, wanted: str = "OPEN") -> None:
        super().__init__(
            f"Study {study.slug} is {study.state.lower()}; expected: {wanted.lower()}."
        )
        self.state = study.state


def lease_ballot(*, rater: Rater, at: datetime) -> Showing | None:
    """The pair to put before this rater now; None when nothing is left for them.

    Asked again before an answer, it is the same pair, its lease renewed: the oldest unanswered
    showing comes first. One whose ballot was given on takes any free ballot of the same
    comparison and criterion, same sides first, and is passed over while there is none.

    Raises StudyNotOpen while the study is not open. Excluded and withdrawn raters get nothing.
    """
    return next(iter(_lease(rater, 1, at)), None)


def upcoming(*, rater: Rater, at: datetime) -> list[Showing]:
    """The pair to put before this rater now, and the one to load behind it."""
    return _lease(rater, N_OPEN, at)


@transaction.atomic
def _lease(rater: Rater, n_wanted: int, at: datetime) -> list[Showing]:
    rater, study = lock_rater(rater.pk)
    if study.state != Study.State.OPEN:
        raise StudyNotOpen(study)
    if rater.excluded_at or rater.withdrawn_at:
        return []
    showings = _held_showings(rater, at)
    while len(showings) < n_wanted:
        showing = _claim_next(rater, study, showings, at)
        if showing is None:
            break
        showings.append(showing)
    return showings[:n_wanted]


def _held_showings(rater: Rater, at: datetime) -> list[Showing]:
    """The rater's open pairs, oldest first: leases renewed, lost ballots replaced if possible."""
    unanswered = list(Showing.objects.filter(rater=rater, flag=None, votes=None).order_by("pk"))
    held = {showing.pk for showing in unanswered if _renew(showing, at)}
    for showing in unanswered:
        if len(held) < N_OPEN and showing.pk not in held and _retake(showing, at):
            held.add(showing.pk)
    return [showing for showing in unanswered if showing.pk in held]


def _renew(showing: Showing, at: datetime) -> bool:
    """Prolong the lease of a showing that still holds its ballot, run out or not."""
    ballots = Ballot.objects.filter(holder=showing, answered_at=None)
    return ballots.update(lease_expires_at=at + LEASE) == 1


def _retake(showing: Showing, at: datetime) -> bool:
    """Give a showing that lost its ballot any other free one, turned to the sides as seen."""
    if not showing.counted:
        return False
    same_sides_first = Case(When(first_on_left=showing.first_on_left, then=0), default=1)
    others = (
        Ballot.objects.filter(
            free(at), comparison=showing.comparison_id, criterion=showing.criterion_id
        )
        .order_by(same_sides_first, "order_key")
        .select_for_update(skip_locked=True, of=("self",))
    )
    return any(_claim(ballot, showing, at) for ballot in others)


def _claim_next(rater: Rater, study: Study, held: list[Showing], at: datetime) -> Showing | None:
    """A new showing for this rater, from the block whose turn it is, or the next with any left."""
    for criterion in _blocks(rater, study, held):
        candidates = _candidates(rater, criterion, at)
        while ballot := candidates.first():
            with transaction.atomic():
                showing = Showing.objects.create(
                    ballot=ballot,
                    rater=rater,
                    comparison_id=ballot.comparison_id,
                    criterion=criterion,
                    first_on_left=ballot.first_on_left,
                    counted=True,
                    leased_at=at,
                )
                if _claim(ballot, showing, at):
                    return showing
                transaction.set_rollback(True)  # of this showing only: nobody has seen it
            candidates = candidates.exclude(pk=ballot.pk)
    return None


def _blocks(rater: Rater, study: Study, held: list[Showing]) -> list[Criterion]:
    """The rater's criteria in the order to try them; none once the cap is reached.

    The cap is shared evenly. A block ends when its share is used or nothing is left in it; what
    the shares leave over is used wherever there is more. One does not go back to a block early.
    """
    used, latest = _used(rater, held)
    cap = study.votes_per_rater
    if cap is not None and used.total() >= cap:
        return []
    by_key = {criterion.key: criterion for criterion in study.criteria.all()}
    order = [by_key[key] for key in rater.criterion_order]
    current = next((i for i, criterion in enumerate(order) if criterion.pk == latest), 0)

    def turn(position: int) -> tuple[bool, bool, int]:
        share = None if cap is None else (cap + len(order) - 1 - position) // len(order)
        full = share is not None and used[order[position].pk] >= share
        return full, position < current, position

    return [order[position] for position in sorted(range(len(order)), key=turn)]


def _used(rater: Rater, held: list[Showing]) -> tuple[Counter[int], int | None]:
    """Criterion -> pairs this rater has answered or holds; and the criterion shown last."""
    rows = list(
        Showing.objects.filter(rater=rater, counted=True)
        .values("criterion")
        .annotate(n=Count("votes", filter=Q(votes__take=1)), last=Max("pk"))
        .order_by("last")
    )
    used = Counter({row["criterion"]: row["n"] for row in rows})
    used.update(showing.criterion_id for showing in held if showing.counted)
    return used, rows[-1]["criterion"] if rows else None


def free(at: datetime) -> Q:
    """When a ballot may be given to somebody: the whole condition, in the one place.

    Both the search and the claiming UPDATE carry it. The ballot's own columns stand in it
    directly, so that PostgreSQL checks them again on the newest version of a row it waited for.
    """
    in_study = Comparison.objects.filter(live(), pk=OuterRef("comparison"))
    unheld = Q(holder=None) | Q(lease_expires_at__lte=at)
    return Q(purpose=Ballot.Purpose.COUNTED, answered_at=None) & unheld & Q(Exists(in_study))


def _candidates(rater: Rater, criterion: Criterion, at: datetime) -> QuerySet[Ballot]:
    """Free ballots on pairs that this rater has not been shown for this criterion, in order."""
    shown = Showing.objects.filter(
        rater=rater, comparison=OuterRef("comparison"), criterion=criterion, counted=True
    )
    return (
        Ballot.objects.filter(free(at), ~Exists(shown), criterion=criterion)
        .only("comparison", "first_on_left")
        .order_by("order_key")
        .select_for_update(skip_locked=True, of=("self",))
    )


def _claim(ballot: Ballot, showing: Showing, at: datetime) -> bool:
    """Make the showing the ballot's holder, if the ballot is still free."""
    changed = Ballot.objects.filter(free(at), pk=ballot.pk).update(
        holder=showing, lease_expires_at=at + LEASE, first_on_left=showing.first_on_left
    )
    return changed == 1
