"""A site of its own for a run: broker, database, files, sweep and workers in one folder.

Imported once Django is set up on that folder: see `chaos.generation`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management import call_command

from chaos.painting.broker import Broker
from chaos.painting.plan import Folder, Plan
from generation import queries
from generation.models import Image

NAP = 0.05  # seconds


class TooLateError(Exception):
    """What was waited for did not come."""


@dataclass(eq=False)
class Process:
    """A worker or a sweep; its exit status, once it is gone."""

    name: str
    pid: int
    log: Path
    status: int | None = None

    def send(self, what: signal.Signals) -> None:
        """A signal to the process and its children."""
        os.killpg(self.pid, what)

    def said(self) -> str:
        return self.log.read_text()


class Nursery:
    """The driver's side of `chaos.painting.processes`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._n_born = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chaos.painting.processes", str(folder)],
            env=os.environ | {"LOG_LEVEL": "INFO"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is the driver's: it ends everything in order
        )

    def start(self, role: str, mutant: str) -> Process:
        if not self._n_born:  # it loaded while the site was built
            self._answer()
        self._n_born += 1
        name = f"{role}-{self._n_born}"
        log = self._folder / f"{name}.log"
        log.touch()
        pid = self._obey(order="start", process={"role": role, "name": name, "mutant": mutant})
        return Process(name, pid, log)

    def look(self, process: Process) -> bool:
        """Whether a process is gone by now."""
        if process.status is None:
            process.status = self._obey(order="poll", pid=process.pid)
        return process.status is not None

    def kill(self, process: Process) -> None:
        if not self.look(process):
            process.send(signal.SIGKILL)
            process.status = self._obey(order="wait", pid=process.pid)

    def close(self) -> None:
        self._process.communicate()

    def _obey(self, **order: Any) -> Any:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the nursery ended: what it said stands above")
        return json.loads(answer)


@dataclass
class Site:
    """Everything that a run has started, and the hands to harm it with."""

    folder: Folder
    broker: Broker
    nursery: Nursery
    patience_s: float
    mutant: str = ""
    sweeps: list[Process] = field(default_factory=list)
    workers: list[Process] = field(default_factory=list)

    @classmethod
    def build(cls, folder: Folder, *, port: int, patience_s: float) -> "Site":
        nursery = Nursery(folder.path)
        call_command("migrate", verbosity=0)
        return cls(folder, Broker.start(folder.path / "valkey", port), nursery, patience_s)

    def close(self) -> None:
        """End everything that was started here."""
        self.nursery.close()
        self.broker.server.terminate()

    # Processes.

    @property
    def sweep(self) -> Process:
        return self.sweeps[0]

    def worker(self) -> Process:
        """The worker that is there, or a new one."""
        return self.workers[0] if self.workers else self.start_worker()

    def start_worker(self) -> Process:
        self.workers.append(self.nursery.start("worker", self.mutant))
        return self.workers[-1]

    def clean_files(self, after: timedelta) -> Process:
        """What `manage.py clean_files` does, so long from now."""
        self.folder.put_forward(self.folder.now() + after)
        process = self.nursery.start("clean", self.mutant)
        self.until_gone(process)
        return process

    def kill(self, *processes: Process) -> None:
        """Parent and child, as a power cut would."""
        for process in processes:
            self.nursery.kill(process)
            self._forget(process)

    def until_gone(self, process: Process) -> None:
        """Wait for a process that ends by itself, or was asked to."""
        self.until(lambda: self.nursery.look(process), f"{process.name} to end")
        self._forget(process)

    def _forget(self, process: Process) -> None:
        for kept in (self.workers, self.sweeps):
            if process in kept:
                kept.remove(process)

    def restart(self, mutant: str = "") -> None:
        """All processes anew, with nothing left of what was before; `mutant` in all of them."""
        self.kill(*self.workers, *self.sweeps)
        self.folder.set_plan(Plan())
        self.broker.empty()
        Image.objects.filter(status__in=["QUEUED", "CLAIMED"]).delete()
        self.mutant = mutant
        self.sweeps = [self.nursery.start("sweep", mutant)]

    # Waiting.

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + self.patience_s
        while not condition():
            if time.monotonic() > deadline:
                words = [f"waited {self.patience_s:.0f} s for {what}", *self._last_words()]
                raise TooLateError("; ".join(words))
            time.sleep(NAP)

    def _last_words(self) -> list[str]:
        """Of what has ended, and nobody ended it."""
        return [
            f"{one.name} has ended: {' '.join(one.said().splitlines()[-1:])}"
            for one in (*self.workers, *self.sweeps)
            if self.nursery.look(one)
        ]

    def pass_leases(self, image_ids: list[int]) -> None:
        """Put the clock forward to when the sweep may send these again, and no further."""
        rows = Image.objects.filter(pk__in=image_ids, status__in=["QUEUED", "CLAIMED"])
        due = [self.folder.now()]
        for lease, nudged in rows.values_list("lease_expires_at", "nudged_at"):
            due += [lease] if lease else []
            due += [nudged + queries.NUDGE_AGAIN_AFTER] if nudged else []
        self.folder.put_forward(max(due))
