"""Recipes, wants and stand-in painters. A painter is an argument of the painter's loop, so a test
brings one that breaks as it needs; everything else is the real thing."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from django.core.files.storage import default_storage
from PIL import Image as Pictures

from generation import services, tasks
from generation.easel import Studio
from generation.models import Image
from generation.pipelines import MemoryFullError, Painting
from generation.services import Want
from generation.spec import Recipe
from tests.world import NOON


def recipe(**changes: Any) -> Recipe:
    fields: dict[str, Any] = {
        "family": "sdxl",
        "checkpoint": "random-sdxl",
        "revision": "sha256:" + "0" * 64,
        "steps": 2,
        "guidance": 0,
        "width": 32,
        "height": 32,
        "dtype": "float32",
    }
    return Recipe.model_validate(fields | changes)


def wants(n: int, of: Recipe | None = None) -> list[Want]:
    return [Want(of or recipe(), f"prompt {number}", number) for number in range(n)]


def queued(n: int, of: Recipe | None = None, *, at: datetime = NOON) -> list[int]:
    """Images asked for; the ids that a message would carry."""
    return list(services.request_images(wants(n, of), at=at).values())


def claim(
    image_ids: Sequence[int], *, task_id: str = "task", at: datetime = NOON
) -> services.Claim:
    return services.claim_images(image_ids, task_id=task_id, at=at)


class Sketcher:
    """A painter that needs no weights. `on_prompt` may raise; `largest` is what memory holds."""

    def __init__(
        self,
        *,
        on_prompt: Callable[[str], None] = lambda prompt: None,
        largest: int = 99,
        batch_size: int = 4,
        largest_batch: int = 4,
    ) -> None:
        self.facts = {"device": "paper"}
        self.batch_size = batch_size
        self.largest_batch = max(batch_size, largest_batch)
        self.batches: list[list[str]] = []
        self.closed = False
        self._on_prompt = on_prompt
        self._largest = largest

    def begin(self, prompts: Sequence[str], seeds: Sequence[int]) -> Callable[[], list[Painting]]:
        painted = self.paint(prompts, seeds)
        return lambda: painted

    def paint(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Painting]:
        self.batches.append(list(prompts))
        if len(prompts) > self._largest:
            raise MemoryFullError("paper is full")
        for prompt in prompts:
            self._on_prompt(prompt)
        return [Painting(Pictures.new("RGB", (8, 8), (seed % 256, 9, 9)), False) for seed in seeds]

    def free(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def paint(
    image_ids: Sequence[int],
    painter: Sketcher | None = None,
    *,
    task_id: str = "task",
    at: datetime = NOON,
    **options: Any,
) -> Sketcher:
    """What a worker does with a message, by a painter of our choice at a time of our choice."""
    used = painter or Sketcher()
    tasks.paint_chunk(
        Image.objects.get(pk=image_ids[0]).recipe,
        image_ids,
        studio=Studio(lambda _recipe: used),
        task_id=task_id,
        now=lambda: at,
        **options,
    )
    return used


def statuses(image_ids: Sequence[int]) -> list[str]:
    rows = Image.objects.filter(pk__in=image_ids).order_by("pk")
    return list(rows.values_list("status", flat=True))


def attempts(image_ids: Sequence[int]) -> list[int]:
    rows = Image.objects.filter(pk__in=image_ids).order_by("pk")
    return list(rows.values_list("attempts", flat=True))


def stored_files() -> set[str]:
    try:
        return set(default_storage.listdir("images")[1])
    except FileNotFoundError:
        return set()
