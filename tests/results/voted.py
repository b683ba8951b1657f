"""Studies that have been voted on: raters answer by the system, whichever side it stands on.

That is the oracle for everything that turns sides into systems: it looks at what each side
showed, and never at how an answer is read.
"""

import random
from collections.abc import Callable
from datetime import datetime
from typing import Any

from evalsite.studies.models import Study
from evalsite.voting import services
from evalsite.voting.models import Showing
from generation.models import Pace
from generation.spec import Recipe
from tests import world
from tests.world import HOUR, MINUTE, NOON

Choose = Callable[[Showing], str]

KEY = "image_quality"
BETTER = {"kind": "superiority", "first": "system-1", "second": "system-0", "criterion": KEY}
AS_GOOD = BETTER | {"kind": "non_inferiority", "margin": 0.1}
EQUAL = BETTER | {"kind": "equivalence", "margin": 0.2}
CLAIMS = [BETTER | {"margin": None}, AS_GOOD, EQUAL]


def preferring(*keys: str) -> Choose:
    """A rater who likes the system best that is named first."""

    def choose(pair: Showing) -> str:
        assert pair.comparison is not None
        entries = [pair.comparison.first, pair.comparison.second]
        left, right = entries if pair.first_on_left else reversed(entries)
        return "LEFT" if keys.index(left.system.key) < keys.index(right.system.key) else "RIGHT"

    return choose


def voted_study(choose: Choose, *, n_raters: int = 3, at: datetime = NOON, **options: Any) -> Study:
    """An open study in which each rater has answered everything; one prompt unless told more."""
    defaults = {"criteria": ("image_quality",), "n_prompts": 1, "votes_per_comparison": n_raters}
    made = world.open_study(at=at, **defaults | options)
    for number in range(n_raters):
        voter = world.rater(made, at=at)
        while (pair := services.lease_ballot(rater=voter, at=at)) is not None:
            world.vote(pair, choose(pair), at=at + number * MINUTE)
    return made


def closed_study(choose: Choose, *, at: datetime = NOON, **options: Any) -> Study:
    """The same, closed an hour later."""
    return services.close_study(study=voted_study(choose, at=at, **options), at=at + HOUR)


def mostly(share: float, seed: int = 3) -> Choose:
    """A rater who prefers system-1 that often."""
    chance = random.Random(seed)
    for_it, against = preferring("system-1", "system-0"), preferring("system-0", "system-1")

    def choose(pair: Showing) -> str:
        return for_it(pair) if chance.random() < share else against(pair)

    return choose


def declaring(**options: Any) -> Study:
    """Five raters on eight prompts: 40 votes where all are given."""
    defaults = {"n_prompts": 8, "votes_per_comparison": 5, "criteria": (KEY,), "claims": CLAIMS}
    return world.open_study(**defaults | options)


def answer(study: Study, n: int, choose: Choose) -> None:
    """n more votes, rater after rater: whoever has rated everything makes room for another."""
    voter = study.raters.order_by("pk").last() or world.rater(study)
    for _ in range(n):
        pair = services.lease_ballot(rater=voter, at=NOON)
        if pair is None:
            voter = world.rater(study)
            pair = world.showing(voter)
        world.vote(pair, choose(pair))


def time_systems(
    study: Study, *latencies_ms: float | None, at: datetime | None = NOON, **fields: Any
) -> None:
    """What a worker found on one device, for the study's systems in their order. 0 leaves one out,
    and with None it was not timed."""
    for system, latency_ms in zip(study.systems.all(), latencies_ms):
        if latency_ms == 0:
            continue
        Pace.objects.create(
            recipe_digest=Recipe.model_validate(system.recipe).digest,
            latency_ms=latency_ms,
            measured_at=at,
            **{"device": "paper", "n_paints": 5, "versions": {"torch": "2.11"}} | fields,
        )
