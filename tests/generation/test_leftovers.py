"""Files that no row points at go; a file that a row points at, or may yet, stays."""

import os
import threading
import time
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, default_storage
from django.core.management import CommandError, call_command
from django.db import connection
from PIL import Image as Pictures

from generation import services
from generation.encoding import encode
from generation.management.commands import clean_files
from generation.models import Image
from tests.generation.studio import claim, paint, queued, stored_files
from tests.world import NOON

pytestmark = [pytest.mark.django_db, pytest.mark.database]
PICTURE = encode(Pictures.new("RGB", (8, 8), "red"))
LEFT = "0" * 32 + ".webp"


@pytest.fixture(autouse=True)
def own_folder(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path


def leave(name: str = LEFT, *, hours_ago: float = 48) -> None:
    """A file of that age, without a row."""
    default_storage.save(f"images/{name}", ContentFile(b"half a pict"))
    age(name, hours_ago)


def age(name: str, hours_ago: float) -> None:
    written = time.time() - 3600 * hours_ago
    os.utime(default_storage.path(f"images/{name}"), (written, written))


def clean(*options: str, **more: Any) -> str:
    out = StringIO()
    call_command("clean_files", *options, stdout=out, **more)
    return out.getvalue().strip()


def stored(n: int = 3) -> set[str]:
    """Finished images, their files as old as any; the files' names."""
    paint(queued(n))
    for name in stored_files():
        age(name, 99)
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
    assert clean("--older-than", "12h") == "Removed 1 files that no row points at."
    assert stored_files() == kept


def test_a_file_that_is_not_of_ours_stays():
    stored()
    leave("README.txt")
    clean()
    assert "README.txt" in stored_files()


def test_a_dry_run_lists_and_removes_nothing():
    kept = stored()
    leave()
    assert clean("--dry-run") == f"images/{LEFT}\n1 files would go, 3 have their row."
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
    age(Path(written.file["file"]).name, 48)
    with pytest.raises(CommandError, match="1 images are still held"):
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
    age(Path(written.file["file"]).name, 48)

    def store() -> None:
        services.store_paintings(held, [written], at=NOON)
        connection.close()

    later = threading.Timer(0.3, store)
    later.start()
    assert clean() == "Removed 1 files that no row points at."
    later.join()
    assert Image.objects.get(pk=held.images[0].pk).file.read() == PICTURE.content


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
