"""What pages of the desk say; progress in words, the same in a terminal and on a page."""

from datetime import timedelta

from evalsite.studies.painting import Cancelled
from evalsite.studies.progress import Failure, SystemProgress
from evalsite.studies.wording import counted

PROMPT_LENGTH = 60
STUDY_HELP = {  # a field of a study -> what it says
    "slug": "The study's name in addresses, commands and files.",
    "title": "For staff alone: raters never see it.",
    "raters_start_at": "The address that raters are given.",
    "images": "Of each system: how many are ready, and how many are in the form that raters see.",
    "instructions": "Read before the first pair, and under Help. Empty: the project's own.",
    "consent": "What raters agree to before they start. Empty: the project's own.",
    "seed": "Sides, order and images follow from it: the same seed lays out the same study.",
    "pairing": "Every two systems, or each system against the baseline.",
    "baseline": "The key of a system, where all others are compared with it.",
    "votes_per_comparison": "How many raters answer each criterion on each pair of images.",
    "votes_planned": "How many answers were planned when it opened; looks are shares of these.",
    "votes_per_rater": "At most so many pairs for one rater. Empty: all that are left.",
    "on_failure": "What leaves the study where an image cannot be made.",
    "on_blank": "What becomes of an image of one colour all over.",
    "on_duplicate": "What becomes of an image that a system made for another prompt as well.",
    "simulated": "Its raters are programs, and every page says so.",
    "declared": "What the study sets out to show, and when results may be read before it closes.",
    "display_size": "Pixels of the square in which raters see an image.",
    "resampler": "How larger images are made smaller.",
    "upscaler": "How smaller images are made larger. Empty: they never are.",
    "prompts_from": "The file of its prompts, and what was kept and drawn of them.",
    "settings_from": "Where each setting comes from, as the study file says.",
    "spec_sha256": "Of the design, as frozen when the study opened.",
}


def rate_words(rate: float) -> str:
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
        notes.append("cancelled")
    if system.unasked:
        notes.append(f"{system.unasked:,} not asked for{'' if system.cancelled_at else ' yet'}")
    if system.cancelled_at and system.pending:
        notes.append(f"{system.pending:,} painted all the same, for another study")
    elif system.claimed:
        notes.append(f"{system.claimed:,} being painted")
    if system.time_left is not None and system.rate is not None:
        notes += [rate_words(system.rate), f"{time_words(system.time_left)} left"]
    elif system.pending and not system.cancelled_at:
        notes.append("time left not known yet" if system.claimed else "waits for a worker")
    return notes


def failure_words(failure: Failure) -> str:
    """A reason with how often, and one image to look at."""
    words = f"{failure.n:,} x {failure.words}"
    if failure.image_id is None:
        return words
    which = f"image {failure.image_id}, “{failure.prompt[:PROMPT_LENGTH]}”"
    return f"{words} ({which})" if failure.n == 1 else f"{words} (for example {which})"


def removed_words(n_prompts: int, n_removed: int) -> str:
    """How many prompts have left a study; empty where none has."""
    if not n_removed:
        return ""
    return f"{n_removed:,} of {counted(n_prompts, 'prompt')} left the study, for all systems."


def cancelled_words(gone: Cancelled) -> str:
    """What came of cancelling."""
    if not gone.n_images and not gone.n_shared:
        return "No image was to be painted: nothing is cancelled."
    words = f"Cancelled: {counted(gone.n_images, 'image')}."
    if gone.n_shared:
        words += f" Painted all the same, for another study: {counted(gone.n_shared, 'image')}."
    return words


def retried_words(n_asked: int) -> str:
    """What came of retrying."""
    if n_asked:
        return f"Asked for again: {counted(n_asked, 'image')}."
    return "No image was asked for again. What is imported is taken again by preparing."
