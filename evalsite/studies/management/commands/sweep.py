"""The sweep: tells workers again what still waits, and makes display files as images come in."""

import logging
import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.db import close_old_connections, connection
from django.db.utils import InterfaceError, OperationalError
from django.utils import timezone

from evalsite.studies.display_files import make_display_files
from generation.services import nudge_stale

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Re-send images that wait for a worker, and make the display files of finished prompts."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="sweep once and leave")
        parser.add_argument(
            "--every", type=float, default=5.0, metavar="SECONDS", help="pause between sweeps (5)"
        )

    def handle(self, *args: Any, once: bool, every: float, **options: Any) -> None:
        stop = threading.Event()
        if once:
            sweep(stop)
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        was_away = False
        while not stop.is_set():
            was_away = _sweep_or_wait(stop, was_away)
            stop.wait(every)


def _sweep_or_wait(stop: threading.Event, was_away: bool) -> bool:
    """Sweep once. A database that is away costs one line, and nothing needs a restart."""
    try:
        close_old_connections()
        sweep(stop)
    except (OperationalError, InterfaceError) as error:
        connection.close()
        if not was_away:
            logger.warning("The database is away, trying again: %s", error)
        return True
    except Exception:  # a store or a broker may fail in ways nobody listed: the next round may not
        logger.exception("This sweep failed, the next one tries again")
    if was_away:
        logger.info("The database is back")
    return False


def sweep(stop: threading.Event) -> None:
    """One round, and one line in the log if anything was done."""
    n_sent = nudge_stale(at=timezone.now())
    n_made = 0
    while not stop.is_set() and (n := make_display_files(at=timezone.now())):
        n_made += n
    if n_sent or n_made:
        logger.info("Sent %d images again, made %d display files", n_sent, n_made)
