"""`manage.py clean_files`: removes image files that no row points at."""

import re
import time
from argparse import ArgumentParser, ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from generation import leftovers

SHORTEST = timedelta(hours=1)  # an import writes all its files before their rows
NAP_S = 1.0


def duration(text: str) -> timedelta:
    """`36h` or `2d`."""
    found = re.fullmatch(r"(\d+)([hd])", text)
    if not found:
        raise ArgumentTypeError(f"expected hours or days, such as 36h or 2d, found {text!r}")
    length = timedelta(**{{"h": "hours", "d": "days"}[found[2]]: int(found[1])})
    if length < SHORTEST:
        raise ArgumentTypeError("expected 1h or more: an import writes files before their rows")
    return length


class Command(BaseCommand):
    help = (
        "Removes image files that no row points at: what a process left behind that was killed "
        "while it stored. Removes nothing while a claim could still store one of them."
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
            help="for images that are being painted (600)",
        )
        parser.add_argument(
            "--most", action="store_true", help="even where more files go than stay"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = leftovers.find(before=timezone.now() - options["older_than"])
        except NotImplementedError:
            raise CommandError("This store cannot list its files.") from None
        if options["dry_run"]:
            for name in found.names:
                self.stdout.write(name)
            self.stdout.write(f"{len(found.names)} files would go, {found.n_kept} have their row.")
            return
        if len(found.names) > found.n_kept and not options["most"]:
            raise CommandError(
                f"{len(found.names)} files would go and {found.n_kept} stay. Is this the database "
                "that these images belong to? If so, say --most. Nothing was removed."
            )
        self._wait_for_claims(found, options["wait"])
        self.stdout.write(f"Removed {leftovers.remove(found)} files that no row points at.")

    def _wait_for_claims(self, found: leftovers.Leftovers, patience_s: float) -> None:
        until = time.monotonic() + patience_s
        while found.names and (n_held := leftovers.n_held(found)):
            if time.monotonic() > until:
                raise CommandError(
                    f"{n_held} images are still held by workers that may store one of these "
                    "files. Try again later. Nothing was removed."
                )
            time.sleep(NAP_S)
