"""A bucket that is away: whoever waits for it is told soon. A real client, and silent sockets."""

import os
import socketserver
import subprocess
import sys
import threading

import pytest

from tests.processes import ROOT

TIMEOUT_S = 0.5
LIMIT_S = 20  # on a busy machine; the library's own limits are several minutes
READ = """
import time, django
django.setup()
from django.core.files.storage import default_storage
default_storage.bucket  # loads the client
start = time.monotonic()
try:
    default_storage.open("images/one.webp").read()
except Exception as error:
    print(type(error).__name__, time.monotonic() - start)
"""
HALF = b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: "e"\r\n\r\nonly so much'


def read_from(port: int, **changes: str) -> tuple[str, float]:
    """What a process of the site gets from a bucket behind this port, and after which time."""
    environment = os.environ | {
        "STORAGE_URL": "s3://bucket",
        "STORAGE_TIMEOUT_S": str(TIMEOUT_S),
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "a key",
        "AWS_SECRET_ACCESS_KEY": "a secret",
        "AWS_DEFAULT_REGION": "eu-north-1",
        "DJANGO_SETTINGS_MODULE": "evalsite.settings",
        **changes,
    }
    done = subprocess.run(
        [sys.executable, "-c", READ],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    error, seconds = done.stdout.split()
    return error, float(seconds)


class Mute(socketserver.BaseRequestHandler):
    """Answers a question for a picture with the server's own `answer`, without the end of it."""

    def handle(self) -> None:
        head = self.server.answer.partition(b"only")[0]
        while question := self.request.recv(65536):
            method = question.partition(b" ")[0]
            self.server.asked.append(method)
            self.request.sendall(head if method == b"HEAD" else self.server.answer)


@pytest.mark.parametrize(
    ("answer", "asked"),
    [(b"", [b"HEAD"] * 2), (HALF, [b"HEAD"] * 2 + [b"GET"] * 2)],
    ids=["nothing", "half a picture"],
)
def test_a_silent_bucket_is_given_up_after_two_tries(answer, asked):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mute) as server:
        server.daemon_threads, server.answer, server.asked = True, answer, []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        error, seconds = read_from(server.server_address[1])
        server.shutdown()
    assert error in ("ReadTimeoutError", "RetriesExceededError")
    assert server.asked == asked
    assert 2 * TIMEOUT_S <= seconds < LIMIT_S


def test_a_bucket_without_a_machine_is_given_up_at_once():
    error, seconds = read_from(1)
    assert error == "EndpointConnectionError"
    assert seconds < LIMIT_S


def test_a_limit_that_is_none_is_refused():
    with pytest.raises(AssertionError, match="STORAGE_TIMEOUT_S: expected seconds, more than 0"):
        read_from(1, STORAGE_TIMEOUT_S="0")
