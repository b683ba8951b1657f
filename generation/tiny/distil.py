"""Students of the teacher that paint in one step what it paints in twenty.

`tiny-lcm` learns consistency: from any level of noise, the picture that the guided teacher
would reach. `tiny-turbo` starts there and learns from a critic as well, so that its pictures
are sharp. Both have a guidance inside and are sampled without.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch.nn import functional
from transformers import CLIPTextModelWithProjection

from generation.tiny.loop import (
    Bench,
    Chance,
    adam,
    anneal,
    average,
    descend,
    draw_noise,
    run_stage,
    seeded,
)
from generation.tiny.model import GRID, LATENT, TRAIN_TIMES, WIDTH, Levels, Words, tell
from generation.tiny.stages import Latents, Plan

TAUGHT = 1.7  # the guidance that the students have inside
TURBO_TIMES = torch.tensor([999, 749, 499, 249])  # where four trailing steps paint
OWN = 0.5  # of later steps go on from what the student painted, as they do when it is used


def train_lcm(
    bench: Bench,
    plan: Plan,
    data: Latents,
    encoder: CLIPTextModelWithProjection,
    teacher: UNet2DConditionModel,
) -> UNet2DConditionModel:
    """Latent consistency distillation (Luo et al. 2023, arXiv 2310.04378), guidance fixed.

    The student must paint from time t what its own slow average paints from where one
    guided step of the teacher leads. At the lowest time it must paint what the teacher does:
    without that anchor nothing ties the chain to the pictures.
    """
    student = copy.deepcopy(teacher).requires_grad_(True)
    target, mean = (copy.deepcopy(teacher).requires_grad_(False) for _ in range(2))
    optimiser = adam(student)
    levels = Levels(bench.device)

    def step(i: int, chance: Chance) -> float:
        anneal(optimiser, i, plan.lcm_steps, 4e-4)
        clean, words = data.draw(plan.lcm_batch, chance, encoder)
        rungs = chance.numpy.integers(1, TRAIN_TIMES // GRID + 1, size=plan.lcm_batch)
        times = torch.from_numpy(GRID * rungs - 1).to(bench.device)
        signal, spread = levels.at(times)
        noisy = signal * clean + spread * draw_noise(clean.shape, chance, bench)
        with torch.no_grad():
            goal = _consistent_goal(teacher, target, noisy, times, words, levels)
        loss = functional.mse_loss(_paint(student, noisy, times, words, levels), goal)
        shown = descend(optimiser, student, loss, loss)
        average(target, student, i, 0.95)
        average(mean, student, i, 0.995)
        return shown

    parts = {"student": student, "target": target, "mean": mean, "optimiser": optimiser}
    run_stage(bench, "lcm", plan.lcm_steps, step, parts)
    return mean.eval()


def _consistent_goal(
    teacher: UNet2DConditionModel,
    target: UNet2DConditionModel,
    noisy: torch.Tensor,
    times: torch.Tensor,
    words: Words,
    levels: Levels,
) -> torch.Tensor:
    signal, spread = levels.at(times)
    told = _tell_guided(teacher, noisy, times, words)
    clean, noise = signal * noisy - spread * told, spread * noisy + signal * told
    earlier = (times - GRID).clamp(min=0)
    signal, spread = levels.at(earlier)
    goal = _paint(target, signal * clean + spread * noise, earlier, words, levels)
    return torch.where((times < GRID)[:, None, None, None], clean, goal)


def _tell_guided(
    teacher: UNet2DConditionModel, noisy: torch.Tensor, times: torch.Tensor, words: Words
) -> torch.Tensor:
    both = Words(*(torch.cat([torch.zeros_like(part), part]) for part in words))
    without, told = tell(teacher, noisy.repeat(2, 1, 1, 1), times.repeat(2), both).chunk(2)
    return without + TAUGHT * (told - without)


def _paint(
    unet: UNet2DConditionModel,
    noisy: torch.Tensor,
    times: torch.Tensor,
    words: Words,
    levels: Levels,
) -> torch.Tensor:
    """The clean latents that a UNet sees in noisy ones."""
    signal, spread = levels.at(times)
    return signal * noisy - spread * tell(unet, noisy, times, words)


@dataclass(frozen=True)
class Pass:
    """One run over a student, with a critic that starts anew."""

    stage: str
    rate: float  # of learning, the student's
    critic_rate: float
    heed: float  # what the critic's verdict counts
    first: float  # share of pictures that start from noise alone: one step is what a turbo is for


TURBO_PASSES = (
    Pass("turbo", 3e-4, 1e-3, heed=0.1, first=0.55),
    Pass("settle", 1e-4, 5e-4, heed=0.03, first=0.75),
)
# Of the LCM and of what each pass leaves. A critic makes shapes right and colours worse; between
# those weights lie some that have both.
SHARES = (0.25, 0.375, 0.375)


def train_turbo(
    bench: Bench,
    plan: Plan,
    data: Latents,
    encoder: CLIPTextModelWithProjection,
    teacher: UNet2DConditionModel,
    lcm: UNet2DConditionModel,
) -> UNet2DConditionModel:
    """Adversarial diffusion distillation (Sauer et al. 2023, arXiv 2311.17042) on latents.

    From noise, or from noised latents at the times of four steps, the student must paint
    what a critic takes for real, and what the guided teacher would not change after noise is
    put on it again. Returns the weighted mean of where it started and of where it came by.
    """
    stages = [lcm]
    for one, steps in zip(TURBO_PASSES, (plan.turbo_steps, plan.settle_steps), strict=True):
        stages.append(_sharpen(bench, plan, one, steps, data, encoder, teacher, stages[-1]))
    return mix(stages, SHARES)


def mix(students: Sequence[UNet2DConditionModel], shares: Sequence[float]) -> UNet2DConditionModel:
    """A student whose every weight is the weighted mean of theirs."""
    mixed = copy.deepcopy(students[0])
    with torch.no_grad():
        for weight, *others in zip(mixed.parameters(), *(one.parameters() for one in students)):
            weight.copy_(sum(share * other for share, other in zip(shares, others, strict=True)))
    return mixed


def _sharpen(
    bench: Bench,
    plan: Plan,
    one: Pass,
    steps: int,
    data: Latents,
    encoder: CLIPTextModelWithProjection,
    teacher: UNet2DConditionModel,
    before: UNet2DConditionModel,
) -> UNet2DConditionModel:
    """One pass from a student on; a short average of its weights."""
    student = copy.deepcopy(before).requires_grad_(True)
    mean = copy.deepcopy(before).requires_grad_(False)
    critic = seeded(bench, Critic)
    moves, judges = adam(student), adam(critic)
    levels = Levels(bench.device)

    def step(i: int, chance: Chance) -> float:
        anneal(moves, i, steps, one.rate)
        anneal(judges, i, steps, one.critic_rate)
        clean, words = data.draw(plan.turbo_batch, chance, encoder)
        noisy, times = _start(student, clean, words, one.first, levels, chance, bench)
        painted = _paint(student, noisy, times, words, levels)
        with torch.no_grad():
            goal, weight = _what_teacher_sees(teacher, painted, words, levels, chance, bench)
        kept = (weight * (painted - goal).square()).mean()
        loss = kept - one.heed * critic.requires_grad_(False)(painted, words.pooled).mean()
        shown = descend(moves, student, loss, kept)
        average(mean, student, i, 0.99)
        verdict = _critic_loss(critic.requires_grad_(True), clean, painted.detach(), words.pooled)
        descend(judges, critic, verdict, verdict)
        return shown

    parts = {"student": student, "mean": mean, "critic": critic, "moves": moves, "judges": judges}
    run_stage(bench, one.stage, steps, step, parts)
    return mean.eval()


def _start(
    student: UNet2DConditionModel,
    clean: torch.Tensor,
    words: Words,
    share: float,
    levels: Levels,
    chance: Chance,
    bench: Bench,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the student paints from: noise alone at the first time, noised latents below.

    The latents below are real ones or, as often, its own of one step.
    """
    n = len(clean)
    n_later = len(TURBO_TIMES) - 1
    shares = torch.tensor([share] + [(1 - share) / n_later] * n_later)
    drawn = torch.multinomial(shares, n, replacement=True, generator=chance.torch)
    times = TURBO_TIMES[drawn].to(bench.device)
    own = (torch.rand(n, generator=chance.torch) < OWN).to(bench.device)[:, None, None, None]
    with torch.no_grad():
        begun = draw_noise(clean.shape, chance, bench)
        at_first = torch.full_like(times, int(TURBO_TIMES[0]))
        painted = _paint(student, begun, at_first, words, levels)
    signal, spread = levels.at(times)
    first = (times == TURBO_TIMES[0])[:, None, None, None]
    signal = torch.where(first, torch.zeros_like(signal), signal)
    latents = torch.where(own, painted, clean)
    return signal * latents + spread * draw_noise(clean.shape, chance, bench), times


def _what_teacher_sees(
    teacher: UNet2DConditionModel,
    painted: torch.Tensor,
    words: Words,
    levels: Levels,
    chance: Chance,
    bench: Bench,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The guided teacher's picture of a noised painting, and how much it counts.

    Between times 200 and 980; the noisier, the less of the painting is left and the less it
    counts.
    """
    times = torch.randint(200, 981, (len(painted),), generator=chance.torch).to(bench.device)
    signal, spread = levels.at(times)
    noisy = signal * painted + spread * draw_noise(painted.shape, chance, bench)
    seen = signal * noisy - spread * _tell_guided(teacher, noisy, times, words)
    return seen, signal


class Critic(torch.nn.Module):
    """Says place by place whether latents look real and as their prompt asks."""

    def __init__(self, width: int = 64, blocks: int = 3) -> None:
        super().__init__()
        self.enter = torch.nn.Conv2d(LATENT, width, 3, padding=1)
        self.blocks = torch.nn.ModuleList(
            torch.nn.ModuleDict(
                {
                    "read": torch.nn.Linear(WIDTH, 2 * width),
                    "first": torch.nn.Conv2d(width, width, 3, padding=1),
                    "second": torch.nn.Conv2d(width, width, 3, padding=1),
                }
            )
            for _ in range(blocks)
        )
        self.leave = torch.nn.Conv2d(width, 1, 1)

    def forward(self, latents: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        """Latents (batch, 8, 8, 8) and pooled texts (batch, WIDTH) to (batch, 1, 8, 8)."""
        seen = self.enter(latents)
        for block in self.blocks:
            gain, shift = block["read"](pooled)[:, :, None, None].chunk(2, dim=1)
            inner = block["first"](functional.silu(seen))
            seen = seen + block["second"](functional.silu(inner * (1 + gain) + shift))
        verdict: torch.Tensor = self.leave(functional.silu(seen))
        return verdict


def _critic_loss(
    critic: Critic, real: torch.Tensor, painted: torch.Tensor, pooled: torch.Tensor
) -> torch.Tensor:
    """Hinge loss: real latents up, paintings down, and real ones under another's prompt down.

    The last teaches the critic to read. A penalty on its slope at real latents (R1, a tenth)
    keeps it from running away.
    """
    real = real.requires_grad_(True)
    on_real = critic(real, pooled)
    (slope,) = torch.autograd.grad(on_real.mean(dim=(1, 2, 3)).sum(), real, create_graph=True)
    mismatched = critic(real.detach(), pooled.roll(1, 0))
    return (
        functional.relu(1 - on_real).mean()
        + functional.relu(1 + critic(painted, pooled)).mean()
        + 0.3 * functional.relu(1 + mismatched).mean()
        + 0.1 * slope.square().sum(dim=(1, 2, 3)).mean()
    )
