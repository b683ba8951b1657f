"""One fault: images are wanted, something breaks, and what was promised is held against the end."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import QuerySet

from chaos.painting.edges import DONE, HELD
from chaos.painting.plan import Line, Plan
from chaos.painting.site import Site, TooLateError
from generation import services
from generation.encoding import PictureError, file_sha256, open_picture
from generation.models import Image
from generation.services import Want
from generation.spec import Recipe, find_checkpoint, folder_revision

SIDE = 64
_COLOURS = ("red", "green", "blue", "yellow", "purple", "black")
_SHAPES = ("circle", "square", "triangle", "ring", "cross", "star")
PROMPTS = [f"a {colour} {shape}" for colour in _COLOURS for shape in _SHAPES]
seeds = count(1)


def tiny(**changes: Any) -> Recipe:
    """A recipe of the tiny family that ships with the project."""
    fields = {"checkpoint": "tiny-base", "steps": 1, "guidance": 0.0, "dtype": "float32"} | changes
    folder = find_checkpoint(str(fields["checkpoint"]), settings.CHECKPOINT_DIRS)
    assert folder, fields["checkpoint"]
    fields |= {"family": "sdxl", "width": SIDE, "height": SIDE}
    return Recipe.model_validate({"revision": folder_revision(folder), **fields})


@dataclass
class Scene:
    """What one fault does to a site, and what came of it."""

    site: Site
    image_ids: list[int] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    injured_at: datetime | None = None
    recovered_at: datetime | None = None
    n_ready: int = 0
    n_failed: int = 0

    def __post_init__(self) -> None:
        self._first_line = len(self.site.folder.diary())
        self._orphans = orphans()
        self._of_the_dead = self.site.broker.at_work()

    # Acting.

    def ask(self, n: int, recipe: Recipe | None = None) -> list[int]:
        """Want new images, the n-th of them with the n-th of PROMPTS."""
        painted = recipe or tiny()
        wants = [Want(painted, prompt, next(seeds)) for prompt in PROMPTS[:n]]
        ids = services.request_images(wants, at=self.site.folder.now())
        self.image_ids += ids.values()
        return list(ids.values())

    def plan(self, **changes: Any) -> None:
        """What the workers suffer from now on."""
        self.site.folder.set_plan(Plan(**changes))

    def ask_and_hold(self, n: int) -> list[int]:
        """Want images, and let the worker stand still while it paints the first."""
        self.plan(hold=PROMPTS[0])
        ids = self.ask(n)
        self.site.worker()
        self.until_held()
        return ids

    def until_held(self, n: int = 1) -> Line:
        """Wait until so many processes stand still; the last of them."""
        self.until(lambda: len(self.lines(HELD)) >= n, "a worker to paint")
        return self.lines(HELD)[-1]

    def injure(self) -> None:
        """The clock of recovery starts."""
        self.injured_at = self.site.folder.now()

    def recover(self) -> None:
        """Wait until no wanted image is pending."""
        self.until(lambda: not self.pending(), "the images")
        self.recovered_at = self.site.folder.now()

    def until(self, condition: Callable[[], bool], what: str) -> None:
        try:
            self.site.until(condition, what)
        except TooLateError as error:
            states = Counter(self.rows().values_list("status", flat=True))
            there = ", ".join(f"{n} {status}" for status, n in states.items())
            raise TooLateError(f"{error}; there are {there}") from None

    # Looking.

    def rows(self, image_ids: list[int] | None = None) -> QuerySet[Image]:
        return Image.objects.filter(pk__in=image_ids or self.image_ids).order_by("pk")

    def pending(self) -> bool:
        return self.rows().filter(status__in=["QUEUED", "CLAIMED"]).exists()

    def lines(self, step: str) -> list[Line]:
        """What the diary says of this scene."""
        lines = self.site.folder.diary()[self._first_line :]
        return [line for line in lines if line.step.partition(" ")[0] == step]

    def until_done(self, n: int) -> None:
        """Wait until so many messages were dealt with, well or badly."""
        self.until(lambda: len(self.lines(DONE)) >= n, f"{n} messages to be dealt with")

    def until_quiet(self) -> None:
        """Wait until the broker holds no message, waiting or at work."""
        broker = self.site.broker
        self.until(
            lambda: not broker.messages() and broker.at_work() <= self._of_the_dead,
            "the messages to be dealt with",
        )

    def snapshot(self) -> list[tuple[Any, ...]]:
        """All that a late result could change."""
        return list(self.rows().values_list("pk", "status", "file", "sha256", "finished_at"))

    def strays(self) -> set[str]:
        """Files of this scene that no row points at."""
        return orphans() - self._orphans

    # Judging.

    def promise(self, kept: bool, broken: str) -> None:
        """Something beyond what `judge` holds for every fault."""
        if not kept and broken not in self.broken:
            self.broken.append(broken)

    def judge(self, failed: Mapping[int, str] | None = None, *, orphans_allowed: int = 0) -> None:
        """Each wanted image is there once and READY, but for those that the fault names.

        These are FAILED, and the reason says so. Nothing in the storage is without a row, but
        what a process left behind that was killed while it stored.
        """
        named = failed or {}
        rows = list(self.rows())
        self.n_ready = sum(row.status == Image.Status.READY for row in rows)
        self.n_failed = sum(row.status == Image.Status.FAILED for row in rows)
        self.promise(len(rows) == len(set(self.image_ids)), "a wanted image has no row")
        for row in rows:
            self._judge_row(row, named.get(row.pk, ""))
        files = Counter(row.file.name for row in rows if row.file)
        self.promise(max(files.values(), default=1) == 1, "two images share a file")
        left = self.strays()
        self.promise(
            len(left) <= orphans_allowed,
            f"{len(left)} files without a row, {orphans_allowed} allowed",
        )

    def _judge_row(self, row: Image, reason: str) -> None:
        if reason:
            told = f"{row.status} {row.error}"
            failed = row.status == Image.Status.FAILED and reason in row.error
            self.promise(failed, f"an image should have FAILED ({reason}), and is {told}")
        elif row.status != Image.Status.READY:
            self.promise(False, f"an image is {row.status}: {row.error or 'no reason'}")
        else:
            self.promise(_is_whole(row), f"READY without the file that was stored: {row}")

    @cached_property
    def seconds(self) -> float | None:
        """From the injury to the last image, by the run's clock."""
        if not self.injured_at or not self.recovered_at:
            return None
        return (self.recovered_at - self.injured_at).total_seconds()


def _is_whole(row: Image) -> bool:
    path = Path(row.file.path)
    try:
        picture = open_picture(path)
        return file_sha256(path) == row.sha256 and picture.size == (row.width, row.height)
    except (OSError, PictureError):
        return False


def orphans() -> set[str]:
    """Files among the images that no row points at."""
    folder = settings.MEDIA_ROOT / "images"
    there = {f"images/{path.name}" for path in folder.iterdir()} if folder.exists() else set()
    return there - set(Image.objects.exclude(file="").values_list("file", flat=True))
