"""From votes in arrays to all numbers of a report. No database, no files, no rounding."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evalsite.stats import (
    Agreement,
    BradleyTerry,
    Claim,
    Davidson,
    Fragility,
    Options,
    OverallScore,
    PositionEffect,
    Rating,
    WinRate,
    bradley_terry,
    davidson,
    fragility,
    overall_scores,
    position_effect,
    superiority,
    vote_alpha,
    win_rates,
)
from evalsite.stats import Votes as CriterionVotes
from evalsite.stats.clusters import UNLABELLED, Codes, Floats

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Design:
    """What is compared: keys in study order, and the planned pairs as indices of systems."""

    criteria: tuple[str, ...]
    systems: tuple[str, ...]
    pairs: tuple[Pair, ...] | None  # None: nothing was planned, every pair with a vote counts


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """Votes that count, one per row of every column. Labels are numbers >= 0, or UNLABELLED."""

    criteria: Codes  # index in Design.criteria
    first: Codes  # index in Design.systems
    second: Codes
    outcomes: Floats  # of the first system: 1 won, 0 lost, 0.5 tie
    raters: Codes
    prompts: Codes
    first_on_left: NDArray[np.bool_] | None  # as seen; None where nobody wrote it down

    @property
    def n(self) -> int:
        return self.outcomes.size


@dataclass(frozen=True, slots=True)
class PairSummary:
    """One pair of systems under one criterion; the rate is the first system's."""

    first: str
    second: str
    rate: WinRate


@dataclass(frozen=True, slots=True)
class SystemSummary:
    """One system under one criterion: against all others at once, and on one scale with them."""

    key: str
    overall: OverallScore
    rating: Rating


@dataclass(frozen=True, slots=True)
class ClaimSummary:
    """Whether one system of a pair may be called better, and what it takes to undo that."""

    first: str
    second: str
    claim: Claim
    fragility: Fragility | None  # of what is decided


@dataclass(frozen=True, slots=True)
class CriterionSummary:
    """Everything that the votes of one criterion say."""

    key: str
    n_votes: int
    n_raters: int
    n_prompts: int
    n_ties: int
    pairs: tuple[PairSummary, ...]
    systems: tuple[SystemSummary, ...]
    ranking: BradleyTerry
    davidson: Davidson
    agreement: Agreement
    side: PositionEffect | None  # None where nobody wrote down the sides
    claims: tuple[ClaimSummary, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    design: Design
    options: Options
    seed: int  # of the resampling behind the interval of agreement
    criteria: tuple[CriterionSummary, ...] = field(default=())


def summarise(design: Design, votes: Votes, options: Options, *, seed: int = 0) -> Summary:
    """All statistics of every criterion; claims are adjusted over the whole table of them."""
    parts = [_of_criterion(design, votes, index) for index in range(len(design.criteria))]
    rates = [win_rates(own, pairs=design.pairs, options=options) for own, _ in parts]
    table = {
        (key, pair): rate
        for key, found in zip(design.criteria, rates, strict=True)
        for pair, rate in found.items()
    }
    claims: dict[str, list[Claim]] = {key: [] for key in design.criteria}
    for claim in superiority(table, alpha=1 - options.confidence):
        claims[claim.criterion].append(claim)
    criteria = (
        _summarise(design, key, *part, found, claims[key], options, seed)
        for key, part, found in zip(design.criteria, parts, rates, strict=True)
    )
    return Summary(design, options, seed, tuple(criteria))


def _of_criterion(
    design: Design, votes: Votes, index: int
) -> tuple[CriterionVotes, NDArray[np.bool_] | None]:
    """The votes of one criterion, and which of them showed the first system on the left."""
    rows: slice | NDArray[np.bool_] = votes.criteria == index
    if len(design.criteria) == 1:
        rows = slice(None)  # all of them: no copies
    own = CriterionVotes(
        first=votes.first[rows],
        second=votes.second[rows],
        outcomes=votes.outcomes[rows],
        raters=votes.raters[rows],
        prompts=votes.prompts[rows],
        n_systems=len(design.systems),
    )
    return own, None if votes.first_on_left is None else votes.first_on_left[rows]


def _summarise(
    design: Design,
    key: str,
    votes: CriterionVotes,
    first_on_left: NDArray[np.bool_] | None,
    rates: Mapping[Pair, WinRate],
    claims: list[Claim],
    options: Options,
    seed: int,
) -> CriterionSummary:
    names = design.systems
    confidence, fixed_prompts = options.confidence, options.fixed_prompts
    ranking = bradley_terry(votes, confidence=confidence, fixed_prompts=fixed_prompts)
    scores = overall_scores(
        votes, confidence=confidence, fixed_prompts=fixed_prompts, ties=options.ties
    )
    side = None
    if first_on_left is not None:
        side = position_effect(votes, first_on_left, confidence=confidence)
    return CriterionSummary(
        key=key,
        n_votes=votes.n,
        n_raters=_n_labels(votes.raters),
        n_prompts=_n_labels(votes.prompts),
        n_ties=sum(rate.ties for rate in rates.values()),
        pairs=tuple(PairSummary(names[i], names[j], rate) for (i, j), rate in rates.items()),
        systems=tuple(map(SystemSummary, names, scores, ranking.ratings)),
        ranking=ranking,
        davidson=davidson(votes),
        agreement=vote_alpha(votes, rng=seed, confidence=confidence),
        side=side,
        claims=tuple(_claim(names, votes, claim, rates, options) for claim in claims),
    )


def _claim(
    names: tuple[str, ...],
    votes: CriterionVotes,
    claim: Claim,
    rates: Mapping[Pair, WinRate],
    options: Options,
) -> ClaimSummary:
    undoing = None
    if claim.decided:
        known = [rate.design_effect for rate in rates.values() if rate.design_effect is not None]
        undoing = fragility(
            votes,
            (claim.first, claim.second),
            level=claim.level,
            fixed_prompts=options.fixed_prompts,
            ties=options.ties,
            typical_design_effect=float(np.median(known)) if known else None,
        )
    return ClaimSummary(names[claim.first], names[claim.second], claim, undoing)


def _n_labels(codes: Codes) -> int:
    """How many different labels there are; what has none is nobody."""
    counts = np.bincount(codes - UNLABELLED)
    return int((counts[1:] > 0).sum())
