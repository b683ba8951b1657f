"""Every image, its state and its evidence: to be read, and failed ones to be retried."""

import base64
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.db.models.fields.files import FieldFile
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from PIL import Image as Pictures

from generation import services
from generation.models import Image, ImageEvent, Pace, Writing

if TYPE_CHECKING:
    ImageModelAdmin = admin.ModelAdmin[Image]
    EventModelAdmin = admin.ModelAdmin[ImageEvent]
    PaceModelAdmin = admin.ModelAdmin[Pace]
    WritingModelAdmin = admin.ModelAdmin[Writing]
    EventInline = admin.TabularInline[ImageEvent, Image]
else:
    ImageModelAdmin = EventModelAdmin = PaceModelAdmin = WritingModelAdmin = admin.ModelAdmin
    EventInline = admin.TabularInline

PREVIEW = 256  # pixels
PACE_HELP = {
    "latency": "The median over single images, from prompt to pixels.",
    "n_paints": "How many images that median is of.",
    "batch_size": "How many images at once serve best, of those that were tried.",
    "throughput": "In batches of that size.",
    "is_settled": "Whether no larger batch is to be tried.",
}


class ReadOnly:
    """Of an admin page: rows to look at. None is added, edited or deleted there."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class ImageEventListing(EventInline):
    """What befell the image once it was finished."""

    model = ImageEvent
    fields = ("at", "kind", "sha256_before", "sha256_after")
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, image: Image | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, image: Image | None = None) -> bool:
        return False


@admin.register(Image)
class ImageAdmin(ReadOnly, ImageModelAdmin):
    """Images are made by workers and imports alone: no row is added, edited or deleted here."""

    meaning = "An image is painted by a worker, or imported. Studies that want the same share it."
    list_display = ("id", "prompt_start", "checkpoint", "status", "attempts", "finished_at")
    list_filter = ("status", "requested_at")
    search_fields = ("prompt", "digest", "error")
    ordering = ("-id",)
    actions = ("retry_failed",)
    inlines = (ImageEventListing,)
    exclude = ("file",)  # it has no address; `preview` shows it
    show_full_result_count = False

    @admin.display(description="prompt")
    def prompt_start(self, image: Image) -> str:
        return image.prompt[:60]

    @admin.display(description="checkpoint")
    def checkpoint(self, image: Image) -> str:
        return str(image.recipe.get("checkpoint", ""))

    @admin.display(description="image")
    def preview(self, image: Image) -> SafeString | str:
        return preview_of(image.file)

    @admin.action(description="Retry failed images", permissions=["retry"])
    def retry_failed(self, request: HttpRequest, images: QuerySet[Image]) -> None:
        n_retried = services.retry_failed(images, at=timezone.now())
        messages.success(request, f"Failed images queued again: {n_retried:,}.")

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("generation.change_image")

    def get_readonly_fields(self, request: HttpRequest, image: Image | None = None) -> list[str]:
        fields = [field.name for field in Image._meta.fields if field.name != "file"]
        return [*fields, "preview"]


@admin.register(ImageEvent)
class ImageEventAdmin(ReadOnly, EventModelAdmin):
    """What befell images, over all of them: to be read only."""

    meaning = "What befell images after they were finished: damaged, or made a second time."
    list_display = ("at", "kind", "image", "sha256_before", "sha256_after")
    list_filter = ("kind", "at")
    list_select_related = ("image",)
    ordering = ("-at", "-id")
    show_full_result_count = False


class OptionsFilter(admin.AllValuesFieldListFilter):
    """Options as they are, and a word where there are none."""

    def choices(self, changelist: Any) -> Iterator[Any]:
        for choice in super().choices(changelist):
            yield {**choice, "display": choice["display"] or "none"}


@admin.register(Pace)
class PaceAdmin(ReadOnly, PaceModelAdmin):
    """How fast workers found each recipe to be. A row that is deleted is found out anew."""

    meaning = (
        "A pace is how fast a recipe is painted on one kind of device: the time of a single image, "
        "and how many images at once serve best. A row that is deleted is found out anew."
    )
    list_display = (
        "recipe_start",
        "device",
        "options",
        "latency",
        "n_paints",
        "batch_size",
        "throughput",
        "measured_at",
    )
    list_filter = ("device", ("options", OptionsFilter))
    search_fields = ("recipe_digest",)
    ordering = ("-measured_at", "-id")
    fields = (
        "recipe",
        "recipe_digest",
        "device",
        "options",
        "latency",
        "n_paints",
        "measured_at",
        "versions",
        "batch_size",
        "throughput",
        "is_settled",
    )

    @admin.display(description="recipe")
    def recipe_start(self, pace: Pace) -> str:
        return pace.recipe_digest[:12]

    @admin.display(description="recipe")
    def recipe(self, pace: Pace) -> str:
        """What the digest stands for, of an image with it: on a row's own page alone, since to
        find one may read every image."""
        image = Image.objects.filter(recipe_digest=pace.recipe_digest).first()
        if image is None:
            return "not known: no image has it any more"
        said = {name: value for name, value in image.recipe.items() if value not in ("", [], None)}
        return ", ".join(f"{name}: {value}" for name, value in said.items())

    @admin.display(description="one image, ms", ordering="latency_ms")
    def latency(self, pace: Pace) -> str:
        return _three_digits(pace.latency_ms)

    @admin.display(description="images a second", ordering="images_per_s")
    def throughput(self, pace: Pace) -> str:
        return _three_digits(pace.images_per_s)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        return super().get_form(request, obj, change, **{"help_texts": PACE_HELP} | kwargs)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.user.has_perm("generation.delete_pace")


@admin.register(Writing)
class WritingAdmin(ReadOnly, WritingModelAdmin):
    """Who writes files at this moment whose rows come last."""

    meaning = (
        "A writing is an import, or a maker of display files, that is at work, or was killed less "
        "than a day ago. While there is one, clean_files removes no file that it may still store."
    )
    list_display = ["began_at"]


def _three_digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"


def preview_of(file: FieldFile) -> SafeString | str:
    """A small copy of a picture, inside the page: the file itself has no address."""
    if not file:
        return "-"
    with file.open() as opened, Pictures.open(opened) as picture:
        picture.thumbnail((PREVIEW, PREVIEW))
        small = io.BytesIO()
        picture.save(small, "WEBP")
    data = base64.b64encode(small.getvalue()).decode()
    return format_html('<img src="data:image/webp;base64,{}" alt="">', data)
