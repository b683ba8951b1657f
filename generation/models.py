"""The images that are wanted, what became of them, and what befell those that were finished."""

import secrets

from django.db import models
from django.db.models import Q

IMAGES = "images"  # the folder of their files in the store


def image_path(image: "Image", filename: str) -> str:
    """A random name: a file's name must not tell who painted it, for what or when."""
    return f"{IMAGES}/{secrets.token_hex(16)}{filename[filename.rfind('.') :]}"


class Image(models.Model):
    """A picture that somebody wants painted. This row is the queue; a message is only a nudge.

    QUEUED waits, CLAIMED is being painted by the holder of `claim_token` until
    `lease_expires_at`, READY has its file, FAILED has its reason, CANCELLED is wanted by nobody
    any more: it waits for nothing until somebody asks for it again.
    """

    class Status(models.TextChoices):
        QUEUED = "QUEUED"
        CLAIMED = "CLAIMED"
        READY = "READY"
        FAILED = "FAILED"
        CANCELLED = "CANCELLED"

    digest = models.CharField(max_length=64, unique=True, editable=False)
    recipe_digest = models.CharField(max_length=64, editable=False)
    recipe = models.JSONField(editable=False)
    prompt = models.TextField(editable=False)
    seed = models.BigIntegerField(editable=False)

    status = models.CharField(max_length=9, choices=Status, default=Status.QUEUED)
    requested_at = models.DateTimeField()
    nudged_at = models.DateTimeField(null=True, blank=True)
    claim_token = models.CharField(max_length=80, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    error = models.TextField(blank=True)

    file = models.FileField(upload_to=image_path, max_length=200, blank=True)
    sha256 = models.CharField(max_length=64, blank=True)
    width = models.PositiveIntegerField(null=True, blank=True)
    height = models.PositiveIntegerField(null=True, blank=True)
    flat_colour = models.CharField(max_length=7, blank=True)  # #rrggbb: one colour all over
    provenance = models.JSONField(default=dict, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=~Q(status="READY")
                | (~Q(file="") & ~Q(sha256="") & Q(width__isnull=False, height__isnull=False)),
                name="image_ready_has_a_file",
            ),
            models.CheckConstraint(
                condition=Q(status="CLAIMED", lease_expires_at__isnull=False) & ~Q(claim_token="")
                | ~Q(status="CLAIMED") & Q(claim_token="", lease_expires_at=None),
                name="image_claimed_has_token_and_lease",
            ),
            models.CheckConstraint(
                condition=~Q(status="FAILED") | ~Q(error=""), name="image_failed_has_a_reason"
            ),
        ]
        indexes = [
            models.Index(
                fields=["recipe_digest", "id"],
                condition=Q(status__in=["QUEUED", "CLAIMED"]),
                name="image_wanted",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.prompt[:60]} ({self.status.lower()})"


class ImageEvent(models.Model):
    """Something that befell a finished image. Rows are added, never changed: results rest on
    images, and one that was made anew may look different.

    DAMAGED: its file was found not to be what was stored. REPAINTED: a finished image was painted
    or brought a second time, its file before gone. REIMPORTED: this image came from a file that
    had other content when it was imported before, as another image.
    """

    class Kind(models.TextChoices):
        DAMAGED = "DAMAGED"
        REPAINTED = "REPAINTED"
        REIMPORTED = "REIMPORTED"

    image = models.ForeignKey(Image, models.PROTECT, related_name="events")
    kind = models.CharField(max_length=10, choices=Kind)
    sha256_before = models.CharField(max_length=64)
    sha256_after = models.CharField(max_length=64)  # equal: not one pixel differs
    at = models.DateTimeField()

    class Meta:
        ordering = ["at", "id"]

    def __str__(self) -> str:
        return f"{self.image}: {self.kind.lower()}"


class Writing(models.Model):
    """A process writes files whose rows come last. The transaction that writes the rows deletes
    this one, or is refused where it is gone; see writing.py.
    """

    began_at = models.DateTimeField()

    class Meta:
        verbose_name = "announcement of files"
        verbose_name_plural = "files being written"

    def __str__(self) -> str:
        return f"files written since {self.began_at}"


class Pace(models.Model):
    """How fast one recipe is painted on one kind of device, with one set of options and by one
    version of each library: found out by a worker, and remembered for the next. A row that is
    deleted is found out anew.

    `latency_ms` is the median of `n_paints` single images, warm, from prompt to pixels. `n_timings`
    counts how often a worker began to time them: before it did, so that one that died is counted.
    `batch_size` is how many images at once serve best, of the sizes that were tried; `is_settled`
    says that no larger one is to be tried.
    """

    recipe_digest = models.CharField(max_length=64)
    device = models.CharField(max_length=200)
    options = models.CharField(max_length=200, blank=True)  # a comma between two
    versions = models.JSONField(default=dict, blank=True)  # of the libraries that paint

    n_timings = models.PositiveSmallIntegerField(default=0)
    latency_ms = models.FloatField(null=True, blank=True)
    n_paints = models.PositiveSmallIntegerField(default=0)
    measured_at = models.DateTimeField(null=True, blank=True)

    batch_size = models.PositiveSmallIntegerField(null=True, blank=True)
    images_per_s = models.FloatField(null=True, blank=True)  # in batches of that size
    is_settled = models.BooleanField(default=False)

    class Meta:
        verbose_name = "speed of a recipe"
        verbose_name_plural = "speeds of recipes"
        constraints = [
            models.UniqueConstraint(
                fields=["recipe_digest", "device", "options", "versions"],
                name="pace_once_a_device",
            ),
            models.CheckConstraint(
                condition=Q(latency_ms=None, n_paints=0, measured_at=None)
                | Q(latency_ms__gt=0, n_paints__gt=0, measured_at__isnull=False),
                name="pace_latency_says_how_and_when",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.recipe_digest[:12]} on {self.device}"
