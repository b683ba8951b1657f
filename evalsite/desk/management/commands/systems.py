"""`manage.py systems`: ready systems, what they take, and whether they can be painted here."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from evalsite.desk.management import study_pages as pages
from evalsite.studies.catalogue import Entry, UnknownSystem, catalogue, find, read_on
from evalsite.studies.ready import obstacles
from evalsite.studies.spec_systems import PaintedSystem

WIDTH = 200  # where nobody watches: a table that is not cut


class Command(BaseCommand):
    help = "Lists ready systems; `show KEY` prints one for a study file, `check KEY` looks for it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("act", nargs="?", choices=["list", "show", "check"], default="list")
        parser.add_argument("keys", nargs="*", metavar="KEY", help="of ready systems")

    def handle(self, *args: Any, act: str, keys: list[str], **options: Any) -> None:
        self.stdout.ending = ""  # rich ends its own lines
        self.console = Console(file=self.stdout, highlight=False)  # type: ignore[arg-type]
        if not self.console.is_terminal:
            self.console = Console(file=self.stdout, width=WIDTH)  # type: ignore[arg-type]
        if act != "list" and not keys:
            raise CommandError(f"systems {act}: expected one KEY or more; `systems` lists them")
        try:
            chosen = [find(key) for key in keys] or list(catalogue().values())
        except UnknownSystem as error:
            raise CommandError(str(error)) from error
        {"list": self._list, "show": self._show, "check": self._check}[act](chosen)

    def _list(self, entries: list[Entry]) -> None:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for name in ("key", "system", "family", "steps", "download", "memory", "licence", ""):
            table.add_column(name, overflow="fold")
        for entry in entries:
            table.add_row(*_row(entry))
        self.console.print(table)
        self.console.print(
            f"\nDecimal gigabytes; sources were read on {read_on()}: see docs/systems.md.",
            highlight=False,
        )

    def _show(self, entries: list[Entry]) -> None:
        self.stdout.write("\n".join(entry.as_toml() for entry in entries))

    def _check(self, entries: list[Entry]) -> None:
        found = [(entry, self._obstacles(entry)) for entry in entries]
        for entry, problems in found:
            licence = entry.system.licence or "not stated"
            state = "missing" if problems else "ready"
            self.console.print(f"{entry.key}: {state} (licence: {licence})", markup=False)
        self.console.print()
        pages.show_problems(self.console, [(entry.key, problems) for entry, problems in found])
        if any(problems for _, problems in found):
            raise CommandError("Not everything is here: see above.")

    def _obstacles(self, entry: Entry) -> list[str]:
        return obstacles(
            entry,
            folder=settings.VAR_DIR,
            checkpoint_dirs=settings.CHECKPOINT_DIRS,
            device=settings.PAINTING_DEVICE,
        )


def _row(entry: Entry) -> list[str]:
    system, about = entry.system, entry.about
    is_painted = isinstance(system, PaintedSystem)
    notes = [f"import only: {about.import_reason}"] if about.import_reason else []
    notes += [f"gated: {entry.gate}"] if entry.gate else []
    return [
        entry.key,
        system.label,
        system.family,
        _steps(system) if isinstance(system, PaintedSystem) else "",
        _size(entry.disk_gb) if is_painted else "",
        _size(about.memory_gb) if is_painted else "",
        system.licence or "that of the images",
        "; ".join(notes),
    ]


def _steps(system: PaintedSystem) -> str:
    return " + ".join(str(one.steps) for one in (system, *getattr(system, "stages", ())))


def _size(gigabytes: float) -> str:
    if not gigabytes:
        return "not known"
    return f"{gigabytes:.1f} GB" if gigabytes >= 0.1 else f"{1000 * gigabytes:.0f} MB"
