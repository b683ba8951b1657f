"""A rater learns the system from nothing but the pixels.

A browser walks the whole flow while everything that it sends, gets, shows and keeps is written
down; then every name and number that could tell a system is searched in it.
"""

import io
import re
from typing import Any

import pytest
from django.core.files.base import ContentFile
from PIL import ExifTags
from PIL import Image as Picture
from playwright.sync_api import Browser, Page, Request, Response, Route, expect

from evalsite.studies.models import Criterion, Entry, Study, System
from evalsite.voting import services
from evalsite.voting.models import Ballot, Vote
from generation.models import Image
from tests import world

pytestmark = pytest.mark.django_db(transaction=True)


def telling_study() -> Study:
    """A draft in which every hidden thing has a name that can be found again."""
    study = world.prepared_study(
        n_systems=3, tie_policy="ALLOWED", seed=918273645, slug="zebra-or-okapi"
    )
    for name, system in zip(("zebra", "okapi", "quagga"), study.systems.all(), strict=True):
        System.objects.filter(pk=system.pk).update(
            key=f"{name}-key", label=f"{name.title()} Label", licence=f"{name}-licence"
        )
    return study


def secrets_of(study: Study) -> set[str]:
    """Whatever could tell a system, or lead to it."""
    systems = System.objects.filter(study=study)
    entries = Entry.objects.filter(system__study=study)
    images = Image.objects.filter(entries__in=entries)
    fields = [
        *systems.values_list("key", "label", "licence"),
        *systems.values_list("recipe__checkpoint", "recipe__revision", "recipe__family"),
        *images.values_list("digest", "recipe_digest", "sha256", "file", "seed"),
        *entries.values_list("display", "seed"),
        (study.slug, study.seed, study.spec_sha256),
    ]
    values = {str(value) for row in fields for value in row}
    names = {value.rsplit("/", 1)[-1].rsplit(".", 1)[0] for value in values}
    found = {value for value in values | names if len(value) > 3}
    assert len(found) > 30
    return found


# What the script asks for, and what is loaded only after the page is.
ON_THE_WAY = re.compile(r"/(vote|flag|ahead|icon\.svg)$")
# Six pairs, one of them answered twice, one flagged.
ACTS = ("?", "ArrowLeft", "Backspace", "ArrowRight", "ArrowDown", "flag", *["ArrowLeft"] * 3)


class Trail:
    """Everything that a page's browser sent, got, showed and kept."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.hosts: set[str] = set()
        self.n_pictures = 0
        self._written: list[bytes] = []
        self._waiting: list[Response] = []
        self._under_way: set[Request] = set()
        page.clock.install()  # so that the half second before an answer need not be waited for
        page.on("request", lambda request: self._under_way.add(request))
        for end in ("requestfinished", "requestfailed"):
            page.on(end, lambda request: self._under_way.discard(request))
        page.on("response", lambda response: self._waiting.append(response))
        page.route(ON_THE_WAY, self._pass_on)

    def _pass_on(self, route: Route) -> None:
        """What may come just before the page moves on is read on the way."""
        reply = route.fetch()
        self._written.append(reply.body())
        route.fulfill(response=reply)

    def write_down(self) -> None:
        """To be called before the page moves on: bodies are forgotten then."""
        self.page.wait_for_load_state()
        while self._under_way:
            self.page.wait_for_timeout(10)
        while self._waiting:
            self._note_response(self._waiting.pop(0))
        kept = "[{...localStorage}, {...sessionStorage}, document.cookie, document.title]"
        self._note(self.page.content(), self.page.evaluate(kept), self.page.context.cookies())

    def _note_response(self, response: Response) -> None:
        request = response.request
        self._note(request.method, request.url, request.all_headers(), request.post_data)
        self._note(response.status, response.status_text, response.all_headers())
        self.hosts.add(re.sub(r"^(\w+://[^/]+).*", r"\1", request.url))
        self.n_pictures += request.resource_type == "image" and "/b/" in request.url
        if response.status != 302 and not ON_THE_WAY.search(request.url):
            self._written.append(response.body())

    def _note(self, *facts: Any) -> None:
        self._written += [str(fact).encode() for fact in facts]

    def tells(self, secrets: set[str]) -> set[str]:
        everything = b"\n".join(self._written).lower()
        return {secret for secret in secrets if secret.lower().encode() in everything}


def walk(page: Page, site: Any, study: Study) -> Trail:
    """Landing, consent, instructions, help, votes, a change of mind, a flag, the end, an error."""
    trail = Trail(page)
    page.goto(f"{site.url}/s/{study.code}/")
    trail.write_down()
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Start").click()
    trail.write_down()
    page.get_by_role("link", name="Show the first pair").click()
    for act in ACTS:
        expect(page.locator(".pair:not(.pending)")).to_be_visible()
        page.clock.fast_forward(450)
        trail.write_down()
        if act == "flag":
            page.get_by_text("I cannot judge this pair").click()
            page.get_by_role("button", name="Another reason").click()
        else:
            page.keyboard.press(act)
        if act == "?":
            trail.write_down()
            page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
    trail.write_down()
    for lost in ("/s/nowhere/", "/b/nowhere/left"):
        page.goto(f"{site.url}{lost}")
        trail.write_down()
    page.unroute_all(behavior="wait")  # an icon may still be on its way when the window closes
    return trail


def test_nothing_that_a_rater_meets_tells_the_system(live_server, browser: Browser):
    study = telling_study()
    services.open_study(study=study, at=world.NOON)
    context = browser.new_context()
    trail = walk(context.new_page(), live_server, study)
    context.close()
    assert Vote.objects.filter(take=2).count() == 1
    assert Ballot.objects.filter(answered_at__isnull=False).count() == 5
    assert trail.n_pictures >= 12
    assert trail.hosts == {live_server.url}
    assert trail.tells(secrets_of(study)) == set()


def test_the_search_finds_a_leak(live_server, browser: Browser):
    study = telling_study()
    Criterion.objects.filter(study=study).update(question="Is zebra label better?")
    Study.objects.filter(pk=study.pk).update(instructions="QUAGGA-KEY and others")
    for entry in Entry.objects.filter(system__study=study):
        entry.display = ContentFile(signed_picture(entry), "display.webp")
        entry.save()
    study.refresh_from_db()
    services.open_study(study=study, at=world.NOON)
    context = browser.new_context()
    trail = walk(context.new_page(), live_server, study)
    context.close()
    found = trail.tells(secrets_of(study))
    assert {"Zebra Label", "quagga-key"} <= found
    assert found & set(Image.objects.values_list("digest", flat=True)), "a note inside a picture"


def signed_picture(entry: Entry) -> bytes:
    """As a careless painter would leave it: with its own note beside the pixels."""
    out, note = io.BytesIO(), Picture.Exif()
    note[ExifTags.Base.ImageDescription] = entry.image.digest
    Picture.open(entry.display).save(out, "WEBP", lossless=True, exif=note)
    return out.getvalue()
