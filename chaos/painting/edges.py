"""Where a worker's code meets the world: statements, files and the model. Faults enter here alone.

The code between these edges is the one that a site runs.
"""

import errno
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NoReturn

from celery.signals import task_postrun, task_prerun
from django.db.backends.signals import connection_created

from chaos.painting.plan import Folder

BEGUN, PAINTING, HELD, KILLED, DONE = "begun", "paint", "held", "killed", "done"
NAP = 0.02  # seconds


class Edges:
    """The steps of the message at hand, counted by name, and what happens at each.

    By name, since a worker writes files in one thread and asks its database in another.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._task_id = ""
        self._n_seen = Counter[str]()
        self._one_at_a_time = threading.Lock()  # several threads write files

    def enter(self) -> None:
        """Stand at every edge of this process and of its children."""
        task_prerun.connect(self._begin, weak=False)
        task_postrun.connect(self._end, weak=False)
        connection_created.connect(self._watch, weak=False)
        self._stand_at_files()
        self._stand_at_model()

    def _begin(self, task_id: str, **_signal: Any) -> None:
        self._task_id, self._n_seen = task_id, Counter()
        self._folder.note(task_id, BEGUN)

    def _end(self, **_signal: Any) -> None:
        self._reach(DONE)
        self._task_id = ""

    def _reach(self, step: str) -> None:
        """Be about to do this. Where the plan says so, it is the last thing."""
        if not self._task_id:
            return
        with self._one_at_a_time:
            self._n_seen[step] += 1
            plan = self._folder.plan()
            if plan.die_at == numbered(step, self._n_seen[step]):
                self._folder.set_plan(replace(plan, die_at=""))
                self._die(f"before {plan.die_at}")
            self._folder.note(self._task_id, step)

    def _die(self, when: str) -> NoReturn:
        self._folder.note(self._task_id, f"{KILLED} {when}")
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("not reached")

    # The database.

    def _watch(self, connection: Any, **_signal: Any) -> None:
        if self._statement not in connection.execute_wrappers:
            connection.execute_wrappers.append(self._statement)

    def _statement(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        verb, _, rest = sql.partition(" ")
        assigned = rest.partition(" WHERE ")[0].partition(" SET ")[2]
        columns = [part.split('"')[1] for part in assigned.split(", ") if part.count('"') > 1]
        self._reach(" ".join([verb.lower(), *columns]))
        return execute(sql, params, many, context)

    # Files, as the storage alone sees them.

    def _stand_at_files(self) -> None:
        from generation import storage

        theirs = _like(os, fsync=self._fsync, replace=self._rename)
        vars(storage).update(os=theirs, tempfile=_like(tempfile, mkstemp=self._mkstemp))

    def _mkstemp(self, *args: Any, **options: Any) -> tuple[int, str]:
        self._reach("temporary file")
        return tempfile.mkstemp(*args, **options)

    def _fsync(self, handle: int) -> None:
        self._reach("flush to disk")
        if self._folder.plan().disk_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(handle)

    def _rename(self, source: str, target: str) -> None:
        self._reach("rename")
        os.replace(source, target)

    # The model.

    def _stand_at_model(self) -> None:
        import torch
        from diffusers import StableDiffusionXLPipeline

        paint = StableDiffusionXLPipeline.__call__

        def called(pipeline: Any, *args: Any, prompt: list[str], **options: Any) -> Any:
            self._reach(PAINTING)
            plan = self._folder.plan()
            if plan.hold in prompt:
                self._folder.note(self._task_id, HELD)
                while self._folder.plan().hold in prompt:
                    time.sleep(NAP)
            if plan.kill in prompt:
                self._die("by a prompt")
            if plan.too_large in prompt or 0 < plan.largest < len(prompt):
                raise torch.OutOfMemoryError("out of memory, as planned")
            return paint(pipeline, *args, prompt=prompt, **options)

        StableDiffusionXLPipeline.__call__ = called


def numbered(step: str, n: int) -> str:
    """The n-th step of this name, by the name of a plan."""
    return f"{step}, number {n}"


def _like(module: Any, **changes: Any) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(module), **changes})
