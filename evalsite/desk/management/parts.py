"""The processes of a demo: started, watched and stopped together. No Django."""

import contextlib
import ctypes
import hashlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

PATIENCE = 15.0  # seconds that a process gets to stop by itself
LOOK = 0.1  # seconds between two looks at the processes
LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None


class PartFailedError(Exception):
    """A process died, failed or never answered: which, why, and where its log lies."""


class StoppedError(Exception):
    """Somebody asked everything to stop."""


@dataclass(frozen=True)
class Part:
    """One process. It leads a session of its own, so that its children can be found."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path | None  # None: it writes on the terminal

    def ask_to_stop(self, number: int = signal.SIGTERM) -> None:
        """Signal the leader, which knows how to stop its children."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def finish(self, until: float) -> None:
        """Wait for the leader, then let nothing of its session live on."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, until - time.monotonic()))
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def failure(self, what: str) -> PartFailedError:
        if self.log is None:
            return PartFailedError(f"{self.name} {what}; it says why above.")
        with self.log.open(errors="replace") as file:
            end = "".join(f"    {line.rstrip()}\n" for line in deque(file, maxlen=15))
        return PartFailedError(f"{self.name} {what}. The end of {self.log}:\n{end}")


@dataclass
class Parts:
    """Running parts. Leaving the `with` block stops them, the last started first.

    A signal is only noted, and every wait looks at the note: so none can fall between the
    starting of a process and the knowing of it.
    """

    root: Path
    logs: Path
    environment: dict[str, str]
    running: list[Part] = field(default_factory=list)
    stop_signal: int = 0

    def __enter__(self) -> Self:
        self.logs.mkdir(parents=True, exist_ok=True)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.note)
        return self

    def note(self, number: int, _frame: FrameType | None) -> None:
        self.stop_signal = self.stop_signal or number

    def start(self, name: str, command: list[str], *, inherits: Sequence[int] = ()) -> Part:
        """Start a part whose output goes to its log. It gets these open files, same numbers."""
        log = self.logs / f"{name}.log"
        with log.open("ab") as output:
            process = self._popen(command, output.fileno(), inherits)
        part = Part(name, process, log)
        self.running.append(part)
        return part

    def run(self, name: str, command: list[str]) -> None:
        """Run a command on the terminal to its end, watching the parts meanwhile."""
        part = Part(name, self._popen(command, None), None)
        try:
            while part.process.poll() is None:
                self.look()
                time.sleep(LOOK)
        except BaseException:
            part.ask_to_stop(signal.SIGINT)
            part.finish(time.monotonic() + PATIENCE)
            raise
        self.look()
        if part.process.returncode != 0:
            raise part.failure(f"ended with status {part.process.returncode}")

    def look(self) -> None:
        """Raise when somebody wants to stop, or when a part has died."""
        if self.stop_signal:
            raise StoppedError
        for part in self.running:
            if part.process.poll() is not None:
                raise part.failure(f"stopped with status {part.process.returncode}")

    def wait_for(self, part: Part, is_ready: Callable[[], bool], seconds: float) -> None:
        """Wait until a part is of use."""
        until = time.monotonic() + seconds
        while not is_ready():
            self.look()
            if time.monotonic() > until:
                raise part.failure(f"did not answer within {seconds:.0f} seconds")
            time.sleep(LOOK)
        self.look()

    def _popen(
        self, command: list[str], output: int | None, inherits: Sequence[int] = ()
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            pass_fds=inherits,
            start_new_session=True,
            preexec_fn=end_with_parent if LIBC else None,
        )

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """The first part is the broker, which the others use until they have stopped."""
        for group in (self.running[1:], self.running[:1]):
            for part in reversed(group):
                part.ask_to_stop()
            until = time.monotonic() + PATIENCE
            for part in group:
                part.finish(until)


def end_with_parent() -> None:
    """On Linux: ask the kernel for a SIGTERM should the parent be killed outright."""
    if LIBC is not None:
        LIBC.prctl(1, signal.SIGTERM)  # 1 is PR_SET_PDEATHSIG


def listen(wanted: int) -> socket.socket:
    """Listen on the wanted port or the next free one; on any where a hundred are taken.

    A port that is held cannot be lost between a look and a start: two demos that start at once
    get two ports.
    """
    for port in range(wanted, min(wanted + 100, 65536)):
        if is_answered(port):
            continue
        with contextlib.suppress(OSError):  # taken, or not for us
            return socket.create_server(("127.0.0.1", port))
    return socket.create_server(("127.0.0.1", 0))


def is_answered(port: int) -> bool:
    """Somebody listens there, on this address or (which macOS lets us share) on all."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def any_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def answers_ping(port: int, password: str) -> bool:
    """Whether a Valkey server has read its data and takes commands."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\nQUIT\r\n".encode())
            with connection.makefile("rb") as answer:
                return b"+PONG" in answer.read()
    except OSError:
        return False


def answers_http(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def fingerprint(*folders: Path) -> str:
    """Changes with the name or content of any file in these folders."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(folder)} {len(content)} ".encode() + content)
    return digest.hexdigest()
