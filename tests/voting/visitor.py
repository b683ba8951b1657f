"""Somebody with a browser and no script, played by Django's own client."""

import html
import re

from django.http import HttpResponse
from django.test import Client

from evalsite.studies.models import Study
from evalsite.voting.models import Rater, Showing


def visit(client: Client, address: str, status: int = 200) -> str:
    page = client.get(address)
    assert page.status_code == status
    return page.content.decode()


def enter(client: Client, study: Study) -> Rater:
    """Consent as a person does, by the form on the landing page."""
    landing = visit(client, f"/s/{study.code}/")
    version = re.search(r'name="version" value="(\w+)"', landing)
    assert version is not None
    client.post(f"/s/{study.code}/", {"version": version[1], "agree": "on"})
    return Rater.objects.filter(study=study).latest("pk")


def pair_on(page: str) -> Showing:
    form = re.search(r'action="/b/([\w-]+)/vote"', page)
    assert form is not None, text_of(page)
    return Showing.objects.get(code=form[1])


def next_showing(client: Client, study: Study) -> Showing:
    return pair_on(visit(client, f"/s/{study.code}/next"))


def answer(client: Client, showing: Showing, choice: str = "LEFT", **fields: str) -> HttpResponse:
    sent = {"take": "1", "choice": choice, "response_ms": "1200"} | fields
    return client.post(f"/b/{showing.code}/vote", sent)


def text_of(page: str) -> str:
    """The words of the page's main part, without its markup."""
    main = re.search(r"<main.*</main>", page, re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", main[0] if main else page)).split())
