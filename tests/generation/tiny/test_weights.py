"""The shipped weights, held to their gate on prompts that training never saw."""

import numpy as np
import pytest
import torch

from generation.tiny.evaluate import SHIPPED, draw_held_out, evaluate, load, paint
from generation.tiny.scenes import describe, is_held_out

LEAST = 0.90  # of colours and of relations right, at 20 steps
LEAST_GAIN = 0.30  # over one step
FOLDER = SHIPPED / "tiny-base"


@pytest.fixture(scope="module")
def pipeline():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load(FOLDER)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def rates(pipeline):
    asks = draw_held_out(200)
    assert len(set(asks)) == 200
    assert all(map(is_held_out, asks))
    return {steps: evaluate(pipeline, asks, steps=steps) for steps in (20, 1)}


def hold_to_gate(found) -> None:
    """What the shipped teacher must reach: the gate itself, so that it can be seen to fail."""
    for measure in ("colours", "relation"):
        assert found[measure].mean >= LEAST, f"{measure}: {found[measure]}"


def test_twenty_steps_pass_the_gate(rates):
    hold_to_gate(rates[20])


def test_one_step_does_not_pass_the_gate(rates):
    with pytest.raises(AssertionError, match="colours"):
        hold_to_gate(rates[1])


@pytest.mark.parametrize("measure", ["colours", "relation"])
def test_twenty_steps_are_far_better_than_one(rates, measure):
    assert rates[20][measure].mean - rates[1][measure].mean >= LEAST_GAIN


def test_an_image_does_not_depend_on_its_batch_mates(pipeline):
    prompts = [describe(asked) for asked in draw_held_out(3)]
    together = paint(pipeline, prompts, steps=4, batch=3).astype(int)
    alone = paint(pipeline, prompts, steps=4, batch=1).astype(int)
    assert np.abs(together - alone).max() <= 1  # rounding differs by batch size, noise does not


def test_the_folder_is_small_and_in_half_precision():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 6_000_000
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md"}
