"""What raters and prompts can say about the votes of a pair, a system or a criterion."""

from dataclasses import dataclass
from typing import Literal

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
    groups: Groups | None  # where they enter the variance


def dimension_of(name: str, codes: Codes, *, fixed: bool) -> Dimension:
    """One dimension of at least one vote.

    Without labels, with a single cluster, or with no cluster of two votes it adds nothing to
    the variance; where it is the whole population (fixed) it shall not.
    """
    groups = group(codes)
    unlabelled = groups.count == 1 and codes[0] == UNLABELLED
    if fixed:  # a population needs no labels to be the population
        return Dimension(name, "fixed", None if unlabelled else groups.count, None)
    if unlabelled:
        return Dimension(name, "unlabelled", None, None)
    if groups.count == 1:
        return Dimension(name, "one cluster", 1, None)
    if groups.largest == 1:
        return Dimension(name, "single votes", groups.count, None)
    return Dimension(name, "clustered", groups.count, groups)


def method_of(dimensions: tuple[Dimension, ...]) -> str:
    """The name of the variance that these dimensions lead to."""
    names = [d.name for d in dimensions if d.groups is not None]
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
