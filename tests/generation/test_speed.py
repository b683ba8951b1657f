"""Ways to paint the same sooner: what is used where, and that pictures stay what they were."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from generation import pipelines, weights
from generation.pipelines import speed
from generation.spec import folder_revision
from tests.generation import studio
from tests.generation.random_sdxl import save_random_sdxl

ROOT = Path(__file__).resolve().parents[2]
PROMPTS, SEEDS = ["a cat", "a dog", "a cat"], [1, 2, 3]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    save_random_sdxl(folder / "random-sdxl")
    return folder


def pixels(checkpoints: Path, *options: str, guidance: float = 0) -> np.ndarray:
    """Three pictures, (3, height, width, 3), painted with these options."""
    revision = folder_revision(checkpoints / "random-sdxl")
    recipe = studio.recipe(revision=revision, guidance=guidance)
    found = weights.locate(recipe, [checkpoints])
    painter = pipelines.load(recipe, found, device="cpu", options=options)
    assert painter.facts["options"] == [one for one in options if one != "none"]
    painter.paint(PROMPTS[:1], SEEDS[:1])  # something to remember
    return np.stack([np.asarray(p.picture, int) for p in painter.paint(PROMPTS, SEEDS)])


@pytest.mark.parametrize("guidance", [0, 5])
@pytest.mark.parametrize("option", ["channels-last", "fused-qkv", "prompt-memory"])
def test_an_option_leaves_pictures_as_they_were(checkpoints, option, guidance):
    plain = pixels(checkpoints, "none", guidance=guidance)
    off = np.abs(pixels(checkpoints, option, guidance=guidance) - plain)
    assert off.max() <= 1
    assert not (plain[0] == plain[1]).all()


def test_devices_use_what_suits_them():
    assert speed.options_for((), "cuda") == ("graphs",)
    assert speed.options_for((), "cpu") == ()
    assert speed.options_for(("none",), "cuda") == ()
    assert speed.options_for(("fused-qkv", "graphs"), "cuda") == ("graphs", "fused-qkv")
    assert speed.options_for(("fused-qkv", "graphs"), "cpu") == ("fused-qkv",)


def test_a_prompt_is_encoded_once():
    encoded: list[str] = []

    def encode(prompts: list[str]) -> tuple[torch.Tensor, ...]:
        encoded.extend(prompts)
        rows = torch.tensor([[float(len(prompt))] for prompt in prompts])
        return rows, -rows

    memory = speed.PromptMemory(encode)
    first, second = memory(["one", "three", "one"])
    assert first.flatten().tolist() == [3, 5, 3]
    assert second.flatten().tolist() == [-3, -5, -3]
    memory(["three", "fourth"])
    assert encoded == ["one", "three", "fourth"]


def test_a_memory_forgets_what_was_seen_longest_ago(monkeypatch):
    monkeypatch.setattr(speed, "N_REMEMBERED", 2)
    encoded: list[str] = []

    def encode(prompts: list[str]) -> tuple[torch.Tensor, ...]:
        encoded.extend(prompts)
        return (torch.zeros(len(prompts), 1),)

    memory = speed.PromptMemory(encode)
    for prompt in ("a", "b", "a", "c", "a", "b"):
        memory([prompt])
    assert encoded == ["a", "b", "c", "b"]
    assert memory(["d", "e", "f"])[0].shape == (3, 1)


def test_a_recording_is_for_cuda_alone():
    graphed = speed.Graphed(lambda x, *, scale: x * scale)
    assert graphed(torch.ones(2), scale=3).tolist() == [3, 3]


def test_a_worker_with_an_unknown_option_does_not_start():
    environment = os.environ | {"PAINTING_OPTIONS": "graphs,warp"}
    command = [sys.executable, "-m", "celery", "-A", "generation.celery", "worker"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "PAINTING_OPTIONS names warp; expected one or more of graphs" in done.stderr


def test_the_benchmark_compares_paths_in_one_run():
    """The short form: our tiny model, one step, a few images."""
    few = ["--steps", "1", "--images", "8", "--batch", "2", "--repeats", "1"]
    command = [sys.executable, "-m", "benchmarks.generation", *few, "--options", "fused-qkv"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "plain loop, 2 at once" in done.stdout
    assert "times as fast" in done.stdout
    assert "fused-qkv" in done.stdout
