"""Train the tiny family from nothing: python -m generation.tiny.train --out FOLDER

Runs every stage in order and writes an SDXL folder for each member of the family; `--only lcm`
runs what the student of consistency needs and writes no other. Each stage keeps a checkpoint in
the work folder; a killed run, started again with the same arguments, goes on where it was.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: more threads are slower here

import torch
from diffusers import UNet2DConditionModel
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from generation.tiny import distil, stages
from generation.tiny.loop import Bench
from generation.tiny.model import (
    build_lcm_scheduler,
    build_scheduler,
    build_tokenizer,
    export,
)

SCHEDULERS = {
    "base": build_scheduler,
    "lcm": build_lcm_scheduler,
    "turbo": build_scheduler,
}
MEMBERS = tuple(SCHEDULERS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, then train and export."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    device = torch.device(options.device)
    plan = stages.PLANS.get(device.type, stages.Plan()).scaled(options.scale)
    options.work.mkdir(parents=True, exist_ok=True)
    _hold_plan(options.work / "plan.json", {"seed": options.seed, **asdict(plan)})
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("loss {task.fields[loss]}")) as progress:
        bench = Bench(options.work, options.seed, device, progress, options.save_every)
        train(bench, plan, options.out, options.only)


def train(bench: Bench, plan: stages.Plan, out: Path, only: Sequence[str] = MEMBERS) -> None:
    """Run the stages that the members asked for need, and write a folder of each into `out`."""
    tokenizer = build_tokenizer()
    encoder = stages.train_text(bench, plan, tokenizer)
    vae = stages.train_vae(bench, plan)
    data = stages.make_latents(bench, plan, vae)
    teacher = stages.train_teacher(bench, plan, data, encoder).requires_grad_(False)
    vae = stages.tune_decoder(bench, plan, vae)

    def write(member: str, unet: UNet2DConditionModel) -> None:
        if member in only:
            export(out / f"tiny-{member}", vae, encoder, unet, SCHEDULERS[member]())
            bench.progress.console.print(f"wrote {out / f'tiny-{member}'}")

    write("base", teacher)
    if set(only) <= {"base"}:
        return
    lcm = distil.train_lcm(bench, plan, data, encoder, teacher)
    write("lcm", lcm)
    if "turbo" in only:
        write("turbo", distil.train_turbo(bench, plan, data, encoder, teacher, lcm))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write tiny-* into")
    parser.add_argument("--only", nargs="+", choices=MEMBERS, default=MEMBERS, help="write these")
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
