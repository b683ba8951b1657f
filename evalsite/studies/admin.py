"""A study's rows in the admin: those of a draft can be edited, all others only read.

Study itself is registered by `evalsite.desk.admin`, the one room that can also open and close.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import models
from django.db.models import Field, ForeignKey, QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import urlize
from django.utils.html import format_html
from django.utils.safestring import SafeString
from pydantic import ValidationError as RecipeError

from evalsite.studies import pace_admin  # noqa: F401  (it registers its page)
from evalsite.studies.locks import StudyNotDraft, lock_draft
from evalsite.studies.models import Comparison, Criterion, Entry, Prompt, Study, System
from evalsite.studies.prompts import control_problem
from evalsite.studies.services import remove_entries
from evalsite.studies.spec_problems import flat_sources, recipe_words
from generation.admin import ReadOnly, in_lines
from generation.spec import Recipe

# Django's own classes take a type parameter only when a type checker looks.
if TYPE_CHECKING:
    RowAdmin = admin.ModelAdmin[Any]
    SystemModelForm = forms.ModelForm[System]
else:
    RowAdmin, SystemModelForm = admin.ModelAdmin, forms.ModelForm


def lock_for_editing(study: Study) -> None:
    """Nobody opens the study while it is edited; what was opened meanwhile stays as it is."""
    try:
        lock_draft(study)
    except StudyNotDraft as error:
        raise PermissionDenied(str(error)) from error


def facts_in_lines(facts: Mapping[str, Any]) -> SafeString | str:
    """Names and values, a line each, those of a table in a table as in a study file; addresses as
    links."""
    lines = []
    for name, value in flat_sources(facts).items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        lines.append(format_html("<b>{}</b>: {}", name, urlize(text)))
    return in_lines(*lines)


def _check_plain(text: str) -> None:
    if problem := control_problem(text):
        raise ValidationError(problem)


def _check_plain_values(value: Any) -> None:
    """JSON writes as `\\u0000` what PostgreSQL does not store."""
    told = ((place, control_problem(text)) for place, text in _texts_in(value))
    if problems := [f"{place}{problem}" for place, problem in told if problem]:
        raise ValidationError(problems)


def _texts_in(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text of what was read as JSON, names as well, behind where it stands."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list):
        for number, item in enumerate(value, start=1):
            yield from _texts_in(item, f"{place}number {number}: ")
    elif isinstance(value, dict):
        for name, item in value.items():
            shown = name if name.isprintable() else ascii(name)
            yield f"{place}name {shown}: ", name
            yield from _texts_in(item, f"{place}{shown}: ")


class PlainJSONField(forms.JSONField):
    """What is refused is shown again as it was typed: no page can hold half a surrogate pair."""

    default_validators = [_check_plain_values]

    def prepare_value(self, value: Any) -> Any:
        return super().prepare_value(value).encode(errors="backslashreplace").decode()


class PlainTexts:
    """Of an admin page: no text has a control character, as none of a study file has."""

    formfield_overrides: "Mapping[type[Field[Any, Any]], Mapping[str, Any]]" = {
        models.JSONField: {"form_class": PlainJSONField}
    }

    def formfield_for_dbfield(
        self, db_field: "Field[Any, Any]", request: HttpRequest | None, **kwargs: Any
    ) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)  # type: ignore[misc]
        if isinstance(field, forms.CharField) and not isinstance(field, forms.JSONField):
            field.validators.append(_check_plain)
        return field


class DraftRowAdmin(PlainTexts, RowAdmin):
    """A row of a study's design: edited in a draft, read afterwards.

    A change of `laid_by` makes the row's entries stale: they go, and `prepare` lays new ones.
    """

    list_filter = ["study"]
    list_select_related = ["study"]
    laid_by = ""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and _in_draft(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and _in_draft(obj)

    def formfield_for_foreignkey(
        self, db_field: "ForeignKey[Any, Any]", request: HttpRequest, **kwargs: Any
    ) -> Any:
        if db_field.name == "study":
            kwargs["queryset"] = Study.objects.filter(state=Study.State.DRAFT)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        lock_for_editing(obj.study)
        moved = {self.laid_by, "study"} & set(form.changed_data)
        if change and moved and self.laid_by:
            remove_entries(obj.entries.all())
        super().save_model(request, obj, form, change)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Entries and comparisons of a draft go along, so they protect nothing here."""
        going, counts, _, _ = super().get_deleted_objects(objs, request)
        allowed = all(self.has_delete_permission(request, obj) for obj in objs)
        forbidden = set() if allowed else {str(self.opts.verbose_name)}
        return going, counts, forbidden, []

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        lock_for_editing(obj.study)
        if self.laid_by:
            remove_entries(obj.entries.all())
        obj.delete()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for obj in queryset:
            self.delete_model(request, obj)


def _in_draft(obj: Criterion | System | Prompt | None) -> bool:
    return obj is None or obj.study.state == Study.State.DRAFT


@admin.register(Criterion)
class CriterionAdmin(DraftRowAdmin):
    meaning = "A criterion is a question that raters are asked about pairs of images."
    list_display = ["key", "study", "position", "question", "show_prompt", "tie_policy"]


class SystemForm(SystemModelForm):
    """The recipe must be one that the painter takes."""

    def clean_recipe(self) -> dict[str, Any]:
        try:
            return Recipe.model_validate(self.cleaned_data["recipe"]).as_json()
        except RecipeError as error:
            raise ValidationError(recipe_words(error)) from error


@admin.register(System)
class SystemAdmin(DraftRowAdmin):
    meaning = "A system is a model with fixed settings: what a study compares."
    form = SystemForm
    list_display = ["key", "label", "study", "position", "licence"]
    laid_by = "recipe"


@admin.register(Prompt)
class PromptAdmin(DraftRowAdmin):
    meaning = "A prompt is a text from which every system of its study makes an image."
    list_display = ["text", "study", "position", "category", "challenge", "removed_reason"]
    list_filter = ["study", "category", "challenge"]
    search_fields = ["text"]
    readonly_fields = ["removed_at", "removed_reason"]
    laid_by = "text"


class ReadOnlyAdmin(ReadOnly, RowAdmin):
    """Rows that `prepare` lays."""


@admin.register(Entry)
class EntryAdmin(ReadOnlyAdmin):
    meaning = (
        "An entry is what a system answers to a prompt: an image, and the file that raters see."
    )
    list_display = ["__str__", "sample", "seed", "status", "shown"]
    list_filter = ["system__study", "image__status"]
    list_select_related = ["system", "prompt", "image"]

    exclude = ["display"]  # a name, not a link: the site hands these files to raters only
    readonly_fields = ["shown"]

    @admin.display(ordering="image__status")
    def status(self, entry: Entry) -> str:
        return entry.image.status

    @admin.display(description="display file", ordering="display")
    def shown(self, entry: Entry) -> str:
        return entry.display.name or "-"


@admin.register(Comparison)
class ComparisonAdmin(ReadOnlyAdmin):
    meaning = "A comparison puts the images of two systems for one prompt side by side."
    list_display = ["__str__", "removed_reason"]
    list_filter = ["first__system__study"]
    list_select_related = ["first__system", "first__prompt", "second__system"]
