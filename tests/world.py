"""A small world for tests: each builder makes one thing and, where asked for none, what it needs.

showing = world.showing()                     # an open pair before a new rater of a new study
study = world.open_study(n_systems=3, n_prompts=2, votes_per_comparison=2)
world.vote(world.showing(world.rater(study)), "LEFT")
"""

import hashlib
import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from PIL import Image as Picture

from evalsite.studies.display_files import make_display_files
from evalsite.studies.models import Criterion, Prompt, Study, System
from evalsite.studies.services import prepare
from evalsite.voting import services
from evalsite.voting.models import Rater, Showing, Vote
from generation.encoding import encode
from generation.models import Image
from generation.services import claim_images, store_paintings, write_painting
from generation.spec import Recipe
from generation.tiny.scenes import SIDE, describe, draw_scene, render

NOON = datetime(2025, 6, 2, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
QUESTIONS = {
    "fit": "Which image fits the text better?",
    "quality": "Which image is of higher quality?",
}
Painter = Callable[[int, str], Picture.Image]  # (system's position, prompt) -> picture
_numbers = itertools.count(1)


def study(
    *,
    n_systems: int = 2,
    n_prompts: int = 2,
    prompts: Sequence[str] = (),
    criteria: Sequence[str] = ("fit",),
    tie_policy: str = "FORCED",
    **fields: Any,
) -> Study:
    """A draft: its systems, prompts and criteria, nothing painted yet."""
    slug = fields.pop("slug", f"study-{next(_numbers)}")
    defaults = {"title": "Which picture?", "seed": 7, "display_size": SIDE, "created_at": NOON}
    defaults |= {"on_blank": "KEEP", "on_duplicate": "KEEP"}  # this world paints plain pictures
    made = Study.objects.create(slug=slug, **defaults | fields)
    for position, key in enumerate(criteria):
        question = QUESTIONS.get(key, f"Which image is better by its {key}?")
        Criterion.objects.create(
            study=made, key=key, question=question, tie_policy=tie_policy, position=position
        )
    for position in range(n_systems):
        System.objects.create(
            study=made,
            key=f"system-{position}",
            label=f"System {position}",
            recipe=recipe(position).as_json(),
            licence="CC0-1.0",
            position=position,
        )
    texts = prompts or [f"prompt number {position}" for position in range(n_prompts)]
    for position, text in enumerate(texts):
        Prompt.objects.create(study=made, position=position, text=text)
    return made


def recipe(position: int) -> Recipe:
    """The same small model at one step more for each system."""
    return Recipe(
        family="sdxl",
        checkpoint="world/model",
        revision="0123456789abcdef0123456789abcdef01234567",
        steps=position + 1,
        guidance=0.0,
        width=SIDE,
        height=SIDE,
        dtype="float32",
    )


def prepared_study(*, picture: Painter | None = None, **options: Any) -> Study:
    """A draft whose every image is ready and has the file that raters see."""
    made = study(**options)
    prepare(made, at=NOON)
    paint(made, picture or plain_picture)
    make_display_files(at=NOON, study=made, limit=1000)
    return made


def paint(of: Study, picture: Painter, *, limit: int | None = None, at: datetime = NOON) -> None:
    """Do a worker's part for every image that waits, or for some, without a model."""
    waiting = Image.objects.filter(entries__prompt__study=of, status=Image.Status.QUEUED)
    ids = list(waiting.order_by("pk").values_list("pk", flat=True)[:limit])
    claim = claim_images(ids, task_id="world", at=at)
    written = [
        write_painting(
            image,
            encode(picture(image.recipe["steps"] - 1, image.prompt)),
            provenance={"painter": "world"},
        )
        for image in claim.images
    ]
    store_paintings(claim, written, at=at)


def plain_picture(position: int, prompt: str) -> Picture.Image:
    """One colour, a different one for every system and prompt."""
    red, green, blue = hashlib.sha256(f"{position} {prompt}".encode()).digest()[:3]
    return Picture.new("RGB", (SIDE, SIDE), (red, green, blue))


def scene_study(*, n_prompts: int = 4, **options: Any) -> Study:
    """Open to simulated raters: system-0 paints what the prompt says, system-1 half of the
    things in wrong colours, system-2 nothing but a ground."""
    rng = np.random.default_rng(5)
    scenes = {describe(scene): scene for scene in (draw_scene(rng, "colour") for _ in range(50))}
    texts = list(scenes)[:n_prompts]

    def picture(position: int, prompt: str) -> Picture.Image:
        pixels = render([scenes[prompt]])[0]
        if position == 1 and texts.index(prompt) % 2:
            pixels = pixels[..., ::-1]
        if position == 2:
            pixels = np.full_like(pixels, 200)
        return Picture.fromarray(np.ascontiguousarray(pixels))

    defaults = {"n_systems": 3, "simulated": True, "prompts": texts, "criteria": ("fit",)}
    return open_study(picture=picture, **defaults | options)


def open_study(*, at: datetime = NOON, **options: Any) -> Study:
    """A study that takes votes: by default one comparison on each of two prompts, one vote each."""
    made = prepared_study(**options)
    services.open_study(study=made, at=at)
    return made


def rater(of: Study | None = None, *, at: datetime = NOON, **options: Any) -> Rater:
    """Somebody who has consented, in this study or in a new one."""
    return services.enrol_rater(
        study=of or open_study(), at=at, **{"consent_version": "1"} | options
    )


def showing(before: Rater | None = None, *, at: datetime = NOON) -> Showing:
    """The pair now before this rater, or before a new one."""
    made = services.lease_ballot(rater=before or rater(), at=at)
    assert made is not None, "nothing is left for this rater"
    return made


def vote(
    on: Showing | None = None, choice: str = "LEFT", *, take: int = 1, at: datetime = NOON
) -> Vote:
    """The rater's answer to this showing, or to a new one."""
    return services.cast_vote(
        showing=on or showing(), take=take, choice=choice, response_ms=1500, at=at
    )


def vote_to_the_end(voter: Rater, choice: str = "LEFT", *, at: datetime = NOON) -> list[Vote]:
    """Everything that is left for this rater, answered the same way."""
    votes = []
    while (pair := services.lease_ballot(rater=voter, at=at)) is not None:
        votes.append(vote(pair, choice, at=at))
    return votes
