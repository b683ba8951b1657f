"""What raters and prompts can say about the votes of a pair, a system or a criterion."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from evalsite.stats.clusters import UNLABELLED, Codes, Groups, group

FEW_RATERS = 5
FEW_PROMPTS = 10

State = Literal["clustered", "single votes", "one cluster", "unlabelled", "fixed"]


@dataclass(frozen=True, slots=True, eq=False)
class Dimension:
    """The raters, or the prompts, of some votes, and what they can contribute."""

    name: str
    state: State
    count: int | None
    groups: Groups | None = None  # where they enter the variance, of one sample


def dimension_of(name: str, codes: Codes, *, fixed: bool) -> Dimension:
    """One dimension of at least one vote.

    Without labels, with a single cluster, or with no cluster of two votes it adds nothing to
    the variance; where it is the whole population (fixed) it shall not.
    """
    groups = group(codes)
    (found,) = dimensions_of(name, codes, groups, fixed=fixed)
    return replace(found, groups=groups) if found.state == "clustered" else found


def dimensions_of(name: str, codes: Codes, groups: Groups, *, fixed: bool) -> list[Dimension]:
    """`dimension_of` for each sample of votes."""
    first = np.cumsum(groups.votes) - groups.votes
    columns = groups.counts, np.maximum.reduceat(groups.sizes, groups.starts), codes[first]
    return [
        Dimension(name, *_state(count, largest, code == UNLABELLED, fixed))
        for count, largest, code in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _state(count: int, largest: float, unlabelled: bool, fixed: bool) -> tuple[State, int | None]:
    unlabelled = unlabelled and count == 1
    if fixed:  # a population needs no labels to be the population
        return "fixed", None if unlabelled else count
    if unlabelled:
        return "unlabelled", None
    if count == 1:
        return "one cluster", 1
    return "single votes" if largest == 1 else "clustered", count


def method_of(dimensions: tuple[Dimension, ...]) -> str:
    """The name of the variance that these dimensions lead to."""
    names = [d.name for d in dimensions if d.state == "clustered"]
    if not names:
        return "independent votes"
    return "two-way jackknife" if len(names) == 2 else f"{names[0]} jackknife"


def estimand_of(raters: State, prompts: State, *, decided: bool = False) -> str:
    """Over whom and what a number speaks, in words that stand beside it in a report."""
    words = {"one cluster": "this {}", "unlabelled": "unknown {}", "fixed": "these {}s"}
    parts = [
        words.get(raters, "random {}").format("rater"),
        words.get(prompts, "random {}").format("prompt"),
    ]
    return ", ".join([*parts, "decided votes"] if decided else parts)


def cluster_warnings(raters: Dimension, prompts: Dimension) -> list[str]:
    """Missing labels, single clusters and few clusters, as short fixed words."""
    words = []
    for dimension, few in ((raters, FEW_RATERS), (prompts, FEW_PROMPTS)):
        if dimension.state == "unlabelled":
            words.append(f"no {dimension.name} labels")
        if dimension.state == "one cluster":
            words.append(f"one {dimension.name}")
        if dimension.state != "fixed" and dimension.count is not None and dimension.count < few:
            words.append(f"few {dimension.name}s")
    return words
