"""A report on votes from elsewhere: the same numbers and files as for a study of our own."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from evalsite.results import documents, queries, tables
from evalsite.results.documents import Report
from evalsite.results.figures import figures
from evalsite.results.judging import judged
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
) -> Report:
    """Everything that a file of votes says, and what it makes of the claims of another file.

    Raises VotesFileError, or SpecError about the claims.
    """
    declared = load_claims(claims) if claims else []
    table, sha256 = read_votes(path, a_is_left=a_is_left)
    if criterion is not None:
        table = _only(table, criterion, path)
    design, votes = design_of(table, declared, claims.name if claims else ""), votes_of(table)
    summary = judged(summarise(design, votes, options, seed=seed), votes)
    provenance = {
        "versions": documents.versions(),
        "input_sha256": sha256,
        "written_at": tables.timestamp(at),
    }
    return Report(
        title=path.name,
        summary=summary,
        data=report_of(summary, study=None, provenance=provenance),
        asked={part.key: Asked("", part.n_ties > 0) for part in summary.criteria},
        names={system: system for system in table.systems},
        study=None,
    )


def design_of(table: VoteTable, claims: Sequence[ClaimSpec] = (), claims_file: str = "") -> Design:
    """No pair was planned that we know of: every pair with a vote is reported. Raises SpecError
    where a claim is about what the votes do not compare."""
    declared = [claim.model_dump() for claim in claims]
    problems = claim_problems(declared, systems=table.systems, criteria=table.criteria)
    if problems:
        raise SpecError([f"{claims_file}: {problem}" for problem in problems])
    return Design(
        table.criteria,
        table.systems,
        pairs=None,
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
