"""Reading across votes: what counts, how far a study and a rater have come."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from evalsite.studies.models import Criterion, Study
from evalsite.studies.queries import live, live_comparisons
from evalsite.voting.models import Ballot, Flag, Rater, Showing, Vote

# What a rater's page reads of the rows around a showing. Every column costs time, and a study's
# spec holds every prompt: a field that is not named here takes a query of its own.
_STUDY = ("code", "state", "instructions", "display_size", "votes_per_rater")
_RATER = (
    *("code", "criterion_order", "excluded_at", "withdrawn_at"),
    *(f"study__{name}" for name in _STUDY),
)
_PAGE = (
    *("code", "first_on_left", "counted", "leased_at"),
    *(f"rater__{name}" for name in _RATER),
    *(f"criterion__{name}" for name in ("key", "question", "show_prompt", "tie_policy")),
    "comparison__first__prompt__text",
)
_PICTURES = (
    "first_on_left",
    *(f"ballot__{name}" for name in ("purpose", "check_first", "check_second")),
    *("comparison__first__display", "comparison__second__display"),
)


def raters() -> QuerySet[Rater]:
    """Everybody, with what their pages tell of the study."""
    return Rater.objects.select_related("study").only(*_RATER)


def showings_of(*rater_codes: str) -> QuerySet[Showing]:
    """What was put before these raters (one person, a code for each study), with all that a
    page and an answer need; nothing for nobody."""
    related = ("rater__study", "criterion", "comparison__first__prompt")
    return _put_before(rater_codes).select_related(*related).only(*_PAGE)


def pictures_of(*rater_codes: str) -> QuerySet[Showing]:
    """The same showings with the files that stand on their two sides, and no more."""
    related = ("ballot", "comparison__first", "comparison__second")
    return _put_before(rater_codes).select_related(*related).only(*_PICTURES)


def _put_before(rater_codes: Iterable[str]) -> QuerySet[Showing]:
    return Showing.objects.filter(rater__code__in=rater_codes)


def counted_votes(study: Study, *, with_excluded: bool = False) -> QuerySet[Vote]:
    """The votes that count, one for each answered ballot; every other vote is surplus.

    A vote counts when it is the latest take of the showing that holds a COUNTED ballot, and that
    ballot was answered: closing, excluding and flagging take the ballot away, so no times are
    compared. A comparison or prompt taken out takes its votes along. `with_excluded` keeps the
    votes of raters who were excluded, or withdrew, only after closing.
    """
    later = Vote.objects.filter(showing=OuterRef("showing"), take__gt=OuterRef("take"))
    votes = Vote.objects.filter(
        ~Exists(later),
        live("showing__comparison"),
        showing__criterion__study=study,
        showing__held_ballot__purpose=Ballot.Purpose.COUNTED,
        showing__held_ballot__answered_at__isnull=False,
    )
    if with_excluded:
        return votes
    return votes.filter(showing__rater__excluded_at=None, showing__rater__withdrawn_at=None)


@dataclass(frozen=True)
class StudyCounts:
    """How full a study is. Says nothing about who wins, so it may be shown while it runs."""

    n_ballots: int  # wanted votes on comparisons still in the study
    n_answered: int  # of these
    n_votes: int  # every stored first take, surplus included
    n_raters: int
    n_finished: int
    n_excluded: int
    n_flags: int


def study_counts(study: Study) -> StudyCounts:
    """Counted from the rows in four queries."""
    ballots = Ballot.objects.filter(
        live("comparison"), criterion__study=study, purpose=Ballot.Purpose.COUNTED
    ).aggregate(n_ballots=Count("pk"), n_answered=Count("answered_at"))
    raters = Rater.objects.filter(study=study).aggregate(
        n_raters=Count("pk"),
        n_finished=Count("finished_at"),
        n_excluded=Count("pk", filter=Q(excluded_at__isnull=False)),
    )
    return StudyCounts(
        n_votes=Vote.objects.filter(showing__criterion__study=study, take=1).count(),
        n_flags=Flag.objects.filter(showing__criterion__study=study).count(),
        **ballots,
        **raters,
    )


@dataclass(frozen=True)
class Progress:
    """How far a rater has come: `done` answers of at most `total`."""

    done: int
    total: int


def progress_of(rater: Rater) -> Progress:
    """Answers given, and the rater's cap or every pair there is, whichever is less."""
    done = Vote.objects.filter(showing__rater=rater, showing__counted=True, take=1).count()
    cap = rater.study.votes_per_rater
    pairs = live_comparisons(rater.study)
    n_pairs = (pairs if cap is None else pairs[:cap]).count()  # no need to count beyond the cap
    total = n_pairs * len(rater.criterion_order)
    return Progress(done=done, total=max(done, total if cap is None else min(cap, total)))


def may_get_more(rater: Rater) -> bool:
    """Whether a pair may yet come: a wanted vote is missing on a pair that is new to this rater."""
    if rater.excluded_at or rater.withdrawn_at:
        return False
    cap = rater.study.votes_per_rater
    if cap is not None and progress_of(rater).done >= cap:
        return False
    shown = Showing.objects.filter(
        rater=rater,
        comparison=OuterRef("comparison"),
        criterion=OuterRef("criterion"),
        counted=True,
    )
    return Ballot.objects.filter(
        ~Exists(shown),
        live("comparison"),
        criterion__study=rater.study,
        purpose=Ballot.Purpose.COUNTED,
        answered_at=None,
    ).exists()


def n_late_answers(rater: Rater) -> int:
    """Answers that do not count because their ballot was gone when they came.

    Where others than the rater's delay took the ballot (an exclusion, a comparison that left), or
    the rater did by a flag, nothing was late.
    """
    if rater.excluded_at or rater.withdrawn_at:
        return 0
    own = Vote.objects.filter(live("showing__comparison"), showing__rater=rater, take=1)
    return own.filter(showing__counted=True, showing__held_ballot=None, showing__flag=None).count()


def offers_ties(study: Study) -> bool:
    """Whether "no preference" is an answer anywhere in the study."""
    return study.criteria.filter(tie_policy=Criterion.TiePolicy.ALLOWED).exists()
