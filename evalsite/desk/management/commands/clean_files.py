"""`manage.py clean_files`: removes files that no row points at."""

import re
import time
from argparse import ArgumentParser, ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from evalsite.studies.models import DISPLAY
from evalsite.studies.wording import counted
from generation import leftovers
from generation.models import IMAGES

FOLDERS = (IMAGES, DISPLAY)
SHORTEST = timedelta(hours=1)
LONGEST = timedelta(days=36500)
NAP_S = 1.0


def duration(text: str) -> timedelta:
    """`36h` or `2d`."""
    found = re.fullmatch(r"(\d+)([hd])", text)
    if not found:
        raise ArgumentTypeError(f"expected hours or days, such as 36h or 2d, found {text!r}")
    n_hours = int(found[1][:9]) * {"h": 1, "d": 24}[found[2]]  # nine digits are beyond the longest
    length = timedelta(hours=min(n_hours, LONGEST // timedelta(hours=1) + 1))
    if not SHORTEST <= length <= LONGEST:
        raise ArgumentTypeError(
            f"expected 1h to {LONGEST.days}d (files are written before their rows), found {text!r}"
        )
    return length


class Command(BaseCommand):
    help = (
        "Removes images and display files that no row points at: what a process left behind that "
        "was killed while it stored. Removes nothing while another could still store one of them."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--older-than",
            type=duration,
            default=timedelta(days=1),
            metavar="1d",
            help="only files last written so long ago: 36h, 2d (1d)",
        )
        parser.add_argument("--dry-run", action="store_true", help="list them, and remove nothing")
        parser.add_argument(
            "--wait",
            type=float,
            default=600.0,
            metavar="SECONDS",
            help="for what is being painted, imported or made (600)",
        )
        parser.add_argument(
            "--most", action="store_true", help="even where more files go than stay"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        at = timezone.now()
        try:
            found = leftovers.find(FOLDERS, before=at - options["older_than"])
        except NotImplementedError:
            raise CommandError("This store cannot list its files.") from None
        n_files = counted(len(found.names), "file")
        if options["dry_run"]:
            for name in found.names:
                self.stdout.write(name)
            have = "has its" if found.n_kept == 1 else "have their"
            self.stdout.write(f"{n_files} would go, {found.n_kept:,} {have} row.")
            return
        if len(found.names) > found.n_kept and not options["most"]:
            raise CommandError(
                f"{n_files} would go and {found.n_kept:,} stay. Is this the database "
                "that these files belong to? If so, say --most. Nothing was removed."
            )
        leftovers.end_overdue(found, at=at)
        self._wait(found, options["wait"])
        self.stdout.write(
            f"Removed {counted(leftovers.remove(found), 'file')} that no row points at."
        )

    def _wait(self, found: leftovers.Leftovers, patience_s: float) -> None:
        until = time.monotonic() + patience_s
        while found.names and (reasons := _reasons(found)):
            if time.monotonic() > until:
                raise CommandError(
                    f"{' and '.join(reasons)}, and may store one of these files. Try again "
                    "later. Nothing was removed."
                )
            time.sleep(NAP_S)


def _reasons(found: leftovers.Leftovers) -> list[str]:
    """Who could still let a row point at one of the files, in words."""
    reasons = []
    if n := leftovers.n_claimed(found):
        reasons.append(f"{counted(n, 'image')} {'is' if n == 1 else 'are'} still held by workers")
    if n := leftovers.n_writing(found):
        who, are, were = "imports or makers", "are", "were"
        if n == 1:
            who, are, were = "import or maker", "is", "was"
        reasons.append(
            f"{n:,} {who} of display files {are} at work, or {were} killed less than a day ago"
        )
    return reasons
