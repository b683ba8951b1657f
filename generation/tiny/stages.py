"""The stages of training up to the teacher, each from what those before it left behind."""

import copy
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from numpy.typing import NDArray
from torch.nn import functional
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from generation.tiny.data import (
    HEADS,
    UNASKED,
    draw_captioned,
    draw_crops,
    draw_pictures,
    draw_sentences,
    to_tensor,
)
from generation.tiny.loop import (
    Bench,
    Chance,
    adam,
    anneal,
    average,
    chance,
    descend,
    draw_noise,
    run_stage,
    seeded,
)
from generation.tiny.model import (
    LATENT,
    SLOTS,
    WIDTH,
    Levels,
    Words,
    build_text_encoder,
    build_tokenizer,
    build_unet,
    build_vae,
    embed,
    tell,
)
from generation.tiny.scenes import render


@dataclass(frozen=True)
class Plan:
    """How much of each stage; see docs/tiny.md for what the shipped weights were made with."""

    crop_steps: int = 2500
    vae_steps: int = 900
    text_steps: int = 300
    chunks: int = 44
    chunk_scenes: int = 1024
    teacher_steps: int = 8500
    teacher_batch: int = 32
    decoder_steps: int = 1500
    lcm_steps: int = 1000
    lcm_batch: int = 32
    turbo_steps: int = 1000
    settle_steps: int = 700
    turbo_batch: int = 40

    def scaled(self, scale: float) -> "Plan":
        """The same plan with every number of steps times `scale`, and at least 2.

        Below a tenth, the chunks and the batches shrink as well.
        """
        less = {name: max(2, round(n * scale)) for name, n in asdict(self).items()}
        wholes = {"chunk_scenes": 16, "teacher_batch": 4, "lcm_batch": 4, "turbo_batch": 4}
        for name, least in wholes.items():
            whole = getattr(self, name)
            less[name] = min(whole, max(least, round(10 * scale * whole)))
        return Plan(**less)


# A GPU takes a batch of hundreds in the time that it takes to be told of it.
PLANS = {
    "cpu": Plan(),
    "cuda": Plan(
        chunks=58,
        teacher_steps=2619,
        teacher_batch=512,
        lcm_steps=873,
        lcm_batch=256,
        turbo_steps=873,
        settle_steps=110,
        turbo_batch=256,
    ),
}


@dataclass(frozen=True)
class Latents:
    """The teacher's training set: float16 (N, 8, 8, 8), unscaled, and int16 (N, TOKENS).

    The latents lie on the device that trains. `scale` brings the latents to unit deviation.
    """

    latents: torch.Tensor
    ids: torch.Tensor
    scale: float

    def draw(
        self, n: int, chance: Chance, encoder: CLIPTextModelWithProjection
    ) -> tuple[torch.Tensor, Words]:
        """n scaled latents and their prompts as the UNet reads them, on the encoder's device."""
        rows = torch.from_numpy(chance.numpy.integers(len(self.ids), size=n))
        clean = self.latents[rows.to(encoder.device)].float() * self.scale
        with torch.no_grad():
            return clean, embed(encoder, self.ids[rows].to(encoder.device).long())


def train_vae(bench: Bench, plan: Plan) -> AutoencoderKL:
    """Learn latents of about unit size: first on crops around things, then on whole pictures.

    On the crops a linear probe must read a coarse picture off the latents: it teaches the
    encoder colours several times sooner than the decoder's own error does.
    """
    vae = seeded(bench, build_vae).to(memory_format=torch.channels_last)
    probe = seeded(bench, lambda: torch.nn.Conv2d(LATENT, 12, 1))
    parts = torch.nn.ModuleDict({"vae": vae, "probe": probe})
    optimiser = adam(parts)
    steps = plan.crop_steps + plan.vae_steps

    def step(i: int, chance: Chance) -> float:
        anneal(optimiser, i, steps, 2e-3)
        on_crops = i < plan.crop_steps
        pictures = (draw_crops if on_crops else draw_pictures)(chance.numpy, 4).to(bench.device)
        latents = vae.encode(pictures).latent_dist.mean
        noisy = latents + 0.08 * draw_noise(latents.shape, chance, bench)
        wrong = _unlikeness(vae.decode(noisy).sample, pictures)
        coarse = functional.pixel_shuffle(probe(latents), 2)
        misread = functional.mse_loss(coarse, functional.avg_pool2d(pictures, 4))
        loss = wrong + 5e-4 * latents.square().mean() + (misread if on_crops else 0)
        return descend(optimiser, parts, loss, wrong)

    run_stage(bench, "vae", steps, step, {"parts": parts, "optimiser": optimiser})
    return vae.eval().requires_grad_(False)


def _unlikeness(painted: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    return functional.mse_loss(painted, pictures) + 0.1 * functional.l1_loss(painted, pictures)


def train_text(bench: Bench, plan: Plan, tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """Learn to read: the last SLOTS positions, always padding, must hold what is asked.

    The heads that read the slots are dropped afterwards; the UNet reads the same states.
    """
    encoder = seeded(bench, lambda: build_text_encoder(tokenizer))
    heads = seeded(bench, lambda: torch.nn.Linear(WIDTH, sum(HEADS.values())))
    whole = seeded(bench, lambda: torch.nn.Linear(WIDTH, SLOTS * sum(HEADS.values())))
    parts = torch.nn.ModuleDict({"encoder": encoder, "heads": heads, "whole": whole})
    optimiser = adam(parts)

    def step(i: int, chance: Chance) -> float:
        anneal(optimiser, i, plan.text_steps, 1.5e-3)
        ids, answers = draw_sentences(chance.numpy, 128, tokenizer)
        states, pooled = embed(encoder, ids.to(bench.device))
        told = heads(states[:, -SLOTS:]), whole(pooled).unflatten(1, (SLOTS, -1))
        losses = [_answer_loss(out, answers) for out in told]
        return descend(optimiser, parts, losses[0] + 0.3 * losses[1], losses[0])

    run_stage(bench, "text", plan.text_steps, step, {"parts": parts, "optimiser": optimiser})
    return encoder.eval().requires_grad_(False)


def _answer_loss(told: torch.Tensor, answers: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean over the heads of the cross entropy; told is (batch, SLOTS, all heads' answers)."""
    pieces = told.split(list(HEADS.values()), dim=-1)
    losses = [
        functional.cross_entropy(
            piece.flatten(0, 1), answers[head].flatten().to(told.device), ignore_index=UNASKED
        )
        for head, piece in zip(HEADS, pieces, strict=True)
    ]
    return torch.stack(losses).mean()


def make_latents(bench: Bench, plan: Plan, vae: AutoencoderKL) -> Latents:
    """Encode the teacher's whole training set once, chunk by chunk, one file each.

    Sets the VAE's scaling factor, so that the scaled latents have unit deviation.
    """
    folder = bench.work / "latents"
    folder.mkdir(exist_ok=True)
    missing = [i for i in range(plan.chunks) if not (folder / f"{i}.npz").exists()]
    done = plan.chunks - len(missing)
    bar = bench.progress.add_task("latents", total=plan.chunks, completed=done, loss="")
    for i, (pictures, ids) in zip(missing, _draw_chunks(bench, plan, missing)):
        _encode_chunk(folder / f"{i}.npz", pictures, ids, vae)
        bench.progress.advance(bar)
    chunks = [np.load(folder / f"{i}.npz") for i in range(plan.chunks)]
    latents = torch.from_numpy(np.concatenate([c["latents"] for c in chunks]))
    ids = torch.from_numpy(np.concatenate([c["ids"] for c in chunks]))
    scale = round(1 / float(latents.float().std()), 5)
    vae.register_to_config(scaling_factor=scale)
    return Latents(latents.to(bench.device), ids, scale)


_Chunk = tuple[NDArray[np.uint8], NDArray[np.int16]]


def _draw_chunks(bench: Bench, plan: Plan, which: Sequence[int]) -> Iterator[_Chunk]:
    """The chunks in order; drawn by as many processes as a GPU, which waits for them, is worth."""
    draw = partial(_draw_chunk, bench.seed, plan.chunk_scenes)
    if bench.device.type == "cpu" or not which:
        yield from map(draw, which)
        return
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        yield from pool.map(draw, which)


def _draw_chunk(seed: int, n: int, i: int) -> _Chunk:
    """Rendered scenes, uint8 (n, SIDE, SIDE, 3), and their prompts as tokens, (n, TOKENS)."""
    scenes, ids = draw_captioned(chance(seed, "latents", i).numpy, n, build_tokenizer())
    return render(scenes), ids.numpy().astype(np.int16)


def _encode_chunk(
    file: Path, pictures: NDArray[np.uint8], ids: NDArray[np.int16], vae: AutoencoderKL
) -> None:
    encoded = []
    with torch.inference_mode():
        for first in range(0, len(pictures), 64):
            part = to_tensor(pictures[first : first + 64]).to(vae.device)
            encoded.append(vae.encode(part).latent_dist.mean.half().cpu().numpy())
    beside = file.with_suffix(".part.npz")
    np.savez(beside, latents=np.concatenate(encoded), ids=ids)
    os.replace(beside, file)


def train_teacher(
    bench: Bench, plan: Plan, data: Latents, encoder: CLIPTextModelWithProjection
) -> UNet2DConditionModel:
    """Learn to paint latents from words by v-prediction; returns the averaged weights.

    Times are drawn as 1000 u^0.7, more often noisy than clean: there the layout is decided.
    A tenth of the prompts are zeroed, as SDXL's pipeline does for its unconditional half.
    """
    unet = seeded(bench, build_unet)
    mean = copy.deepcopy(unet).requires_grad_(False)
    optimiser = adam(unet)
    levels = Levels(bench.device)

    def step(i: int, chance: Chance) -> float:
        anneal(optimiser, i, plan.teacher_steps, 2e-3)
        clean, words = data.draw(plan.teacher_batch, chance, encoder)
        kept = torch.from_numpy(chance.numpy.random(len(clean)) > 0.1).to(bench.device)
        times = (1000 * torch.rand(len(clean), generator=chance.torch) ** 0.7).long()
        times = times.clamp(max=999).to(bench.device)
        signal, spread = levels.at(times)
        noise = draw_noise(clean.shape, chance, bench)
        told = tell(unet, signal * clean + spread * noise, times, words.kept(kept))
        loss = functional.mse_loss(told, signal * noise - spread * clean)
        shown = descend(optimiser, unet, loss, loss)
        average(mean, unet, i, 0.999)
        return shown

    parts = {"unet": unet, "mean": mean, "optimiser": optimiser}
    run_stage(bench, "teacher", plan.teacher_steps, step, parts)
    return mean.eval()


def tune_decoder(bench: Bench, plan: Plan, vae: AutoencoderKL) -> AutoencoderKL:
    """Teach the decoder alone to forgive what a UNet leaves behind; latents stay valid.

    Latents get noise of up to 0.2, and the mean colour of each picture counts once more,
    since flat grounds are where an eye notices a drift.
    """
    decoder = vae.decoder.requires_grad_(True)
    optimiser = adam(decoder)

    def step(i: int, chance: Chance) -> float:
        anneal(optimiser, i, plan.decoder_steps, 1e-3)
        pictures = draw_pictures(chance.numpy, 4).to(bench.device)
        with torch.no_grad():
            latents = vae.encode(pictures).latent_dist.mean
        level = 0.2 * torch.rand(4, 1, 1, 1, generator=chance.torch).to(bench.device)
        painted = vae.decode(latents + level * draw_noise(latents.shape, chance, bench)).sample
        wrong = _unlikeness(painted, pictures)
        drift = (painted - pictures).mean(dim=(2, 3)).square().mean()
        return descend(optimiser, decoder, wrong + drift, wrong)

    run_stage(
        bench, "decoder", plan.decoder_steps, step, {"decoder": decoder, "optimiser": optimiser}
    )
    return vae.eval().requires_grad_(False)
