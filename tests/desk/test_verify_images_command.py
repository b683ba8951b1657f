"""`manage.py verify_images`: the model that comes with the project paints the same again, and what
was changed behind the project's back is told. Real weights, real pipeline."""

import io
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from PIL import Image as Pictures

from evalsite.studies.catalogue import find
from generation import tasks
from generation.easel import Studio, new_studio
from generation.encoding import encode
from generation.importing import import_images
from generation.manifest import read_manifest
from generation.models import Image
from generation.services import Want, request_images
from generation.spec import Recipe, find_checkpoint, folder_revision
from tests import world
from tests.studies.files import image_folder
from tests.world import NOON

pytestmark = pytest.mark.django_db

PROMPTS = ["a red circle on a white background", "two blue stars on a grey background"]


def tiny(dirs: list[Path], steps: int = 1) -> Recipe:
    system = find(f"tiny-base-{steps}").system
    return system.recipe(
        Path(), pin=lambda _named, place: folder_revision(find_checkpoint(place, dirs))
    )


@pytest.fixture(scope="module")
def studio() -> Studio:
    return new_studio()


@pytest.fixture
def painted(settings, tmp_path, studio) -> list[Image]:
    """Two images that a worker painted together, one after the other where told."""
    settings.MEDIA_ROOT = tmp_path
    settings.PAINTING_DEVICE = "cpu"
    recipe = tiny(settings.CHECKPOINT_DIRS)
    ids = list(request_images([Want(recipe, p, 7) for p in PROMPTS], at=NOON).values())
    for pk in ids:  # one by one: as `verify_images` paints
        paint(recipe, [pk], studio)
    return list(Image.objects.filter(pk__in=ids).order_by("pk"))


def paint(recipe: Recipe, ids: list[int], studio: Studio) -> None:
    tasks.paint_chunk(recipe.as_json(), ids, studio=studio, task_id="task", now=lambda: NOON)


def run(*arguments: object) -> str:
    out = io.StringIO()
    call_command("verify_images", *map(str, arguments), stdout=out)
    return out.getvalue()


def drifted(*arguments: object, n: str = "") -> str:
    out = io.StringIO()
    with pytest.raises(CommandError, match=f"{n}.* not as stored"):
        call_command("verify_images", *map(str, arguments), stdout=out)
    return out.getvalue()


def rows() -> list[dict[str, object]]:
    return list(Image.objects.order_by("pk").values())


def replace(image: Image, picture: Pictures.Image) -> None:
    """Another picture under an image's name, with a hash that fits, as if painted long ago."""
    encoded = encode(picture)
    Path(image.file.path).write_bytes(encoded.content)
    Image.objects.filter(pk=image.pk).update(sha256=encoded.sha256)


def shifted(image: Image, levels: int) -> Pictures.Image:
    with Pictures.open(image.file.path) as opened:
        return opened.convert("RGB").point(lambda v: v + levels if v < 128 else v - levels)


def test_the_same_recipe_prompt_and_seed_give_the_same_file_and_nothing_changes(painted):
    before = rows()
    said = run()
    assert "2 identical, 0 within 1 grey level, 0 different or damaged" in said
    assert "largest difference 0, mean 0.0000" in said
    assert "device: cpu" in said
    assert "was" not in said
    assert "differs" not in said
    assert rows() == before


def test_another_version_than_was_recorded_is_told(painted):
    for image in painted:
        image.provenance["torch"] = "1.0"
        del image.provenance["dtype"]
        image.save()
    marked = [line.split() for line in run().splitlines() if line.endswith("<- differs")]
    assert [words[:4] for words in marked] == [
        ["dtype:", "was", "not", "recorded,"],
        ["torch:", "was", "1.0,", "is"],
    ]


def test_a_tampered_file_is_told_and_its_row_stays(painted):
    Path(painted[0].file.path).write_bytes(b"another")
    before = rows()
    said = drifted(n="1 image is")
    assert f"image {painted[0].pk} (a red circle on a white background): its file is not" in said
    assert "1 identical" in said
    assert rows() == before


def test_a_file_that_is_gone_is_told(painted):
    Path(painted[1].file.path).unlink()
    assert "its file cannot be read" in drifted()


def test_drift_counts_only_beyond_the_tolerance(painted):
    replace(painted[0], shifted(painted[0], 2))
    said = drifted()
    assert "differs by up to 2 grey levels" in said
    assert "1 identical, 0 within 1 grey level, 1 different" in said
    said = run("--tolerance", 2)
    assert "1 identical, 1 within 2 grey levels, 0 different" in said
    assert "largest difference 2, mean 1.0000" in said


def test_a_batch_is_painted_again_as_large_as_it_was(painted, settings, studio):
    recipe = tiny(settings.CHECKPOINT_DIRS)
    more = request_images([Want(recipe, prompt, 8) for prompt in PROMPTS], at=NOON)
    paint(recipe, list(more.values()), studio)
    assert Image.objects.get(pk=next(iter(more.values()))).provenance["batch_size"] == 2
    assert "4 identical" in run("--as-painted", "--sample", 4)


def test_the_sample_is_of_each_system_and_by_the_seed(painted, settings, studio):
    other = tiny(settings.CHECKPOINT_DIRS, steps=2)
    paint(other, list(request_images([Want(other, PROMPTS[0], 7)], at=NOON).values()), studio)
    said = run("--sample", 1)
    assert said.count("1 identical") == 2
    assert "tiny-base, 2 steps" in said
    assert run("--sample", 1, "--seed", 3) == run("--sample", 1, "--seed", 3)


def test_weights_that_are_gone_are_told(painted, settings):
    settings.CHECKPOINT_DIRS = []
    assert "it cannot be painted here: checkpoint tiny-base: no such folder" in drifted()


def test_only_a_study_s_images_are_looked_at(painted):
    study = world.prepared_study()
    with pytest.raises(CommandError, match=r"There is no study other\. Studies: "):
        run("--study", "other")
    said = drifted("--study", study.slug)  # painted from weights that were never there
    assert "tiny-base" not in said
    assert study.systems.first().label in said
    assert "it cannot be painted here: checkpoint world/model at" in said


def test_imported_images_are_held_against_their_stored_hash(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "media"
    manifest = read_manifest(image_folder(tmp_path / "images"))
    checkpoint, revision = str(tmp_path / "images"), manifest.revision("alpha")
    recipe = Recipe(family="imported", checkpoint=checkpoint, revision=revision)
    ids = list(import_images(recipe, manifest.of_system("alpha"), at=NOON).values())
    assert "3 of 3 stored files unchanged (imported)" in run()
    Path(Image.objects.get(pk=ids[0]).file.path).write_bytes(b"another")
    assert "2 of 3 stored files unchanged (imported)" in drifted()


def test_without_images_and_with_an_impossible_sample_it_says_so():
    with pytest.raises(CommandError, match="no finished image"):
        run()
    with pytest.raises(CommandError, match="--sample: expected 1 or more"):
        run("--sample", 0)
