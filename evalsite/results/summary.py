"""From votes in arrays to the numbers of a report. No database, no files, no rounding."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalsite.stats import Options, WinRate, pair_win_rates

# The contract of report.json: the first number rises when a field leaves or changes its
# meaning, the second when one is added. See report.schema.json and docs/report.md.
SCHEMA_VERSION = "1.0"

Pair = tuple[int, int]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Design:
    """What is compared: keys in study order, and the planned pairs as indices of systems."""

    criteria: tuple[str, ...]
    systems: tuple[str, ...]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """Counted votes, one per row of every column."""

    criteria: NDArray[np.int64]  # index in Design.criteria
    first: NDArray[np.int64]  # index in Design.systems
    second: NDArray[np.int64]
    outcomes: NDArray[np.float64]  # of the first system: 1 won, 0 lost, 0.5 tie
    raters: NDArray[np.int64]  # any number that tells raters apart
    prompts: NDArray[np.int64]
    first_on_left: NDArray[np.bool_]  # as seen
    choices: NDArray[np.str_]  # as given: LEFT, RIGHT or TIE
    response_ms: NDArray[np.int64]
    voted_at: NDArray[np.object_]  # datetime


@dataclass(frozen=True, slots=True)
class PairSummary:
    """One pair of systems under one criterion; the rate is the first system's."""

    first: str
    second: str
    rate: WinRate


@dataclass(frozen=True, slots=True)
class CriterionSummary:
    key: str
    n_votes: int
    n_raters: int
    n_prompts: int
    n_ties: int
    pairs: tuple[PairSummary, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    options: Options
    criteria: tuple[CriterionSummary, ...]


def summarise(design: Design, votes: Votes, options: Options) -> Summary:
    """The win rate of every planned pair, and of every pair with a vote, under each criterion."""
    criteria = (
        _summarise_criterion(design, votes, votes.criteria == index, key, options)
        for index, key in enumerate(design.criteria)
    )
    return Summary(options, tuple(criteria))


def _summarise_criterion(
    design: Design, votes: Votes, rows: NDArray[np.bool_], key: str, options: Options
) -> CriterionSummary:
    raters, prompts = votes.raters[rows], votes.prompts[rows]
    rates = pair_win_rates(
        votes.first[rows],
        votes.second[rows],
        votes.outcomes[rows],
        raters,
        prompts,
        pairs=design.pairs,
        confidence=options.confidence,
        fixed_prompts=options.fixed_prompts,
        ties=options.ties,
    )
    names = design.systems
    return CriterionSummary(
        key=key,
        n_votes=int(rows.sum()),
        n_raters=np.unique(raters).size,
        n_prompts=np.unique(prompts).size,
        n_ties=sum(rate.ties for rate in rates.values()),
        pairs=tuple(PairSummary(names[i], names[j], rate) for (i, j), rate in rates.items()),
    )


def report_of(summary: Summary, *, study: Json | None, provenance: Json) -> Json:
    """report.json as a dict. `study` is None where the votes came from elsewhere;
    `provenance` says what was read, by which programs, and when."""
    return {
        "schema_version": SCHEMA_VERSION,
        "study": study,
        "settings": {
            "options": dataclasses.asdict(summary.options),
            **provenance,
        },
        "criteria": {criterion.key: _criterion_json(criterion) for criterion in summary.criteria},
    }


def _criterion_json(criterion: CriterionSummary) -> Json:
    return {
        "n_votes": criterion.n_votes,
        "n_raters": criterion.n_raters,
        "n_prompts": criterion.n_prompts,
        "pairs": [pair_json(pair) for pair in criterion.pairs],
        "systems": [],  # ratings, once there are any
    }


def pair_json(pair: PairSummary) -> Json:
    """One pair as it stands in report.json and, column by column, in pairs.csv."""
    rate = dataclasses.asdict(pair.rate)
    rate["warnings"] = list(pair.rate.warnings)
    return {"first": pair.first, "second": pair.second, **rate}
