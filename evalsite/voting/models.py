"""What raters were shown and what they answered. Evidence: inserted, never rewritten."""

from django.db import models
from django.db.models import Q

from evalsite.studies.models import Comparison, Criterion, Study, random_code


class Rater(models.Model):
    """Somebody who answers in one study, known by a random code only."""

    code = models.CharField(max_length=32, default=random_code, unique=True, editable=False)
    study = models.ForeignKey(Study, models.PROTECT, related_name="raters")
    recruiter = models.CharField(max_length=20, default="LINK")
    # A keyed hash of the id under which a recruiter knows this person; empty where there is none.
    outside_hash = models.CharField(max_length=64, blank=True)
    criterion_order = models.JSONField(default=list)  # keys: the order of this rater's blocks
    consent_version = models.CharField(max_length=64, blank=True)
    consented_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    excluded_at = models.DateTimeField(null=True, blank=True)
    excluded_reason = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["study", "outside_hash"],
                condition=~Q(outside_hash=""),
                name="rater_once_per_study_and_outside_id",
            ),
            models.CheckConstraint(
                condition=Q(excluded_at=None, excluded_reason="")
                | Q(excluded_at__isnull=False) & ~Q(excluded_reason=""),
                name="rater_excluded_has_a_reason",
            ),
        ]

    def __str__(self) -> str:
        return f"rater {self.pk}"


class Ballot(models.Model):
    """One vote that the study wants, with its sides already drawn.

    Free, or leased to the holder until `lease_expires_at`, or answered by the holder.
    """

    class Purpose(models.TextChoices):
        COUNTED = "COUNTED"
        CHECK = "CHECK"  # has a right answer; made for one rater
        REPEAT = "REPEAT"  # a mirrored second showing; made for one rater

    comparison = models.ForeignKey(Comparison, models.PROTECT, null=True, blank=True)
    criterion = models.ForeignKey(Criterion, models.PROTECT, related_name="ballots")
    purpose = models.CharField(max_length=7, choices=Purpose, default=Purpose.COUNTED)
    replicate = models.PositiveSmallIntegerField(default=0)
    first_on_left = models.BooleanField()
    order_key = models.BigIntegerField()  # drawn; free ballots are given in this order
    holder = models.OneToOneField(
        "Showing", models.PROTECT, null=True, blank=True, related_name="held_ballot"
    )
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    answered_at = models.DateTimeField(null=True, blank=True)
    # For a check only: files of its own, and the side that is right (empty: none is).
    check_kind = models.CharField(max_length=20, blank=True)
    check_first = models.FileField(upload_to="display/", max_length=200, blank=True)
    check_second = models.FileField(upload_to="display/", max_length=200, blank=True)
    check_answer = models.CharField(max_length=6, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["comparison", "criterion", "replicate"],
                condition=Q(purpose="COUNTED"),
                name="ballot_counted_once_per_replicate",
            ),
            models.CheckConstraint(
                condition=Q(purpose="CHECK") & ~Q(check_kind="")
                | ~Q(purpose="CHECK") & Q(comparison__isnull=False, check_kind=""),
                name="ballot_shows_a_comparison_or_a_check",
            ),
            models.CheckConstraint(
                condition=Q(holder__isnull=False) | Q(lease_expires_at=None, answered_at=None),
                name="ballot_without_holder_is_free",
            ),
            models.CheckConstraint(
                condition=Q(holder=None) | Q(lease_expires_at__isnull=False),
                name="ballot_holder_has_a_lease",
            ),
        ]
        indexes = [
            # Unanswered ballots in the order of giving: leasing costs the same at any size.
            models.Index(
                fields=["criterion", "order_key"],
                condition=Q(answered_at=None, purpose="COUNTED"),
                name="ballot_unanswered",
            ),
        ]

    def __str__(self) -> str:
        what = self.comparison or f"check {self.pk}"
        return f"{what}, {self.criterion}, no. {self.replicate + 1}"


class Showing(models.Model):
    """One ballot put before one rater. Kept for ever: what was seen is evidence."""

    code = models.CharField(max_length=32, default=random_code, unique=True, editable=False)
    ballot = models.ForeignKey(Ballot, models.PROTECT, related_name="showings")
    rater = models.ForeignKey(Rater, models.PROTECT, related_name="showings")
    comparison = models.ForeignKey(Comparison, models.PROTECT, null=True)  # null for a check
    criterion = models.ForeignKey(Criterion, models.PROTECT, related_name="showings")
    first_on_left = models.BooleanField()  # as seen
    counted = models.BooleanField()  # False for checks and repeats
    leased_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["rater", "comparison", "criterion"],
                condition=Q(counted=True),
                name="showing_counted_once_per_rater",
            ),
            models.CheckConstraint(
                condition=Q(counted=False) | Q(comparison__isnull=False),
                name="showing_counted_has_a_comparison",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.comparison or 'a check'}, {self.criterion}, to {self.rater}"


class Vote(models.Model):
    """The answer to a showing, as the rater saw it. A second take is the only way back."""

    class Choice(models.TextChoices):
        LEFT = "LEFT"
        RIGHT = "RIGHT"
        TIE = "TIE"

    showing = models.ForeignKey(Showing, models.PROTECT, related_name="votes")
    take = models.PositiveSmallIntegerField(default=1)
    choice = models.CharField(max_length=5, choices=Choice)
    response_ms = models.PositiveIntegerField()
    screen = models.JSONField(default=dict, blank=True)  # viewport and pixel ratio
    voted_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["showing", "take"], name="vote_once_per_take"),
            models.CheckConstraint(condition=Q(take__in=[1, 2]), name="vote_has_two_takes_at_most"),
            models.CheckConstraint(
                condition=Q(choice__in=["LEFT", "RIGHT", "TIE"]), name="vote_choice_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.choice.lower()}, take {self.take}"


class Flag(models.Model):
    """A rater could not judge this showing. Not a vote: it frees the ballot."""

    class Reason(models.TextChoices):
        MISSING = "MISSING"  # an image did not appear
        OFFENSIVE = "OFFENSIVE"
        OTHER = "OTHER"

    showing = models.OneToOneField(Showing, models.PROTECT, related_name="flag")
    reason = models.CharField(max_length=9, choices=Reason)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.reason.lower()}: {self.showing}"
