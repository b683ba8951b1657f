"""`manage.py clean_files`: what no row points at goes; what a row points at, or may yet, stays."""

import itertools
import json
import os
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, default_storage
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from PIL import Image as Pictures

from evalsite.desk.management.commands import clean_files
from evalsite.studies.display_files import make_display_files
from evalsite.studies.models import Entry
from evalsite.studies.services import prepare
from evalsite.voting.models import Ballot
from generation import services
from generation.encoding import encode
from generation.importing import ImportRefusedError, import_images
from generation.manifest import read_manifest
from generation.models import Image, Writing
from generation.spec import Recipe
from tests import world
from tests.generation.studio import claim, paint, queued, stored_files
from tests.world import HOUR, MINUTE, NOON

pytestmark = [pytest.mark.django_db, pytest.mark.database]
PICTURE = encode(Pictures.new("RGB", (8, 8), "red"))
LEFT = "0" * 32 + ".webp"


@pytest.fixture(autouse=True)
def own_folder(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path


def leave(name: str = LEFT, *, folder: str = "images", hours_ago: float = 48) -> None:
    """A file of that age, without a row."""
    default_storage.save(f"{folder}/{name}", ContentFile(b"half a pict"))
    age(f"{folder}/{name}", hours_ago)


def age(name: str, hours_ago: float) -> None:
    written = time.time() - 3600 * hours_ago
    os.utime(default_storage.path(name), (written, written))


def clean(*options: str, **more: Any) -> str:
    out = StringIO()
    call_command("clean_files", *options, stdout=out, **more)
    return out.getvalue().strip()


def stored(n: int = 3) -> set[str]:
    """Finished images, their files as old as any; the files' names."""
    paint(queued(n))
    for name in stored_files():
        age(f"images/{name}", 99)
    return stored_files()


def test_what_a_killed_process_left_goes_and_what_rows_point_at_stays():
    kept = stored()
    leave()
    leave(".new-k3jx")  # half written
    assert clean() == "Removed 2 files that no row points at."
    assert stored_files() == kept
    assert clean() == "Removed 0 files that no row points at."


def test_a_young_file_stays_since_its_row_may_be_on_its_way():
    kept = stored()
    leave(hours_ago=20)
    assert clean() == "Removed 0 files that no row points at."
    assert clean("--older-than", "12h") == "Removed 1 file that no row points at."
    assert stored_files() == kept


@pytest.mark.parametrize("length", ["0h", "900000d", "99999999999999d", "2w"])
def test_a_length_of_time_that_nobody_means_is_refused(length: str):
    with pytest.raises(CommandError, match=f"expected .*found '{length}'"):
        clean("--older-than", length)


def test_a_file_that_is_not_of_ours_stays():
    stored()
    leave("README.txt")
    clean()
    assert "README.txt" in stored_files()


def test_what_raters_see_is_cleaned_up_alike():
    study = world.open_study(n_prompts=1)
    check = "1" * 32 + ".webp"
    Ballot.objects.update(check_first=f"display/{check}")
    leave(check, folder="display")
    shown = set(Entry.objects.filter(prompt__study=study).values_list("display", flat=True))
    for name in shown:
        age(name, 99)
    leave(folder="display")
    leave(".new-k3jx", folder="display")
    assert clean() == "Removed 2 files that no row points at."
    left = {f"display/{name}" for name in default_storage.listdir("display")[1]}
    assert left == shown | {f"display/{check}"}


def test_a_dry_run_lists_and_removes_nothing():
    kept = stored()
    leave()
    assert clean("--dry-run") == f"images/{LEFT}\n1 file would go, 3 have their row."
    assert stored_files() == kept | {LEFT}


def test_where_nothing_was_ever_stored_nothing_goes():
    assert clean() == "Removed 0 files that no row points at."


def test_a_database_that_knows_few_of_the_files_is_asked_about():
    kept = stored(2)
    Image.objects.all()[0].delete()
    leave()
    with pytest.raises(CommandError, match="2 files would go and 1 stay"):
        clean()
    assert stored_files() == kept | {LEFT}
    assert clean("--most") == "Removed 2 files that no row points at."


def test_a_worker_that_stood_still_for_days_still_finds_its_file():
    stored()
    held = claim(queued(4)[3:])
    written = services.write_painting(held.images[0], PICTURE, provenance={})
    age(written.file["file"], 48)
    with pytest.raises(CommandError, match="1 image is still held"):
        clean("--wait", "0")
    services.store_paintings(held, [written], at=NOON)
    assert clean() == "Removed 0 files that no row points at."
    assert Image.objects.get(pk=held.images[0].pk).file.read() == PICTURE.content


@pytest.mark.django_db(transaction=True)
def test_claims_are_waited_for_and_what_they_stored_meanwhile_stays(monkeypatch):
    monkeypatch.setattr(clean_files, "NAP_S", 0.05)
    stored()
    leave()
    held = claim(queued(4)[3:])
    written = services.write_painting(held.images[0], PICTURE, provenance={})
    age(written.file["file"], 48)

    def store() -> None:
        services.store_paintings(held, [written], at=NOON)
        connection.close()

    later = threading.Timer(0.3, store)
    later.start()
    assert clean() == "Removed 1 file that no row points at."
    later.join()
    assert Image.objects.get(pk=held.images[0].pk).file.read() == PICTURE.content


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_paints_on_is_not_waited_for_without_end(monkeypatch):
    """What it claims more under the same token has its files yet to come."""
    monkeypatch.setattr(clean_files, "NAP_S", 0.05)
    stored()
    leave()
    ids = queued(5)[3:]
    held = claim(ids[:1])
    written = services.write_painting(held.images[0], PICTURE, provenance={})

    def paint_on() -> None:
        assert services.claim_more(held, ids[1:], lease=MINUTE, at=NOON)
        services.store_paintings(held, [written], at=NOON)
        connection.close()

    later = threading.Timer(0.3, paint_on)
    later.start()
    assert clean("--wait", "5") == "Removed 1 file that no row points at."
    later.join()


class Slow(FileSystemStorage):
    """Every file is two days old once it is written; `meanwhile` happens after each."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def save(self, name: str | None, content: Any, max_length: int | None = None) -> str:
        saved = super().save(name, content, max_length)
        age(saved, 48)
        self.meanwhile()
        return saved


@pytest.fixture
def slow_store(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Finished images in a slow store, and how to say what happens while others are written."""
    settings.STORAGES = settings.STORAGES | {"default": {"BACKEND": f"{__name__}.Slow"}}
    stored(9)
    return lambda meanwhile: monkeypatch.setattr(Slow, "meanwhile", staticmethod(meanwhile))


def bring(folder: Path, *, at: datetime) -> dict[str, int]:
    """Import three images."""
    folder.mkdir(exist_ok=True)
    lines = []
    for number in range(3):
        Pictures.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
        row = {"file_name": f"{number}.png", "prompt": "a cat", "sample": number, "system": "one"}
        lines.append(json.dumps(row))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    found = read_manifest(folder)
    of = {"family": "imported", "checkpoint": str(folder), "revision": found.revision("one")}
    return import_images(Recipe.model_validate(of), found.images, at=at)


def clean_up_refused() -> None:
    with pytest.raises(CommandError, match=r"^1 import or maker of display files is at work"):
        clean("--wait", "0")


def test_an_import_that_takes_days_still_finds_its_files(slow_store, tmp_path):
    slow_store(clean_up_refused)
    ids = bring(tmp_path / "theirs", at=timezone.now() - 20 * HOUR)
    assert {image.file.size > 0 for image in Image.objects.filter(pk__in=ids.values())} == {True}
    assert clean() == "Removed 0 files that no row points at."


def test_display_files_in_the_making_stay_too(slow_store):
    study = world.study()
    prepare(study, at=NOON)
    world.paint(study, world.plain_picture)
    slow_store(clean_up_refused)
    assert make_display_files(at=timezone.now(), study=study) == 4
    assert all(entry.display.size for entry in Entry.objects.all())
    assert clean() == "Removed 0 files that no row points at."


def test_an_import_that_was_given_up_gets_no_rows(slow_store, tmp_path):
    kept = stored_files()
    slow_store(clean)
    with pytest.raises(ImportRefusedError, match="took longer than a day"):
        bring(tmp_path / "theirs", at=timezone.now() - 25 * HOUR)
    assert stored_files() == kept
    assert not Image.objects.filter(recipe__family="imported").exists()
    slow_store(lambda: None)
    assert len(bring(tmp_path / "theirs", at=timezone.now())) == 3


def test_display_files_that_were_given_up_are_made_anew(slow_store):
    study = world.study()
    prepare(study, at=NOON)
    world.paint(study, world.plain_picture)
    slow_store(clean)
    assert make_display_files(at=timezone.now() - 25 * HOUR, study=study) == 0
    slow_store(lambda: None)
    assert make_display_files(at=timezone.now(), study=study) == 4
    assert all(entry.display.size for entry in Entry.objects.all())


def test_what_a_killed_import_left_goes_after_a_day(slow_store):
    leave()
    killed = Writing.objects.create(began_at=timezone.now() - 23 * HOUR)
    clean_up_refused()
    Writing.objects.filter(pk=killed.pk).update(began_at=timezone.now() - 25 * HOUR)
    assert clean("--dry-run").endswith("1 file would go, 9 have their row.")
    assert Writing.objects.exists()  # a dry run changes nothing
    assert clean() == "Removed 1 file that no row points at."


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("pause_s", [0, 0.02])
def test_an_import_that_ends_while_it_is_given_up_has_all_its_files_or_no_rows(
    slow_store, tmp_path, pause_s
):
    """Whichever comes first: the rows, or the end of what announced them."""
    barrier = threading.Barrier(2)
    done: list[str] = []

    def clean_up() -> None:
        barrier.wait(timeout=60)
        done.append(clean())
        connection.close()

    n_written = itertools.count(1)

    def after_the_last() -> None:
        if next(n_written) == 3:
            barrier.wait(timeout=60)
            time.sleep(pause_s)

    slow_store(after_the_last)
    other = threading.Thread(target=clean_up)
    other.start()
    try:
        bring(tmp_path / "theirs", at=timezone.now() - 25 * HOUR)
    except ImportRefusedError as error:
        done.append(str(error))
    other.join()
    rows = Image.objects.filter(recipe__family="imported")
    assert [image.file.size > 0 for image in rows] in ([], [True] * 3)
    assert (len(stored_files()), len(done)) == ((12, 1) if rows.exists() else (9, 2))


class Unlistable(FileSystemStorage):
    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        raise NotImplementedError


def test_a_store_that_cannot_list_is_named(settings):
    settings.STORAGES = settings.STORAGES | {"default": {"BACKEND": f"{__name__}.Unlistable"}}
    with pytest.raises(CommandError, match="cannot list"):
        clean()


@pytest.mark.parametrize("text", ["30m", "0d", "a day", "-1d"])
def test_an_age_that_is_none_or_too_short_is_refused(text):
    with pytest.raises(CommandError, match="expected"):
        clean(f"--older-than={text}")


def test_hours_and_days_are_read():
    assert clean_files.duration("36h") == timedelta(hours=36)
    assert clean_files.duration("2d") == timedelta(days=2)
