"""How alike the votes of a pilot are, for planning the study itself."""

import statistics
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalsite.stats.clusters import cross, group
from evalsite.stats.variance import variance_components
from evalsite.stats.votes import Votes


@dataclass(frozen=True, slots=True)
class IntraclassCorrelations:
    """Medians over the pairs of a pilot; None where no pair can tell."""

    rater: float | None
    prompt: float | None
    n_pairs: int


def intraclass_correlations(votes: Votes) -> IntraclassCorrelations:
    """The correlations that the votes of a pilot show, for planning the study itself.

    For each pair the variance components by the method of moments (`variance_components`):
    rho_d is the share of dimension d in their sum, cut to [0, 1]. One pair's share is very
    uncertain; the median over pairs is less so. A pair tells of a dimension in which some
    cluster has two votes and there are two clusters, if its votes differ at all.

    Parameters
    ----------
    votes : of one criterion.

    Returns
    -------
    IntraclassCorrelations; `n_pairs` counts the pairs that told of any dimension.

    Raises
    ------
    Nothing: `check_votes` has checked the input.

    Source
    ------
    S. R. Searle, G. Casella and C. E. McCulloch, Variance Components (1992), chapter 5.
    """
    shares: dict[str, list[float]] = {"rater": [], "prompt": []}
    n_pairs = 0
    low, high = np.minimum(votes.first, votes.second), np.maximum(votes.first, votes.second)
    keys = low * votes.n_systems + high
    for key in np.unique(keys):
        own = _shares_of_one_pair(votes, keys == key)
        n_pairs += bool(own)
        for name, share in own.items():
            shares[name].append(share)
    rater, prompt = (statistics.median(s) if s else None for s in shares.values())
    return IntraclassCorrelations(rater, prompt, n_pairs)


def _shares_of_one_pair(votes: Votes, own: NDArray[np.bool_]) -> dict[str, float]:
    outcomes = np.where(votes.first < votes.second, votes.outcomes, 1 - votes.outcomes)[own]
    residuals = outcomes - outcomes.mean()
    columns = {"rater": votes.raters[own], "prompt": votes.prompts[own]}
    groups = {name: group(codes) for name, codes in columns.items()}
    groups = {name: g for name, g in groups.items() if g.count > 1 and g.largest > 1}
    if not groups or not residuals.any():
        return {}
    dimensions = tuple(groups.values())
    cells = cross(*dimensions) if len(dimensions) == 2 else None
    sums = [g.sums(residuals) for g in dimensions]
    components, total = variance_components(residuals, dimensions, sums, cells)
    shares = (float(c[0] / total[0]) for c in components)
    return {name: min(share, 1.0) for name, share in zip(groups, shares, strict=True)}
