"""Images that others made: taken from files, all or none, and READY at once."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import QuerySet

from generation import queries
from generation.encoding import PictureError, encode, file_sha256, open_picture
from generation.manifest import ImportedImage, printable
from generation.models import Image, ImageEvent
from generation.services import Want, new_row, note_event, write_file
from generation.spec import Recipe, image_digest
from generation.writing import WritingOverError, announced, finish

TOO_LONG = (
    "it took longer than a day, and clean_files took it for an import that was killed: "
    "import the images again"
)


class ImportRefusedError(ValueError):
    """Images that cannot be taken, with every problem found. Nothing was stored."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = [printable(problem) for problem in problems]
        super().__init__("\n".join(self.problems))


def import_images(
    recipe: Recipe, images: Sequence[ImportedImage], *, at: datetime
) -> dict[str, int]:
    """Store images that others made, all of them READY, or none: digest -> id.

    `recipe` is that of the system they answer for (its revision pins them). Images that are
    already there are kept as they are, but for those whose file was damaged. One that takes the
    place of another, and one whose file was imported with other content before, leave an event.
    """
    if recipe.family != "imported":
        raise ValueError(f"{recipe.checkpoint}: only an imported recipe takes images from files")
    wanted = {image_digest(recipe, image.prompt, image.seed): image for image in images}
    hurt = {image.digest: image for image in _failed(recipe)}
    known = queries.ids_of(wanted)
    new = {d: image for d, image in wanted.items() if d not in known or d in hurt}
    damaged = [str(hurt[digest].file) for digest in new if digest in hurt]
    with announced(at=at) as writing:
        rows = _import_rows(recipe, new, at)
        files = [str(row.file) for row in rows]
        try:
            with transaction.atomic():
                finish(writing)
                _mend(recipe, hurt, rows, at)
                # In one order, so that of two imports neither waits for the other in a circle.
                rows.sort(key=lambda row: row.digest)
                Image.objects.bulk_create(rows, ignore_conflicts=True, batch_size=queries.ROWS)
                ids = {**known, **queries.ids_of(new)}
                _note_changed(recipe, [row for row in rows if row.digest not in known], ids, at)
                kept = queries.files_of(list(ids.values()))
        except WritingOverError:
            _delete(files)
            raise ImportRefusedError([TOO_LONG]) from None
    # What another import was first to store, and what was damaged.
    _delete(name for name in [*files, *damaged] if name not in kept)
    return {digest: ids[digest] for digest in wanted}


def _failed(recipe: Recipe) -> QuerySet[Image]:
    return Image.objects.filter(recipe_digest=recipe.digest, status=Image.Status.FAILED)


def _mend(recipe: Recipe, hurt: dict[str, Image], rows: Sequence[Image], at: datetime) -> None:
    """Let the rows of damaged images point at their new files."""
    mended = [row for row in rows if row.digest in hurt]
    for row in sorted(mended, key=lambda row: hurt[row.digest].pk):
        old = hurt[row.digest]
        if _failed(recipe).filter(digest=row.digest).update(error="", **_stored_fields(row)):
            note_event(old, ImageEvent.Kind.REPAINTED, old.sha256, row.sha256, at)


def _delete(names: Iterable[str]) -> None:
    for name in names:
        default_storage.delete(name)


def _stored_fields(row: Image) -> dict[str, Any]:
    names = ("status", "file", "sha256", "width", "height", "flat_colour")
    return {name: getattr(row, name) for name in (*names, "provenance", "finished_at")}


def _note_changed(recipe: Recipe, rows: list[Image], ids: dict[str, int], at: datetime) -> None:
    """An event for each new image that a file of this name, in this folder, was before as well,
    with other pixels. Two queries where there is none.
    """
    if not rows:
        return
    same_folder = Image.objects.filter(
        recipe__family="imported", recipe__checkpoint=recipe.checkpoint
    ).exclude(recipe_digest=recipe.digest)
    before = dict(same_folder.order_by("pk").values_list("provenance__file_name", "sha256"))
    stored = Image.objects.in_bulk([ids[row.digest] for row in rows])
    for row in rows:
        old, image = before.get(row.provenance["file_name"]), stored[ids[row.digest]]
        if old and old != row.sha256 and image.file.name == row.file.name:
            note_event(image, ImageEvent.Kind.REIMPORTED, old, row.sha256, at)


def _import_rows(recipe: Recipe, new: dict[str, ImportedImage], at: datetime) -> list[Image]:
    """Files first; where one cannot be taken, all written so far are removed again."""
    rows, problems = list[Image](), list[str]()
    for digest, image in new.items():
        try:
            rows.append(_import_row(recipe, digest, image, at))
        except (PictureError, OSError) as error:
            problems.append(f"line {image.line}, {image.file_name}: {error}")
    if problems:
        _delete(str(row.file) for row in rows)
        raise ImportRefusedError(problems)
    return rows


def _import_row(recipe: Recipe, digest: str, image: ImportedImage, at: datetime) -> Image:
    row = new_row(digest, Want(recipe, image.prompt, image.seed), at)
    if file_sha256(image.path) != image.sha256:
        raise PictureError("the file was changed after the manifest was read")
    encoded = encode(open_picture(image.path))
    for field, value in write_file(row, encoded).items():
        setattr(row, field, value)
    row.status = Image.Status.READY
    row.finished_at = at
    row.provenance = {
        "family": "imported",
        "original_sha256": image.sha256,
        "file_name": image.file_name,
        "recipe": image.recipe,
        "source": image.source,
        "licence": image.licence,
    }
    return row
