"""How fast images are painted: from rows to hashed files, beside a plain loop over diffusers.

    ./dev bench generation [--architecture tiny|sdxl] [--steps 50] [--images 64] [--batch 8]

The plain loop calls the stock pipeline and saves a PNG for each image; ours is a real worker behind
a real broker, which claims rows, paints, encodes, hashes and stores. Both take the same weights in
the same run; loading and the first batch are not counted. Before that each set of options paints by
itself: the latency of one image, warm, from prompt to pixels, and how far its pixels are from those
without options. `--architecture sdxl` is SDXL Turbo in full size with random weights, for a GPU.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

PROMPT = "{} red circles to the left of a blue star on a grey background"
PATIENCE_S = 900.0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--architecture", choices=("tiny", "sdxl"), default="tiny")
    options.add_argument("--steps", type=int, help="a picture (tiny: 50; sdxl: 1)")
    options.add_argument("--images", type=int, default=64, help="to time (64)")
    options.add_argument("--batch", type=int, default=8, help="of the plain loop (8)")
    options.add_argument("--repeats", type=int, default=5, help="of the latency (5)")
    options.add_argument("--compile", action="store_true", help="try compiled kernels as well")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="evalsite-bench-") as folder:
        os.environ |= {"VAR_DIR": folder, "LOG_LEVEL": "WARNING", "HF_HUB_OFFLINE": "1"}
        for name in ("DATABASE_URL", "STORAGE_URL", "PAINTING_OPTIONS"):
            os.environ.pop(name, None)
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "evalsite.settings")
        run(asked, Path(folder))


def run(asked: argparse.Namespace, folder: Path) -> None:
    """Set everything up in a folder, measure, and print."""
    import torch
    from rich.console import Console

    from benchmarks.painting import architectures

    console = Console(width=None if Console().is_terminal else 120)
    build = getattr(architectures, asked.architecture)
    checkpoint, settings = build(folder / "checkpoints")
    if asked.steps:
        settings["steps"] = asked.steps
    os.environ["CHECKPOINT_DIRS"] = str(checkpoint.parent)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else "one thread of a CPU"
    console.print(f"{asked.architecture}, {settings['steps']} steps, {settings['dtype']}, {name}")
    if device == "cuda":
        console.print(architectures.floor(checkpoint, settings))
    best = compare_options(asked, checkpoint, settings, device, console)
    compare_paths(asked, checkpoint, settings, device, best, console)


# A painter alone, with each set of options.


def option_sets(device: str, *, compiled: bool) -> list[tuple[str, ...]]:
    """What to compare with no options at all, which comes first."""
    sets: list[tuple[str, ...]] = [("none",), ("channels-last",), ("fused-qkv",)]
    if device == "cuda":
        sets += [("autotune",), ("graphs",), ("graphs", "autotune")]
        if compiled:
            sets += [("graphs", "compile")]
    return [*sets, (*sets[-1][: len(sets[-1]) * (device == "cuda")], "prompt-memory")]


def compare_options(
    asked: argparse.Namespace, checkpoint: Path, settings: dict[str, Any], device: str, console: Any
) -> tuple[str, ...]:
    """Print a row for each set of options; the set that paints a batch soonest."""
    import numpy as np
    from rich.table import Table

    table = Table("options", "one image", f"batch of {asked.batch}", "pixels", box=None)
    plain: Any = None
    rates: dict[tuple[str, ...], float] = {}
    for options in option_sets(device, compiled=asked.compile):
        painter = load(checkpoint, settings, device, options)
        alone = median(timed(painter, 1, i) for i in range(-2, asked.repeats) if i >= 0 or warm(painter, 1, i))
        warm(painter, asked.batch, -1)
        seconds = median(timed(painter, asked.batch, i) for i in range(3))
        rates[options] = asked.batch / seconds
        pixels = np.stack([np.asarray(p.picture, int) for p in paint(painter, asked.batch, 7)])
        plain = pixels if plain is None else plain
        off = np.abs(pixels - plain)
        same = "the same" if not off.any() else f"off by {off.max()} at most, {off.mean():.3f} in the mean"
        table.add_row(", ".join(options), f"{1000 * alone:.1f} ms", f"{rates[options]:.1f} a second", same)
        painter.close()
    console.print(table)
    return max(rates, key=lambda options: rates[options])
