"""Every image, its state and its evidence: to be read, and failed ones to be retried."""

import base64
import io
from typing import TYPE_CHECKING

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.db.models.fields.files import FieldFile
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from PIL import Image as Pictures

from generation import services
from generation.models import Image, ImageEvent, Writing

if TYPE_CHECKING:
    ImageModelAdmin = admin.ModelAdmin[Image]
    EventModelAdmin = admin.ModelAdmin[ImageEvent]
    WritingModelAdmin = admin.ModelAdmin[Writing]
    EventInline = admin.TabularInline[ImageEvent, Image]
else:
    ImageModelAdmin = EventModelAdmin = WritingModelAdmin = admin.ModelAdmin
    EventInline = admin.TabularInline

PREVIEW = 256  # pixels
LINE_END = mark_safe("<br>")


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


@admin.register(Writing)
class WritingAdmin(ReadOnly, WritingModelAdmin):
    """Who writes files at this moment whose rows come last."""

    meaning = (
        "A writing is an import, or a maker of display files, that is at work, or was killed less "
        "than a day ago. While there is one, clean_files removes no file that it may still store."
    )
    list_display = ["began_at"]


def in_lines(*texts: str) -> SafeString | str:
    """What stands in one cell, or in one field, a line each; what is empty is left out."""
    return format_html_join(LINE_END, "{}", ([text] for text in texts if text)) or "-"


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
