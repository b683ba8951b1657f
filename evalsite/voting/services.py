"""How one vote travels: opening, enrolling, casting, flagging, excluding, closing.

Giving out pairs is in leasing.py; the order in which rows are locked is told in locks.py.
"""

from datetime import datetime
from typing import Any

from django.db import transaction

from evalsite.studies.models import Comparison, Criterion, Study
from evalsite.studies.queries import obstacles
from evalsite.studies.services import freeze_spec
from evalsite.voting.ballots import draw_ballots
from evalsite.voting.leasing import LEASE, StudyNotOpen, lease_ballot, upcoming
from evalsite.voting.locks import lock_rater, lock_raters_of, lock_study, release
from evalsite.voting.models import Ballot, Flag, Rater, Showing, Vote

__all__ = [  # the door of this room: leasing is reached through here as well
    "LEASE",
    "AlreadyAnswered",
    "CannotTakeBack",
    "ChoiceNotOffered",
    "NotPrepared",
    "StudyNotOpen",
    "TieNotAllowed",
    "cast_vote",
    "close_study",
    "enrol_rater",
    "exclude_rater",
    "finish_rater",
    "flag_showing",
    "lease_ballot",
    "open_study",
    "pause_study",
    "upcoming",
    "withdraw_rater",
]

N_FLAGS = 2  # raters who cannot judge a comparison before it leaves the study
LONGEST_MS = 2**31 - 1  # what the column holds: a vote is not lost over its timer
SIMULATED = "SIMULATED"  # the recruiter of programs

# Opening and closing


@transaction.atomic
def open_study(*, study: Study, at: datetime) -> Study:
    """Start to take votes, or go on after a pause.

    The first time, the design is frozen, every ballot is drawn, and how many they are is kept:
    what leaves later moves no look that was declared. Raises NotPrepared with
    what stands in the way, and StudyNotOpen where the study is open already, or closed.
    """
    locked = lock_study(study.pk)
    if locked.state == Study.State.DRAFT:
        _open_draft(locked, at)
    elif locked.state != Study.State.PAUSED:
        raise StudyNotOpen(locked, "DRAFT or PAUSED")
    locked.state = Study.State.OPEN
    locked.save(update_fields=["state", "opened_at", "spec", "spec_sha256", "n_planned"])
    return _mirror(study, locked)


class NotPrepared(Exception):
    """Something is still to be painted or laid out before raters may come."""


def _open_draft(study: Study, at: datetime) -> None:
    if found := obstacles(study):
        raise NotPrepared(f"study {study.slug} is not prepared: {'; '.join(found)}")
    freeze_spec(study)
    study.opened_at = at
    study.n_planned = len(Ballot.objects.bulk_create(draw_ballots(study), batch_size=1000))


@transaction.atomic
def pause_study(*, study: Study, at: datetime) -> Study:
    """Give out no more pairs. Answers to pairs already on a screen still count."""
    locked = lock_study(study.pk)
    if locked.state != Study.State.OPEN:
        raise StudyNotOpen(locked)
    locked.state = Study.State.PAUSED
    locked.save(update_fields=["state"])
    return _mirror(study, locked)


@transaction.atomic
def close_study(*, study: Study, at: datetime) -> Study:
    """Take no more votes: every unanswered ballot is freed, and later votes become surplus.

    Raters are locked one and all, so a vote is either stored and counted before, or finds its
    ballot gone. No comparison of times is needed to tell.
    """
    locked = lock_study(study.pk)
    if locked.state not in (Study.State.OPEN, Study.State.PAUSED):
        raise StudyNotOpen(locked, "OPEN or PAUSED")
    lock_raters_of(locked)
    release(Ballot.objects.filter(criterion__in=locked.criteria.all(), answered_at=None))
    locked.state, locked.closed_at = Study.State.CLOSED, at
    locked.save(update_fields=["state", "closed_at"])
    return _mirror(study, locked)


def _mirror(study: Study, locked: Study) -> Study:
    """Let the caller's object tell what the database now says."""
    for field in ("state", "opened_at", "closed_at", "spec", "spec_sha256", "n_planned"):
        setattr(study, field, getattr(locked, field))
    return study


# Raters


@transaction.atomic
def enrol_rater(
    *,
    study: Study,
    at: datetime,
    recruiter: str = "LINK",
    outside_hash: str = "",
    consent_version: str,
) -> Rater:
    """Take in somebody who has consented; the same outside id is the same rater.

    The study's row is locked: raters are numbered one after another, and the order of the
    blocks turns with the number, so that every criterion comes first equally often.
    """
    locked = lock_study(study.pk)
    known = Rater.objects.filter(study=locked, outside_hash=outside_hash).exclude(outside_hash="")
    if rater := known.first():
        return rater
    if locked.state != Study.State.OPEN:
        raise StudyNotOpen(locked)
    keys = list(locked.criteria.values_list("key", flat=True))
    turn = Rater.objects.filter(study=locked).count() % len(keys)
    return Rater.objects.create(
        study=locked,
        recruiter=SIMULATED if locked.simulated else recruiter,
        outside_hash=outside_hash,
        criterion_order=keys[turn:] + keys[:turn],
        consent_version=consent_version,
        consented_at=at,
        created_at=at,
    )


@transaction.atomic
def exclude_rater(*, rater: Rater, reason: str, at: datetime) -> Rater:
    """Set a rater's votes aside; the first reason stands.

    While the study runs, the ballots are freed for others to fill. After closing this only
    marks: the votes keep their ballots, and results are shown with and without them.
    """
    if not reason.strip():
        raise ValueError("reason: expected why this rater is excluded, got nothing")
    locked, study = lock_rater(rater.pk)
    if locked.excluded_at is None:
        locked.excluded_at, locked.excluded_reason = at, reason.strip()
        locked.save(update_fields=["excluded_at", "excluded_reason"])
        _release_all_of(locked, study)
    return locked


@transaction.atomic
def withdraw_rater(*, rater: Rater, at: datetime) -> Rater:
    """The rater takes their consent back. As for an exclusion, others fill the ballots."""
    locked, study = lock_rater(rater.pk)
    if locked.withdrawn_at is None:
        locked.withdrawn_at = at
        locked.save(update_fields=["withdrawn_at"])
        _release_all_of(locked, study)
    return locked


@transaction.atomic
def finish_rater(*, rater: Rater, at: datetime) -> Rater:
    """The rater has reached the end; the first time stands."""
    locked, _ = lock_rater(rater.pk)
    if locked.finished_at is None:
        locked.finished_at = at
        locked.save(update_fields=["finished_at"])
    return locked


def _release_all_of(rater: Rater, study: Study) -> None:
    if study.state != Study.State.CLOSED:
        # By the holder's own column, not by a join: a ballot that passes to somebody else while
        # this waits for its lock no longer matches.
        release(Ballot.objects.filter(holder__in=Showing.objects.filter(rater=rater)))


# Answering


class ChoiceNotOffered(Exception):
    """The answer is not one of those the criterion offers."""


class TieNotAllowed(ChoiceNotOffered):
    """The criterion asks for a side."""


class CannotTakeBack(Exception):
    """A second take is only for the rater's last vote, while it counts and the study runs."""


@transaction.atomic
def cast_vote(
    *,
    showing: Showing,
    take: int,
    choice: str,
    response_ms: int,
    screen: dict[str, Any] | None = None,
    at: datetime,
) -> Vote:
    """Record the answer to a showing.

    The ballot is closed first, by an UPDATE that only its holder can win, so a vote is never
    credited to another rater. A vote on a showing that lost its ballot (its lease ran out and
    it was given on, the rater was excluded, the study closed) is kept as surplus. A double
    click or a re-sent request gets the stored vote back, unchanged.
    """
    _, study = lock_rater(showing.rater_id)
    stored = Vote.objects.filter(showing=showing, take=take).first()
    if stored is not None:
        return stored
    _check_choice(showing.criterion, choice)
    if take == 1:
        Ballot.objects.filter(holder=showing, answered_at=None).update(answered_at=at)
    else:
        _check_second_take(showing, take, study)
    return Vote.objects.create(
        showing=showing,
        take=take,
        choice=choice,
        response_ms=min(max(response_ms, 0), LONGEST_MS),
        screen=screen or {},
        voted_at=at,
    )


def _check_choice(criterion: Criterion, choice: str) -> None:
    if choice not in Vote.Choice.values:
        raise ChoiceNotOffered(f"choice: expected LEFT, RIGHT or TIE, got {choice!r}")
    if choice == Vote.Choice.TIE and criterion.tie_policy == Criterion.TiePolicy.FORCED:
        raise TieNotAllowed(f"choice: criterion {criterion.key} asks for LEFT or RIGHT, got TIE")


def _check_second_take(showing: Showing, take: int, study: Study) -> None:
    if take != 2:
        raise CannotTakeBack(f"take: expected 1 or 2, got {take}")
    latest = Vote.objects.filter(showing__rater=showing.rater_id).order_by("-pk").first()
    if latest is None or latest.showing_id != showing.pk:
        raise CannotTakeBack("only the last vote can be taken back")
    if study.state == Study.State.CLOSED:
        raise CannotTakeBack("the study is closed")
    if not Ballot.objects.filter(holder=showing, answered_at__isnull=False).exists():
        raise CannotTakeBack("this vote no longer counts")


class AlreadyAnswered(Exception):
    """What was judged before the last answer cannot be called impossible to judge."""


@transaction.atomic
def flag_showing(*, showing: Showing, reason: str, at: datetime) -> Flag:
    """The rater cannot judge this pair: its ballot goes back to the pool.

    The last answer may be taken back so as well: its vote is kept as surplus. When two raters
    have said so, the comparison leaves the study, and with it every vote on it. A repeated flag
    gets the stored one back.
    """
    _, study = lock_rater(showing.rater_id)
    stored = Flag.objects.filter(showing=showing).first()
    if stored is not None:
        return stored
    if reason not in Flag.Reason.values:
        raise ValueError(f"reason: expected one of {', '.join(Flag.Reason.values)}, got {reason!r}")
    if showing.votes.exists():
        try:
            _check_second_take(showing, 2, study)
        except CannotTakeBack as error:
            raise AlreadyAnswered(str(error)) from error
    flag = Flag.objects.create(showing=showing, reason=reason, at=at)
    release(Ballot.objects.filter(holder=showing))
    if showing.comparison_id and study.state != Study.State.CLOSED:
        _remove_if_nobody_can_judge(showing.comparison_id, at)
    return flag


def _remove_if_nobody_can_judge(comparison_id: int, at: datetime) -> None:
    """Two flags at once must see each other: hence the lock, one that showings do not wait for."""
    comparison = Comparison.objects.select_for_update(no_key=True).get(pk=comparison_id)
    flags = Flag.objects.filter(
        showing__comparison=comparison, showing__rater__excluded_at=None
    ).order_by("pk")
    if comparison.removed_at or flags.values("showing__rater").distinct().count() < N_FLAGS:
        return
    reasons = ", ".join(flags.values_list("reason", flat=True))
    comparison.removed_at = at
    comparison.removed_reason = f"raters could not judge it: {reasons}"[:300]
    comparison.save(update_fields=["removed_at", "removed_reason"])
    release(Ballot.objects.filter(comparison=comparison, answered_at=None))
