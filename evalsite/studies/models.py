"""A study's design: the question before any answer."""

import secrets

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from generation.models import Image


def random_code() -> str:
    """An address that says nothing and cannot be guessed: 128 random bits, url-safe."""
    return secrets.token_urlsafe(16)


def prompt_label(position: int) -> str:
    """What reports and people at a desk call a prompt, by its place in the study."""
    return f"p{position:03d}"


CONSENT = """\
You will compare pictures that computer programs made from short texts. There are no wrong answers.

We keep your answers, how long each one took, and the size of your browser window. We ask for no \
name, no address and no account. Your answers are kept under a random code, and may be published \
in that form for research.

Taking part is voluntary. You may skip any pair, and you may stop at any time by closing the page.
"""

DISPLAY = "display"  # the folder of what raters see in the store


def display_path(entry: "Entry", filename: str) -> str:
    """A random name: the path of a file that raters see must not tell its system."""
    return f"{DISPLAY}/{secrets.token_hex(16)}{filename[filename.rfind('.') :]}"


class Study(models.Model):
    """Criteria asked about systems on prompts. In a draft the rows are the truth;
    opening freezes them into `spec`, and from then on the design stands."""

    class State(models.TextChoices):
        DRAFT = "DRAFT"
        OPEN = "OPEN"
        PAUSED = "PAUSED"
        CLOSED = "CLOSED"

    class Pairing(models.TextChoices):
        ALL = "ALL"  # every two systems
        BASELINE = "BASELINE"  # each system against one

    class Resampler(models.TextChoices):
        NEAREST = "NEAREST"
        BILINEAR = "BILINEAR"
        BICUBIC = "BICUBIC"
        LANCZOS = "LANCZOS"

    class OnFailure(models.TextChoices):
        DROP_PROMPT = "DROP_PROMPT"  # the prompt leaves the study for all systems
        DROP_COMPARISON = "DROP_COMPARISON"  # only the comparisons with the failed image leave

    class OnDefect(models.TextChoices):
        REFUSE = "REFUSE"  # the study cannot be opened until somebody has decided
        DROP = "DROP"  # what `on_failure` says leaves, as if the image had failed
        KEEP = "KEEP"  # raters see it, and the report says so

    slug = models.SlugField(max_length=80, unique=True)
    code = models.CharField(max_length=32, default=random_code, unique=True, editable=False)
    title = models.CharField(max_length=200)
    consent = models.TextField(blank=True)  # empty: the project's own text
    instructions = models.TextField(blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="studies"
    )
    state = models.CharField(max_length=8, choices=State, default=State.DRAFT, editable=False)
    simulated = models.BooleanField(default=False)  # its raters are programs, and pages say so
    seed = models.BigIntegerField()

    pairing = models.CharField(max_length=8, choices=Pairing, default=Pairing.ALL)
    baseline = models.CharField(max_length=60, blank=True)  # a system's key
    votes_per_comparison = models.PositiveSmallIntegerField(default=1)
    votes_per_rater = models.PositiveIntegerField(null=True, blank=True)  # null: no cap
    display_size = models.PositiveIntegerField()  # pixels, both sides of the square box
    resampler = models.CharField(max_length=8, choices=Resampler, default=Resampler.LANCZOS)
    upscaler = models.CharField(  # empty: images are never enlarged
        max_length=8, choices=Resampler, blank=True
    )
    on_failure = models.CharField(max_length=15, choices=OnFailure, default=OnFailure.DROP_PROMPT)
    on_blank = models.CharField(  # an image of one colour all over
        max_length=6, choices=OnDefect, default=OnDefect.REFUSE
    )
    on_duplicate = models.CharField(  # one system's image again, under another prompt or seed
        max_length=6, choices=OnDefect, default=OnDefect.REFUSE
    )
    prompt_source = models.JSONField(default=dict, blank=True)  # file, sha256, filters and draw
    notes = models.JSONField(default=dict, blank=True)  # setting -> where it comes from
    claims = models.JSONField(default=list, blank=True)  # what the study sets out to show
    looks = models.JSONField(default=dict, blank=True)  # when it may be read while open; or never

    spec = models.JSONField(null=True, blank=True, editable=False)
    spec_sha256 = models.CharField(max_length=64, blank=True, editable=False)
    n_planned = models.PositiveIntegerField(  # on opening: what left later is among them
        "votes planned", null=True, blank=True, editable=False
    )
    created_at = models.DateTimeField()
    opened_at = models.DateTimeField(null=True, blank=True, editable=False)
    closed_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name_plural = "studies"
        constraints = [
            models.CheckConstraint(
                condition=Q(state="DRAFT", spec=None, opened_at=None)
                | ~Q(state="DRAFT") & Q(spec__isnull=False, opened_at__isnull=False),
                name="study_opened_has_a_frozen_spec",
            ),
            models.CheckConstraint(
                condition=Q(state="DRAFT", n_planned=None)
                | ~Q(state="DRAFT") & Q(n_planned__isnull=False),
                name="study_opened_has_its_planned_votes",
            ),
            models.CheckConstraint(
                condition=Q(state="CLOSED", closed_at__isnull=False)
                | ~Q(state="CLOSED") & Q(closed_at=None),
                name="study_closed_has_a_time",
            ),
            models.CheckConstraint(
                condition=Q(pairing="ALL", baseline="") | Q(pairing="BASELINE") & ~Q(baseline=""),
                name="study_baseline_where_paired_with_one",
            ),
            models.CheckConstraint(
                condition=Q(votes_per_comparison__gte=1), name="study_wants_votes"
            ),
        ]

    def __str__(self) -> str:
        return self.slug

    @property
    def consent_text(self) -> str:
        """What raters agree to: the study's own text, else the project's."""
        return self.consent or CONSENT


class Criterion(models.Model):
    """One question, as raters read it."""

    class TiePolicy(models.TextChoices):
        FORCED = "FORCED"  # left or right
        ALLOWED = "ALLOWED"  # "no preference" is an answer

    study = models.ForeignKey(Study, models.PROTECT, related_name="criteria")
    key = models.SlugField(max_length=60)
    question = models.TextField()
    show_prompt = models.BooleanField(default=True)
    tie_policy = models.CharField(max_length=7, choices=TiePolicy, default=TiePolicy.FORCED)
    position = models.PositiveSmallIntegerField()

    class Meta:
        verbose_name_plural = "criteria"
        ordering = ["position", "id"]
        constraints = [
            models.UniqueConstraint(fields=["study", "key"], name="criterion_key_once_per_study"),
        ]

    def __str__(self) -> str:
        return self.key


class System(models.Model):
    """A model with fixed sampling settings: its recipe says all that changes a pixel."""

    study = models.ForeignKey(Study, models.PROTECT, related_name="systems")
    key = models.SlugField(max_length=60)
    label = models.CharField(max_length=120)
    recipe = models.JSONField()
    licence = models.CharField(max_length=120)
    position = models.PositiveSmallIntegerField()
    painting_cancelled_at = models.DateTimeField(  # until it is prepared or retried
        null=True, blank=True, editable=False
    )

    class Meta:
        ordering = ["position", "id"]
        constraints = [
            models.UniqueConstraint(fields=["study", "key"], name="system_key_once_per_study"),
            models.CheckConstraint(
                condition=Q(recipe__revision__isnull=False) & ~Q(recipe__revision=""),
                name="system_revision_is_pinned",
            ),
        ]

    def __str__(self) -> str:
        return self.key


class Prompt(models.Model):
    """One text that every system answers."""

    study = models.ForeignKey(Study, models.PROTECT, related_name="prompts")
    position = models.PositiveIntegerField()
    text = models.TextField()
    category = models.CharField(max_length=80, blank=True)
    challenge = models.CharField(max_length=80, blank=True)
    removed_at = models.DateTimeField(null=True, blank=True)
    removed_reason = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(
                fields=["study", "position"], name="prompt_position_once_per_study"
            ),
            models.CheckConstraint(
                condition=Q(removed_at=None, removed_reason="")
                | Q(removed_at__isnull=False) & ~Q(removed_reason=""),
                name="prompt_removed_has_a_reason",
            ),
        ]

    def __str__(self) -> str:
        return self.text[:60]


class Entry(models.Model):
    """A system's answer to a prompt: the image, and the file made of it that raters see."""

    system = models.ForeignKey(System, models.PROTECT, related_name="entries")
    prompt = models.ForeignKey(Prompt, models.PROTECT, related_name="entries")
    sample = models.PositiveSmallIntegerField(default=0)
    seed = models.BigIntegerField()  # the same for all systems on a prompt
    image = models.ForeignKey(Image, models.PROTECT, related_name="entries")
    display = models.FileField(upload_to=display_path, max_length=200, blank=True)

    class Meta:
        verbose_name_plural = "entries"
        constraints = [
            models.UniqueConstraint(
                fields=["system", "prompt", "sample"], name="entry_once_per_system_and_prompt"
            ),
            models.UniqueConstraint(
                fields=["display"], condition=~Q(display=""), name="entry_display_name_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.system} on “{self.prompt}”"


class Comparison(models.Model):
    """Two entries for one prompt, `first` and `second` in the study's order of systems."""

    first = models.ForeignKey(Entry, models.PROTECT, related_name="comparisons_as_first")
    second = models.ForeignKey(Entry, models.PROTECT, related_name="comparisons_as_second")
    removed_at = models.DateTimeField(null=True, blank=True)
    removed_reason = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["first", "second"], name="comparison_once"),
            models.CheckConstraint(
                condition=~Q(first=F("second")), name="comparison_of_two_entries"
            ),
            models.CheckConstraint(
                condition=Q(removed_at=None, removed_reason="")
                | Q(removed_at__isnull=False) & ~Q(removed_reason=""),
                name="comparison_removed_has_a_reason",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.first.system} and {self.second.system} on “{self.first.prompt}”"
