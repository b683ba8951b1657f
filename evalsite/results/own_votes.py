"""A study's own votes.csv and report.json put together again: its votes as it counted them."""

import json
from dataclasses import replace

import numpy as np

from evalsite.results import tables
from evalsite.results.looks import Looks, looks_of
from evalsite.results.own_report import OwnLooks, OwnReport
from evalsite.results.summary import Column
from evalsite.results.votes_file import VotesFileError, VoteTable
from evalsite.stats.clusters import UNLABELLED
from evalsite.studies.spec_claims import LooksSpec
from evalsite.studies.spec_problems import SpecError


def check_looks(declared: LooksSpec | None, claims_file: str, own: OwnReport | None) -> None:
    """Raises SpecError where a file of claims declares looks of which no report tells the rest."""
    if declared is None:
        return
    if own is None:
        raise SpecError(
            [
                f"{claims_file}: [looks]: expected the study's own report.json beside it "
                "(--report FILE), which says how many votes were planned and given; the "
                "[[claims]] alone, in another file, are judged as if nobody had looked"
            ]
        )
    known = own.looks.at if own.looks else None
    if declared.at != known:
        expected = "none" if known is None else json.dumps(known)
        raise SpecError(
            [
                f"{claims_file}: [looks], at: expected {expected} as in {own.name}, "
                f"found {json.dumps(declared.at)}"
            ]
        )


def as_in_study(table: VoteTable, own: OwnReport, votes_file: str) -> VoteTable:
    """The votes in the order they came, each told from the system that is first in the study, and
    everything numbered as the study does: so that sums have the same last digit.

    table : with OWN_COLUMNS. Raises VotesFileError where the votes are not of that study.
    """
    _check_of_study(table, own, votes_file)
    table = table.rows(np.argsort(table.counts["n_given"], kind="stable"))
    criteria = np.array([own.criteria.index(name) for name in table.criteria], dtype=np.intp)
    place = np.array([own.systems.index(name) for name in table.systems], dtype=np.intp)
    one, other = place[table.first], place[table.second]
    turned = one > other
    return replace(
        table,
        criteria=own.criteria,
        systems=own.systems,
        criterion=criteria[table.criterion],
        first=np.where(turned, other, one),
        second=np.where(turned, one, other),
        outcomes=np.where(turned, 1 - table.outcomes, table.outcomes),
        a_on_left=None if table.a_on_left is None else table.a_on_left ^ turned,
        raters=_by_number(table.raters),
        prompts=_by_number(table.prompts),
        categories=_as_entered(table.categories),
        challenges=_as_entered(table.challenges),
    )


def _check_of_study(table: VoteTable, own: OwnReport, votes_file: str) -> None:
    problems = [
        f"{votes_file}: {column}: expected one of {', '.join(known)} as in {own.name}, found {name}"
        for column, names, known in (
            ("criterion", table.criteria, own.criteria),
            ("system_a or system_b", table.systems, own.systems),
        )
        for name in names
        if name not in known
    ]
    last = int(table.counts["n_given"].max())
    if own.looks and last > own.looks.n_given:
        problems.append(
            f"{votes_file}: n_given: expected at most {own.looks.n_given} as in {own.name} "
            f"(looks.n_given), found {last}"
        )
    if problems:
        raise VotesFileError(problems)


def _by_number(column: Column | None) -> Column | None:
    """Labels in the order of their numbers: r999 before r1000, which as text comes first."""
    if column is None:
        return None
    names = sorted(column.names, key=lambda name: (len(name), name))
    place = {name: number for number, name in enumerate(names)}
    codes = np.array([*(place[name] for name in column.names), UNLABELLED], dtype=np.intp)
    return Column(codes[column.codes], tuple(names))


def _as_entered(column: Column | None) -> Column | None:
    """Texts without the apostrophe that keeps spreadsheets from running them."""
    return column and Column(column.codes, tuple(map(tables.text_in, column.names)))


def looks_in(table: VoteTable, declared: OwnLooks) -> Looks:
    """The looks that were taken, counted anew from the votes of `as_in_study`."""
    return looks_of(
        {"at": declared.at},
        n_planned=declared.n_planned,
        tightest_at=declared.tightest_at,
        n_given=table.counts["n_given"],
        n_given_in_all=declared.n_given,
        is_closed=True,
    )
