"""Score the tiny family, or one folder of it, on prompts that training never saw.

    python -m generation.tiny.evaluate [FOLDER] [--steps 20 1]

Every image has its own CPU generator, seeded by its place in the list, so a score does not
depend on the batch size.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: more threads are slower here

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from generation.tiny.scenes import SIDE, Asked, describe, draw_asked
from generation.tiny.scorer import Score, score

SHIPPED = Path(__file__).parent / "weights"
GUIDANCE = 2.0  # the teacher's, measured: 1.5 gets fewer shapes right, 3 nothing better
STUDENTS = ("tiny-lcm", "tiny-turbo")  # have theirs inside
STEPS = {"tiny-base": [50, 20, 8, 2, 1], "tiny-lcm": [4, 2, 1], "tiny-turbo": [4, 2, 1]}
MEASURES = ("colours", "count", "relation", "shapes", "background", "size", "all_right", "quality")


@dataclass(frozen=True)
class Rate:
    """A mean over the n prompts that ask for a thing, with its standard error."""

    mean: float
    se: float
    n: int


def draw_held_out(n: int, seed: int = 0) -> list[Asked]:
    """n different meanings that training never drew.

    Categories come in training's shares while they last: fewer than thirty meanings each of
    background and counting are held out.
    """
    rng = np.random.default_rng(seed)
    asks: dict[Asked, None] = {}
    while len(asks) < n:
        asks[draw_asked(rng, held_out=True)] = None
    return list(asks)


def load(folder: Path, device: str = "cpu") -> StableDiffusionXLPipeline:
    """The stock SDXL pipeline over a folder, computing in float32."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, add_watermarker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def paint(
    pipeline: StableDiffusionXLPipeline,
    prompts: Sequence[str],
    *,
    steps: int,
    guidance: float = GUIDANCE,
    seed: int = 0,
    batch: int = 50,
) -> NDArray[np.uint8]:
    """Paint each prompt once: uint8 (len(prompts), SIDE, SIDE, 3)."""
    painted = [np.empty((0, SIDE, SIDE, 3), np.uint8)]
    for first in range(0, len(prompts), batch):
        part = list(prompts[first : first + batch])
        generators = [torch.Generator().manual_seed(seed + first + i) for i in range(len(part))]
        images = pipeline(
            part,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=generators,
            output_type="np",
        ).images
        painted.append((images * 255).round().astype(np.uint8))
    return np.concatenate(painted)


def rates(scores: Sequence[Score]) -> dict[str, Rate]:
    """Each of MEASURES averaged over the prompts that ask for it; none asked gives nan."""
    found = {}
    for measure in MEASURES:
        values = [getattr(one, measure) for one in scores]
        asked = np.array([float(value) for value in values if value is not None])
        spread = asked.std(ddof=1) if len(asked) > 1 else np.nan
        mean = float(asked.mean()) if len(asked) else np.nan
        found[measure] = Rate(mean, float(spread / np.sqrt(max(len(asked), 1))), len(asked))
    return found


def evaluate(
    pipeline: StableDiffusionXLPipeline,
    asks: Sequence[Asked],
    *,
    steps: int,
    guidance: float = GUIDANCE,
) -> dict[str, Rate]:
    """Paint and score every meaning once."""
    pixels = paint(pipeline, [describe(a) for a in asks], steps=steps, guidance=guidance)
    return rates([score(one, asked) for one, asked in zip(pixels, asks, strict=True)])


def contact_sheet(rows: Sequence[NDArray[np.uint8]], gap: int = 4) -> Image.Image:
    """A sheet of pictures: one row each of uint8 (n, SIDE, SIDE, 3), all of one length."""
    step = SIDE + gap
    sheet = np.full((step * len(rows) + gap, step * len(rows[0]) + gap, 3), 128, np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            top, left = gap + i * step, gap + j * step
            sheet[top : top + SIDE, left : left + SIDE] = picture
    return Image.fromarray(sheet)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="one folder (the shipped family)")
    parser.add_argument("--steps", type=int, nargs="+", help="others than the usual")
    parser.add_argument("--guidance", type=float, help="another than the folder was made for")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the draw of prompts")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sheet", type=Path, help="write a sheet of the first 12 prompts")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of scores, a row for each system, as it is scored."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    asks = draw_held_out(options.prompts, options.seed)
    prompts = [describe(asked) for asked in asks[:12]]
    table = Table("system", "steps", *MEASURES, caption="mean ± standard error")
    table.title = f"{len(asks)} held-out prompts"
    rows = []
    for folder in [options.folder] if options.folder else [SHIPPED / name for name in STEPS]:
        pipeline = load(folder, options.device)
        guidance = options.guidance
        if guidance is None:
            guidance = 0.0 if folder.name in STUDENTS else GUIDANCE
        for steps in options.steps or STEPS.get(folder.name, [20]):
            found = evaluate(pipeline, asks, steps=steps, guidance=guidance)
            scores = [f"{found[m].mean:.3f} ± {found[m].se:.3f}" for m in MEASURES]
            table.add_row(folder.name, str(steps), *scores)
            if options.sheet:
                rows.append(paint(pipeline, prompts, steps=steps, guidance=guidance))
    Console(width=None if Console().is_terminal else 150).print(table)
    if options.sheet:
        contact_sheet(rows).save(options.sheet)


if __name__ == "__main__":
    main()
