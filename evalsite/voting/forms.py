"""What a rater may send. Forms explain the rules to people; services and the database hold them."""

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import forms

from evalsite.voting.models import Flag, Showing, Vote

_NUMBER = re.compile(r"\d{1,6}(\.\d{1,4})?")


def consent_version(text: str) -> str:
    """The text's own hash: what was agreed to can be proved word for word."""
    return hashlib.sha256(text.encode()).hexdigest()


class ConsentForm(forms.Form):
    """Agreement to the text that is shown, and to no other."""

    version = forms.CharField()
    agree = forms.BooleanField(error_messages={"required": "Please tick the box to take part."})

    def __init__(self, text: str, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data)
        self.expected = consent_version(text)

    def clean_version(self) -> str:
        if self.cleaned_data["version"] != self.expected:
            raise forms.ValidationError(
                "The text has changed since you opened this page. Please read it once more."
            )
        return self.expected


class VoteForm(forms.Form):
    """An answer, with how long it took and the screen that it was given on."""

    SCREEN = ("width", "height", "ratio", "image")

    take = forms.TypedChoiceField(choices=[(1, "1"), (2, "2")], coerce=int)
    choice = forms.ChoiceField(
        choices=Vote.Choice.choices,
        error_messages={"required": "Please choose one of the answers below the pictures."},
    )
    response_ms = forms.IntegerField(required=False, min_value=0)

    def answer_to(self, showing: Showing, at: datetime) -> dict[str, Any]:
        """The valid answer, as `cast_vote` takes it."""
        answer = dict(self.cleaned_data)
        if answer["response_ms"] is None:  # no script: as measured from here
            answer["response_ms"] = round((at - showing.leased_at).total_seconds() * 1000)
        return answer | {"screen": self._screen()}

    def _screen(self) -> dict[str, float]:
        """Facts about the screen are welcome, never demanded: an odd one costs nobody a vote."""
        sent = {name: str(self.data.get(f"screen_{name}", "")) for name in self.SCREEN}
        return {name: float(value) for name, value in sent.items() if _NUMBER.fullmatch(value)}


class FlagForm(forms.Form):
    """Why a pair cannot be judged."""

    reason = forms.ChoiceField(choices=Flag.Reason.choices)
