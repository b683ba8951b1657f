"""A real Celery worker on a real broker, and what survives its death."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from generation import messages, services
from generation.models import Image
from generation.spec import Recipe, folder_revision
from tests.generation.studio import attempts, recipe, statuses, wants

pytestmark = pytest.mark.django_db(transaction=True)
SLOW = 60  # steps: long enough to be killed in


class Worker:
    """`celery -A generation worker`, as an operator starts it."""

    def __init__(self, broker: str, checkpoints: Path, log: Path) -> None:
        name = connection.settings_dict["NAME"]
        server = os.environ["DATABASE_URL"].rsplit("/", 1)[0]
        self.log = log
        self._environment = os.environ | {
            "DATABASE_URL": f"sqlite:///{name}" if Path(name).is_absolute() else f"{server}/{name}",
            "REDIS_URL": broker,
            "CHECKPOINT_DIRS": str(checkpoints),
            "LOG_LEVEL": "INFO",
        }
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "generation", "worker", "-l", "INFO"],
                cwd=settings.BASE_DIR, env=self._environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        """Parent and child, as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def kill_child(self) -> None:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        if not children.exists():
            pytest.skip("needs /proc to find the worker's child")
        for child in children.read_text().split():
            os.kill(int(child), signal.SIGKILL)


@pytest.fixture(scope="module")
def worker(
    valkey, tiny_checkpoint: Path, tmp_path_factory, django_db_setup, django_db_blocker
) -> Iterator[Worker]:
    log = tmp_path_factory.mktemp("worker") / "log"
    with django_db_blocker.unblock():
        started = Worker(f"{valkey.connection_url}/0", tiny_checkpoint.parent, log)
    yield started
    if started.process.poll() is None:
        started.kill()


def ask(worker_recipe: Recipe, n: int) -> list[int]:
    return list(services.request_images(wants(n, worker_recipe), at=timezone.now()).values())


def wait_for(condition: Callable[[], bool], worker: Worker, seconds: float = 150) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, worker.log.read_text()[-4000:]
        time.sleep(0.05)


@pytest.fixture
def painted(tiny_checkpoint: Path) -> Recipe:
    return recipe(revision=folder_revision(tiny_checkpoint))


@pytest.fixture
def slow(painted: Recipe) -> Recipe:
    return Recipe.model_validate(painted.as_json() | {"steps": SLOW})


def test_a_worker_paints_what_it_is_told_of_and_is_quiet_about_it(broker, worker, painted):
    ids = ask(painted, 2)
    wait_for(lambda: statuses(ids) == ["READY", "READY"], worker)
    row = Image.objects.get(pk=ids[0])
    assert row.file.read()[:4] == b"RIFF"
    assert row.provenance["device"] == "cpu"
    log = worker.log.read_text()
    assert "Loaded random-sdxl" in log
    assert "%|" not in log  # no progress bars
    assert "torchvision" not in log
    assert "Traceback" not in log


def test_a_killed_child_s_work_is_taken_up_at_once(broker, worker, slow):
    ids = ask(slow, 2)
    wait_for(lambda: attempts(ids) == [1, 1], worker)
    worker.kill_child()
    wait_for(lambda: statuses(ids) == ["READY", "READY"], worker)
    assert attempts(ids) == [2, 2]
    assert Image.objects.get(pk=ids[0]).provenance["batch_size"] == 1


def test_a_killed_worker_s_work_is_sent_again_by_the_sweep(broker, worker, slow):
    ids = ask(slow, 2)
    wait_for(lambda: attempts(ids) == [1, 1], worker)
    worker.kill()
    assert statuses(ids) == ["CLAIMED", "CLAIMED"]
    worker.start()
    a_while_ago = timezone.now() - timedelta(minutes=2)
    Image.objects.update(lease_expires_at=a_while_ago, nudged_at=a_while_ago)
    assert services.nudge_stale(at=timezone.now()) == 2
    wait_for(lambda: statuses(ids) == ["READY", "READY"], worker)


def test_a_worker_that_is_asked_to_stop_hands_back_what_it_has_not_painted(broker, worker, slow):
    ids = ask(slow, 12)
    wait_for(lambda: attempts(ids)[:8] == [1] * 8, worker)
    worker.process.terminate()
    assert worker.process.wait(100) == 0
    assert statuses(ids) == ["READY"] * 8 + ["QUEUED"] * 4
    assert attempts(ids)[8:] == [0] * 4
    assert messages.waiting() == set(ids)
