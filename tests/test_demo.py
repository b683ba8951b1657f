"""The parts of a demo: started, watched and stopped together. Real processes, real signals."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalsite.desk.management import parts
from tests.processes import ROOT, is_alive, wait_until

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
# It starts a child of its own and listens to no SIGTERM; neither does the child.
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    "print(child.pid, flush=True); time.sleep(600)",
]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[parts.Parts]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield parts.Parts(tmp_path, tmp_path / "log", dict(os.environ))
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_a_part_that_dies_is_named_with_the_end_of_its_log(house):
    noisy = "print(*range(40), sep='\\n'); print('no such weights: tiny'); raise SystemExit(3)"
    with house:
        worker = house.start("worker", [sys.executable, "-c", noisy])
        with pytest.raises(parts.PartFailedError) as failure:
            house.wait_for(worker, lambda: False, seconds=30)
    message = str(failure.value)
    assert message.startswith(f"worker stopped with status 3. The end of {house.logs}/worker.log")
    assert "no such weights: tiny" in message
    assert "\n    5\n" not in message


def test_a_part_that_never_answers_is_named(house):
    with house:
        web = house.start("web", SLEEPER)
        with pytest.raises(parts.PartFailedError, match="web did not answer within 0 seconds"):
            house.wait_for(web, lambda: False, seconds=0.3)


def test_a_death_ends_the_command_that_waits_for_it(house):
    with house:
        house.start("worker", [sys.executable, "-c", "import time; time.sleep(0.5); exit(1)"])
        with pytest.raises(parts.PartFailedError, match="worker stopped with status 1"):
            house.run("prepare", SLEEPER)


def test_a_command_that_fails_is_named(house):
    with house, pytest.raises(parts.PartFailedError, match="prepare ended with status 4"):
        house.run("prepare", [sys.executable, "-c", "exit(4)"])


def test_stopping_leaves_no_orphan(house, monkeypatch):
    monkeypatch.setattr(parts, "PATIENCE", 0.3)
    with house:
        broker = house.start("valkey", SLEEPER)
        worker = house.start("worker", STUBBORN)
        wait_until(lambda: worker.log.read_text().endswith("\n"))
        grandchild = int(worker.log.read_text())
        assert is_alive(grandchild)
    assert not is_alive(broker.process.pid)
    assert not is_alive(worker.process.pid)
    wait_until(lambda: not is_alive(grandchild), seconds=30)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_command_and_the_parts(house, number):
    with house:
        broker = house.start("valkey", SLEEPER)
        os.kill(os.getpid(), number)
        with pytest.raises(parts.StoppedError):
            house.run("prepare", SLEEPER)
        assert is_alive(broker.process.pid)
    assert not is_alive(broker.process.pid)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux's kernel")
def test_parts_end_with_a_launcher_that_is_killed_outright(tmp_path):
    launcher = f"""
import os, time
from pathlib import Path
from evalsite.desk.management import parts
with parts.Parts(Path("."), Path({str(tmp_path)!r}), dict(os.environ)) as house:
    print(house.start("valkey", {SLEEPER!r}).process.pid, flush=True)
    time.sleep(600)
"""
    command = [sys.executable, "-c", launcher]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        part = int(process.stdout.readline())
        assert is_alive(part)
        process.kill()
    wait_until(lambda: not is_alive(part), seconds=60)


def test_a_taken_port_is_passed_over_and_the_next_one_held():
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        with parts.listen(taken) as first, parts.listen(taken) as second:
            ports = {held.getsockname()[1] for held in (server, first, second)}
            assert len(ports) == 3


def test_a_part_takes_over_an_open_socket(house):
    answer = "import socket,sys; socket.socket(fileno=int(sys.argv[1])).accept()[0].send(b'here')"
    with house:
        with parts.listen(8000) as listener:
            port, handle = listener.getsockname()[1], listener.fileno()
            house.start("web", [sys.executable, "-c", answer, str(handle)], inherits=[handle])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as visitor:
            assert visitor.recv(4) == b"here"
