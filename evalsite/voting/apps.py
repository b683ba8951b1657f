"""The answer: who was shown what, and what they chose."""

from django.apps import AppConfig


class VotingConfig(AppConfig):
    name = "evalsite.voting"
