"""Votes written down one by one, and joined."""

from collections.abc import Sequence

import numpy as np

from evalsite.stats import Votes, check_votes

CLEAR = (0.9, 0.4, 0.0, -0.5, -0.8)  # ratings of five systems


def beats(pairs: Sequence[tuple[int, int]], n_systems: int | None = None) -> Votes:
    """Votes won by the first of each pair, of nobody on nothing that has a name."""
    first, second = zip(*pairs, strict=True)
    return check_votes(first, second, np.ones(len(pairs)), None, None, n_systems=n_systems)


def joined(*parts: Votes) -> Votes:
    """Several votes as one; raters and prompts keep their numbers."""
    names = ("first", "second", "outcomes", "raters", "prompts")
    return check_votes(*(np.concatenate([getattr(v, name) for v in parts]) for name in names))
