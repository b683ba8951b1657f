"""manage.py simulate SLUG: simulated raters walk a study's real pages over HTTP."""

from argparse import ArgumentParser
from typing import Any
from urllib.parse import urlsplit

from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from evalsite.studies.models import Study
from evalsite.studies.wording import counted
from evalsite.voting import queries, simulation
from evalsite.voting.browser import BrowserError


class Command(BaseCommand):
    help = "Let simulated raters of known taste vote over HTTP, or print the truth they hold."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="a study whose raters are declared to be simulated")
        parser.add_argument("--raters", type=int, default=30)
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the site runs")
        parser.add_argument(
            "--truth", action="store_true", help="print expected win rates; nobody votes"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        study = Study.objects.filter(slug=options["slug"]).first()
        if study is None:
            raise CommandError(f"no study has the slug {options['slug']!r}")
        try:
            if options["truth"]:
                self._print_truth(study)
            else:
                self._vote(study, options["raters"], options["seed"], options["url"])
        except (BrowserError, ValueError) as error:
            raise CommandError(str(error)) from error

    def _vote(self, study: Study, n_raters: int, seed: int, url: str) -> None:
        _check(study, n_raters, seed, url)
        counts = queries.study_counts(study)
        wanted = counts.n_ballots - counts.n_answered
        if study.votes_per_rater:
            wanted = min(wanted, n_raters * study.votes_per_rater)
        with Progress(
            TextColumn("[progress.description]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        ) as bar:
            vote = "votes" if n_raters == 1 else "vote"
            votes = bar.add_task(f"{counted(n_raters, 'simulated rater')} {vote}", total=wanted)
            path = reverse("voting:landing", args=[study.code])
            n_votes = simulation.run(
                url, path, n_raters=n_raters, seed=seed, on_vote=lambda: bar.advance(votes)
            )
        raters = counted(n_raters, "simulated rater")
        self.stdout.write(f"{raters} gave {counted(n_votes, 'vote')} in {study.slug}")

    def _print_truth(self, study: Study) -> None:
        for criterion, pairs in simulation.truth(study).items():
            for (first, second), rate in pairs.items():
                self.stdout.write(f"{criterion}\t{first}\t{second}\t{rate:.4f}")


def _check(study: Study, n_raters: int, seed: int, url: str) -> None:
    if not study.simulated:
        raise CommandError(
            f"study {study.slug} is for people: apply its file with --simulated for a study "
            "whose raters are programs, and whose pages say so"
        )
    if study.state != Study.State.OPEN:
        raise CommandError(f"Study {study.slug} is {study.state.lower()}; expected: open.")
    if n_raters < 1 or seed < 0:
        raise CommandError("expected --raters of 1 or more and a --seed of 0 or more")
    if urlsplit(url).scheme not in ("http", "https"):
        raise CommandError(f"--url: expected http://host:port, got {url!r}")
