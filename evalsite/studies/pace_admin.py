"""How fast each recipe is painted, in the admin, by the systems that have it."""

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.utils.safestring import SafeString
from pydantic import ValidationError

from evalsite.studies.models import System
from generation.admin import ReadOnly, in_lines
from generation.models import Image, Pace
from generation.spec import Recipe

if TYPE_CHECKING:  # Django's own class takes no type parameter when it runs
    PaceModelAdmin = admin.ModelAdmin[Pace]
else:
    PaceModelAdmin = admin.ModelAdmin

PACE_HELP = {
    "latency": "The median over single images, from prompt to pixels.",
    "images_timed": "How many images that median is of.",
    "batch_size": "How many images at once serve best, of those that were tried.",
    "throughput": "In batches of that size.",
    "is_settled": "Whether no larger batch is to be tried.",
}


class OptionsFilter(admin.AllValuesFieldListFilter):
    """Options as they are, and a word where there are none."""

    def choices(self, changelist: Any) -> Iterator[Any]:
        for choice in super().choices(changelist):
            yield {**choice, "display": choice["display"] or "none"}


@admin.register(Pace)
class PaceAdmin(ReadOnly, PaceModelAdmin):
    """How fast workers found each recipe to be. A row that is deleted is found out anew."""

    meaning = (
        "How fast a recipe is painted on one kind of device: the time of a single image, and how "
        "many images at once serve best. A row that is deleted is found out anew."
    )
    list_display = ("systems", "painted_on", "one_image", "in_batches", "measured_at")
    list_filter = ("device", ("options", OptionsFilter))
    search_fields = ("recipe_digest",)
    ordering = ("-measured_at", "-id")
    fields = (
        "systems",
        "recipe",
        "recipe_digest",
        "device",
        "options",
        "latency",
        "images_timed",
        "measured_at",
        "versions",
        "batch_size",
        "throughput",
        "is_settled",
    )

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """One look at the systems for all rows."""
        changes = super().get_changelist_instance(request)
        keys, rows = _keys_by_recipe(), list(changes.result_list)
        for pace in rows:
            pace.system_keys = keys.get(pace.recipe_digest, [])
        changes.result_list = rows
        return changes

    @admin.display
    def systems(self, pace: Pace) -> str:
        """The keys of those that have the recipe, in any study; else the start of its digest."""
        keys = getattr(pace, "system_keys", None)
        if keys is None:
            keys = _keys_by_recipe().get(pace.recipe_digest, [])
        return ", ".join(keys) or f"of no study: {pace.recipe_digest[:12]}"

    @admin.display(description="recipe")
    def recipe(self, pace: Pace) -> str:
        """What the digest stands for, of an image with it: on a row's own page alone, since to
        find one may read every image."""
        image = Image.objects.filter(recipe_digest=pace.recipe_digest).first()
        if image is None:
            return "not known: no image has it any more"
        said = {name: value for name, value in image.recipe.items() if value not in ("", [], None)}
        return ", ".join(f"{name}: {value}" for name, value in said.items())

    @admin.display(ordering="device")
    def painted_on(self, pace: Pace) -> SafeString | str:
        """All that tells two rows of one recipe apart: device, options, versions."""
        versions = ", ".join(f"{name} {version}" for name, version in pace.versions.items())
        return in_lines(pace.device, pace.options.replace(",", ", "), versions)

    @admin.display(ordering="latency_ms")
    def one_image(self, pace: Pace) -> SafeString | str:
        if pace.latency_ms is None:
            return "-"
        return in_lines(f"{_three_digits(pace.latency_ms)} ms", f"median of {pace.n_paints:,}")

    @admin.display(ordering="images_per_s")
    def in_batches(self, pace: Pace) -> SafeString | str:
        """A size may be known to serve best before it is known how well."""
        rate = f"{_three_digits(pace.images_per_s)} a second" if pace.images_per_s else ""
        return in_lines(rate, f"{pace.batch_size:,} at once" if pace.batch_size else "")

    @admin.display(description="one image, ms", ordering="latency_ms")
    def latency(self, pace: Pace) -> str:
        return _three_digits(pace.latency_ms)

    @admin.display(ordering="n_paints")
    def images_timed(self, pace: Pace) -> str:
        return f"{pace.n_paints:,}"

    @admin.display(description="images a second", ordering="images_per_s")
    def throughput(self, pace: Pace) -> str:
        return _three_digits(pace.images_per_s)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        return super().get_form(request, obj, change, **{"help_texts": PACE_HELP} | kwargs)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.user.has_perm("generation.delete_pace")


def _keys_by_recipe() -> dict[str, list[str]]:
    """Recipe digest -> the keys that systems with it have, each once. One query."""
    keys: dict[str, list[str]] = {}
    for key, recipe in System.objects.order_by("key").values_list("key", "recipe"):
        with suppress(ValidationError):  # of a system that cannot be painted
            of_recipe = keys.setdefault(Recipe.model_validate(recipe).digest, [])
            if key not in of_recipe:
                of_recipe.append(key)
    return keys


def _three_digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"
