"""A study's own report.json, read for what its votes.csv cannot say.

That is the order of systems and criteria, which pairs were planned, and what planned looks rest
on: how many votes were planned, and how many answers given. No result is read.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evalsite.studies.resolve import planned_pairs
from evalsite.studies.spec_claims import LooksSpec

MAX_REPORT_BYTES = 256 * 1024 * 1024


class ReportFileError(ValueError):
    """A report.json cannot be used; the text has a line for each problem."""


class _Table(BaseModel):
    """The fields that are read, among others."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class _Keyed(_Table):
    key: str = Field(min_length=1)


class _Design(_Table):
    criteria: list[_Keyed] = Field(min_length=1)
    systems: list[_Keyed] = Field(min_length=2)
    baseline: str | None


class _Study(_Table):
    design: _Design


class _Settings(_Table):
    input_sha256: str


class OwnLooks(LooksSpec):
    """The looks that a study declared, and what decides which were taken."""

    model_config = ConfigDict(extra="ignore")

    n_planned: Annotated[int, Field(ge=1)]
    tightest_at: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    n_given: Annotated[int, Field(ge=0)]


class _Report(_Table):
    study: _Study
    settings: _Settings
    looks: OwnLooks | None


_EXPECTED = {  # of a field, by its own name
    "study": "what was asked, as in the report of a study",
    "criteria": "a list of criteria",
    "systems": "a list of two systems or more",
    "key": "a key",
    "baseline": "the key of a system, or null",
    "looks": "a table, or null where none was declared",
    "n_planned": "a whole number: votes planned when the study opened",
    "n_given": "a whole number: answers given before it closed",
    "tightest_at": "a number above 0: votes planned for one pair",
    "input_sha256": "the sha256 of votes.csv",
}


class OwnReport:
    """What is read of a study's report.json. Raises ReportFileError."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        try:
            found = _Report.model_validate(_read(path))
        except ValidationError as error:
            raise ReportFileError(_words(path.name, error)) from error
        design = found.study.design
        self.criteria = tuple(criterion.key for criterion in design.criteria)
        self.systems = tuple(system.key for system in design.systems)
        self.baseline = design.baseline or ""
        self.looks = found.looks
        self.votes_sha256 = found.settings.input_sha256

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The planned ones, as places in `systems`."""
        place = {key: number for number, key in enumerate(self.systems)}
        return tuple((place[a], place[b]) for a, b in planned_pairs(self.systems, self.baseline))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > MAX_REPORT_BYTES:
            raise ReportFileError(f"{path.name}: expected at most {MAX_REPORT_BYTES >> 20} MiB")
        data = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ReportFileError(f"{path.name}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ReportFileError(f"{path.name}: expected UTF-8 text") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ReportFileError(f"{path.name}: {where}: expected JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # a number too long, or lists too deep
        raise ReportFileError(f"{path.name}: expected a report's JSON: {error}") from error
    if not isinstance(data, dict):
        raise ReportFileError(f"{path.name}: expected a study's report.json, an object")
    return data


def _words(name: str, error: ValidationError) -> str:
    """Every problem: file, field, what was expected and what was found."""
    lines = []
    for problem in error.errors(include_url=False):
        steps = problem["loc"]
        place = ".".join(str(step) for step in steps)
        if problem["type"] == "value_error":
            lines.append(f"{name}: {place}: {problem['ctx']['error']}")
            continue
        field = next((str(s) for s in reversed(steps) if s in _EXPECTED), "")
        found = "nothing" if problem["type"] == "missing" else json.dumps(problem["input"])[:60]
        lines.append(
            f"{name}: {place}: expected {_EXPECTED.get(field, 'an object')}, found {found}"
        )
    return "\n".join(lines)
