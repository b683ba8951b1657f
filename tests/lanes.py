"""Set the stage before Django reads its settings: loaded by `-p tests.lanes` (pyproject.toml).

Everything a test run writes lies in one temporary folder, and nothing of the developer's own
environment (database, storage, broker, secrets) reaches the tests. `--database=postgresql` runs
them on a throw-away cluster made from the system's own server binaries; tests that are about
the database's own behaviour carry the mark `database`, so the lane is

    pytest --database=postgresql -m database
"""

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import psycopg
import pytest

MARK = "database"
NO_BROKER = "redis://127.0.0.1:1/0"  # refuses at once: a test that wants a broker starts its own
ROOM = 2**30  # bytes; a run writes a tenth of it
_SERVER_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "max_connections": "150",
    "shared_buffers": "64MB",
}


class NoServerError(Exception):
    """PostgreSQL's own binaries, or a user to run them as, are not on this machine."""


_missing = ""  # why the lane that was asked for cannot run


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("evalsite")
    group.addoption(
        "--database",
        choices=["sqlite", "postgresql"],
        default="sqlite",
        help="the database under the tests; postgresql starts a throw-away cluster",
    )
    group.addoption(
        "--require-database",
        action="store_true",
        help="fail, instead of ending with one line, where PostgreSQL's server is missing",
    )


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    """Runs before pytest-django reads the settings. Workers of xdist inherit all of it."""
    global _missing
    folder = Path(tempfile.mkdtemp(prefix="evalsite-tests-", dir=_memory()))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in ("SECRET_KEY", "STORAGE_URL", "ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS"):
        os.environ.pop(name, None)
    os.environ |= {
        "VAR_DIR": str(folder),
        "DATABASE_URL": f"sqlite:///{folder / 'evalsite.sqlite3'}",
        "REDIS_URL": NO_BROKER,
        "DEBUG": "on",  # plain static files; pytest-django turns the rest of it off
        "SECURE_TLS": "off",
        "LOG_LEVEL": "WARNING",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "DJANGO_ALLOW_ASYNC_UNSAFE": "true",  # playwright runs an event loop in this thread
    }
    if early_config.known_args_namespace.database == "postgresql":
        try:
            os.environ["DATABASE_URL"] = start_postgresql()
        except NoServerError as error:
            _missing = str(error)
    return (yield)


def _memory() -> str | None:
    """A folder in memory, where there is room for it: no test's files outlive it, and a disk takes
    longer to be sure of one than most tests take for all they do."""
    shared = "/dev/shm"
    roomy = os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > ROOM
    return shared if roomy else None


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Without a server there is nothing to test: one clear line, and green unless required."""
    if not _missing:
        return None
    print(f"PostgreSQL lane left out: {_missing}")
    return 1 if config.getoption("--require-database") else 0


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"{MARK}: about the database's own behaviour; runs on PostgreSQL as well"
    )
    config.addinivalue_line("markers", "long: takes many seconds, so it starts before the others")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A file without the mark has nothing for PostgreSQL: what it imports need not be loaded."""
    of_this_lane = config.getoption("--database") == "postgresql" and config.option.markexpr == MARK
    if of_this_lane and collection_path.name.startswith("test_"):
        return True if f"mark.{MARK}" not in collection_path.read_text() else None
    return None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that two workers end together."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def start_postgresql() -> str:
    """A cluster of its own in a temporary folder, reached by a socket in it; gone at exit."""
    binaries = _server_binaries()
    folder = Path(tempfile.mkdtemp(prefix="evalsite-pg-", dir=_short_folder()))
    data = folder / "data"
    as_user = _ordinary_user(folder)
    made = subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "evalsite", "-A", "trust", "-E", "UTF8",
         "--locale=C", "--no-sync"],
        cwd="/", capture_output=True, text=True, **as_user,
    )  # fmt: skip
    if made.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise RuntimeError(f"initdb failed: {made.stderr.strip()}")
    options = [f"--{name}={value}" for name, value in _SERVER_SETTINGS.items()]
    log = (folder / "log").open("wb")
    server = subprocess.Popen(
        [binaries / "postgres", "-D", data, "-k", folder, *options],
        cwd="/", stdout=log, stderr=log, **as_user,
    )  # fmt: skip
    atexit.register(_stop, server, folder)
    _wait_for(server, folder)
    return f"postgres://evalsite@/{folder}/postgres"


def _server_binaries() -> Path:
    """The folder that holds initdb and postgres: PATH, pg_config, then Debian's own place."""
    places = [Path(found).parent for found in [shutil.which("initdb")] if found]
    if config := shutil.which("pg_config"):
        answer = subprocess.run([config, "--bindir"], capture_output=True, text=True)
        places.append(Path(answer.stdout.strip()))
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    for place in places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    raise NoServerError(
        "no initdb and postgres on PATH, in `pg_config --bindir` or in /usr/lib/postgresql"
        " (Debian and Ubuntu: apt-get install postgresql)"
    )


def _version(folder: Path) -> int:
    return int(folder.parent.name) if folder.parent.name.isdigit() else 0


def _short_folder() -> str:
    """A socket's path must stay under 108 bytes."""
    return tempfile.gettempdir() if len(tempfile.gettempdir()) < 60 else "/tmp"


def _ordinary_user(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root: give the folder to an ordinary user."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = next((name for name in ("postgres", "nobody") if name in names), None)
    if user is None:
        raise NoServerError("as root it needs a user `postgres` or `nobody` to run as")
    entry = pwd.getpwnam(user)
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _wait_for(server: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.poll() is None:
        try:
            psycopg.connect(host=str(folder), user="evalsite", dbname="postgres").close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"PostgreSQL did not start: {(folder / 'log').read_text()[-2000:]}")


def _stop(server: "subprocess.Popen[bytes]", folder: Path) -> None:
    server.send_signal(signal.SIGINT)  # fast: whatever is still running is broken off
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    shutil.rmtree(folder, ignore_errors=True)
