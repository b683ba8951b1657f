"""The question: what is compared, and on which prompts."""

from django.apps import AppConfig


class StudiesConfig(AppConfig):
    name = "evalsite.studies"
