"""A training loop that a kill cannot spoil: it goes on from its last checkpoint.

Chance is drawn anew at every step from (seed, stage, step), so a resumed run takes the very
steps that an unbroken one would have taken.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from rich.progress import Progress


class Stateful(Protocol):
    """What a checkpoint holds: modules, optimisers, averages."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


@dataclass(frozen=True)
class Chance:
    """The random sources of one step; torch's is on the CPU, so devices draw alike."""

    numpy: np.random.Generator
    torch: torch.Generator


def chance(seed: int, stage: str, step: int) -> Chance:
    """The same sources for the same arguments, and others for any others."""
    rng = np.random.default_rng([seed, *stage.encode(), step])
    return Chance(rng, torch.Generator().manual_seed(int(rng.integers(2**62))))


@dataclass(frozen=True)
class Bench:
    """Where a run works: its folder, seed, device and progress bars."""

    work: Path
    seed: int
    device: torch.device
    progress: Progress
    save_every_s: float = 30.0


def run_stage(
    bench: Bench,
    stage: str,
    steps: int,
    step: Callable[[int, Chance], float],
    parts: dict[str, Any],
) -> None:
    """Call `step(i, chance)` for every i below `steps` that no checkpoint has behind it.

    `step` returns its loss, for the progress bar. `parts`, each `Stateful`, are saved to
    `stage.pt` of the work folder now and then and at the end, and loaded from there first.
    """
    file = bench.work / f"{stage}.pt"
    start = _load(file, parts)
    bar = bench.progress.add_task(stage, total=steps, completed=start, loss="")
    saved_at, smooth = time.monotonic(), None
    for i in range(start, steps):
        loss = step(i, chance(bench.seed, stage, i))
        smooth = loss if smooth is None else 0.98 * smooth + 0.02 * loss
        bench.progress.update(bar, completed=i + 1, loss=f"{smooth:.4f}")
        if i + 1 == steps or time.monotonic() - saved_at > bench.save_every_s:
            _save(file, parts, i + 1)
            saved_at = time.monotonic()


def _load(file: Path, parts: dict[str, Stateful]) -> int:
    if not file.exists():
        return 0
    saved = torch.load(file, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(saved["parts"][name])
    return int(saved["step"])


def _save(file: Path, parts: dict[str, Stateful], step: int) -> None:
    """Write beside and rename, so that a kill leaves the old checkpoint or the new one."""
    beside = file.with_suffix(".part")
    torch.save({"step": step, "parts": {n: p.state_dict() for n, p in parts.items()}}, beside)
    os.replace(beside, file)


def anneal(optimiser: torch.optim.Optimizer, i: int, steps: int, peak: float) -> None:
    """Set the learning rate of step i: a short climb to the peak, then a cosine to 2% of it."""
    climb = min(1.0, (i + 1) / max(1, min(100, steps // 10)))
    fall = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * i / steps))
    for group in optimiser.param_groups:
        group["lr"] = peak * climb * fall


def average(into: torch.nn.Module, source: torch.nn.Module, i: int, longest: float) -> None:
    """Move a running average of weights towards its source; short-sighted in the first steps."""
    keep = min(longest, (1 + i) / (10 + i))
    with torch.no_grad():
        torch._foreach_lerp_(list(into.parameters()), list(source.parameters()), 1 - keep)


# --- what the steps of all stages share ------------------------------------------------

_Module = TypeVar("_Module", bound=torch.nn.Module)


def seeded(bench: Bench, build: Callable[[], _Module]) -> _Module:
    """Build a module whose first weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(bench.seed)
        module: _Module = build().to(bench.device)
    return module


def adam(module: torch.nn.Module) -> torch.optim.AdamW:
    """AdamW in one fused pass: on a CPU the plain one takes a fifth of a step of ours."""
    return torch.optim.AdamW(module.parameters(), weight_decay=1e-4, fused=True)


def draw_noise(shape: tuple[int, ...], chance: Chance, bench: Bench) -> torch.Tensor:
    """Standard normal, the same on every device."""
    return torch.randn(shape, generator=chance.torch).to(bench.device)


def descend(
    optimiser: torch.optim.Optimizer,
    module: torch.nn.Module,
    loss: torch.Tensor,
    shown: torch.Tensor,
) -> float:
    """One step down the loss; returns the value that the progress bar shows."""
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return float(shown.detach())
