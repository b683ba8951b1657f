"""Painting stored images again, and how far what comes out is from what is stored.

Nothing is written: no row, no file. Run it where painting works: it loads pipelines as workers do.
"""

import hashlib
import io
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from django.db.models import QuerySet
from PIL import Image as Pictures

from generation import services
from generation.easel import Easel, Studio, new_studio
from generation.encoding import encode
from generation.models import Image
from generation.spec import Recipe

VERSIONS = ("device", "dtype", "torch", "diffusers", "transformers")


@dataclass(frozen=True)
class Finding:
    """What came of one image. Differences are in grey levels, 0 to 255, over all channels."""

    image: Image
    identical: bool = False  # the file, byte for byte
    largest: int = 0
    mean: float = 0.0
    problem: str = ""  # why nothing could be compared

    def is_within(self, tolerance: int) -> bool:
        return not self.problem and self.largest <= tolerance


@dataclass(frozen=True)
class RecipeFindings:
    """What came of one recipe's sample, with what painted it then and now."""

    recipe: dict[str, Any]
    findings: list[Finding]
    now: dict[str, str] = field(default_factory=dict)

    @property
    def then(self) -> dict[str, str]:
        """Versions and device as recorded; several are joined where images differ in them."""
        told = {}
        for name in self.now or VERSIONS:
            seen = {str(found.image.provenance.get(name, "")) for found in self.findings}
            told[name] = " or ".join(sorted(seen - {""}))
        return told


def verify(
    images: QuerySet[Image], *, sample: int, seed: int, as_painted: bool = False
) -> Iterator[RecipeFindings]:
    """Paint a seeded sample of READY images again, so many of each recipe; one recipe at a time.

    Each image is painted alone. `as_painted` paints it beside copies of itself, in a batch as large
    as the recorded one: kernels are chosen by the size of a batch, and its mates do not matter.
    Imported images are held against their stored hash alone.
    """
    ready = images.filter(status=Image.Status.READY)
    studio = new_studio()
    for digest in (
        ready.order_by("recipe_digest").values_list("recipe_digest", flat=True).distinct()
    ):
        chosen = _draw(ready.filter(recipe_digest=digest), sample, seed)
        yield _of_recipe(chosen, studio, as_painted)


def _draw(rows: QuerySet[Image], sample: int, seed: int) -> list[Image]:
    """By the images' names, not their ids: the same sample in a copy of the database."""
    names = list(rows.order_by("digest").values_list("digest", flat=True))
    drawn = random.Random(seed).sample(names, min(sample, len(names)))  # noqa: S311
    return list(rows.filter(digest__in=drawn).order_by("digest"))


def _of_recipe(images: Sequence[Image], studio: Studio, as_painted: bool) -> RecipeFindings:
    recipe = images[0].recipe
    stored = [(image, *_stored(image)) for image in images]
    if recipe["family"] == "imported":
        found = [Finding(image, identical=not why, problem=why) for image, _, why in stored]
        return RecipeFindings(recipe, found)
    easel, lacking = _set_up(Recipe.model_validate(recipe), studio)
    if easel is None:
        return RecipeFindings(recipe, [Finding(image, problem=lacking) for image in images])
    found = [
        Finding(image, problem=why) if why else _compare(image, content, easel.painter, as_painted)
        for image, content, why in stored
    ]
    facts = easel.painter.facts
    return RecipeFindings(recipe, found, {name: str(facts.get(name, "")) for name in VERSIONS})


def _set_up(recipe: Recipe, studio: Studio) -> tuple[Easel | None, str]:
    """The loaded pipeline, or why there is none. What is not here is not downloaded."""
    if missing := services.preflight(recipe):
        return None, "it cannot be painted here: " + "; ".join(missing)
    try:
        return studio.easel(recipe), ""
    except Exception as error:  # whatever it is, it is why nothing can be compared
        return None, f"its pipeline could not be loaded: {type(error).__name__}: {error}"


def _stored(image: Image) -> tuple[bytes, str]:
    """The file as it is, and what is wrong with it. Unlike `read_stored` this fails no row."""
    try:
        with image.file.open("rb") as file:
            content: bytes = file.read()
    except OSError as error:
        return b"", f"its file cannot be read: {error}"
    if hashlib.sha256(content).hexdigest() != image.sha256:
        return b"", "its file is not what was stored: it was cut short or changed"
    return content, ""


def _compare(image: Image, content: bytes, painter: Any, as_painted: bool) -> Finding:
    n = int(image.provenance.get("batch_size", 1)) if as_painted else 1
    try:
        painting = painter.paint([image.prompt] * n, [image.seed] * n)[0]
    except Exception as error:  # as when it was painted first: any error is this image's own
        return Finding(image, problem=f"painting failed: {type(error).__name__}: {error}")
    again = encode(painting.picture)
    if again.sha256 == image.sha256:
        return Finding(image, identical=True)
    return _difference(image, content, again.content)


def _difference(image: Image, before: bytes, after: bytes) -> Finding:
    then, now = _pixels(before), _pixels(after)
    if then.shape != now.shape:
        return Finding(image, problem=f"its size was {_size(then)} and is now {_size(now)}")
    apart = np.abs(then - now)
    return Finding(image, largest=int(apart.max()), mean=float(apart.mean()))


def _pixels(content: bytes) -> Any:
    with Pictures.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.int16)


def _size(pixels: Any) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"


def worst(findings: Iterable[Finding]) -> tuple[int, float]:
    """The largest difference of all, and the mean of the means."""
    compared = [found for found in findings if not found.problem]
    if not compared:
        return 0, 0.0
    return max(one.largest for one in compared), sum(one.mean for one in compared) / len(compared)
