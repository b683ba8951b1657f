"""Checked votes of one criterion: every column looked at once, every label numbered once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from evalsite.stats.clusters import Codes, Floats, Labels, factorise
from evalsite.stats.win_rate import checked_outcomes


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """The votes of one criterion, one per place in every column."""

    first: Codes  # systems, 0..n_systems-1
    second: Codes
    outcomes: Floats  # of the first system: 1 won, 0.5 tie, 0 lost
    raters: Codes  # numbered labels; UNLABELLED (-1) where there is none
    prompts: Codes
    n_systems: int

    @property
    def n(self) -> int:
        """How many votes there are."""
        return self.outcomes.size


def check_votes(
    first: ArrayLike,
    second: ArrayLike,
    outcomes: ArrayLike,
    raters: Labels | None,
    prompts: Labels | None,
    *,
    n_systems: int | None = None,
) -> Votes:
    """The columns of one criterion's votes, checked and numbered for every statistic over them.

    Parameters
    ----------
    first, second : the two systems of each vote as whole numbers >= 0, shape (n,). Rows may
        name the systems of a pair in either order.
    outcomes : 1 where the system named first on that row wins, 0 where the other does,
        0.5 for a tie; shape (n,). n may be 0.
    raters, prompts : a label per vote, or None for a column that is missing; the literal
        `none` means "no label". Arrays of whole numbers are read much faster than text.
    n_systems : systems there are, also those without votes; None for those up to the highest
        number that is named.

    Returns
    -------
    Votes. Columns that have the right type already are not copied.

    Raises
    ------
    ValueError : columns of different length, outcomes other than 0, 0.5 and 1, systems that
        are not whole numbers in 0..n_systems-1, a system compared with itself, a NaN label.
    """
    values = checked_outcomes(outcomes)
    one, two = _systems(first, values.size), _systems(second, values.size)
    if (one == two).any():
        raise ValueError("a vote compares a system with itself")
    named = int(max(one.max(), two.max())) + 1 if values.size else 0
    if n_systems is not None and n_systems < named:
        raise ValueError(f"system {named - 1} is named, but there are only {n_systems} systems")
    return Votes(
        one,
        two,
        values,
        factorise(raters, values.size, "rater"),
        factorise(prompts, values.size, "prompt"),
        named if n_systems is None else n_systems,
    )


def _systems(column: ArrayLike, n_votes: int) -> Codes:
    numbers = np.asarray(column)
    if numbers.shape != (n_votes,):
        raise ValueError(f"{numbers.size} systems named for {n_votes} votes")
    if n_votes and not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError("systems must be whole numbers")
    if n_votes and numbers.min() < 0:
        raise ValueError("systems are numbered from 0")
    return numbers.astype(np.intp, copy=False)
