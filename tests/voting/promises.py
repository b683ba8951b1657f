"""What must hold whatever raced: each broken promise, in words. Used by tests of races."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction

from evalsite.studies.models import Study
from evalsite.voting import queries
from evalsite.voting.models import Ballot, Showing
from tests.races import PATIENCE_S


def broken_promises(study: Study) -> list[str]:
    """Exactly one counted vote an answered ballot, no more than planned, nothing lent twice."""
    ballots = Ballot.objects.filter(criterion__study=study).select_related("holder")
    showings = Showing.objects.filter(criterion__study=study)
    counted = list(queries.counted_votes(study, with_excluded=True).select_related("showing"))
    filled = Counter((v.showing.comparison_id, v.showing.criterion_id) for v in counted)
    shown = Counter(showings.values_list("rater", "comparison", "criterion"))
    holders = {b.holder_id for b in ballots}
    answered = [b for b in ballots if b.answered_at is not None]
    turned = [b for b in ballots if b.holder and b.holder.first_on_left != b.first_on_left]
    moved = [b for b in ballots if b.holder and b.holder.comparison_id != b.comparison_id]
    open_pairs = Counter(b.holder.rater_id for b in ballots if b.holder and not b.answered_at)
    checks = {
        "a comparison has more votes than planned": [
            pair for pair, n in filled.items() if n > study.votes_per_comparison
        ],
        "a rater was shown a pair twice": [key for key, n in shown.items() if n > 1],
        "a counted vote whose showing holds no ballot": [
            vote for vote in counted if vote.showing_id not in holders
        ],
        "answered ballots and counted votes differ": [1] * abs(len(answered) - len(counted)),
        "a ballot's sides are not those that were seen": turned,
        "a ballot is held by a showing of another pair": moved,
        "a rater holds more than two pairs": [key for key, n in open_pairs.items() if n > 2],
    }
    return [f"{words}: {found}" for words, found in checks.items() if found]


def lent_twice(study: Study) -> list[int]:
    """Ballots given to two raters; wrong wherever no lease ran out and nothing was freed."""
    given = Counter(Showing.objects.filter(criterion__study=study).values_list("ballot", flat=True))
    return [ballot for ballot, n in given.items() if n > 1]


@contextmanager
def meanwhile(act: Callable[[], Any]) -> Iterator[list[Any]]:
    """Hold a transaction open, start an act in another thread, and let it do what harm it can.

    What the act returned is in the list once the block, and with it the transaction, has ended.
    """
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(act())
        except Exception as error:
            results.append(error)
        finally:
            connection.close()

    other = threading.Thread(target=run)
    with transaction.atomic():
        yield results
        other.start()
        _until_it_ends_or_waits(other)
    other.join(PATIENCE_S)
    assert results, "the other thread hangs"


def _until_it_ends_or_waits(other: threading.Thread) -> None:
    """However slow the machine is. On SQLite a thread that waits cannot be told from a slow one,
    and whoever comes second waits for the whole transaction: it is given a moment."""
    if connection.vendor != "postgresql":
        return other.join(0.5)
    until = time.monotonic() + PATIENCE_S
    while other.is_alive() and not _somebody_waits_for_us():
        assert time.monotonic() < until, "the other thread neither ends nor waits"
        other.join(0.02)
    return None


def _somebody_waits_for_us() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_locks"
            " WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid)))"
        )
        return bool(cursor.fetchone()[0])
