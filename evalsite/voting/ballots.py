"""Draw the votes that a study wants: sides counterbalanced, order random within each round."""

import random
from collections import defaultdict
from collections.abc import Iterator

from evalsite.studies.models import Study
from evalsite.studies.queries import live_comparisons
from evalsite.voting.models import Ballot


def draw_ballots(study: Study) -> Iterator[Ballot]:
    """Every counted ballot of a study, unsaved, the same for the same design and seed.

    For one criterion, the first system of a pair stands on the left as often as on the right,
    within one, both over the replicates of a comparison and over all ballots of two systems.
    Replicates come round by round: every comparison gets its first vote before any gets its
    second.
    """
    pairs = _comparisons_by_systems(study)
    everything = sorted(pk for comparisons in pairs.values() for pk in comparisons)
    for criterion in study.criteria.all():
        rng = random.Random(f"{study.seed}/{criterion.key}")  # noqa: S311 - seeded on purpose
        sides = {
            pk: side
            for comparisons in pairs.values()
            for pk, side in _counterbalanced(comparisons, rng).items()
        }
        for replicate in range(study.votes_per_comparison):
            for rank, pk in enumerate(_shuffled(everything, rng)):
                yield Ballot(
                    comparison_id=pk,
                    criterion=criterion,
                    replicate=replicate,
                    first_on_left=sides[pk] ^ (replicate % 2 == 1),
                    order_key=replicate * len(everything) + rank,
                )


def _comparisons_by_systems(study: Study) -> dict[tuple[int, int], list[int]]:
    """Two systems -> their comparisons, in the order of the prompts."""
    comparisons = (
        live_comparisons(study)
        .order_by(
            "first__system__position",
            "second__system__position",
            "first__prompt__position",
            "first__sample",
            "second__sample",
        )
        .values_list("pk", "first__system_id", "second__system_id")
    )
    pairs = defaultdict(list)
    for pk, first, second in comparisons:
        pairs[first, second].append(pk)
    return pairs


def _counterbalanced(comparisons: list[int], rng: random.Random) -> dict[int, bool]:
    """Comparison -> whether its first entry starts on the left: half of them, at random."""
    coin = rng.random() < 0.5
    return {pk: (i % 2 == 0) ^ coin for i, pk in enumerate(_shuffled(comparisons, rng))}


def _shuffled(items: list[int], rng: random.Random) -> list[int]:
    """By sorting on draws of random(), the one method whose sequence Python promises to keep."""
    return [item for _, item in sorted((rng.random(), item) for item in items)]
