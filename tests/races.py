"""Several acts at the same moment, each in a thread with a connection of its own."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from django.db import connection

PATIENCE_S = 120  # for a busy machine; a passing test never waits that long


def race(acts: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run all acts at once, each in a thread with a connection of its own; their results.

    An exception is a result too: the test says which are expected.
    """
    results: list[Any] = [None] * len(acts)
    start = threading.Barrier(len(acts))

    def run(place: int, act: Callable[[], Any]) -> None:
        try:
            connection.ensure_connection()
            start.wait(PATIENCE_S)
            results[place] = act()
        except Exception as error:
            results[place] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    return results


def settled(results: list[Any]) -> list[Any]:
    """The results, once none of them is an exception."""
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results
