"""Votes and all that led to them, to be read only: evidence is made by raters alone.

What was chosen stays hidden until the study closes, as its win rates do: who runs a study must
not steer it by its votes. Raters can be excluded, with a reason, by the same service as everywhere.
"""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from evalsite.studies.models import Study
from evalsite.voting import services
from evalsite.voting.models import Ballot, Flag, Rater, Showing, Vote
from generation.admin import ReadOnly, preview_of

if TYPE_CHECKING:
    BaseAdmin = admin.ModelAdmin[Any]
else:
    BaseAdmin = admin.ModelAdmin


class EvidenceAdmin(ReadOnly, BaseAdmin):
    """Rows to look at: none is added, edited or deleted here. No query counts a whole table."""

    show_full_result_count = False
    ordering = ("-id",)
    list_per_page = 50


class ExclusionForm(ActionForm):
    reason = forms.CharField(required=False, max_length=300, label="Reason:")


@admin.register(Rater)
class RaterAdmin(EvidenceAdmin):
    meaning = "A rater is somebody who agreed to take part in a study. No name or address is kept."
    list_display = (
        "id",
        "study",
        "recruiter",
        "created_at",
        "finished_at",
        "withdrawn_at",
        "excluded_at",
        "excluded_reason",
    )
    list_filter = ("study", "recruiter")
    list_select_related = ("study",)
    fields = (*list_display[1:], "criterion_order", "consent_version", "consented_at")
    action_form = ExclusionForm
    actions = ("exclude_raters",)

    @admin.action(description="Exclude selected raters", permissions=["exclude"])
    def exclude_raters(self, request: HttpRequest, raters: QuerySet[Rater]) -> None:
        reason = request.POST.get("reason", "").strip()
        if not reason:
            messages.error(request, "Say why: an exclusion is recorded with its reason.")
            return
        for rater in raters:
            services.exclude_rater(rater=rater, reason=reason, at=timezone.now())
        messages.success(request, f"Raters excluded: {len(raters):,}. Reason: {reason}")

    def has_exclude_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("voting.change_rater")


# A row is named by what was shown, which lies three tables away.
PAIR = ("comparison__first__system", "comparison__first__prompt", "comparison__second__system")
SHOWN = tuple(f"showing__{name}" for name in (*PAIR, "criterion", "rater"))


@admin.register(Ballot)
class BallotAdmin(EvidenceAdmin):
    meaning = (
        "A ballot is one vote that a study wants: a comparison, a criterion, and who stands on "
        "which side. It is filled once a rater has answered it."
    )
    list_display = (
        "comparison",
        "criterion",
        "replicate",
        "purpose",
        "held_by",
        "lease_expires_at",
        "answered_at",
    )
    list_filter = ("criterion__study", "purpose", ("answered_at", admin.EmptyFieldListFilter))
    list_select_related = (*PAIR, "criterion", "holder__rater")

    @admin.display(ordering="holder")
    def held_by(self, ballot: Ballot) -> str:
        return str(ballot.holder.rater) if ballot.holder else "-"


@admin.register(Showing)
class ShowingAdmin(EvidenceAdmin):
    meaning = (
        "A showing is a pair as it was put before a rater. Where nobody answers, its ballot goes "
        "to somebody else."
    )
    list_display = ("comparison", "criterion", "rater", "counted", "leased_at")
    list_filter = ("criterion__study", "counted")
    list_select_related = (*PAIR, "rater", "criterion")
    exclude = ("code",)
    readonly_fields = ("prompt", "on_the_left", "on_the_right", "answers")

    def prompt(self, showing: Showing) -> str:
        return showing.comparison.first.prompt.text if showing.comparison else "-"

    def on_the_left(self, showing: Showing) -> SafeString | str:
        return _picture(showing, first=showing.first_on_left)

    def on_the_right(self, showing: Showing) -> SafeString | str:
        return _picture(showing, first=not showing.first_on_left)

    def answers(self, showing: Showing) -> str:
        """Every take and flag, the latest last."""
        hidden = showing.criterion.study.state != Study.State.CLOSED
        votes = [
            f"{'hidden until closing' if hidden else vote.choice.lower()} at "
            f"{vote.voted_at:%Y-%m-%d %H:%M:%S} UTC, "
            f"after {vote.response_ms / 1000:.1f} s (take {vote.take})"
            for vote in showing.votes.order_by("take")
        ]
        flags = Flag.objects.filter(showing=showing)
        return "\n".join([*votes, *(f"cannot judge: {f.reason.lower()}" for f in flags)]) or "-"


def _picture(showing: Showing, *, first: bool) -> SafeString | str:
    """One side as the rater saw it, and whose it was."""
    if showing.comparison is None:
        return "-"
    entry = showing.comparison.first if first else showing.comparison.second
    return format_html("{}<br>{}", entry.system, preview_of(entry.display))


@admin.register(Vote)
class VoteAdmin(EvidenceAdmin):
    """Votes of closed studies. Others are left out whole: a list can be filtered and sorted by
    what it does not print."""

    meaning = (
        "A vote is a rater's answer to a pair. Here are those of closed studies; a second take is "
        "an answer that was changed."
    )
    list_display = ("voted_at", "choice", "take", "response", "showing")  # the longest last
    list_filter = ("showing__criterion__study", "choice", "take")
    fields = ("showing", "take", "choice", "response", "screen", "voted_at")
    list_select_related = SHOWN

    @admin.display(description="response, ms", ordering="response_ms")
    def response(self, vote: Vote) -> str:
        return f"{vote.response_ms:,}"

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Vote]":
        closed = {"showing__criterion__study__state": Study.State.CLOSED}
        votes: QuerySet[Vote] = super().get_queryset(request).filter(**closed)
        return votes


@admin.register(Flag)
class FlagAdmin(EvidenceAdmin):
    meaning = (
        "A flag is a pair that a rater could not judge, and why. Flags of two raters take its "
        "comparison out of the study."
    )
    list_display = ("showing", "reason", "at")
    list_filter = ("showing__criterion__study", "reason")
    list_select_related = SHOWN
