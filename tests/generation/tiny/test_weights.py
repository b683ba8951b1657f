"""The shipped weights, held to their gates on prompts that training never saw."""

from functools import cache

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from generation.tiny.evaluate import SHIPPED, Rate, draw_held_out, load, paint
from generation.tiny.gate import MOST_BYTES, SYSTEMS, System, bounds, main, n_bytes, rates_of
from generation.tiny.scenes import describe, is_held_out

LEAST_GAIN = 0.30  # of twenty steps over one
N_PROMPTS = 200  # of the 500 that `python -m generation.tiny.gate` takes


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    rates.cache_clear()


@cache
def rates(name: str, steps: int) -> dict[str, Rate]:
    asks = draw_held_out(N_PROMPTS)
    assert len(set(asks)) == N_PROMPTS
    assert all(map(is_held_out, asks))
    return rates_of((name, steps), asks)


def all_rates() -> dict[System, dict[str, Rate]]:
    return {system: rates(*system) for system in SYSTEMS}


@pytest.mark.timeout(900)  # half a minute of a processor that may be shared by many
def test_shipped_weights_pass_their_gate():
    assert [one for one in bounds(all_rates(), n_bytes()) if not one.is_met] == []


@pytest.mark.parametrize(
    ("broken", "by", "missed"),
    [
        (
            ("tiny-base", 20),
            ("tiny-base", 1),
            [
                "tiny-base at 20: colours at least 0.97",
                "tiny-base at 20: relation at least 0.95",
                "tiny-base at 20: all_right at least 0.85",
                "tiny-base at 1: all_right below tiny-base at 20 by 2 standard errors",
            ],
        ),
        (("tiny-turbo", 1), ("tiny-lcm", 1), ["tiny-turbo at 1: all_right at least 0.80"]),
        (("tiny-lcm", 4), ("tiny-lcm", 1), ["tiny-lcm: all_right at 4 steps above that at 1"]),
    ],
)
def test_the_gate_notices_a_worse_system(broken, by, missed):
    found = bounds(all_rates() | {broken: rates(*by)}, n_bytes())
    assert [one.what for one in found if not one.is_met] == missed


def test_the_gate_notices_weights_that_are_too_large():
    found = bounds(all_rates(), MOST_BYTES + 1)
    told = [one.what for one in found if not one.is_met]
    assert told == ["all weights together: 16 MB at most"]


def test_the_gate_compares_systems_of_which_all_are_alike():
    every = {name: Rate(1, 0, 6) for name in ("colours", "relation", "all_right")}
    found = bounds(dict.fromkeys(SYSTEMS, every), 1)
    assert [one.found for one in found if "by 2 standard errors" in one.what] == [
        "0.000, standard error 0.000"
    ] * 5
    assert not any(one.is_met for one in found if "by 2 standard errors" in one.what)


@pytest.mark.parametrize("n", ["1", "0", "-3", "2.5"])
def test_the_gate_asks_for_two_prompts_or_more(n, capsys):
    with pytest.raises(SystemExit) as caught:
        main([f"--prompts={n}"])
    assert caught.value.code == 2
    assert "expected a whole number of at least 2" in capsys.readouterr().err


@pytest.mark.parametrize("measure", ["colours", "relation"])
def test_twenty_steps_are_far_better_than_one(measure):
    gain = rates("tiny-base", 20)[measure].mean - rates("tiny-base", 1)[measure].mean
    assert gain >= LEAST_GAIN


def test_an_image_does_not_depend_on_its_batch_mates():
    pipeline = load(SHIPPED / "tiny-base")
    prompts = [describe(asked) for asked in draw_held_out(3)]
    together = paint(pipeline, prompts, steps=4, batch=3).astype(int)
    alone = paint(pipeline, prompts, steps=4, batch=1).astype(int)
    assert np.abs(together - alone).max() <= 1  # rounding differs by batch size, noise does not


def test_the_folders_are_in_half_precision():
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md"}
    for path in (path for path in files if path.suffix == ".safetensors"):
        assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
