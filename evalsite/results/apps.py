"""The reading: what the votes say."""

from django.apps import AppConfig


class ResultsConfig(AppConfig):
    name = "evalsite.results"
