"""A study's report: read once, rendered as JSON, CSV and a page of its own, and written whole."""

import hashlib
import json
import os
import platform
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
import scipy
from django.conf import settings
from django.template.loader import render_to_string
from django.utils import translation

from evalsite.results import (
    charts,
    declared,
    elo_table,
    presentation,
    queries,
    record_lines,
    tables,
    wording,
)
from evalsite.results.facts import study_json
from evalsite.results.figures import figures, is_figure, latency_figures
from evalsite.results.judging import judged
from evalsite.results.methods import methods
from evalsite.results.presentation import Asked, Names
from evalsite.results.queries import StudyDesign
from evalsite.results.report import Json, report_of
from evalsite.results.speed import speed_figure
from evalsite.results.summary import Summary, summarise
from evalsite.stats import Options
from evalsite.studies.models import Criterion, Study

DEFAULTS = Options()


class StudyStillOpen(Exception):
    """Win rates of a study that is not closed stay unread."""

    def __init__(self, study: Study) -> None:
        super().__init__(
            f"Study {study.slug} is {study.state.lower()}: a report can be made once it is closed."
        )


class NotAReport(Exception):
    """The folder to be replaced holds other things than a report."""


@dataclass(frozen=True, slots=True)
class Report:
    """One reading of a closed study, or of imported votes; every document is made of it."""

    title: str
    summary: Summary
    data: Json  # report.json
    asked: Mapping[str, Asked]  # by criterion
    names: Names  # key of a system -> what people read
    study: Study | None  # None for imported votes
    n_simulated: int  # votes that programs gave
    votes_csv: bytes = b""  # imported votes lie where they came from
    notes: tuple[str, ...] = ()  # what to keep in mind of files that were read together

    @property
    def simulated(self) -> bool:
        """Is there any vote that a program gave?"""
        return self.n_simulated > 0 or (self.study is not None and self.study.simulated)

    @property
    def n_votes(self) -> int:
        return sum(criterion.n_votes for criterion in self.summary.criteria)

    @property
    def suggests_fixed_prompts(self) -> bool:
        """Are there too few prompts to speak of others like them?"""
        pairs = [pair for criterion in self.summary.criteria for pair in criterion.pairs]
        return any("few prompts" in wording.worth_saying(pair.rate.warnings) for pair in pairs)


def read_report(study: Study, *, at: datetime, options: Options = DEFAULTS) -> Report:
    """Read the counted votes of a closed study and compute all that its documents say.

    The same votes, options, programs and measured latencies give the same bytes, except
    `written_at`, which is `at`.
    """
    if study.state != Study.State.CLOSED:
        raise StudyStillOpen(study)
    design = queries.load_design(study)
    record = queries.load_record(study)
    stored = queries.load_votes(study, design)
    votes = queries.describe(stored, record)
    looks = queries.load_looks(study, stored)
    summary = judged(summarise(design.keys, votes, options), votes, looks)
    votes_csv = tables.votes_csv(design, record, stored)
    n_simulated = votes.n if study.simulated else 0
    data = report_of(
        summary,
        study=study_json(design, record, queries.load_paces(design), n_counted=stored.votes.n),
        provenance={
            "versions": versions(),
            "input_sha256": hashlib.sha256(votes_csv).hexdigest(),
            "n_simulated": n_simulated,
            "written_at": tables.timestamp(at),
        },
    )
    return Report(
        title=study.title,
        summary=summary,
        data=data,
        asked=asked_of(design),
        names=design.names,
        study=study,
        n_simulated=n_simulated,
        votes_csv=votes_csv,
    )


def asked_of(design: StudyDesign) -> dict[str, Asked]:
    """Key of a criterion -> what raters were asked."""
    return {
        criterion.key: Asked(
            criterion.question, criterion.tie_policy == Criterion.TiePolicy.ALLOWED
        )
        for criterion in design.criteria
    }


@cache
def versions() -> dict[str, str]:
    """The programs that made the numbers."""
    project = tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text(encoding="utf-8"))
    return {
        "evalsite": project["project"]["version"],
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }


def report_json(report: Report) -> bytes:
    text = json.dumps(report.data, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def votes_csv(report: Report) -> bytes:
    return report.votes_csv


def pairs_csv(report: Report) -> bytes:
    return tables.pairs_csv(report.summary, simulated=report.simulated)


def systems_csv(report: Report) -> bytes:
    return tables.systems_csv(report.summary, simulated=report.simulated)


def claims_csv(report: Report) -> bytes:
    return tables.claims_csv(report.summary, simulated=report.simulated)


def declared_claims_csv(report: Report) -> bytes:
    return tables.declared_claims_csv(report.summary, simulated=report.simulated)


def report_html(report: Report) -> bytes:
    """One file that needs nothing else: style and drawings inside, no script."""
    css = settings.BASE_DIR / "static" / "css"
    style = "\n".join(
        (css / name).read_text(encoding="utf-8") for name in ("base.css", "results.css")
    )
    with translation.override("en"):  # not the language of whoever asks
        page = render_to_string("results/report.html", {"style": style, **page_context(report)})
    return page.encode()


def page_context(report: Report) -> Json:
    """What templates/results/_report.html shows."""
    names = report.names
    in_study = report.study is not None
    return {
        "title": report.title,
        "simulated": wording.simulated_note(report.n_simulated, report.n_votes)
        if report.simulated
        else "",
        "study": report.study,
        "report": report.data,
        "facts": report.data["study"],
        "options": report.summary.options,
        "confidence": wording.confidence_text(report.summary.options.confidence),
        "tiles": record_lines.tiles(report.data),
        "declared": declared.claim_lines(
            report.summary.verdicts, report.summary.design.systems, names
        ),
        "notes": report.notes,
        "is_usual_reading": report.summary.options == DEFAULTS,
        "looks_note": declared.looks_note(report.summary.looks),
        "early_note": declared.early_note(report.summary.looks),
        "add_elo": elo_table.add_elo(report.data, names),
        "has_ties": any(criterion.n_ties for criterion in report.summary.criteria),
        "parts": presentation.criterion_parts(report.asked, names, report.summary),
        "ticks": charts.TICKS,
        "methods": (*methods(report.data, names), *declared.looks_facts(report.summary)),
        "raters": record_lines.flagged_raters(report.data),
        "honest_signs": record_lines.honest_signs(report.data),
        "left_out": record_lines.left_out(report.data, names) if in_study else (),
        "image_notes": record_lines.image_notes(report.data, names) if in_study else (),
        "systems": record_lines.system_lines(report.data, names) if in_study else (),
        "speed": speed_figure(report.data, names),
    }


def slices_csv(report: Report) -> bytes:
    return tables.slices_csv(report.summary, simulated=report.simulated)


def latencies_csv(report: Report) -> bytes:
    return tables.latencies_csv(report.data)


DOCUMENTS: dict[str, tuple[str, Callable[[Report], bytes]]] = {
    "report.json": ("application/json", report_json),
    "votes.csv": ("text/csv; charset=utf-8", votes_csv),
    "pairs.csv": ("text/csv; charset=utf-8", pairs_csv),
    "systems.csv": ("text/csv; charset=utf-8", systems_csv),
    "declared_claims.csv": ("text/csv; charset=utf-8", declared_claims_csv),
    "claims.csv": ("text/csv; charset=utf-8", claims_csv),
    "slices.csv": ("text/csv; charset=utf-8", slices_csv),
    "latencies.csv": ("text/csv; charset=utf-8", latencies_csv),
    "report.html": ("text/html; charset=utf-8", report_html),
}


def write_report(
    study: Study,
    out: Path,
    *,
    at: datetime,
    options: Options = DEFAULTS,
) -> Report:
    """Write every document into the folder `out`, which is replaced whole or not at all.

    Raises StudyStillOpen before the study is closed, and NotAReport where `out` holds anything
    that is not of a report.
    """
    report = read_report(study, at=at, options=options)
    files = {name: render(report) for name, (_, render) in DOCUMENTS.items()}
    drawn = figures(report.summary, report.names) | latency_figures(report.data, report.names)
    write_documents(files | drawn, out)
    return report


def write_documents(documents: Mapping[str, bytes], out: Path) -> None:
    """Put these files into the folder `out`, whole or not at all. Raises NotAReport."""
    out = out.resolve()
    _check_replaceable(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _put(documents, out)
    except OSError as error:
        raise NotAReport(f"{out}: cannot be written: {error.strerror or error}") from error


def _put(documents: Mapping[str, bytes], out: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as workplace:
        fresh = Path(workplace) / "fresh"
        fresh.mkdir()
        for name, content in documents.items():
            _write(fresh / name, content)
        _replace(out, fresh, Path(workplace) / "old")


def _check_replaceable(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise NotAReport(f"{out}: expected a folder, found a file.")
    there = {path.name for path in out.iterdir()} - set(DOCUMENTS)
    strangers = sorted(name for name in there if not is_figure(name))
    if strangers:
        raise NotAReport(
            f"{out}: expected an empty folder or an earlier report, found {strangers[0]}"
            + (f" and {len(strangers) - 1} more." if len(strangers) > 1 else ".")
        )


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replace(out: Path, fresh: Path, old: Path) -> None:
    """Put `fresh` in the place of `out`; should that fail, what was there comes back."""
    if out.exists():
        out.rename(old)
    try:
        fresh.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
