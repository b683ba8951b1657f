"""Votes and all that led to them, to be read only: evidence is made by raters alone.

Raters can be excluded, with a reason, by the same service as everywhere.
"""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from evalsite.voting import services
from evalsite.voting.models import Ballot, Flag, Rater, Showing, Vote

if TYPE_CHECKING:
    BaseAdmin = admin.ModelAdmin[Any]
else:
    BaseAdmin = admin.ModelAdmin


class EvidenceAdmin(BaseAdmin):
    """Rows to look at: none is added, edited or deleted here. No query counts a whole table."""

    show_full_result_count = False
    ordering = ("-id",)
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class ExclusionForm(ActionForm):
    reason = forms.CharField(required=False, max_length=300, label="Reason:")


@admin.register(Rater)
class RaterAdmin(EvidenceAdmin):
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
        messages.success(request, f"{len(raters)} raters are excluded: {reason}")

    def has_exclude_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("voting.change_rater")


@admin.register(Ballot)
class BallotAdmin(EvidenceAdmin):
    list_display = (
        "id",
        "comparison",
        "criterion",
        "purpose",
        "replicate",
        "first_on_left",
        "holder",
        "lease_expires_at",
        "answered_at",
    )
    list_filter = ("criterion__study", "purpose", ("answered_at", admin.EmptyFieldListFilter))
    list_select_related = ("comparison", "criterion", "holder")


@admin.register(Showing)
class ShowingAdmin(EvidenceAdmin):
    list_display = (
        "id",
        "rater",
        "comparison",
        "criterion",
        "first_on_left",
        "counted",
        "leased_at",
    )
    list_filter = ("criterion__study", "counted")
    list_select_related = ("rater", "comparison", "criterion")
    exclude = ("code",)


@admin.register(Vote)
class VoteAdmin(EvidenceAdmin):
    list_display = ("id", "showing", "take", "choice", "response_ms", "voted_at")
    list_filter = ("showing__criterion__study", "choice", "take")
    list_select_related = ("showing",)


@admin.register(Flag)
class FlagAdmin(EvidenceAdmin):
    list_display = ("id", "showing", "reason", "at")
    list_filter = ("showing__criterion__study", "reason")
    list_select_related = ("showing",)
