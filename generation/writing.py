"""Files whose rows come last: announced before the first is written, so that a look for files
without a row (see leftovers.py) does not take them for what a killed process left.

Images that are painted need none of this: the claim on their row announces them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import transaction

from generation.models import Writing

LONGEST = timedelta(days=1)  # older announcements may be ended: their process was killed


class WritingOverError(Exception):
    """The announcement was ended by another process: these files may be gone."""


@contextmanager
def announced(*, at: datetime) -> Iterator[Writing]:
    """Whatever files are written inside have their rows written inside as well, and `finish`
    called in the same transaction.

    Committed at once, so it must not stand inside a transaction (RuntimeError).
    """
    with transaction.atomic(durable=True):
        writing = Writing.objects.create(began_at=at)
    try:
        yield writing
    finally:
        Writing.objects.filter(pk=writing.pk).delete()


def finish(writing: Writing) -> None:
    """End it with the transaction that writes the rows; WritingOverError where another was first.

    The row decides, not the clock: either this transaction ends the announcement, or whoever
    looks for leftovers does, and then no row may point at these files any more.
    """
    n_ended, _ = Writing.objects.filter(pk=writing.pk).delete()
    if not n_ended:
        raise WritingOverError
