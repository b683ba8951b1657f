"""`manage.py study`, and what it refuses."""

import io

import pytest
from django.core.management import CommandError, call_command


def run(*arguments: object) -> str:
    """What the command prints."""
    out = io.StringIO()
    call_command("study", *map(str, arguments), stdout=out)
    return out.getvalue()


def refused(*arguments: object) -> str:
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    return str(caught.value)
