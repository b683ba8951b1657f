"""The painter's room."""

from django.apps import AppConfig


class GenerationConfig(AppConfig):
    name = "generation"
    verbose_name = "Generation"

    def ready(self) -> None:
        # Without a loaded Celery app a message would be sent to nowhere.
        import generation.celery  # noqa: F401
