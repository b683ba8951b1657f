"""A report on votes from elsewhere: the same numbers and files as for a study of our own."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from evalsite.results import documents, queries, tables
from evalsite.results.documents import Report
from evalsite.results.figures import figures
from evalsite.results.judging import judged
from evalsite.results.own_report import OwnReport, ReportFileError
from evalsite.results.own_votes import as_in_study, check_looks, looks_in
from evalsite.results.presentation import Asked
from evalsite.results.report import report_of
from evalsite.results.summary import Column, Design, Votes, summarise
from evalsite.results.votes_file import VotesFileError, VoteTable, read_votes
from evalsite.stats import Options
from evalsite.stats.clusters import UNLABELLED, Codes
from evalsite.studies.spec import load_claims
from evalsite.studies.spec_claims import ClaimSpec, claim_problems
from evalsite.studies.spec_problems import SpecError

FILES = (
    "report.json",
    "pairs.csv",
    "systems.csv",
    "declared_claims.csv",
    "claims.csv",
    "slices.csv",
    "report.html",
)


def analyze(
    path: Path,
    *,
    options: Options,
    seed: int,
    at: datetime,
    a_is_left: bool = False,
    criterion: str | None = None,
    claims: Path | None = None,
    report: Path | None = None,
) -> Report:
    """Everything that a file of votes says, and what it makes of the claims of another file.

    report : the report.json of the study whose own votes.csv the votes are. With it come the
        study's order of systems, its planned pairs and its looks.

    Raises VotesFileError, SpecError about the claims, or ReportFileError about the report.
    """
    own = OwnReport(report) if report else None
    if own is not None and criterion is not None:
        raise ReportFileError(
            f"{own.name}: expected every criterion of the study, found --criterion {criterion}: "
            "claims are adjusted, and looks counted, over all together"
        )
    declared, claims_file = (load_claims(claims), claims.name) if claims else (None, "")
    if declared is not None:
        check_looks(declared.looks, claims_file, own)
    table, sha256 = read_votes(path, a_is_left=a_is_left, are_own=own is not None)
    if criterion is not None:
        table = _only(table, criterion, path)
    if own is not None:
        table = as_in_study(table, own, path.name)
    design = design_of(table, declared.claims if declared else (), claims_file, own)
    votes = votes_of(table)
    looks = looks_in(table, own.looks) if own and own.looks else None
    summary = judged(summarise(design, votes, options, seed=seed), votes, looks)
    n_simulated = 0 if table.simulated is None else int(table.simulated.sum())
    provenance = {
        "versions": documents.versions(),
        "input_sha256": sha256,
        "n_simulated": n_simulated,
        "written_at": tables.timestamp(at),
    }
    return Report(
        title=path.name,
        summary=summary,
        data=report_of(summary, study=None, provenance=provenance),
        asked={
            part.key: Asked("", part.n_ties > 0, "no ties among the votes")
            for part in summary.criteria
        },
        names={system: system for system in table.systems},
        study=None,
        n_simulated=n_simulated,
        notes=_notes(own, sha256),
    )


def _notes(own: OwnReport | None, sha256: str) -> tuple[str, ...]:
    if own is None or own.votes_sha256 == sha256:
        return ()
    return (
        f"{own.name} is of other votes than these (its settings.input_sha256 is that of another "
        "file): its plan and its looks may not be theirs.",
    )


def design_of(
    table: VoteTable,
    claims: Sequence[ClaimSpec] = (),
    claims_file: str = "",
    own: OwnReport | None = None,
) -> Design:
    """Of votes from elsewhere no planned pair is known: every pair with a vote is reported. Raises
    SpecError where a claim is about what is not compared."""
    declared = [claim.model_dump() for claim in claims]
    baseline = own.baseline if own else ""
    problems = claim_problems(
        declared, systems=table.systems, criteria=table.criteria, baseline=baseline
    )
    if problems:
        raise SpecError([f"{claims_file}: {problem}" for problem in problems])
    return Design(
        table.criteria,
        table.systems,
        pairs=own.pairs if own else None,
        claims=queries.declared(declared, table.systems),
    )


def votes_of(table: VoteTable) -> Votes:
    """The rows as the arithmetic takes them; a column that is missing labels nothing."""
    columns = {
        "category": table.categories,
        "challenge": table.challenges,
        "rater_group": table.rater_groups,
    }
    return Votes(
        criteria=table.criterion,
        first=table.first,
        second=table.second,
        outcomes=table.outcomes,
        raters=_codes(table.raters, len(table)),
        prompts=_codes(table.prompts, len(table)),
        first_on_left=table.a_on_left,
        prompt_names=table.prompts.names if table.prompts else (),
        rater_names=table.raters.names if table.raters else (),
        response_ms=table.counts.get("response_ms"),
        slices={name: column for name, column in columns.items() if column is not None},
    )


def _codes(column: Column | None, n: int) -> Codes:
    return np.broadcast_to(np.intp(UNLABELLED), n) if column is None else column.codes


def _only(table: VoteTable, criterion: str, path: Path) -> VoteTable:
    """The votes of one criterion alone, and the systems that they compare."""
    if criterion not in table.criteria:
        known = ", ".join(table.criteria)
        raise VotesFileError([f"{path.name}: no votes on criterion {criterion}; found {known}"])
    return table.only(criterion)


def write(report: Report, out: Path) -> None:
    """Put the files of the report into the folder `out`, whole or not at all."""
    files = {name: documents.DOCUMENTS[name][1](report) for name in FILES}
    documents.write_documents(files | figures(report.summary, report.names), out)
