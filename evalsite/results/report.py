"""report.json as a dict: the contract that report.schema.json and docs/report.md describe."""

import dataclasses
from collections.abc import Iterator
from functools import cache
from typing import Any

from evalsite.results.summary import (
    ELO_MOST,
    ClaimSummary,
    CriterionSummary,
    PairSummary,
    Summary,
    SystemSummary,
)
from evalsite.stats import Slicing, Verdict
from evalsite.studies.spec_claims import ANY_TIME

# The first number rises when a field leaves or changes its meaning, the second when one is added.
SCHEMA_VERSION = "1.4"

Json = dict[str, Any]


def report_of(summary: Summary, *, study: Json | None, provenance: Json) -> Json:
    """`study` is None where the votes came from elsewhere; `provenance` says what was read, by
    which programs, and when."""
    return {
        "schema_version": SCHEMA_VERSION,
        "study": study,
        "settings": {
            "options": {**dataclasses.asdict(summary.options), "seed": summary.seed},
            **provenance,
        },
        "criteria": {
            criterion.key: _criterion_json(criterion, summary.design.systems)
            for criterion in summary.criteria
        },
        "raters": list(_raters_json(summary)),
        "elo_as_in_add": _add_elo_json(summary),
        "declared_claims": [verdict_json(v, summary) for v in summary.verdicts],
        "looks": _looks_json(summary),
    }


def verdict_json(verdict: Verdict, summary: Summary) -> Json:
    """One claim declared, in report.json and in declared_claims.csv; rates are of `first`."""
    claim, rate, names = verdict.declared, verdict.rate, summary.design.systems
    return {
        "kind": claim.kind,
        "criterion": claim.criterion,
        "first": names[claim.first],
        "second": names[claim.second],
        "margin": claim.margin,
        "n": rate.n if rate else 0,
        "win_rate": rate.win_rate if rate else None,
        "low": verdict.low,
        "high": verdict.high,
        "confidence": round(verdict.confidence, 12),  # chosen, so without what floats make of it
        "p_value": verdict.p_value,
        "p_holm": verdict.p_holm,
        "shown": verdict.shown,
    }


def _looks_json(summary: Summary) -> Json | None:
    looks = summary.looks
    if looks is None:
        return None
    boundaries: tuple[float | None, ...] = (None,) * len(looks.taken)
    if looks.at is not None:
        boundaries = looks.boundaries(summary.options.confidence)
    return {
        "at": list(looks.at) if looks.at is not None else ANY_TIME,
        "n_planned": looks.n_planned,
        "n_given": looks.n_given,
        "tightest_at": looks.tightest_at,
        "taken": [
            {**_plain(cut), "boundary": boundary}
            for cut, boundary in zip(looks.taken, boundaries, strict=True)
        ],
    }


def _add_elo_json(summary: Summary) -> Json:
    """The mean of the criteria's scores, as the paper gives it; None where one has no score."""
    columns = [[system.add_elo for system in part.systems] for part in summary.criteria]
    rows = dict(zip(summary.design.systems, zip(*columns, strict=True), strict=True))
    known = {key: [score for score in row if score is not None] for key, row in rows.items()}
    many = any(part.n_votes > ELO_MOST for part in summary.criteria)
    return {
        "mean": {
            key: sum(scores) / len(scores) if len(scores) == len(columns) else None
            for key, scores in known.items()
        },
        "warnings": [f"more than {ELO_MOST} votes"] if many else [],
    }


def _raters_json(summary: Summary) -> Iterator[Json]:
    """What each rater did, where it is known who voted and what stood on which side."""
    for profile in summary.raters.profiles if summary.raters else ():
        if profile.n:
            yield {**_plain(profile), "rater": summary.rater_names[profile.rater]}


def _criterion_json(criterion: CriterionSummary, names: tuple[str, ...]) -> Json:
    return {
        "n_votes": criterion.n_votes,
        "n_raters": criterion.n_raters,
        "n_prompts": criterion.n_prompts,
        "pairs": [pair_json(pair) for pair in criterion.pairs],
        "systems": [system_json(system) for system in criterion.systems],
        "ranking": _ranking_json(criterion, names),
        "davidson": {
            "abilities": dict(zip(names, criterion.davidson.abilities, strict=True)),
            "tie_parameter": criterion.davidson.tie_parameter,
            "n": criterion.davidson.n,
            "warnings": list(criterion.davidson.warnings),
        },
        "agreement": _plain(criterion.agreement),
        "side": _plain(criterion.side) if criterion.side is not None else None,
        "claims": [
            {**claim_json(claim), "carrying": _carrying_json(claim)} for claim in criterion.claims
        ],
        "slices": {name: slicing_json(slicing, names) for name, slicing in criterion.slices},
    }


def _carrying_json(claim: ClaimSummary) -> list[Json]:
    """The prompts that do most to a decided claim; rates are of the pair's first system."""
    return [{**_plain(influence), "prompt": name} for name, influence in claim.carrying]


def slicing_json(slicing: Slicing, names: tuple[str, ...]) -> Json:
    """One slicing as it stands in report.json; its win rates are the rows of slices.csv."""
    return {
        "win_rates": [
            {
                "label": part.label,
                "first": names[part.first],
                "second": names[part.second],
                **_plain(part.result),
                "p_holm": part.p_holm,
            }
            for part in slicing.win_rates
        ],
        "heterogeneity": [
            {**_plain(test), "first": names[test.first], "second": names[test.second]}
            for test in slicing.heterogeneity
        ],
        "n_unlabelled": slicing.n_unlabelled,
    }


def pair_json(pair: PairSummary) -> Json:
    """One pair as it stands in report.json and, column by column, in pairs.csv."""
    return {"first": pair.first, "second": pair.second, **_plain(pair.rate)}


def system_json(system: SystemSummary) -> Json:
    """One system as it stands in report.json and, column by column, in systems.csv."""
    rating, overall = system.rating, system.overall
    return {
        "system": system.key,
        "win_rate": overall.win_rate,
        "low": overall.low,
        "high": overall.high,
        "se": overall.se,
        "n_opponents": overall.n_opponents,
        "rating": rating.rating,
        "rating_se": rating.se,
        "elo": rating.elo,
        "elo_low": rating.elo_low,
        "elo_high": rating.elo_high,
        "elo_as_in_add": system.add_elo,
        "rank_low": rating.rank_low,
        "rank_high": rating.rank_high,
        "estimable": rating.estimable,
        "warnings": list(overall.warnings),
    }


def _ranking_json(criterion: CriterionSummary, names: tuple[str, ...]) -> Json:
    ranking = criterion.ranking
    return {
        "n": ranking.n,
        "df": ranking.df,
        "confidence": ranking.confidence,
        "method": ranking.method,
        "estimand": ranking.estimand,
        "warnings": list(ranking.warnings),
        "differences": [
            {
                **_plain(difference),
                "first": names[difference.first],
                "second": names[difference.second],
            }
            for difference in ranking.differences
        ],
    }


def claim_json(summary: ClaimSummary) -> Json:
    """One row of the table of claims, in report.json and in claims.csv."""
    claim, undoing = summary.claim, summary.fragility
    better = {"first": summary.first, "second": summary.second, None: None}[claim.direction]
    without = undoing.without_top_raters if undoing else None
    return {
        "first": summary.first,
        "second": summary.second,
        "p_value": claim.p_value,
        "p_holm": claim.p_holm,
        "decided": claim.decided,
        "better": better,
        "n_votes_to_undo": undoing.n_votes if undoing else None,
        "n_votes_exact": undoing.n_votes_exact if undoing else None,
        "n_raters_to_undo": undoing.n_raters if undoing else None,
        "n_raters_exact": undoing.n_raters_exact if undoing else None,
        "n_top_raters": undoing.n_top_raters if undoing else None,
        "win_rate_without_top": without.win_rate if without else None,
        "low_without_top": without.low if without else None,
        "high_without_top": without.high if without else None,
    }


def _plain(result: Any) -> Json:
    """A frozen, flat result as JSON takes it."""
    values = {name: getattr(result, name) for name in _names(result.__class__)}
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
    }


@cache  # a report may have ten thousand rows
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))
