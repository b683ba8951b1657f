"""Talking to the broker. A message names images by id; losing one loses nothing."""

import base64
import json
from collections.abc import Sequence

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from generation.celery import PAINT_IMAGES, QUEUE, app


class BrokerAwayError(Exception):
    """The broker could not be reached, and why."""


def send(image_ids: Sequence[int]) -> None:
    """Tell some worker that these images, all of one recipe, are wanted."""
    try:
        app.send_task(PAINT_IMAGES, args=[list(image_ids)], retry=False)
    except (OperationalError, RedisError, OSError) as error:
        raise BrokerAwayError(str(error)) from error


def waiting() -> set[int]:
    """The images that messages in the queue speak of."""
    try:
        with app.connection_for_read() as connection:
            messages = connection.default_channel.client.lrange(QUEUE, 0, -1)
    except (OperationalError, RedisError, OSError) as error:
        raise BrokerAwayError(str(error)) from error
    image_ids: set[int] = set()
    for message in messages:
        args, _kwargs, _embed = json.loads(base64.b64decode(json.loads(message)["body"]))
        image_ids.update(args[0])
    return image_ids
