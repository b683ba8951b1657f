"""Elo as in the ADD paper, for people to read: beside the rating, so that neither is mistaken."""

from dataclasses import dataclass
from math import inf

from evalsite.results.presentation import Names, title_of
from evalsite.results.report import Json


@dataclass(frozen=True, slots=True)
class AddEloLine:
    """One system's scores, of each criterion and of all of them."""

    name: str
    cells: tuple[tuple[str, str], ...]  # a column's name and the score in it


@dataclass(frozen=True, slots=True)
class AddElo:
    columns: tuple[str, ...]  # criteria, and their mean where there are several
    lines: tuple[AddEloLine, ...]  # the best mean first


def add_elo(report: Json, names: Names) -> AddElo | None:
    """None where no system has a score: without votes, or with too many."""
    parts, means = report["criteria"], report["elo_as_in_add"]["mean"]
    columns = [(title_of(name), _scores(part)) for name, part in parts.items()]
    if all(score is None for _, scores in columns for score in scores.values()):
        return None
    if len(columns) > 1:
        columns.append(("Mean", means))
    order = sorted(means, key=lambda key: inf if means[key] is None else -means[key])
    return AddElo(
        tuple(name for name, _ in columns),
        tuple(
            AddEloLine(names[key], tuple((name, _text(scores[key])) for name, scores in columns))
            for key in order
        ),
    )


def _scores(criterion: Json) -> dict[str, float | None]:
    return {line["system"]: line["elo_as_in_add"] for line in criterion["systems"]}


def _text(score: float | None) -> str:
    return "–" if score is None else f"{score:.0f}"
