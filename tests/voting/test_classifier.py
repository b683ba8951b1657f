"""A program that sees all that a browser sees but the pixels cannot tell two systems apart.

It learns on the pictures of half the prompts which facts come with which system, and guesses on
the other half. The two systems paint as differently as can be: one flat, one noise.
"""

import io
import math
import struct
from collections import Counter

import numpy as np
import pytest
from django.http import HttpResponse
from django.test import Client
from PIL import Image as Picture

from evalsite.studies.models import Entry, Study
from evalsite.voting import services
from evalsite.voting.models import Showing
from tests import world
from tests.voting.visitor import enter

pytestmark = pytest.mark.django_db
N_PROMPTS = 60
CHANCE, MARGIN = 0.5, 0.05
Facts = frozenset[str]


def flat_or_noise(position: int, prompt: str) -> Picture.Image:
    if position == 0:
        return world.plain_picture(position, prompt)
    rng = np.random.default_rng(len(prompt) + ord(prompt[-1]))
    return Picture.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))


def facts_of(page: HttpResponse, other: HttpResponse, showing: Showing, side: str) -> Facts:
    """What a browser knows of one picture beside its pixels, as words."""
    length, beside = len(page.content), len(other.content)
    return frozenset(
        [
            f"side {side}",
            f"code of {len(showing.code)}",
            f"about {math.log2(length):.1f} bits long",
            f"longer than its neighbour: {length > beside}, shorter: {length < beside}",
            f"headers in order: {list(page.headers)}",
            *(f"{name}: {value}" for name, value in page.headers.items()),
            *(f"cookie {name}" for name in page.cookies),
            f"chunks {chunks_of(page.content)}",
        ]
    )


def chunks_of(data: bytes) -> list[bytes]:
    """The names of a WebP file's chunks, and the head that says size and alpha."""
    names, at = [data[12:30]], 12
    while at < len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        names.append(name)
        at += 8 + length + length % 2
    return names


def collect(study: Study) -> list[tuple[int, str, Facts]]:
    """(system, prompt, facts) of every picture that one rater is shown."""
    client = Client()
    rater = enter(client, study)
    seen = []
    while (showing := services.lease_ballot(rater=rater, at=world.NOON)) is not None:
        left, right = (client.get(f"/b/{showing.code}/{side}") for side in ("left", "right"))
        assert left.status_code == right.status_code == 200
        prompt = showing.comparison.first.prompt.text
        on_left = int(not showing.first_on_left)
        seen.append((on_left, prompt, facts_of(left, right, showing, "left")))
        seen.append((1 - on_left, prompt, facts_of(right, left, showing, "right")))
        world.vote(showing)
    return seen


def accuracy(seen: list[tuple[int, str, Facts]]) -> float:
    """Share of right guesses on the prompts that a naive Bayes classifier did not learn from."""
    prompts = sorted({prompt for _, prompt, _ in seen})
    known = set(prompts[::2])
    counts = (Counter[str](), Counter[str]())
    for system, prompt, facts in seen:
        if prompt in known:
            counts[system].update(facts)

    def guess(facts: Facts) -> int:
        odds = sum(math.log((counts[1][f] + 1) / (counts[0][f] + 1)) for f in facts)
        return int(odds > 0)

    unknown = [(system, facts) for system, prompt, facts in seen if prompt not in known]
    return sum(guess(facts) == system for system, facts in unknown) / len(unknown)


def test_a_classifier_does_no_better_than_chance_until_a_file_is_unpadded():
    study = world.open_study(picture=flat_or_noise, n_prompts=N_PROMPTS, votes_per_comparison=2)
    seen = collect(study)
    assert len(seen) == 2 * N_PROMPTS
    assert accuracy(seen) <= CHANCE + MARGIN
    for entry in Entry.objects.filter(system__study=study):
        bare = io.BytesIO()
        Picture.open(entry.display).save(bare, "WEBP", lossless=True)
        with entry.display.storage.open(entry.display.name, "wb") as file:
            file.write(bare.getvalue())
    assert accuracy(collect(study)) > 0.95
