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
from generation.messages import BrokerAwayError
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
        sweep = Sweep(stop)
        if once:
            sweep.round()
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        while not stop.is_set():
            sweep.round_or_wait()
            stop.wait(every)


class Sweep:
    """Rounds of sweeping. What is away costs one line, its return another, and no restart."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._away: set[str] = set()

    def round_or_wait(self) -> None:
        """One round; whatever goes wrong, there will be another."""
        try:
            close_old_connections()
            self.round()
        except (OperationalError, InterfaceError) as error:
            connection.close()
            self._miss("database", error)
            return
        except Exception:  # a store may fail in ways nobody listed: the next round may not
            logger.exception("This sweep failed, the next one tries again")
        self._find("database")

    def round(self) -> None:
        """Send what waits, make display files, and say one line if anything was done."""
        n_sent = self._send()
        n_made = 0
        while not self._stop.is_set() and (n := make_display_files(at=timezone.now())):
            n_made += n
        if n_sent or n_made:
            logger.info("Sent %d images again, made %d display files", n_sent, n_made)

    def _send(self) -> int:
        try:
            n_sent = nudge_stale(at=timezone.now())
        except BrokerAwayError as error:
            self._miss("broker", error)
            return 0
        self._find("broker")
        return n_sent

    def _miss(self, what: str, error: Exception) -> None:
        if what not in self._away:
            logger.warning("The %s is away, trying again: %s", what, error)
        self._away.add(what)

    def _find(self, what: str) -> None:
        if what in self._away:
            logger.info("The %s is back", what)
        self._away.discard(what)
