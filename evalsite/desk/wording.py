"""Progress in words, the same in a terminal and on a page."""

from datetime import timedelta

from evalsite.studies.painting import Cancelled
from evalsite.studies.progress import Failure, SystemProgress

PROMPT_LENGTH = 60


def pace_words(rate: float) -> str:
    """So many images a second, or in the shortest time in which one comes."""
    for seconds, unit in ((1, "second"), (60, "minute"), (3600, "hour")):
        n = rate * seconds
        if n >= 1 or unit == "hour":
            break
    amount = f"{n:.1f}" if n < 10 else f"{n:.0f}"
    return f"{amount} images {'an' if unit == 'hour' else 'a'} {unit}"


def time_words(left: timedelta) -> str:
    """Roughly, as nobody knows it better."""
    seconds = left.total_seconds()
    if seconds < 90:
        return f"about {max(5, round(seconds / 5) * 5)} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"about {minutes} min"
    hours, rest = divmod(round(minutes / 10) * 10, 60)
    if hours < 48:
        return f"about {hours} h {rest} min" if rest else f"about {hours} h"
    return f"about {round(hours / 24)} days"


def notes_of(system: SystemProgress) -> list[str]:
    """What else there is to say of a system, beside how many images are ready."""
    notes = [f"{system.failed:,} failed"] if system.failed else []
    if system.cancelled_at:
        notes.append(f"cancelled, {system.unasked:,} not asked for")
        if system.pending:
            notes.append(f"{system.pending:,} painted all the same, for another study")
    elif system.unasked:
        notes.append(f"{system.unasked:,} not asked for yet")
    if system.time_left is not None and system.rate is not None:
        notes += [pace_words(system.rate), f"{time_words(system.time_left)} left"]
    elif system.pending:
        notes.append(
            "being painted, pace not known yet" if system.claimed else "waits for a worker"
        )
    return notes


def failure_words(failure: Failure) -> str:
    """A reason with how often, and one image to look at."""
    words = f"{failure.n:,} x {failure.words}"
    if failure.image_id is None:
        return words
    which = f"image {failure.image_id}, “{failure.prompt[:PROMPT_LENGTH]}”"
    return f"{words} ({which})" if failure.n == 1 else f"{words} (for example {which})"


def cancelled_words(gone: Cancelled) -> str:
    """What came of cancelling."""
    if not gone.n_images and not gone.n_shared:
        return "No image was to be painted: nothing is cancelled."
    words = f"Cancelled: {gone.n_images:,} images are painted no more."
    if gone.n_shared:
        words += f" {gone.n_shared:,} more are painted all the same: another study wants them too."
    return words
