"""`manage.py analyze_votes VOTES --out DIR`: win rates, ratings and claims from any votes."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from evalsite.results import declared, imported, presentation, wording
from evalsite.results.documents import NotAReport, Report
from evalsite.results.votes_file import VotesFileError
from evalsite.stats import Options


class Command(BaseCommand):
    help = "Analyses votes from a CSV, TSV, JSONL or Parquet file. No database is needed."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("votes", type=Path, metavar="VOTES", help="one vote a row")
        parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="to be written")
        parser.add_argument(
            "--fixed-prompts", action="store_true", help="speak of these prompts only"
        )
        parser.add_argument("--ties", choices=["half", "drop"], default="half")
        parser.add_argument("--confidence", type=float, default=0.95, help="of intervals (0.95)")
        parser.add_argument("--criterion", help="this one alone")
        parser.add_argument(
            "--claims", type=Path, metavar="FILE", help="[[claims]] that were declared beforehand"
        )
        parser.add_argument(
            "--report",
            type=Path,
            metavar="FILE",
            help="report.json of the study whose own votes.csv this is: its order, plan and looks",
        )
        parser.add_argument("--seed", type=int, default=0, help="of the resampling (0)")
        parser.add_argument(
            "--a-is-left", action="store_true", help="system_a stood on the left, always"
        )

    def handle(self, *args: Any, votes: Path, out: Path, **asked: Any) -> None:
        if asked["seed"] < 0:
            raise CommandError(f"--seed: expected a whole number from 0, found {asked['seed']}")
        try:
            options = Options(asked["confidence"], asked["fixed_prompts"], asked["ties"])
            report = imported.analyze(
                votes,
                options=options,
                seed=asked["seed"],
                at=timezone.now(),
                a_is_left=asked["a_is_left"],
                criterion=asked["criterion"],
                claims=asked["claims"],
                report=asked["report"],
            )
            imported.write(report, out)
        except (VotesFileError, NotAReport, ValueError) as error:
            raise CommandError(str(error)) from error
        self.stdout.ending = ""  # rich ends its own lines
        console = Console(file=self.stdout, highlight=False)  # type: ignore[arg-type]
        if not console.is_terminal:
            console = Console(file=self.stdout, highlight=False, width=120)  # type: ignore[arg-type]
        show(console, report)
        console.print(f"  Written to {out}", soft_wrap=True)


def show(console: Console, report: Report) -> None:
    """A table of the systems for each criterion, the best first, and what to keep in mind."""
    level = wording.confidence_text(report.summary.options.confidence)
    for part in presentation.criterion_parts(report.asked, report.names, report.summary):
        console.print(f"\n  [bold]{part.title}[/bold]   [dim]{', '.join(part.counts[:3])}[/dim]\n")
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
        table.add_column("system", overflow="fold")
        for name in ("rank", "rating", f"{level}%", "over all others", f"{level}%"):
            table.add_column(name, justify="right", no_wrap=True)
        for line in part.ranks:
            table.add_row(
                line.name,
                line.ranks,
                line.rating,
                line.rating_interval,
                line.win_rate,
                line.win_interval,
            )
        console.print(Padding(table, (0, 0, 1, 2)))
        for note in part.notes:
            where = "" if note.is_general else f" ({len(note.pairs)} of {len(part.lines)} pairs)"
            console.print(f"  [yellow]{note.text}{where}[/yellow]")
    summary = report.summary
    for claim in declared.claim_lines(summary.verdicts, summary.design.systems, report.names):
        console.print(f"  {claim.criterion}: {claim.text} [bold]{claim.verdict}[/bold]")
    if report.simulated:
        said = wording.simulated_note(report.n_simulated, report.n_votes)
        console.print(f"  [yellow]{said}[/yellow]")
    for text in report.notes:
        console.print(f"  [yellow]{text}[/yellow]")
    for _, text in declared.looks_facts(summary):
        console.print(f"  [dim]{text}[/dim]")
    if report.summary.criteria[0].side is None:
        console.print(
            "  [yellow]Sides are not known: add a column left, or say --a-is-left.[/yellow]"
        )
