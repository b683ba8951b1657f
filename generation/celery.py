"""The Celery app of the painters. Messages carry ids only; the Image rows are the queue."""

import os

from celery import Celery
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "evalsite.settings")

app = Celery("generation")
app.conf.update(
    broker_url=settings.REDIS_URL,
    broker_connection_retry_on_startup=True,
    # A chunk may take long: give it back to another worker only when nobody can be at it.
    broker_transport_options={
        "visibility_timeout": 3600,
        "unacked_restore_throttle": 1,
        # Fail soon when the broker is away: the sweep will send again.
        "socket_timeout": 10,
        "socket_connect_timeout": 3,
    },
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_concurrency=1,  # one child, one device, one model in memory
    worker_hijack_root_logger=False,
    task_default_queue="painting",
)
app.autodiscover_tasks(["generation"])
