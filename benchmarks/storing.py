"""What it costs to store what was painted: a painter that only waits, and the worker's own loop.

    ./dev bench storing [--side 512] [--images 96] [--batch 16] [--paint-ms 0 13] [--repeats 5]

Pictures of noise, which no encoder makes smaller, from claim to READY row on one scratch SQLite
database and a scratch folder. With no wait the rate is that of storing alone; with a wait as long
as a card paints, it says how much of the card's rate is left. Medians, with the least and most.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

_seeds = count()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--side", type=int, default=512, help="pixels (512)")
    options.add_argument("--images", type=int, default=96, help="a run (96)")
    options.add_argument("--batch", type=int, default=16, help="images at once (16)")
    options.add_argument(
        "--paint-ms", type=float, nargs="+", default=[0, 13], help="an image (0 and 13)"
    )
    options.add_argument("--repeats", type=int, default=5, help="runs of each (5)")
    options.add_argument("--folder", type=Path, help="on the disk to measure (the system's own)")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="evalsite-bench-", dir=asked.folder) as folder:
        os.environ |= {"VAR_DIR": folder, "LOG_LEVEL": "ERROR"}
        for name in ("DATABASE_URL", "STORAGE_URL", "REDIS_URL"):
            os.environ.pop(name, None)
        os.environ["REDIS_URL"] = "redis://127.0.0.1:1/0"  # nobody: the loop is called directly
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "evalsite.settings")
        report(asked)


def report(asked: argparse.Namespace) -> None:
    import django

    django.setup()
    from django.core.management import call_command
    from rich.console import Console
    from rich.table import Table

    call_command("migrate", verbosity=0)
    pictures = noise(asked.side)
    table = Table("painting an image", "images a second", "least to most", box=None)
    for paint_ms in asked.paint_ms:
        painter = Waiting(pictures, asked.batch, paint_ms)
        paint_through(painter, asked.batch)  # the first ones open files and connections
        rates = [paint_through(painter, asked.images) for _ in range(asked.repeats)]
        spread = f"{min(rates):.1f} to {max(rates):.1f}"
        table.add_row(f"{paint_ms:g} ms", f"{median(rates):.1f}", spread)
    console = Console(width=None if Console().is_terminal else 110)
    for name, seconds in parts(pictures).items():
        console.print(f"{name}: {1000 * seconds:.1f} ms", highlight=False)
    console.print(table)


def noise(side: int, n: int = 16) -> list[Any]:
    import numpy as np
    from PIL import Image as Pictures

    chance = np.random.default_rng(0)
    return [
        Pictures.fromarray(chance.integers(0, 256, (side, side, 3), dtype=np.uint8))
        for _ in range(n)
    ]


def parts(pictures: Sequence[Any]) -> dict[str, float]:
    """Seconds that an image takes: one after another (medians), and files written at once."""
    from django.core.files.base import ContentFile
    from django.core.files.storage import default_storage

    from generation.easel import DRYERS
    from generation.encoding import encode

    def seconds(act: Callable[[Any], Any], one: Any) -> float:
        started = time.perf_counter()
        act(one)
        return time.perf_counter() - started

    def write(content: bytes) -> None:
        default_storage.save("images/part.webp", ContentFile(content))  # under a name of its own

    contents = [encode(picture).content for picture in pictures]
    started = time.perf_counter()
    with ThreadPoolExecutor(DRYERS) as pool:
        list(pool.map(write, contents))
    at_once = (time.perf_counter() - started) / len(contents)
    return {
        "encode and hash": median(seconds(encode, picture) for picture in pictures),
        "write a durable file": median(seconds(write, content) for content in contents),
        f"the same, {DRYERS} at once": at_once,
    }


class Waiting:
    """A painter that costs no processor: it waits as long as a card would paint."""

    facts: dict[str, Any] = {"device": "none"}

    def __init__(self, pictures: Sequence[Any], batch_size: int, paint_ms: float) -> None:
        self.batch_size = self.largest_batch = batch_size
        self._pictures = pictures
        self._paint_ms = paint_ms

    def begin(self, prompts: Sequence[str], seeds: Sequence[int]) -> Callable[[], list[Any]]:
        from generation.pipelines import Painting

        done = time.perf_counter() + self._paint_ms * len(prompts) / 1000

        def wait() -> list[Any]:
            time.sleep(max(0.0, done - time.perf_counter()))
            return [Painting(self._pictures[seed % len(self._pictures)], False) for seed in seeds]

        return wait

    def paint(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Any]:
        return self.begin(prompts, seeds)()

    def hasten(self, asked: Sequence[str]) -> None:
        pass

    def free(self) -> None:
        pass

    def close(self) -> None:
        pass


def paint_through(painter: Waiting, n: int) -> float:
    """Images a second of a worker's loop over messages of the usual length."""
    from django.utils import timezone

    from generation import services, tasks
    from generation.easel import Studio
    from generation.models import Image
    from generation.services import Want
    from generation.spec import Recipe

    recipe = Recipe.model_validate(
        {
            "family": "sdxl",
            "checkpoint": "none",
            "revision": "sha256:" + "0" * 64,
            "steps": 1,
            "guidance": 0.0,
            "width": 512,
            "height": 512,
            "dtype": "float32",
        }
    )
    wants = [Want(recipe, "noise", next(_seeds)) for _ in range(n)]
    ids = list(services.request_images(wants, at=timezone.now()).values())
    studio = Studio(lambda _recipe: painter)
    started = time.perf_counter()
    tasks.paint_message(
        ids[: services.CHUNK], studio=studio, task_id=f"bench-{ids[0]}", now=timezone.now
    )  # and paints on with the rest
    seconds = time.perf_counter() - started
    ready = Image.objects.filter(pk__in=ids, status=Image.Status.READY).count()
    if ready != n:
        raise RuntimeError(f"{ready} of {n} images are READY")
    return n / seconds


if __name__ == "__main__":
    main()
