"""Train the tiny family from nothing: python -m generation.tiny.train --out FOLDER

Runs every stage in order and writes an SDXL folder. Each stage keeps a checkpoint in the work
folder; a killed run, started again with the same arguments, goes on where it was.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: more threads are slower here

import torch
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from generation.tiny import stages
from generation.tiny.model import build_tokenizer, export


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, then train and export."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    plan = stages.Plan().scaled(options.scale)
    options.work.mkdir(parents=True, exist_ok=True)
    _hold_plan(options.work / "plan.json", {"seed": options.seed, **asdict(plan)})
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("loss {task.fields[loss]}")) as progress:
        device = torch.device(options.device)
        bench = stages.Bench(options.work, options.seed, device, progress, options.save_every)
        train(bench, plan, options.out)


def train(bench: stages.Bench, plan: stages.Plan, out: Path) -> None:
    """Run every stage and write the folder `out`."""
    tokenizer = build_tokenizer()
    encoder = stages.train_text(bench, plan, tokenizer)
    vae = stages.train_vae(bench, plan)
    data = stages.make_latents(bench, plan, vae, tokenizer)
    unet = stages.train_teacher(bench, plan, data, vae.config.scaling_factor, encoder)
    vae = stages.tune_decoder(bench, plan, vae)
    export(out, vae, encoder, unet)
    bench.progress.console.print(f"wrote {out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--work", type=Path, default=Path("var/tiny"), help="checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="times the steps of each stage")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save-every", type=float, default=30.0, help="seconds per checkpoint")
    return parser


def _hold_plan(file: Path, plan: dict[str, int]) -> None:
    """Refuse to continue another plan's checkpoints: the result would be neither's."""
    if file.exists() and json.loads(file.read_text()) != plan:
        raise SystemExit(f"{file.parent} holds a run of other settings; remove it or use --work")
    file.write_text(json.dumps(plan, indent=1))


if __name__ == "__main__":
    main()
