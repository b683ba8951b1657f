"""The desk: where a study is run from, in the terminal and in the admin."""

from django.apps import AppConfig


class DeskConfig(AppConfig):
    name = "evalsite.desk"
