"""`manage.py plan_study`: votes, raters and prompts for a wanted answer, before a study opens."""

import math
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.padding import Padding

from evalsite.results.summary import Column
from evalsite.results.terminal import plain_table, print_table
from evalsite.results.votes_file import VotesFileError, VoteTable, read_votes
from evalsite.results.wording import interval_text, percent, worth_saying
from evalsite.stats import (
    PROVED_PROMPTS,
    PROVED_RATERS,
    Correlations,
    Design,
    HalfWidth,
    OutOfReach,
    Power,
    Votes,
    fewest,
    intraclass_correlations,
    power,
    precision,
    rater_floor,
    smallest_difference,
)
from evalsite.stats.clusters import UNLABELLED, Codes
from evalsite.studies.wording import counted

RATES = (0.55, 0.6, 0.65, 0.7, 0.75, 0.8)
ABOVE_FLOOR = (1.1, 1.3, 1.6, 2, 3, 5)

CAUTIONS = {
    "one rater": "A report speaks of that rater only, and decides more often than is said here.",
    "few raters": "Fewer than 5 raters: a report will call such intervals rough ones. With fewer "
    f"than {PROVED_RATERS}, simulated studies do not keep what is promised here.",
    "one prompt": "A report speaks of that prompt only, with all votes taken as independent.",
    "few prompts": f"Fewer than {PROVED_PROMPTS} prompts: simulated studies do not keep what is "
    "promised here. Power is less, by 7 points in the worst of them with 25 prompts and by 47 "
    "with 10, and intervals are wider.",
    "few losses": "Fewer than 10 votes are expected for the less preferred system at a win rate "
    "of {rate}%: a report will call such an interval a rough one.",
    "never decides": "Even with {votes} for one system and none for the other, the interval would "
    "hold one half: {why}.",
    "idle raters": "{raters} for {votes}: some will have none to give.",
}

HELP = """Plans a study: votes, raters and prompts. No database is needed.

  What does a design give?          plan_study --raters 30 --prompts 100
  What does an interval cost?       plan_study --half-width 0.05
  What does a finding cost?         plan_study --against 0.6 --power 0.8
  How many prompts for my raters?   plan_study --against 0.6 --raters 30
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the study is to be, beside its size."""

    n_claims: int  # pairs times criteria: the rows of one table
    correlations: Correlations
    confidence: float
    power: float

    @property
    def of_first_claim(self) -> float:
        """The confidence with which Holm's table decides its first row."""
        return 1 - (1 - self.confidence) / self.n_claims


class Command(BaseCommand):
    help = HELP
    requires_system_checks = ()

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        kwargs["formatter_class"] = RawDescriptionHelpFormatter
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        size = parser.add_argument_group("size, of one pair of systems under one criterion")
        size.add_argument("--raters", type=int, metavar="N", help="who vote on the pair")
        size.add_argument("--prompts", type=int, metavar="N", help="shown to them")
        size.add_argument("--votes-per-prompt", type=int, default=3, metavar="N", help="(3)")
        goal = parser.add_argument_group("goal")
        goal.add_argument("--half-width", type=float, metavar="H", help="of intervals, as 0.05")
        goal.add_argument("--against", type=float, metavar="RATE", help="find this win rate")
        goal.add_argument("--power", type=float, default=0.8, metavar="P", help="so often (0.8)")
        study = parser.add_argument_group("study")
        study.add_argument("--systems", type=int, default=2, metavar="N", help="(2)")
        study.add_argument("--criteria", type=int, default=1, metavar="N", help="(1)")
        study.add_argument("--fixed-prompts", action="store_true", help="speak of them alone")
        study.add_argument("--confidence", type=float, default=0.95, help="of intervals (0.95)")
        alike = parser.add_argument_group("how alike votes are; real studies show the ranges")
        alike.add_argument("--rho-rater", type=float, help="of one rater (0.12; .07 to .17)")
        alike.add_argument("--rho-prompt", type=float, help="on one prompt (0.15; .03 to .26)")
        alike.add_argument("--pilot", type=Path, metavar="VOTES", help="take both from a file")
        alike.add_argument(
            "--load-spread", type=float, default=0.0, metavar="C", help="of loads, beyond chance"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.ending = ""  # rich ends its own lines
        console = Console(file=self.stdout, highlight=False)  # type: ignore[arg-type]
        if not console.is_terminal:
            console = Console(file=self.stdout, highlight=False, width=120)  # type: ignore[arg-type]
        _check_size(options)
        try:
            goal, asked = _goal(options), _asked(console, options)
            if goal is None:
                show_design(console, asked, _design(options))
            else:
                show_needs(console, asked, goal, options)
        except (VotesFileError, ValueError) as error:
            raise CommandError(str(error)) from error


def show_design(console: Console, asked: Asked, design: Design) -> None:
    """What a pair may expect of a design."""
    found = precision(design, correlations=asked.correlations, confidence=asked.confidence)
    table = plain_table("on each pair and criterion", ">")
    table.add_row("votes", f"{found.votes:,}")
    table.add_row("votes in all", f"{found.votes * asked.n_claims:,}")
    table.add_row("worth, in independent votes", f"{found.n_eff:,.0f}")
    table.add_row(
        f"{percent(asked.confidence)}% interval around 50%", interval_text(found.low, found.high)
    )
    table.add_row(
        f"least win rate found with a power of {percent(asked.power)}%", _least(asked, design)
    )
    print_table(console, table)
    levels = {"power": asked.confidence}
    if asked.n_claims > 1:
        levels[f"as first of {asked.n_claims:,} claims"] = asked.of_first_claim
    table = plain_table(">true win rate", *(f">{name}" for name in levels))
    for rate in RATES:
        powers = [
            power(design, rate, correlations=asked.correlations, confidence=level)
            for level in levels.values()
        ]
        table.add_row(f"{percent(rate)}%", *(_often(p) for p in powers))
    print_table(console, table)
    show_cautions(console, asked, [design], RATES[-1], asked.confidence)


def show_cautions(
    console: Console, asked: Asked, designs: Iterable[Design], rate: float, confidence: float
) -> None:
    """What makes plans rough ones, each once, in words of the first that it holds for."""
    said = set()
    for design in designs:
        found = precision(design, rate=rate, correlations=asked.correlations, confidence=confidence)
        for code in worth_saying(found.warnings):
            if code not in said:
                said.add(code)
                text = CAUTIONS[code].format(
                    raters=counted(design.raters, "rater"),
                    votes=counted(design.votes, "vote"),
                    rate=percent(rate),
                    why=_why_undecided(design),
                )
                console.print(Padding(f"Caution, {code}: {text}", (0, 0, 0, 2)))
    if said:
        console.print()


def _why_undecided(design: Design) -> str:
    if design.prompts == 1:
        return "they are too few"
    counts = {"rater": min(design.raters, design.votes)}
    if design.votes_per_prompt > 1 and not design.fixed_prompts:
        counts["prompt"] = design.prompts
    thing, count = min(counts.items(), key=lambda item: item[1])
    df = counted(max(count - 1, 1), "degree")
    return f"{counted(count, thing)} leave{'s' if count == 1 else ''} {df} of freedom"


def show_needs(
    console: Console, asked: Asked, goal: HalfWidth | Power, options: dict[str, Any]
) -> None:
    """The least that reaches a goal: one design, or a choice of them."""
    confidence = asked.confidence
    if isinstance(goal, Power) and asked.n_claims > 1:
        confidence = asked.of_first_claim
        console.print(f"  Each is to be found as the first of {asked.n_claims:,} claims (Holm).")
    if options["raters"] is None and options["prompts"] is None:
        designs = _choice(console, asked, goal, confidence, options)
    else:
        designs = [_one_design(asked, goal, confidence, options)]
    table = plain_table(">raters", ">prompts", ">votes on each", ">votes", ">of a rater", ">in all")
    for design in designs:
        table.add_row(
            f"{design.raters:,}",
            f"{design.prompts:,}",
            f"{design.votes_per_prompt:,}",
            f"{design.votes:,}",
            f"{design.votes / design.raters:,.1f}",
            f"{design.votes * asked.n_claims:,}",
        )
    print_table(console, table)
    show_cautions(console, asked, designs, goal.rate, confidence)


def _check_size(options: dict[str, Any]) -> None:
    names = ("raters", "prompts", "votes_per_prompt")
    wrong = [
        f"--{name.replace('_', '-')}: at least 1, not {options[name]}"
        for name in names
        if options[name] is not None and options[name] < 1
    ]
    if wrong:
        raise CommandError("\n".join(wrong))


def _goal(options: dict[str, Any]) -> HalfWidth | Power | None:
    half_width, against = options["half_width"], options["against"]
    if half_width is not None and against is not None:
        raise CommandError("Ask for one of --half-width and --against.")
    if half_width is not None:
        return HalfWidth(half_width)
    if against is not None:
        return Power(options["power"], against)
    if options["raters"] is None or options["prompts"] is None:
        raise CommandError(
            "Say what is wanted, --half-width or --against, or give --raters and --prompts."
        )
    return None


def _asked(console: Console, options: dict[str, Any]) -> Asked:
    if options["systems"] < 2 or options["criteria"] < 1:
        raise CommandError("A study compares two systems or more, under a criterion or more.")
    rhos = {"rater": options["rho_rater"], "prompt": options["rho_prompt"]}
    if options["pilot"] is not None:
        rhos = {k: rhos[k] if rhos[k] is not None else v for k, v in _pilot(options).items()}
    correlations = Correlations(**{k: v for k, v in rhos.items() if v is not None})
    console.print(
        f"\n  Correlations: {correlations.rater:.3g} of votes of one rater, "
        f"{correlations.prompt:.3g} of votes on one prompt."
    )
    return Asked(
        n_claims=math.comb(options["systems"], 2) * options["criteria"],
        correlations=correlations,
        confidence=options["confidence"],
        power=options["power"],
    )


def _pilot(options: dict[str, Any]) -> dict[str, float | None]:
    """The correlations of a pilot, of its least favourable criterion."""
    table, _ = read_votes(options["pilot"])
    found = [intraclass_correlations(_votes(table.only(name))) for name in table.criteria]
    return {
        "rater": max((f.rater for f in found if f.rater is not None), default=None),
        "prompt": max((f.prompt for f in found if f.prompt is not None), default=None),
    }


def _votes(table: VoteTable) -> Votes:
    def codes(column: Column | None) -> Codes:
        return np.full(len(table), UNLABELLED) if column is None else column.codes

    raters, prompts = codes(table.raters), codes(table.prompts)
    return Votes(table.first, table.second, table.outcomes, raters, prompts, len(table.systems))


def _design(options: dict[str, Any], **changed: int) -> Design:
    size = {name: options[name] for name in ("raters", "prompts", "votes_per_prompt")} | changed
    return Design(
        **size, fixed_prompts=options["fixed_prompts"], load_spread=options["load_spread"]
    )


def _one_design(
    asked: Asked, goal: HalfWidth | Power, confidence: float, options: dict[str, Any]
) -> Design:
    """What is missing for the raters, or prompts, or both that are there."""
    alike = asked.correlations
    if options["raters"] is not None and options["prompts"] is not None:
        start = _design(options, votes_per_prompt=1)
        return fewest("votes_per_prompt", start, goal, correlations=alike, confidence=confidence)
    if options["raters"] is not None:
        start = _design(options, prompts=1)
        return fewest("prompts", start, goal, correlations=alike, confidence=confidence)
    start = _design(options, raters=options["votes_per_prompt"])
    return fewest("raters", start, goal, correlations=alike, confidence=confidence)


def _choice(
    console: Console,
    asked: Asked,
    goal: HalfWidth | Power,
    confidence: float,
    options: dict[str, Any],
) -> list[Design]:
    """Designs with more raters than there must be, and as many prompts as that takes.

    None twice, and none with more raters than votes.
    """
    each = options["votes_per_prompt"]
    floor = rater_floor(
        goal,
        correlations=asked.correlations,
        confidence=confidence,
        load_spread=options["load_spread"],
    )
    least = max(floor, each)
    why = (
        "however many votes they give" if each <= floor else "since nobody votes twice on a prompt"
    )
    console.print(f"  At least {counted(least, 'rater')}, {why}.")
    numbers = {max(math.ceil(least * times), floor + 1) for times in ABOVE_FLOOR}
    designs = [
        fewest(
            "prompts",
            _design(options, raters=n_raters, prompts=1),
            goal,
            correlations=asked.correlations,
            confidence=confidence,
        )
        for n_raters in sorted(numbers)
    ]
    return [design for design in designs if design.raters <= design.votes]


def _least(asked: Asked, design: Design) -> str:
    try:
        difference = smallest_difference(
            design,
            power=asked.power,
            correlations=asked.correlations,
            confidence=asked.confidence,
        )
    except OutOfReach:
        return "none"
    return f"{percent(0.5 + difference)}%"


def _often(probability: float) -> str:
    return "over 99%" if probability > 0.99 else f"{percent(probability)}%"
