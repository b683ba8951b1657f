"""From votes in arrays to all numbers of a report. No database, no files, no rounding."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from evalsite.results.looks import Looks
from evalsite.stats import (
    Agreement,
    BradleyTerry,
    Claim,
    Davidson,
    Declared,
    Fragility,
    Options,
    OverallScore,
    PositionEffect,
    PromptInfluence,
    RaterDiagnostics,
    Rating,
    Slicing,
    Verdict,
    WinRate,
    bradley_terry,
    davidson,
    elo_as_in_add,
    fragility,
    overall_scores,
    position_effect,
    prompt_influence,
    rater_diagnostics,
    slice_win_rates,
    superiority,
    vote_alpha,
    votes_by_pair,
    win_rates,
)
from evalsite.stats import Votes as CriterionVotes
from evalsite.stats.clusters import UNLABELLED, Codes, Floats

Pair = tuple[int, int]
Rows = slice | NDArray[np.bool_] | Codes
CARRYING = 3  # prompts named for each claim
ELO_MOST = 20_000  # votes of a criterion that Elo goes through, one by one, in 100 orders
UNDONE = 40  # decided claims whose fragility is looked for


@dataclass(frozen=True, slots=True)
class Design:
    """What is compared: keys in study order, and the planned pairs as indices of systems."""

    criteria: tuple[str, ...]
    systems: tuple[str, ...]
    pairs: tuple[Pair, ...] | None  # None: nothing was planned, every pair with a vote counts
    claims: tuple[Declared, ...] = ()  # written down before the votes


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """A column of text as numbers: `names[codes[i]]` stands on row i; UNLABELLED where nothing."""

    codes: Codes
    names: tuple[str, ...]

    def rows(self, kept: "Rows") -> "Column":
        return Column(self.codes[kept], self.names)

    def texts(self) -> NDArray[np.object_]:
        """A text for each row, None where there is none."""
        return np.array([*self.names, None], dtype=object)[self.codes]


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
    prompt_names: Sequence[str] = ()  # by number
    rater_names: Sequence[str] = ()
    response_ms: NDArray[np.int64] | None = None
    slices: Mapping[str, "Column"] = field(default_factory=dict)  # what to slice by

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
    add_elo: float | None  # Elo as in the ADD paper; None without votes, or with too many


@dataclass(frozen=True, slots=True)
class ClaimSummary:
    """Whether one system of a pair may be called better, and what it takes to undo that."""

    first: str
    second: str
    claim: Claim
    fragility: Fragility | None  # of the weakest decided ones
    carrying: tuple[tuple[str, PromptInfluence], ...]  # the prompts that do most to it


Rates = Mapping[Pair, WinRate]
Claims = tuple[ClaimSummary, ...]


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
    slices: tuple[tuple[str, Slicing], ...]  # by category, by challenge, ...


@dataclass(frozen=True, slots=True)
class Summary:
    design: Design
    options: Options
    seed: int  # of the resampling behind the interval of agreement
    criteria: tuple[CriterionSummary, ...] = ()
    rater_names: Sequence[str] = ()
    raters: RaterDiagnostics | None = None  # None where sides or raters are not known
    looks: Looks | None = None  # None where none was declared
    verdicts: tuple[Verdict, ...] = ()  # on the claims declared, in their order


def summarise(design: Design, votes: Votes, options: Options, *, seed: int = 0) -> Summary:
    """All statistics of every criterion; claims are adjusted over the whole table of them."""
    empty = Summary(design, options, seed)
    parts = [_of_criterion(design, votes, index) for index in range(len(design.criteria))]
    rates, claims = _compare(parts, empty)
    criteria = map(partial(_summarise, summary=empty), design.criteria, parts, rates, claims)
    return replace(
        empty,
        criteria=tuple(criteria),
        rater_names=votes.rater_names,
        raters=_diagnose(design, votes),
    )


def _compare(parts: "list[_Part]", summary: Summary) -> tuple[Sequence[Rates], list[Claims]]:
    """Each criterion's pairs and claims: what needs the votes pair by pair, a copy of them."""
    design, options = summary.design, summary.options
    split = [votes_by_pair(part.votes) for part in parts]
    rates = [
        win_rates(part.votes, pairs=design.pairs, options=options, parts=pairs)
        for part, pairs in zip(parts, split, strict=True)
    ]
    table = {
        (key, pair): rate
        for key, found in zip(design.criteria, rates, strict=True)
        for pair, rate in found.items()
    }
    claims = superiority(table, alpha=1 - options.confidence)
    tried = _weakest(claims)
    found = []
    for key, part, own, known in zip(design.criteria, parts, split, rates, strict=True):
        asked = [claim for claim in claims if claim.criterion == key]
        found.append(tuple(_claims(part, own, asked, tried, known, summary)))
    return rates, found


def _weakest(claims: Sequence[Claim]) -> set[Claim]:
    """The decided claims whose fragility is looked for: those that least would undo.

    Each takes some hundred intervals; for every pair of a hundred systems that is minutes.
    """
    decided = [claim for claim in claims if claim.decided]
    decided.sort(key=lambda claim: claim.p_holm or 0.0, reverse=True)
    return set(decided[:UNDONE])


def _diagnose(design: Design, votes: Votes) -> RaterDiagnostics | None:
    """What each rater did, over all criteria together. Flags change no number."""
    if votes.first_on_left is None or not votes.rater_names or not votes.n:
        return None
    together = CriterionVotes(
        votes.first,
        votes.second,
        votes.outcomes,
        votes.raters,
        votes.prompts,
        len(design.systems),
    )
    return rater_diagnostics(
        together, votes.first_on_left, criteria=votes.criteria, response_ms=votes.response_ms
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """The votes of one criterion."""

    votes: CriterionVotes
    first_on_left: NDArray[np.bool_] | None
    prompt_names: Sequence[str]
    slices: Mapping[str, Column]


def _of_criterion(design: Design, votes: Votes, index: int) -> _Part:
    rows = _rows(design, votes, index)
    return _Part(
        votes_on(design, votes, index),
        None if votes.first_on_left is None else votes.first_on_left[rows],
        votes.prompt_names,
        {name: column.rows(rows) for name, column in votes.slices.items()},
    )


def votes_on(design: Design, votes: Votes, index: int) -> CriterionVotes:
    """The votes on the criterion that stands there in the design."""
    rows = _rows(design, votes, index)
    return CriterionVotes(
        first=votes.first[rows],
        second=votes.second[rows],
        outcomes=votes.outcomes[rows],
        raters=votes.raters[rows],
        prompts=votes.prompts[rows],
        n_systems=len(design.systems),
    )


def _rows(design: Design, votes: Votes, index: int) -> Rows:
    # All of them where there is but one criterion: no copies.
    return slice(None) if len(design.criteria) == 1 else votes.criteria == index


def _summarise(
    key: str, part: _Part, rates: Rates, claims: Claims, summary: Summary
) -> CriterionSummary:
    votes, options, names = part.votes, summary.options, summary.design.systems
    confidence, fixed_prompts = options.confidence, options.fixed_prompts
    ranking = bradley_terry(votes, confidence=confidence, fixed_prompts=fixed_prompts)
    scores = overall_scores(
        votes, confidence=confidence, fixed_prompts=fixed_prompts, ties=options.ties
    )
    side = None
    if part.first_on_left is not None:
        side = position_effect(votes, part.first_on_left, confidence=confidence)
    return CriterionSummary(
        key=key,
        n_votes=votes.n,
        n_raters=_n_labels(votes.raters),
        n_prompts=_n_labels(votes.prompts),
        n_ties=sum(rate.ties for rate in rates.values()),
        pairs=tuple(PairSummary(names[i], names[j], rate) for (i, j), rate in rates.items()),
        systems=tuple(map(SystemSummary, names, scores, ranking.ratings, _add_elo(votes, summary))),
        ranking=ranking,
        davidson=davidson(votes),
        agreement=vote_alpha(votes, rng=summary.seed, confidence=confidence),
        side=side,
        claims=claims,
        slices=tuple(_slices(part, list(rates), summary)),
    )


def _claims(
    part: _Part,
    pairs: Mapping[Pair, CriterionVotes],
    claims: list[Claim],
    tried: set[Claim],
    rates: Rates,
    summary: Summary,
) -> Iterator[ClaimSummary]:
    names, options = summary.design.systems, summary.options
    known = [rate.design_effect for rate in rates.values() if rate.design_effect is not None]
    typical = float(np.median(known)) if known else None
    for claim in claims:
        pair = (claim.first, claim.second)
        own = pairs.get((min(pair), max(pair)), part.votes)
        undoing: Fragility | None = None
        carrying: tuple[tuple[str, PromptInfluence], ...] = ()
        if claim in tried:
            undoing = fragility(
                own,
                pair,
                level=claim.level,
                confidence=options.confidence,
                fixed_prompts=options.fixed_prompts,
                ties=options.ties,
                typical_design_effect=typical,
            )
        if claim.decided:
            carrying = tuple(_carrying(part, own, pair, options))
        yield ClaimSummary(names[pair[0]], names[pair[1]], claim, undoing, carrying)


def _carrying(
    part: _Part, votes: CriterionVotes, pair: Pair, options: Options
) -> Iterator[tuple[str, PromptInfluence]]:
    """The prompts that do most to a claim, by name; none where prompts have no names."""
    if part.prompt_names:
        for found in prompt_influence(votes, pair, top=CARRYING, options=options):
            yield _prompt_name(part, found.prompt), found


def _add_elo(votes: CriterionVotes, summary: Summary) -> tuple[float | None, ...]:
    """Each system's Elo, the same whatever the order of the rows."""
    if votes.n > ELO_MOST:
        return (None,) * votes.n_systems
    turned = votes.first > votes.second
    first, second = np.minimum(votes.first, votes.second), np.maximum(votes.first, votes.second)
    outcomes = np.where(turned, 1 - votes.outcomes, votes.outcomes)
    order = np.lexsort((outcomes, second, first))
    ordered = replace(votes, first=first[order], second=second[order], outcomes=outcomes[order])
    return elo_as_in_add(ordered, np.random.default_rng(summary.seed)).scores


def _prompt_name(part: _Part, number: int) -> str:
    return "none" if number == UNLABELLED else part.prompt_names[number]


def _slices(part: _Part, pairs: list[Pair], summary: Summary) -> Iterator[tuple[str, Slicing]]:
    """A slicing for every column that tells two slices or more apart."""
    for name, column in part.slices.items():
        if _n_labels(column.codes) > 1:
            try:
                found = slice_win_rates(
                    part.votes,
                    column.texts(),
                    rng=summary.seed,
                    pairs=pairs,
                    options=summary.options,
                )
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            yield name, found


def _n_labels(codes: Codes) -> int:
    """How many different labels there are; what has none is nobody."""
    counts = np.bincount(codes - UNLABELLED)
    return int((counts[1:] > 0).sum())
