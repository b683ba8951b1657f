"""Simulated raters: programs of known taste that walk the real pages, and the truth they hold.

Each has a browser of its own: consent, the next pair, both pictures, the form. What they know of
a pair is what a person would: the question, the text, the pixels. Tastes are drawn from (seed,
rater), the chance of an answer from (seed, rater, comparison, question), a comparison being
known by its text and pixels; raters take turns in a seeded order. So a run repeats exactly,
whatever codes and names the site draws.
"""

import hashlib
import io
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from evalsite.studies.models import Comparison, Criterion, Entry, Study
from evalsite.studies.queries import live_comparisons
from evalsite.voting.browser import Browser, BrowserError, Page
from evalsite.voting.tastes import Floats, Tastes, chances, draw_tastes, features, kind_of
from generation.tiny.scenes import parse
from generation.tiny.scorer import score

N_TASTES = 20_000  # for the truth: its Monte Carlo error stays below 0.003
_TRUTH_SEED = 2024
_MOST_PIXELS = 4096 * 4096


@dataclass(frozen=True)
class Look:
    """What a rater makes of one picture: its pixels' digest and its features for the text."""

    digest: str
    features: Floats


@dataclass
class Eyes:
    """Reads pictures. Raters share them: the same bytes and text look the same to all."""

    _pixels: dict[str, tuple[str, NDArray[np.uint8]]] = field(default_factory=dict)
    _looks: dict[tuple[str, str], Look] = field(default_factory=dict)

    def look(self, data: bytes, text: str) -> Look:
        """Raises ValueError where the text or the picture is not of the tiny family."""
        name = hashlib.sha256(data).hexdigest()
        if (name, text) not in self._looks:
            if name not in self._pixels:
                self._pixels[name] = _decode(data)
            digest, pixels = self._pixels[name]
            self._looks[name, text] = Look(digest, features(score(pixels, parse(text))))
        return self._looks[name, text]


def _decode(data: bytes) -> tuple[str, NDArray[np.uint8]]:
    with Picture.open(io.BytesIO(data), formats=["PNG", "WEBP"]) as picture:
        if picture.width * picture.height > _MOST_PIXELS:
            raise ValueError(f"a picture of {picture.width} x {picture.height} is too large")
        pixels = np.asarray(picture.convert("RGB"))
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest(), pixels


class SimulatedRater:
    """One program in the place of a person."""

    def __init__(self, base: str, study_path: str, *, seed: int, index: int, eyes: Eyes) -> None:
        self._browser = Browser(base)
        self._study_path = study_path
        self._name = f"{seed}/{index}"
        self._tastes = draw_tastes(1, np.random.default_rng([seed, index]))
        self._eyes = eyes

    def enrol(self) -> None:
        """Read what the study is, and agree."""
        landing = self._browser.open(self._study_path)
        form = landing.forms.get("consent")
        if form is None:
            raise BrowserError(f"{landing.url}: no consent to give; the study takes nobody in")
        self._browser.open(self._browser.submit(form))

    def take_turn(self) -> bool:
        """Judge the next pair. False when there is none."""
        page = self._browser.open(f"{self._study_path}next")
        if "vote" not in page.forms:
            return False
        text = page.texts.get("prompt", "").strip()
        looks = [
            self._eyes.look(self._browser.load(page.images[side]), text)
            for side in ("left-image", "right-image")
        ]
        self._answer(page, text, looks[0], looks[1])
        return True

    def leave(self) -> None:
        self._browser.close()

    def _answer(self, page: Page, text: str, left: Look, right: Look) -> None:
        form, question = page.forms["vote"], page.texts["question"].strip()
        pair = sorted((left.digest, right.digest))
        chance = random.Random("/".join((self._name, question, text, *pair)))  # noqa: S311
        p_left, p_tie, p_right = chances(
            self._tastes,
            kind_of(question),
            left.features,
            right.features,
            ties="TIE" in form.choices["choice"],
        )[0]
        left_is_first = left.digest == pair[0]
        p_first = p_left if left_is_first else p_right
        draw = chance.random()
        if draw < p_first:
            choice = "LEFT" if left_is_first else "RIGHT"
        elif draw < p_first + p_tie:
            choice = "TIE"
        else:
            choice = "RIGHT" if left_is_first else "LEFT"
        time_ms = round(1000 * chance.lognormvariate(1.2, 0.4))
        self._browser.submit(form, choice=choice, response_ms=str(time_ms))


def run(
    base: str,
    study_path: str,
    *,
    n_raters: int,
    seed: int,
    on_vote: Callable[[], None] = lambda: None,
) -> int:
    """Let raters answer in turns until nothing is left for any; the number of votes.

    They enrol in order, then each round goes through those still at it in a new seeded order,
    one vote at a time, so that no pair is held while another rater looks for one.
    """
    eyes, order = Eyes(), random.Random(f"{seed}/turns")  # noqa: S311 - seeded on purpose
    raters = [
        SimulatedRater(base, study_path, seed=seed, index=i, eyes=eyes) for i in range(n_raters)
    ]
    n_votes = 0
    try:
        for rater in raters:
            rater.enrol()
        at_it = list(raters)
        while at_it:
            order.shuffle(at_it)
            voted = []
            for rater in at_it:
                if rater.take_turn():
                    voted.append(rater)
                    n_votes += 1
                    on_vote()
            at_it = voted
    finally:
        for rater in raters:
            rater.leave()
    return n_votes


# The truth


Truth = dict[str, dict[tuple[str, str], float]]  # criterion -> (first, second) -> win rate


def truth(study: Study) -> Truth:
    """Expected win rates of the first system over the distribution of tastes, on these prompts.

    For every comparison that raters may see, the chance that its first entry is chosen, a tie
    counting half, averaged over tastes and over both sides; then averaged over prompts. Tastes
    by Monte Carlo with a fixed seed, standard error below 0.5 / sqrt(N_TASTES) = 0.0036 a
    comparison and less in the mean.
    """
    tastes = draw_tastes(N_TASTES, np.random.default_rng(_TRUTH_SEED))
    eyes: Eyes = Eyes()
    found: Truth = {}
    for criterion in study.criteria.all():
        rates = defaultdict(list)
        for comparison in _comparisons(study):
            first, second = comparison.first, comparison.second
            rate = _expected(tastes, criterion, _seen(eyes, first), _seen(eyes, second))
            rates[first.system.key, second.system.key].append(rate)
        found[criterion.key] = {pair: float(np.mean(values)) for pair, values in rates.items()}
    return found


def _comparisons(study: Study) -> list[Comparison]:
    related = ("first__system", "first__prompt", "second__system", "second__prompt")
    return list(
        live_comparisons(study)
        .select_related(*related)
        .order_by("first__system__position", "second__system__position", "first__prompt__position")
    )


def _seen(eyes: Eyes, entry: Entry) -> Floats:
    """The features of what raters see of an entry: its display file."""
    with entry.display.open("rb") as file:
        return eyes.look(file.read(), entry.prompt.text).features


def _expected(tastes: Tastes, criterion: Criterion, first: Floats, second: Floats) -> float:
    kind, ties = kind_of(criterion.question), criterion.tie_policy == Criterion.TiePolicy.ALLOWED
    on_left = chances(tastes, kind, first, second, ties=ties).mean(axis=0)
    on_right = chances(tastes, kind, second, first, ties=ties).mean(axis=0)
    n_first, n_ties = on_left[0] + on_right[2], on_left[1] + on_right[1]
    return float(n_first + n_ties / 2) / 2
