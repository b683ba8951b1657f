"""The students: what they are asked to paint, and that the stock adapter samples them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from generation import pipelines, weights
from generation.spec import Recipe, folder_revision
from generation.tiny import distil
from generation.tiny.loop import Bench, chance
from generation.tiny.model import (
    GRID,
    LATENT,
    TOKENS,
    TRAIN_TIMES,
    WIDTH,
    Levels,
    Words,
    build_lcm_scheduler,
    build_scheduler,
    build_text_encoder,
    build_tokenizer,
    build_unet,
    build_vae,
    export,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def family(tmp_path_factory) -> Path:
    """The three folders, untrained: another scheduler over the same weights."""
    folder = tmp_path_factory.mktemp("family")
    torch.manual_seed(0)
    vae, encoder, unet = build_vae(), build_text_encoder(build_tokenizer()), build_unet()
    for name, scheduler in {
        "tiny-base": build_scheduler(),
        "tiny-lcm": build_lcm_scheduler(),
        "tiny-turbo": build_scheduler(),
    }.items():
        export(folder / name, vae, encoder, unet, scheduler)
    return folder


def words(n: int) -> Words:
    return Words(torch.randn(n, TOKENS, WIDTH), torch.randn(n, WIDTH))


def recipe(family: Path, name: str, **settings: object) -> Recipe:
    return Recipe.model_validate(
        {
            "family": "sdxl",
            "checkpoint": name,
            "revision": folder_revision(family / name),
            "guidance": 0,
            "width": 64,
            "height": 64,
            "dtype": "float32",
        }
        | settings
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 1},
        {"steps": 4},
        {"steps": 3, "timesteps": (999, 499, 249), "scheduler": ...},
    ],
    ids=["one step", "four steps", "chosen steps"],
)
@pytest.mark.parametrize(
    ("name", "scheduler"),
    [("tiny-lcm", "LCMScheduler"), ("tiny-turbo", "EulerAncestralDiscreteScheduler")],
)
def test_students_are_sampled_by_the_sdxl_adapter(family, name, scheduler, settings):
    if "scheduler" in settings:
        settings = settings | {"scheduler": scheduler}
    asked = recipe(family, name, **settings)
    painter = pipelines.load(asked, weights.locate(asked, [family]), device="cpu")
    assert painter.facts["scheduler"] == scheduler
    prompt = "a red ring on a white background"
    first, other = (np.asarray(one.picture) for one in painter.paint([prompt] * 2, [1, 2]))
    (again,) = (np.asarray(one.picture) for one in painter.paint([prompt], [1]))
    assert first.shape == (64, 64, 3)
    assert np.abs(first.astype(int) - again).max() <= 1
    assert np.abs(first.astype(int) - other).max() > 1


def test_the_steps_of_a_student_are_those_it_learned():
    lcm, turbo = build_lcm_scheduler(), build_scheduler()
    learned = {GRID * rung - 1 for rung in range(1, TRAIN_TIMES // GRID + 1)}
    for steps in (1, 2, 4):
        lcm.set_timesteps(steps)
        assert lcm.timesteps[0] == TRAIN_TIMES - 1
        assert set(lcm.timesteps.tolist()) <= learned
        turbo.set_timesteps(steps)
        assert set(turbo.timesteps.tolist()) <= set(distil.TURBO_TIMES.tolist())


def test_consistency_is_tied_to_the_teacher_at_the_lowest_time():
    torch.manual_seed(1)
    teacher, target, levels = build_unet(), build_unet(), Levels(CPU)
    noisy, asked = torch.randn(2, LATENT, LATENT, LATENT), words(2)
    times = torch.tensor([GRID - 1, 2 * GRID - 1])
    with torch.no_grad():
        goal = distil._consistent_goal(teacher, target, noisy, times, asked, levels)
        other = distil._consistent_goal(teacher, build_unet(), noisy, times, asked, levels)
        signal, spread = levels.at(times)
        seen = signal * noisy - spread * distil._tell_guided(teacher, noisy, times, asked)
    torch.testing.assert_close(goal[0], seen[0])
    torch.testing.assert_close(other[0], goal[0])
    assert not torch.allclose(other[1], goal[1])  # above it, the student's own average counts


def test_one_step_starts_from_noise_alone():
    bench = Bench(Path(), 0, CPU, None)
    sources = [chance(0, "turbo", i) for i in range(2)]
    clean = torch.zeros(400, LATENT, LATENT, LATENT)
    unet, asked = build_unet(), words(400)
    plain, times = distil._start(unet, clean, asked, 0.55, Levels(CPU), sources[0], bench)
    source = chance(0, "turbo", 0)
    again, _ = distil._start(unet, clean + 1, asked, 0.55, Levels(CPU), source, bench)
    first = times == TRAIN_TIMES - 1
    assert 0.4 < first.float().mean() < 0.7
    assert torch.equal(plain[first], again[first])
    real = (plain != again).flatten(1).all(dim=1)  # what does not change, the student painted
    assert 0.4 < real[~first].float().mean() < 0.6
    other, _ = distil._start(unet, clean, asked, 0.55, Levels(CPU), sources[1], bench)
    assert not torch.equal(other, plain)


def test_a_mixed_student_lies_between_those_it_is_mixed_of():
    torch.manual_seed(3)
    one, other = build_unet(16), build_unet(16)
    mixed = distil.mix([one, other], [0.25, 0.75])
    for weight, *of in zip(mixed.parameters(), one.parameters(), other.parameters()):
        assert torch.allclose(weight, 0.25 * of[0] + 0.75 * of[1])


def test_the_critic_learns_to_tell_and_to_read():
    torch.manual_seed(2)
    critic = distil.Critic(width=16, blocks=1)
    optimiser = torch.optim.AdamW(critic.parameters(), lr=1e-2)

    def draw() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        texts = torch.randn(16, WIDTH)
        texts[:, 0] = torch.randn(16).sign() * 3
        real = texts[:, :1, None, None] + 0.3 * torch.randn(16, LATENT, 4, 4)
        return real, 0.3 * torch.randn_like(real), texts  # no need to read for the paintings

    for _ in range(60):
        optimiser.zero_grad()
        distil._critic_loss(critic, *draw()).backward()
        optimiser.step()
    real, painted, pooled = draw()
    other = pooled.clone()
    other[:, 0] *= -1
    with torch.no_grad():
        assert critic(real, pooled).mean() > 0.5
        assert critic(painted, pooled).mean() < -0.5
        assert critic(real, other).mean() < -0.5
