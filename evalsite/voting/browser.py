"""A browser small enough for a program to rate with: cookies, forms, one connection kept open."""

import time
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urljoin, urlsplit

PATIENCE = 30  # seconds of "come back later" before giving up
TEXTS = ("question", "prompt")  # ids of the elements whose words a rater reads


class BrowserError(Exception):
    """The site answered with something that a rater's browser cannot go on from."""


@dataclass
class Form:
    """What a form sends when it is submitted as it stands."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    choices: dict[str, list[str]] = field(default_factory=dict)  # buttons: name -> values


@dataclass
class Page:
    """Where one is, and by their ids: forms, sources of images, the words of TEXTS."""

    url: str
    forms: dict[str, Form] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)


class Browser:
    """One person's browser. Remembers cookies, follows redirects, says where it comes from."""

    def __init__(self, base: str) -> None:
        self.base = base.rstrip("/")
        self._cookies: dict[str, str] = {}
        self._here = ""
        self._connection = _connect(self.base)

    def open(self, path: str) -> Page:
        """Read a page, wherever it leads."""
        for _ in range(5):
            response, data = self._send("GET", path)
            if response.status == 200:
                self._here = urljoin(self.base, path)
                return _read(self._here, data.decode())
            if response.status not in (301, 302, 303):
                break
            path = response.getheader("Location", "")
        raise BrowserError(f"GET {path}: expected a page, got {response.status}")

    def load(self, url: str) -> bytes:
        """Fetch an image of the page."""
        response, data = self._send("GET", urlsplit(url).path)
        if response.status != 200:
            raise BrowserError(
                f"GET {urlsplit(url).path}: expected an image, got {response.status}"
            )
        return data

    def submit(self, form: Form, **answers: str) -> str:
        """Send a form; the address to which a browser would go next.

        Not followed here: the next page may lend out a pair, and its time has not come.
        """
        path = urlsplit(form.action).path
        response, data = self._send("POST", path, urlencode(form.fields | answers))
        if response.status not in (302, 303):
            words = data.decode(errors="replace")[:300]
            raise BrowserError(
                f"POST {path}: expected it to be taken, got {response.status} {words}"
            )
        return response.getheader("Location", "")

    def close(self) -> None:
        self._connection.close()

    def _send(self, method: str, path: str, body: str | None = None) -> tuple[HTTPResponse, bytes]:
        """One request, again as often as the site asks to come back later."""
        deadline = time.monotonic() + PATIENCE
        while True:
            response, data = self._once(method, path, body)
            if response.status != 503 or time.monotonic() > deadline:
                return response, data
            time.sleep(min(float(response.getheader("Retry-After") or 1), 5))

    def _once(self, method: str, path: str, body: str | None) -> tuple[HTTPResponse, bytes]:
        """One request. A connection that the server has closed meanwhile is made anew."""
        headers = {"Cookie": "; ".join(f"{k}={v}" for k, v in self._cookies.items())}
        if self._here:
            headers["Referer"] = self._here
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        for last_try in (False, True):
            try:
                self._connection.request(method, path, body, headers)
                response = self._connection.getresponse()
                data = response.read()
            except (HTTPException, OSError) as error:
                self._connection.close()
                if last_try:
                    raise BrowserError(f"{self.base} does not answer: {error}") from error
            else:
                self._remember(response)
                return response, data
        raise AssertionError("unreachable")

    def _remember(self, response: HTTPResponse) -> None:
        for line in response.headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(line).items():
                self._cookies[name] = morsel.value


def _connect(base: str) -> HTTPConnection:
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BrowserError(f"url: expected http://host:port or https://host, got {base!r}")
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return kind(parts.hostname, parts.port, timeout=60)


def _read(url: str, html: str) -> Page:
    reader = _Reader(url)
    reader.feed(html)
    return reader.page


class _Reader(HTMLParser):
    """Collects from a page what a rater's browser needs to go on."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.page = Page(url)
        self._form: Form | None = None
        self._text = ("", "")  # the tag and the id of the words that are being read

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        facts = {name: value or "" for name, value in attributes}
        name, value = facts.get("name", ""), facts.get("value", "")
        if tag == "form":
            self._form = Form(urljoin(self.page.url, facts.get("action", "")))
            self.page.forms[facts.get("id", "")] = self._form
        elif tag == "img" and "id" in facts:
            self.page.images[facts["id"]] = urljoin(self.page.url, facts.get("src", ""))
        elif self._form and tag == "input" and name:
            default = "on" if facts.get("type") == "checkbox" else ""
            self._form.fields[name] = value or default
        elif self._form and tag == "button" and name:
            self._form.choices.setdefault(name, []).append(value)
        elif facts.get("id") in TEXTS:
            self._text = (tag, facts["id"])
            self.page.texts[facts["id"]] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == self._text[0]:
            self._text = ("", "")

    def handle_data(self, data: str) -> None:
        if self._text[1]:
            self.page.texts[self._text[1]] += data
