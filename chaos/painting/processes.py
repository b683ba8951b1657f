"""The processes of a run: a nursery that loads everything once, and what it forks.

    python -m chaos.painting.processes FOLDER

Loading torch and diffusers takes a processor longer than most faults, so it is done once: a
worker here is born with them. But for that, for the clock and for the edges it is what
`celery -A generation worker` starts, and the sweep is `manage.py sweep`. Orders come as lines of
JSON; the nursery's end is the end of all.
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from chaos.painting.plan import Folder


def main(path: Path) -> None:
    """Load, then obey until the driver is gone."""
    _load()
    print(json.dumps("ready"), flush=True)
    born: set[int] = set()
    for line in sys.stdin:
        order = json.loads(line)
        if order["order"] == "start":
            born.add(pid := _fork(Folder(path), **order["process"]))
            print(pid, flush=True)
        else:
            pid, status = os.waitpid(order["pid"], 0 if order["order"] == "wait" else os.WNOHANG)
            born.discard(pid)
            print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
    for pid in born:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _load() -> None:
    """All that a worker and a sweep load, but for the tasks: theirs is one worker's memory."""
    import django

    django.setup()
    from django.core.checks import run_checks

    from generation import pipelines

    pipelines.family("sdxl")
    for name in ("celery.bin.celery", "evalsite.studies.management.commands.sweep"):
        importlib.import_module(name)
    run_checks()  # as every worker does when it starts; most of it is loading pages
    gc.freeze()  # what is forked shares it


def _fork(folder: Folder, **process: str) -> int:
    pid = os.fork()
    if not pid:
        _live(folder, **process)
    return pid


def _live(folder: Folder, *, role: str, name: str, mutant: str) -> NoReturn:
    """In the new process, which leads a session of its own and never returns."""
    status = 1
    try:
        os.setsid()
        _redirect(folder.path / f"{name}.log")
        _enter(folder, role, mutant)
        roles[role](name)
        status = 0
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else int(bool(ending.code))
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _redirect(log: Path) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for source, target in ((nothing, 0), (written, 1), (written, 2)):
        os.dup2(source, target)


def _enter(folder: Folder, role: str, mutant: str) -> None:
    """The run's clock for Django's; edges for a worker; a broken piece of code, where asked."""
    from django.utils import timezone

    from chaos.painting.edges import Edges
    from chaos.painting.mutants import MUTANTS

    timezone.now = folder.now
    if role == "worker":
        Edges(folder).enter()
    if mutant:
        MUTANTS[mutant].seed()


def _worker(name: str) -> None:
    from celery.__main__ import main as celery

    sys.argv = ["celery", "-A", "generation", "worker", "-l", "INFO", "-n", f"{name}@%h"]
    celery()


def _sweep(_name: str) -> None:
    from django.core.management import call_command

    call_command("sweep", every=0.2)


def _clean(_name: str) -> None:
    from django.core.management import call_command

    call_command("clean_files")


roles: dict[str, Any] = {"worker": _worker, "sweep": _sweep, "clean": _clean}

if __name__ == "__main__":
    main(Path(sys.argv[1]))
