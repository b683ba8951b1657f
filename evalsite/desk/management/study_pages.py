"""What `manage.py study` shows in a terminal: a few calm tables, and progress while painting."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Column
from rich.text import Text

from evalsite.desk.wording import failure_words, notes_of, removed_words
from evalsite.results.terminal import plain_table, print_table
from evalsite.studies.models import Study
from evalsite.studies.progress import SystemProgress
from evalsite.studies.queries import Preparation
from evalsite.studies.wording import counted
from evalsite.voting.queries import StudyCounts

N_DEFECTS = 20  # listed in a terminal
PLAIN_EVERY = 30.0  # seconds between lines where nobody watches


@dataclass(frozen=True)
class SystemRow:
    """One system as `check` lists it."""

    key: str
    label: str
    licence: str
    problems: Sequence[str]


@dataclass(frozen=True)
class Size:
    """How much a study asks for."""

    n_prompts: int
    n_pairs: int
    n_comparisons: int
    n_criteria: int
    n_votes: int


def heading(console: Console, title: str, note: str) -> None:
    console.print()
    console.print(Text.assemble("  ", (title, "bold"), ("   " + note, "dim")))


def show_check(
    console: Console,
    systems: Sequence[SystemRow],
    size: Size,
    declared: Sequence[str],
    problems: Sequence[str] = (),
) -> None:
    """Systems with their licences, how much is asked, what is declared, then every problem."""
    table = plain_table("system", "licence", "")
    for row in systems:
        state = Text("ready", "green") if not row.problems else Text("missing", "yellow")
        table.add_row(row.label, row.licence or "not stated", state)
    print_table(console, table)
    if size.n_prompts:  # none are known while their file has problems
        console.print(
            f"  {counted(size.n_prompts, 'prompt')}, {counted(size.n_pairs, 'pair')} of systems: "
            f"{counted(size.n_comparisons, 'comparison')}, {counted(size.n_votes, 'vote')} wanted "
            f"({counted(size.n_criteria, 'question')})\n",
            highlight=False,
        )
    show_problems(console, [("Declared", declared)])
    show_problems(console, [(row.label, row.problems) for row in systems] + [("Study", problems)])


def show_problems(console: Console, groups: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Names and what is wrong with each: a problem once, under all the names that share it."""
    names: dict[str, dict[str, None]] = {}
    for name, problems in groups:
        for problem in problems:
            names.setdefault(problem, {})[name] = None
    alike: dict[tuple[str, ...], list[str]] = {}
    for problem, sharing in names.items():
        alike.setdefault(tuple(sharing), []).append(problem)
    for labels, shared in alike.items():
        console.print(Text.assemble("  ", (" and ".join(labels), "bold")))
        for problem in shared:
            console.print(f"    {problem}", highlight=False, markup=False, soft_wrap=True)
        console.print()


def show_preparation(console: Console, slug: str, preparation: Preparation) -> None:
    """How far each system's images are, and what stands in the way of opening."""
    bar = ["bar"] if console.is_terminal else []
    table = plain_table("system", *[""] * len(bar), ">images", ">failed", ">shown")
    for system in preparation.systems:
        table.add_row(
            system.label,
            *(_bar(system) for _ in bar),
            f"{system.ready:,} of {system.wanted:,}",
            Text(f"{system.failed:,}", "red" if system.failed else "dim"),
            f"{system.displayed:,}",
        )
    print_table(console, table)
    show_notes(console, preparation.systems)
    show_failures(console, slug, preparation.systems)
    show_defects(console, preparation)
    if words := removed_words(preparation.n_prompts, preparation.n_prompts_removed):
        console.print(f"  {words}\n", highlight=False)


def show_notes(console: Console, systems: Sequence[SystemProgress]) -> None:
    """A line for each system of which there is more to say than the table does."""
    notes = [(system.label, notes_of(system)[bool(system.failed) :]) for system in systems]
    for label, texts in notes:
        if texts:
            line = Text.assemble(f"  {label}: ", (", ".join(texts), "dim"))
            console.print(line, highlight=False, soft_wrap=True)
    if any(texts for _, texts in notes):
        console.print()


def _bar(system: SystemProgress) -> ProgressBar:
    return ProgressBar(
        total=system.wanted, completed=system.ready, width=24, complete_style="green"
    )


def show_failures(console: Console, slug: str, systems: Sequence[SystemProgress]) -> None:
    """Why images failed, the most frequent reason first, and what to do about it."""
    groups = [
        (f"{system.label}, why images failed", [failure_words(one) for one in system.failures])
        for system in systems
    ]
    show_problems(console, groups)
    if any(system.failures for system in systems):
        console.print(
            f"  Once the cause is gone, they are asked for again with: study retry {slug}\n",
            highlight=False,
            soft_wrap=True,
        )


def show_defects(console: Console, preparation: Preparation) -> None:
    """Images that raters should perhaps not see, and what the study's rules make of them."""
    lines = [defect.sentence for defect in preparation.defects[:N_DEFECTS]]
    more = len(preparation.defects) - N_DEFECTS
    if more > 0:
        lines.append(f"and {more:,} more; the admin and the report list them")
    show_problems(console, [("Images to look at", lines)])


def show_counts(console: Console, study: Study, counts: StudyCounts) -> None:
    """How full a running study is; nothing about who wins."""
    share = f" ({counts.n_answered / counts.n_ballots:.0%})" if counts.n_ballots else ""
    console.print(
        f"  {counts.n_answered:,} of {counted(counts.n_ballots, 'vote')}{share}, "
        f"{counted(counts.n_raters, 'rater')} ({counts.n_finished:,} finished, "
        f"{counts.n_excluded:,} excluded), {counted(counts.n_flags, 'flag')}\n",
        highlight=False,
    )


class PaintingPage:
    """Progress per system while images are painted: bars for a person, sparse lines for a log."""

    def __init__(self, console: Console, start: Preparation, now: float) -> None:
        self.console = console
        self.next_line = now
        self.last_counts: Sequence[tuple[int, int]] = ()
        self.progress = Progress(
            TextColumn("  {task.description}", table_column=Column()),  # wraps
            BarColumn(bar_width=24, complete_style="green", finished_style="green"),
            TextColumn("{task.completed:>5.0f} of {task.total:.0f}"),
            TextColumn("[dim]{task.fields[note]}", table_column=Column()),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self.tasks: dict[str, TaskID] = {}
        for system in start.systems:
            self.tasks[system.key] = self.progress.add_task(
                system.label, total=system.wanted, completed=system.ready, note=""
            )

    def __enter__(self) -> "PaintingPage":
        if self.console.is_terminal:
            self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.console.is_terminal:
            self.progress.stop()

    def show(self, preparation: Preparation, now: float) -> None:
        if not self.console.is_terminal:
            self._show_lines(preparation, now)
            return
        for system in preparation.systems:
            note = ", ".join(notes_of(system))
            self.progress.update(self.tasks[system.key], completed=system.ready, note=note)
        self.progress.refresh()

    def say(self, text: str) -> None:
        """A line that stays above the bars."""
        self.console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)

    def _show_lines(self, preparation: Preparation, now: float) -> None:
        """A line for each system that is not done, not often, and only when something moved."""
        counts = [(system.ready, system.failed) for system in preparation.systems]
        if now < self.next_line or counts == self.last_counts:
            return
        for system in preparation.systems:
            if system.ready < system.wanted:
                done = f"{system.key}: {system.ready:,} of {system.wanted:,}"
                self.say(", ".join([done, *notes_of(system)]))
        self.next_line, self.last_counts = now + PLAIN_EVERY, counts
