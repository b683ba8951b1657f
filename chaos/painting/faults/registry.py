"""What a fault is, and what nearly all of them look at."""

from collections.abc import Callable
from dataclasses import dataclass

from chaos.painting.scene import Scene

BATCH = 8  # how many images a worker paints at once on a CPU
AWHILE = 1.5  # seconds: some rounds of the sweep


@dataclass(frozen=True)
class Fault:
    """A name for it, what is done, and the doing; `short` ones run in the tests."""

    name: str
    did: str
    run: Callable[[Scene], None]
    short: bool


KNOWN: dict[str, Fault] = {}


def fault(
    did: str, *, short: bool = False
) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
    def register(run: Callable[[Scene], None]) -> Callable[[Scene], None]:
        name = run.__name__.replace("_", "-")
        KNOWN[name] = Fault(name, did, run, short)
        return run

    return register


def expect_attempts(scene: Scene, n: int, but: int = 0) -> None:
    """So many for each image, but for one: a worker that lives costs none."""
    found = set(scene.rows().exclude(pk=but).values_list("attempts", flat=True))
    scene.promise(found == {n}, f"images took {sorted(found)} attempts, expected {n} each")
