"""The Celery app of the painters. Messages carry ids only; the Image rows are the queue.

A worker is started with `celery -A generation.celery worker`. It keeps one child, which alone
loads torch; the parent, which forks it, never does.
"""

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "evalsite.settings")

QUEUE = "painting"
PAINT_IMAGES = "generation.tasks.paint_images"

app = Celery("generation")
app.conf.update(
    broker_url=settings.REDIS_URL,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,  # however long it is away, no worker needs a restart
    broker_transport_options={
        # Nothing waits for it: a child that dies has its message put back at once, and for a worker
        # that dies the sweep sends a new one. A message whose worker paints on for longer comes to
        # another, who finds nothing of it left; should the first die after that, leases end.
        "visibility_timeout": 12 * 3600,
        "unacked_restore_throttle": 1,
        # Fail at once when the broker is away: the sweep will send again.
        "max_retries": 0,
        "socket_timeout": 10,
        "socket_connect_timeout": 3,
    },
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_publish_retry=False,
    worker_prefetch_multiplier=1,
    worker_concurrency=1,  # one child, one device, one model in memory
    worker_pool="prefork",
    task_default_queue=QUEUE,
)
app.autodiscover_tasks(["generation"])


def leave_logging_alone(**_: Any) -> None:
    """A worker logs as the settings say, so that LOG_LEVEL holds: with a receiver Celery sets up
    nothing, and without one it would raise the root's level to that of its own option."""


setup_logging.connect(leave_logging_alone)
