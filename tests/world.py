"""A small world for tests: each builder makes one thing and, where asked for none, what it needs.

showing = world.showing()                     # an open pair before a new rater of a new study
study = world.open_study(n_systems=3, n_prompts=2, votes_per_comparison=2)
world.vote(world.showing(world.rater(study)), "LEFT")
"""

import hashlib
import io
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.files.base import ContentFile
from PIL import Image as Picture

from evalsite.studies.models import Comparison, Criterion, Entry, Prompt, Study, System
from evalsite.voting import services
from evalsite.voting.models import Rater, Showing, Vote
from generation.models import Image

NOON = datetime(2025, 6, 2, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
_numbers = itertools.count(1)


def study(
    *,
    n_systems: int = 2,
    n_prompts: int = 2,
    criteria: tuple[str, ...] = ("image_quality",),
    tie_policy: str = "FORCED",
    **fields: Any,
) -> Study:
    """A draft: its systems, prompts and criteria, nothing painted yet."""
    slug = fields.pop("slug", f"study-{next(_numbers)}")
    defaults = {"title": "Which picture?", "seed": 7, "display_size": 64, "created_at": NOON}
    made = Study.objects.create(slug=slug, **defaults | fields)
    for position, key in enumerate(criteria):
        question = f"Which image is better for {key.replace('_', ' ')}?"
        Criterion.objects.create(
            study=made, key=key, question=question, tie_policy=tie_policy, position=position
        )
    for position in range(n_systems):
        System.objects.create(
            study=made,
            key=f"system-{position}",
            label=f"System {position}",
            recipe={"family": "imported", "checkpoint": "folder", "revision": f"sha256:{position}"},
            licence="CC0-1.0",
            position=position,
        )
    for position in range(n_prompts):
        Prompt.objects.create(study=made, position=position, text=f"prompt number {position}")
    return made


def prepared_study(**options: Any) -> Study:
    """A draft whose every image is ready and has the file that raters see."""
    made = study(**options)
    systems = list(made.systems.all())
    for prompt in made.prompts.all():
        entries = [_entry(system, prompt) for system in systems]
        for first, second in itertools.combinations(entries, 2):
            Comparison.objects.create(first=first, second=second)
    return made


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


def png(colour: tuple[int, int, int], side: int = 64) -> bytes:
    """A picture of one colour, encoded."""
    out = io.BytesIO()
    Picture.new("RGB", (side, side), colour).save(out, "PNG")
    return out.getvalue()


def _entry(system: System, prompt: Prompt) -> Entry:
    number = next(_numbers)
    data = png((system.position * 40 % 256, prompt.position * 7 % 256, number % 256))
    image = Image.objects.create(
        digest=hashlib.sha256(f"image {number}".encode()).hexdigest(),
        recipe_digest=hashlib.sha256(system.key.encode()).hexdigest(),
        recipe=system.recipe,
        prompt=prompt.text,
        seed=number,
        status=Image.Status.READY,
        requested_at=NOON,
        finished_at=NOON,
        file=ContentFile(data, "image.png"),
        sha256=hashlib.sha256(data).hexdigest(),
        width=64,
        height=64,
    )
    return Entry.objects.create(
        system=system,
        prompt=prompt,
        seed=number,
        image=image,
        display=ContentFile(data, "display.png"),
    )


def system_on(side: str, of: Showing) -> str:
    """The key of the system that this rater saw on LEFT or RIGHT."""
    on_side = of.comparison.first if of.first_on_left == (side == "LEFT") else of.comparison.second
    return on_side.system.key


def preferring(*keys: str) -> Callable[[Showing], str]:
    """A rater who answers by the systems, whichever side they stand on: earlier keys win."""

    def choose(pair: Showing) -> str:
        ranks = {side: keys.index(system_on(side, pair)) for side in ("LEFT", "RIGHT")}
        return min(ranks, key=lambda side: ranks[side])

    return choose


def voted_study(
    choose: Callable[[Showing], str], *, n_raters: int = 3, at: datetime = NOON, **options: Any
) -> Study:
    """An open study in which each of some raters has answered everything there was for them."""
    made = open_study(at=at, votes_per_comparison=n_raters, **options)
    for number in range(n_raters):
        voter = rater(made, at=at)
        while (pair := services.lease_ballot(rater=voter, at=at)) is not None:
            vote(pair, choose(pair), at=at + number * MINUTE)
    return made


def closed_study(choose: Callable[[Showing], str], *, at: datetime = NOON, **options: Any) -> Study:
    """A study whose every ballot is answered, and that is closed."""
    return services.close_study(study=voted_study(choose, at=at, **options), at=at + HOUR)
