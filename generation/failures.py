"""Why images failed, in few words: the telling line of an error, and errors that are one reason."""

import re

# What differs between two errors of one kind: identifiers, addresses, counts, sizes, times.
_PASSING = re.compile(
    r"0x[0-9a-f]+"
    r"|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"  # a UUID
    r"|\b(?=[a-f]*\d)[0-9a-f]{8,}\b"  # a hash
    r"|(?<![a-z])\d+(?:[.,:]\d+)*",  # but no digit that ends a name: sdxl1, fp16
    re.IGNORECASE,
)


def gist(error: str) -> str:
    """The line that says what went wrong: the last of a traceback, else the first."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    if not lines:
        return "no reason was given"
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]


def without_numbers(text: str) -> str:
    """Equal for errors that differ in numbers and identifiers alone."""
    return _PASSING.sub("…", text)
