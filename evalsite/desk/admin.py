"""Studies in the admin, with the acts that lead one from draft to closed."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from evalsite.desk.painting_page import painting_context
from evalsite.desk.wording import (
    STUDY_HELP,
    cancelled_words,
    notes_of,
    retried_words,
)
from evalsite.studies import painting, queries, services
from evalsite.studies.admin import PlainTexts, facts_in_lines, lock_for_editing
from evalsite.studies.locks import StudyNotDraft
from evalsite.studies.models import Criterion, Entry, Study, System
from evalsite.studies.painting import NoSuchSystem
from evalsite.studies.queries import Preparation
from evalsite.studies.spec_claims import declared_lines
from evalsite.studies.wording import counted
from evalsite.voting.services import (
    NotPrepared,
    StudyNotOpen,
    close_study,
    open_study,
    pause_study,
)

admin.site.site_header = admin.site.site_title = "Evalsite"
admin.site.index_title = "Studies and their evidence"
N_DEFECTS = 50  # listed on a study's page
DISPLAY_FIELDS = {"display_size", "resampler", "upscaler"}
ACTS = {  # act -> the states it starts from, what it does
    "prepare": (
        ("DRAFT",),
        "Lays out entries and comparisons and asks for every image that is not there yet.",
    ),
    "open": (
        ("DRAFT", "PAUSED"),
        "Takes votes. The design is frozen the first time and cannot be changed afterwards.",
    ),
    "pause": (("OPEN",), "Gives out no more pairs. Answers to pairs on a screen still count."),
    "close": (
        ("OPEN", "PAUSED"),
        "Takes no more votes and shows the results. A closed study cannot be opened again.",
    ),
}
PAINTING_ACTS = {  # acts of the painting page, on one system or on all; of drafts only
    "retry": "Asks again for every image that failed or was cancelled.",
    "cancel": "Paints no more of what is still to be painted. Images that are there stay, and so "
    "do those that another study wants. Preparing or retrying asks for the others again.",
}

if TYPE_CHECKING:  # Django's own classes take no type parameter when they run
    StudyModelAdmin = admin.ModelAdmin[Study]
    StudyInline = admin.TabularInline[Any, Study]
else:
    StudyModelAdmin = admin.ModelAdmin
    StudyInline = admin.TabularInline


class _Listing(StudyInline):
    """What a study has, each row with a link to where it is edited."""

    extra = 0
    show_change_link = True
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class CriterionListing(_Listing):
    model = Criterion
    fields = ["position", "key", "question", "show_prompt", "tie_policy"]


class SystemListing(_Listing):
    model = System
    fields = ["position", "key", "label", "licence", "recipe_as_set"]
    readonly_fields = ["recipe_as_set"]

    @admin.display(description="recipe")
    def recipe_as_set(self, system: System) -> str:
        """Without the keys that say nothing; the system's own page has all."""
        said = {name: v for name, v in system.recipe.items() if v not in ("", [], None)}
        return ", ".join(f"{name}: {value}" for name, value in said.items())


@admin.register(Study)
class StudyAdmin(PlainTexts, StudyModelAdmin):
    meaning = (
        "A study asks raters which of two images is better. Its page leads from draft to closed."
    )
    list_display = ["slug", "title", "state", "simulated", "opened", "closed"]
    list_filter = ["state", "simulated"]
    list_per_page = 50
    search_fields = ["slug", "title"]
    inlines = [CriterionListing, SystemListing]
    change_form_template = "admin/studies/study/change_form.html"
    readonly_fields = [
        "state",
        "raters_start_at",
        "images",
        "declared",
        "prompts_from",
        "settings_from",
        "spec_sha256",
        "votes_planned",
        "created_at",
        "opened_at",
        "closed_at",
    ]
    fieldsets = [
        (None, {"fields": ["slug", "title", "state", "raters_start_at", "images", "owner"]}),
        ("What raters read", {"fields": ["instructions", "consent"]}),
        (
            "Design",
            {
                "fields": [
                    "seed",
                    "pairing",
                    "baseline",
                    "votes_per_comparison",
                    "votes_per_rater",
                    "votes_planned",
                    "on_failure",
                    "on_blank",
                    "on_duplicate",
                    "simulated",
                    "declared",
                ]
            },
        ),
        ("Display", {"fields": ["display_size", "resampler", "upscaler"]}),
        (
            "Where it comes from",
            {
                "fields": [
                    "prompts_from",
                    "settings_from",
                    "spec_sha256",
                    "created_at",
                    "opened_at",
                    "closed_at",
                ]
            },
        ),
    ]

    def get_form(
        self, request: HttpRequest, obj: Study | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        return super().get_form(request, obj, change, **{"help_texts": STUDY_HELP} | kwargs)

    def view_on_site(self, obj: Study) -> str:
        """The page with its counts, and with its results once there are some."""
        return reverse("results:study", args=[obj.slug])

    def has_change_permission(self, request: HttpRequest, obj: Study | None = None) -> bool:
        in_draft = obj is None or obj.state == Study.State.DRAFT
        return super().has_change_permission(request, obj) and in_draft

    def has_delete_permission(self, request: HttpRequest, obj: Study | None = None) -> bool:
        in_draft = obj is None or obj.state == Study.State.DRAFT
        return super().has_delete_permission(request, obj) and in_draft

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """A draft goes whole; any other study stays, and the page says why."""
        going, counts, _, _ = super().get_deleted_objects(objs, request)
        kept = [
            f"Study {study.slug} is {study.state.lower()}: what raters may have seen is kept."
            for study in objs
            if study.state != Study.State.DRAFT
        ]
        allowed = request.user.has_perm("studies.delete_study")
        return going, counts, set() if allowed else {"study"}, kept

    def delete_model(self, request: HttpRequest, obj: Study) -> None:
        try:
            services.delete_draft(obj)
        except StudyNotDraft as error:
            raise PermissionDenied(str(error)) from error

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Study]) -> None:
        for study in queryset:
            self.delete_model(request, study)

    @admin.display(ordering="opened_at")
    def opened(self, study: Study) -> str:
        return _day(study.opened_at)

    @admin.display(ordering="closed_at")
    def closed(self, study: Study) -> str:
        return _day(study.closed_at)

    def save_model(self, request: HttpRequest, obj: Study, form: Any, change: bool) -> None:
        """What was laid out or made under other settings goes; `prepare` does it anew."""
        if not change:
            obj.created_at = timezone.now()
        else:
            lock_for_editing(obj)
            entries = Entry.objects.filter(prompt__study=obj)
            if "seed" in form.changed_data:
                services.remove_entries(entries)
            if DISPLAY_FIELDS & set(form.changed_data):
                services.forget_display_files(entries)
        super().save_model(request, obj, form, change)

    @admin.display(description="raters start at")
    def raters_start_at(self, study: Study) -> SafeString | str:
        if not study.pk:
            return "-"
        return format_html('<a href="{0}">{0}</a>', reverse("voting:landing", args=[study.code]))

    @admin.display
    def images(self, study: Study) -> str:
        if not study.pk:
            return "-"
        preparation = queries.preparation(study, at=timezone.now())
        rows = [
            ", ".join(
                [
                    f"{s.label}: {s.ready:,} of {s.wanted:,} ready",
                    f"{s.displayed:,} shown",
                    *notes_of(s),
                ]
            )
            for s in preparation.systems
        ]
        found = [defect.sentence for defect in preparation.defects[:N_DEFECTS]]
        more = len(preparation.defects) - N_DEFECTS
        if more > 0:
            found.append(f"and {counted(more, 'more image')} to look at")
        return "\n".join([*rows, *preparation.obstacles, *found]) or "-"

    @admin.display
    def declared(self, study: Study) -> str:
        """Claims and looks, as the study file declares them."""
        names = dict(study.systems.values_list("key", "label")) if study.pk else {}
        return "\n".join(declared_lines(study.claims, study.looks, names)) or "-"

    @admin.display(description="prompt source")
    def prompts_from(self, study: Study) -> SafeString | str:
        return facts_in_lines(study.prompt_source)

    @admin.display(description="notes")
    def settings_from(self, study: Study) -> SafeString | str:
        return facts_in_lines(study.notes)

    @admin.display
    def votes_planned(self, study: Study) -> str:
        return "-" if study.n_planned is None else f"{study.n_planned:,}"

    # Acts

    def get_urls(self) -> list[URLPattern]:
        act = path(
            "<path:object_id>/act/<slug:act>/",
            self.admin_site.admin_view(self.act_view),
            name="studies_study_act",
        )
        painting_page = path(
            "<path:object_id>/painting/",
            self.admin_site.admin_view(self.painting_view),
            name="studies_study_painting",
        )
        return [act, painting_page, *super().get_urls()]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        study = self.get_object(request, unquote(object_id))
        acts = _acts_for(request, study) if study else []
        context = {**(extra_context or {}), "acts": acts}
        page: HttpResponse = super().change_view(request, object_id, form_url, context)
        return page

    def painting_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """How far the images are; with `part`, what the page's script puts in the old one's place.

        The part shows no messages, so that those of another page are not used up unseen.
        """
        study = self.get_object(request, unquote(object_id))
        if study is None:
            raise Http404
        if not self.has_view_permission(request, study):
            raise PermissionDenied
        context = {
            **painting_context(study, may_act=_may_act(request), at=timezone.now()),
            "may_see_images": request.user.has_perm("generation.view_image"),
        }
        if "part" in request.GET:
            return TemplateResponse(request, "admin/studies/study/_painting.html", context)
        context |= self.admin_site.each_context(request)
        context |= {"title": f"Painting of {study.slug}", "opts": self.opts}
        return TemplateResponse(request, "admin/studies/study/painting.html", context)

    def act_view(self, request: HttpRequest, object_id: str, act: str) -> HttpResponse:
        """Ask on GET, act on POST, and say how it went on the study's page."""
        study = self.get_object(request, unquote(object_id))
        if study is None or act not in {*ACTS, *PAINTING_ACTS}:
            raise Http404
        if not _may_act(request):
            raise PermissionDenied
        system = request.GET.get("system", "")
        kind = "painting" if act in PAINTING_ACTS else "change"
        back = reverse(f"admin:studies_study_{kind}", args=[study.pk])
        if request.method == "POST":
            level, text = _do(act, study, system)
            messages.add_message(request, level, text)
            return HttpResponseRedirect(back)
        context = {
            **self.admin_site.each_context(request),
            "title": f"{act.capitalize()} {_what_of(act, system)} {study.slug}?",
            "study": study,
            "act": act,
            "button": f"{act.capitalize()} {'painting' if act in PAINTING_ACTS else 'study'}",
            "back": back,
            "what": PAINTING_ACTS.get(act) or ACTS[act][1],
            "missing": queries.missing_by_system(study) if act == "prepare" else {},
            "opts": self.opts,
        }
        return TemplateResponse(request, "admin/studies/study/act.html", context)


def _day(at: datetime | None) -> str:
    """As 2026-11-27, which is short enough for a list."""
    return at.date().isoformat() if at else "-"


def _what_of(act: str, system: str) -> str:
    """What an act's question is about, up to the study's name."""
    if act not in PAINTING_ACTS:
        return "study"
    return f"painting of {system} in" if system else "painting of"


def _may_act(request: HttpRequest) -> bool:
    return request.user.has_perm("studies.change_study")


def _acts_for(request: HttpRequest, study: Study) -> Sequence[str]:
    """The acts that can succeed, by the study's state and this person's rights."""
    if not _may_act(request):
        return []
    acts = [act for act, (states, _) in ACTS.items() if study.state in states]
    if study.state == Study.State.DRAFT and not queries.is_prepared(study):
        acts.remove("open")
    return acts


def _do(act: str, study: Study, system: str) -> tuple[int, str]:
    """Carry out one act; the outcome as a message's level and text."""
    at = timezone.now()
    try:
        if act == "prepare":
            return messages.SUCCESS, _prepared_words(services.prepare(study, at=at))
        if act == "retry":
            return messages.SUCCESS, retried_words(painting.retry(study, system=system, at=at))
        if act == "cancel":
            return messages.SUCCESS, cancelled_words(painting.cancel(study, system=system, at=at))
        {"open": open_study, "pause": pause_study, "close": close_study}[act](study=study, at=at)
    except NotPrepared:
        return messages.ERROR, f"Not prepared: {'; '.join(queries.obstacles(study))}."
    except (StudyNotOpen, StudyNotDraft, NoSuchSystem, services.CannotPrepare) as error:
        return messages.ERROR, str(error)
    return messages.SUCCESS, f"Study {study.slug} is {study.state.lower()}."


def _prepared_words(preparation: Preparation) -> str:
    if preparation.pending:
        are = "is" if preparation.pending == 1 else "are"
        n_images = counted(preparation.pending, "image")
        return f"{n_images} {are} to be painted; see Painting for how far they are."
    if preparation.obstacles:
        why = "; ".join(preparation.obstacles)
        return f"No image is left to be painted. Before the study can open: {why}."
    return "No image is left to be painted: the study can be opened."
