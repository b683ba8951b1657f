"""`manage.py study ACT SLUG-OR-FILE`: a study from its file to its report."""

import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse
from django.utils import timezone
from rich.console import Console

from evalsite.desk.management import study_pages as pages
from evalsite.desk.wording import cancelled_words
from evalsite.results.documents import NotAReport, StudyStillOpen, write_report
from evalsite.stats import ConfidenceTooSmall, Options
from evalsite.studies import painting, queries, services
from evalsite.studies.display_files import make_display_files
from evalsite.studies.locks import StudyNotDraft
from evalsite.studies.models import Study
from evalsite.studies.painting import NoSuchSystem
from evalsite.studies.queries import Preparation
from evalsite.studies.resolve import Resolved, planned_pairs, problems_of, resolve
from evalsite.studies.spec import StudySpec, load_spec, names_a_file, presets
from evalsite.studies.spec_claims import declared_lines
from evalsite.studies.spec_problems import SpecError
from evalsite.voting.queries import study_counts
from evalsite.voting.services import (
    NotPrepared,
    StudyNotOpen,
    close_study,
    open_study,
    pause_study,
)
from generation.messages import BrokerAwayError
from generation.services import nudge_stale

ACTS = {
    "check": "what is wrong or missing, before anything is painted",
    "apply": "make a draft of the file, or bring the draft to it",
    "prepare": "lay out comparisons and paint; may be stopped and started again",
    "retry": "ask again for what failed or was cancelled, and wait for it",
    "cancel": "paint no more of what is still to be painted; what is there stays",
    "open": "freeze the design and take votes, or go on after a pause",
    "pause": "give out no more pairs for now",
    "close": "take no more votes; results appear",
    "status": "how far the images and the votes are",
    "report": "write report.json, CSV and a page into a folder",
}
REFUSALS = (
    StudyNotDraft,
    NoSuchSystem,
    services.DraftEdited,
    StudyNotOpen,
    StudyStillOpen,
    NotAReport,
    ConfidenceTooSmall,
)
LOOK_EVERY = 1.0  # seconds
NUDGE_EVERY = 30.0
STALLED_AFTER = 60.0  # loading a model for the first time takes a while
INTERRUPTED = 130  # exit status after Ctrl-C


class Command(BaseCommand):
    help = "Acts on a study:\n" + "\n".join(f"  {act:<8} {what}" for act, what in ACTS.items())

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        kwargs["formatter_class"] = RawDescriptionHelpFormatter
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("act", choices=ACTS, metavar="act")
        parser.add_argument("study", metavar="SLUG-OR-FILE", help="a slug, a preset or a file")
        parser.add_argument("--slug", help="apply: under this slug, not the file's own")
        parser.add_argument(
            "--simulated", action="store_true", help="apply: raters are programs, pages say so"
        )
        parser.add_argument(
            "--replace", action="store_true", help="apply: give up edits made elsewhere"
        )
        parser.add_argument(
            "--no-wait", action="store_true", help="prepare, retry: ask for images and leave"
        )
        parser.add_argument(
            "--retry", action="store_true", help="prepare: ask again for images that failed"
        )
        parser.add_argument(
            "--no-next", action="store_true", help="prepare, retry: do not say what to type next"
        )
        parser.add_argument(
            "--anyway",
            action="store_true",
            help="prepare, retry: weights lie on the painting machine",
        )
        parser.add_argument(
            "--system", default="", metavar="KEY", help="retry, cancel: of this system only"
        )
        parser.add_argument(
            "--out", type=Path, metavar="DIR", help="report: the folder to write (var/reports/SLUG)"
        )
        parser.add_argument(
            "--fixed-prompts", action="store_true", help="report: speak of these prompts only"
        )
        parser.add_argument(
            "--ties",
            choices=["half", "drop"],
            default="half",
            help="report: a tie is half a win (half) or left out (drop)",
        )
        parser.add_argument(
            "--confidence", type=float, default=0.95, help="report: of the intervals (0.95)"
        )

    def handle(self, *args: Any, act: str, study: str, **options: Any) -> None:
        self.stdout.ending = ""  # rich ends its own lines
        self.console = Console(file=self.stdout, highlight=False)  # type: ignore[arg-type]
        if not self.console.is_terminal:
            self.console = Console(file=self.stdout, width=120)  # type: ignore[arg-type]
        try:
            getattr(self, f"_{act}")(study, options)
        except (SpecError, services.CannotApply, services.CannotPrepare) as error:
            raise CommandError(_listed(f"Cannot {act} {study}:", error.problems)) from error
        except REFUSALS as error:
            raise CommandError(str(error)) from error

    # Files

    def _check(self, name: str, options: dict[str, Any]) -> None:
        if names_a_file(name):
            problems = self._show_file(self._resolve(_load_or_list(name)))
        else:
            problems = self._show_rows(self._find(name))
        if problems:
            raise CommandError("Not everything is here: see above.")
        self._say("Everything is here.")

    def _apply(self, name: str, options: dict[str, Any]) -> None:
        spec = load_spec(name)
        before = Study.objects.filter(slug=options["slug"] or spec.study_slug).first()
        design = services.digest_of(queries.design_of(before)) if before else ""
        study = services.apply_spec(
            spec,
            slug=options["slug"],
            simulated=options["simulated"] or None,
            replace=options["replace"],
            at=timezone.now(),
        )
        is_draft = study.state == Study.State.DRAFT
        if before is None:
            state = "now a draft"
        elif design == services.digest_of(queries.design_of(study)):
            state = f"as the file says, {study.state.lower()}: nothing was changed"
        else:
            state = "a draft, rewritten as the file says"
        hint = f" Next: study prepare {study.slug}" if is_draft else ""
        self._say(f"Study {study.slug} is {state}.{hint}")

    def _show_file(self, resolved: Resolved) -> bool:
        spec = resolved.spec
        rows = [
            pages.SystemRow(s.key, s.label, s.licence, [*s.problems, *s.missing])
            for s in resolved.systems
        ]
        size = pages.Size(
            n_prompts=len(resolved.prompts),
            n_pairs=resolved.n_pairs,
            n_comparisons=resolved.n_comparisons,
            n_criteria=len(spec.criteria),
            n_votes=resolved.n_votes,
        )
        pages.heading(self.console, spec.title, spec.name)
        names = {system.key: system.label for system in resolved.systems}
        declared = declared_lines(
            [claim.model_dump() for claim in spec.claims],
            spec.looks.model_dump() if spec.looks else {},
            names,
        )
        pages.show_check(self.console, rows, size, declared, resolved.prompt_problems)
        pages.show_problems(self.console, [("Worth a look", resolved.notes)])
        return bool(resolved.problems or resolved.missing)

    def _show_rows(self, study: Study) -> bool:
        missing = queries.missing_by_system(study)
        systems = list(study.systems.all())
        rows = [pages.SystemRow(s.key, s.label, s.licence, missing.get(s.key, [])) for s in systems]
        pairs = planned_pairs([system.key for system in systems], study.baseline)
        n_prompts, n_criteria = queries.live_prompts(study).count(), study.criteria.count()
        n_comparisons = len(pairs) * n_prompts
        size = pages.Size(
            n_prompts=n_prompts,
            n_pairs=len(pairs),
            n_comparisons=n_comparisons,
            n_criteria=n_criteria,
            n_votes=n_comparisons * n_criteria * study.votes_per_comparison,
        )
        pages.heading(self.console, study.title, f"{study.slug}, {study.state.lower()}")
        names = {system.key: system.label for system in systems}
        declared = declared_lines(study.claims, study.looks, names)
        pages.show_check(self.console, rows, size, declared)
        return bool(missing)

    # Painting

    def _prepare(self, name: str, options: dict[str, Any]) -> None:
        study = self._find(name)
        if study.state != Study.State.DRAFT:
            self._say(f"Study {study.slug} is {study.state.lower()}: nothing is left to prepare.")
            return
        self._check_weights(study, options)
        preparation = services.prepare(study, retry=options["retry"], at=timezone.now())
        self._paint(study, preparation, options)

    def _retry(self, name: str, options: dict[str, Any]) -> None:
        study = self._find(name)
        if study.state == Study.State.DRAFT:
            self._check_weights(study, options)
        n_asked = painting.retry(study, system=options["system"], at=timezone.now())
        preparation = queries.preparation(study, at=timezone.now())
        if not n_asked and not preparation.pending:
            hint = f" What is imported is taken again with: study prepare {study.slug}"
            self._say(f"Nothing is to be painted again.{hint if preparation.failed else ''}")
            return
        self._paint(study, preparation, options)

    def _cancel(self, name: str, options: dict[str, Any]) -> None:
        study = self._find(name)
        gone = painting.cancel(study, system=options["system"], at=timezone.now())
        self._say(cancelled_words(gone))
        if gone.n_images or gone.n_shared:
            of_system = f" --system {options['system']}" if options["system"] else ""
            self._say(f"They are asked for again with: study retry {study.slug}{of_system}")

    def _check_weights(self, study: Study, options: dict[str, Any]) -> None:
        missing = queries.missing_by_system(study)
        wanted = {k: v for k, v in missing.items() if options["system"] in ("", k)}
        if wanted and not options["anyway"]:
            groups = [f"{key}: {text}" for key, texts in wanted.items() for text in texts]
            hint = "With --anyway it is asked for all the same, for a worker that has it."
            raise CommandError(_listed(f"Not everything is here. {hint}", groups))

    def _paint(self, study: Study, preparation: Preparation, options: dict[str, Any]) -> None:
        """Wait for the workers, and say what came of it."""
        pages.heading(self.console, study.title, f"{study.slug}, {preparation.pending:,} to paint")
        if options["no_wait"]:
            self._say("Asked for; the sweep and the workers do the rest.")
            return
        try:
            preparation = self._wait(study, preparation)
        except KeyboardInterrupt:
            self._say(
                "Stopped waiting; workers paint on. What is painted stays; "
                f"go on with: study prepare {study.slug}"
            )
            self._say(f"To have no more painted: study cancel {study.slug}")
            raise SystemExit(INTERRUPTED) from None
        self._end(study, preparation, options)

    def _wait(self, study: Study, preparation: Preparation) -> Preparation:
        """Make display files as images come in, until nothing is pending."""
        now = moved = nudged = time.monotonic()
        warned = False
        with pages.PaintingPage(self.console, preparation, now) as page:
            while True:
                n_made = make_display_files(study=study, at=timezone.now())
                before, preparation = preparation, queries.preparation(study, at=timezone.now())
                now = time.monotonic()
                page.show(preparation, now)
                if not preparation.pending and not n_made:
                    return preparation
                if n_made or _counts(preparation) != _counts(before):
                    moved, warned = now, False
                    continue
                if now - nudged > NUDGE_EVERY:
                    self._nudge(page)
                    nudged = now
                if not warned and now - moved > STALLED_AFTER:
                    warned = self._warn_if_idle(study, page)
                time.sleep(LOOK_EVERY)

    def _nudge(self, page: pages.PaintingPage) -> None:
        try:
            nudge_stale(at=timezone.now())
        except BrokerAwayError as error:
            page.say(f"The broker is away, workers cannot be told: {error}")

    def _warn_if_idle(self, study: Study, page: pages.PaintingPage) -> bool:
        if queries.is_being_painted(study):
            return False
        page.say(
            "No image has come for a while, and no worker holds one. Start a worker with: "
            "celery -A generation.celery worker"
        )
        return True

    def _end(self, study: Study, preparation: Preparation, options: dict[str, Any]) -> None:
        pages.show_preparation(self.console, study.slug, preparation)
        if preparation.obstacles:
            problems = list(preparation.obstacles)  # what was cancelled among them, with its way
            if preparation.failed:
                problems.append(f"What failed is asked for again with: study retry {study.slug}")
            raise CommandError(_listed(f"Study {study.slug} cannot be opened.", problems))
        self._say("Ready." if options["no_next"] else f"Ready. Next: study open {study.slug}")

    # Voting

    def _open(self, name: str, options: dict[str, Any]) -> None:
        study = self._find(name)
        try:
            open_study(study=study, at=timezone.now())
        except NotPrepared as error:
            title = f"Study {study.slug} is not prepared:"
            raise CommandError(_listed(title, queries.obstacles(study))) from error
        self._say(f"Study {study.slug} is open. Raters start at {_rating_address(study)}")

    def _pause(self, name: str, options: dict[str, Any]) -> None:
        study = pause_study(study=self._find(name), at=timezone.now())
        self._say(f"Study {study.slug} is paused. It goes on with: study open {study.slug}")

    def _close(self, name: str, options: dict[str, Any]) -> None:
        study = close_study(study=self._find(name), at=timezone.now())
        self._say(f"Study {study.slug} is closed. Next: study report {study.slug}")

    # Reading

    def _status(self, name: str, options: dict[str, Any]) -> None:
        study = self._find(name)
        note = f"{study.slug}, {study.state.lower()}{', simulated' if study.simulated else ''}"
        pages.heading(self.console, study.title, note)
        preparation = queries.preparation(study, at=timezone.now())
        pages.show_preparation(self.console, study.slug, preparation)
        if study.state == Study.State.DRAFT:
            pages.show_problems(self.console, [("Before it can open", preparation.obstacles)])
        else:
            pages.show_counts(self.console, study, study_counts(study))

    def _report(self, name: str, options: dict[str, Any]) -> None:
        study = self._find(name)
        out: Path = options["out"] or settings.VAR_DIR / "reports" / study.slug
        report = write_report(study, out, at=timezone.now(), options=_reading(options))
        self._say(f"Written to {out}")
        if report.suggests_fixed_prompts:
            self._say(
                "Fewer than 10 prompts say little about prompts like them: --fixed-prompts makes "
                "a report that speaks of these only."
            )

    # Finding

    def _resolve(self, spec: StudySpec) -> Resolved:
        return resolve(spec, checkpoint_dirs=settings.CHECKPOINT_DIRS)

    def _find(self, name: str) -> Study:
        """The study with this slug, or the one that this file or preset was applied as."""
        is_file = names_a_file(name)
        slug = load_spec(name).study_slug if is_file else name
        study = Study.objects.filter(slug=slug).first()
        if study is None:
            known = ", ".join(Study.objects.values_list("slug", flat=True)[:20]) or "none yet"
            ours = ", ".join(presets())
            hint = f" Apply it first: study apply {name}." if is_file else ""
            raise CommandError(
                f"There is no study {slug}.{hint} Studies: {known}. Presets: {ours}."
            )
        return study

    def _say(self, text: str) -> None:
        self.console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)


def _counts(preparation: Preparation) -> list[tuple[int, ...]]:
    """What moves while images come in."""
    return [(s.ready, s.claimed, s.failed, s.displayed) for s in preparation.systems]


def _load_or_list(name: str) -> StudySpec:
    """A study file. Of one with problems, whatever is sound is looked at before it is refused."""
    try:
        return load_spec(name)
    except SpecError as error:
        if error.sound is None:
            raise
        more = problems_of(error.sound, checkpoint_dirs=settings.CHECKPOINT_DIRS)
        raise SpecError([*error.problems, *more]) from error


def _rating_address(study: Study) -> str:
    """Where raters start; the site's own name is known only where ALLOWED_HOSTS says it."""
    path = reverse("voting:landing", args=[study.code])
    named = [host for host in settings.ALLOWED_HOSTS if host[:1] not in ("*", ".")]
    hosts = [host for host in named if host not in settings.HOME_HOSTS]
    if not hosts:
        return f"{path} (after the site's own address)"
    return f"{'https' if settings.SECURE_TLS else 'http'}://{hosts[0]}{path}"


def _reading(options: dict[str, Any]) -> Options:
    """How the votes are to be read."""
    try:
        return Options(
            confidence=options["confidence"],
            fixed_prompts=options["fixed_prompts"],
            ties=options["ties"],
        )
    except ValueError as error:
        raise CommandError(f"--confidence: {error}") from error


def _listed(title: str, problems: Any) -> str:
    return "\n".join([title, *(f"  - {problem}" for problem in problems)])
