"""Ways to paint the same sooner: what is used where, and that pictures stay what they were."""

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.hooks import group_offloading
from diffusers.models import modeling_utils
from diffusers.utils.torch_utils import get_module_execution_device
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from generation import pipelines, weights
from generation.pipelines import speed
from generation.spec import folder_revision
from tests.generation import studio
from tests.generation.random_sdxl import random_unet, save_random_sdxl

ROOT = Path(__file__).resolve().parents[2]
PROMPTS, SEEDS = ["a cat", "a dog", "a cat"], [1, 2, 3]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    save_random_sdxl(folder / "random-sdxl")
    return folder


def load(checkpoints: Path, *options: str, guidance: float = 0) -> pipelines.Painter:
    revision = folder_revision(checkpoints / "random-sdxl")
    recipe = studio.recipe(revision=revision, guidance=guidance)
    found = weights.locate(recipe, [checkpoints])
    return pipelines.load(recipe, found, device="cpu", options=options)


def pixels(checkpoints: Path, *options: str, guidance: float = 0) -> np.ndarray:
    """Three pictures, (3, height, width, 3), painted with these options."""
    painter = load(checkpoints, *options, guidance=guidance)
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


def test_while_painting_nothing_is_searched_for_parts_that_lie_elsewhere(checkpoints, monkeypatch):
    painter = load(checkpoints, "none")
    searched: list[torch.nn.Module] = []
    monkeypatch.setattr(group_offloading, "_get_top_level_group_offload_hook", searched.append)
    monkeypatch.setattr(torch.nn.Module, "modules", lambda self: searched.append(self) or [])
    painter.paint(PROMPTS, SEEDS)
    assert searched == []
    module = torch.nn.Module()
    assert not group_offloading._is_group_offload_enabled(module)
    assert searched == [module]  # others are searched as ever


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder_2"])
def test_what_is_found_without_a_search_is_what_a_search_finds(checkpoints, part):
    module: Any = getattr(load(checkpoints, "none")._pipeline, part)
    module.to(torch.bfloat16)
    kept = next(name for name, _ in module.named_parameters())
    searched = modeling_utils.get_parameter_dtype(module), get_module_execution_device(module)
    with speed.nothing_offloaded():
        found = modeling_utils.get_parameter_dtype(module), get_module_execution_device(module)
        assert found == searched == (torch.bfloat16, torch.device("cpu"))
        module.get_parameter(kept).data = module.get_parameter(kept).data.float()
        module._keep_in_fp32_modules = [kept]
        assert modeling_utils.get_parameter_dtype(module) == torch.bfloat16


def test_blocks_are_compiled_for_more_sizes_of_a_batch_than_torch_would():
    unet = random_unet()
    speed._compile_blocks(unet)
    compiled = {
        type(part).__name__ for part in unet.modules() if part._compiled_call_impl is not None
    }
    assert compiled == {"BasicTransformerBlock"}
    widths, sizes = 2, 6  # of SDXL's blocks, of batches from 1 to 32
    assert torch._dynamo.config.recompile_limit >= 2 * widths * sizes


def test_a_model_that_names_no_blocks_is_left_as_it_is():
    speed._compile_blocks(torch.nn.Sequential(torch.nn.Linear(1, 1)))


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


def test_a_memory_keeps_what_was_seen_last_and_nothing_beside_it():
    """Not the whole batch that a prompt was encoded in."""
    memory = speed.PromptMemory(lambda prompts: (torch.zeros(len(prompts), 1000),))
    memory([f"prompt {n}" for n in range(32)])
    kept = [row.untyped_storage() for parts in memory._seen.values() for row in parts]
    assert {row.data_ptr(): row.nbytes() for row in kept} == {row.data_ptr(): 4000 for row in kept}
    assert len(kept) == 32


def test_of_two_checkpoints_each_remembers_its_own_encodings(checkpoints, tmp_path):
    """Loaded at once, with the same prompts: what is remembered belongs to one pipeline."""
    save_random_sdxl(tmp_path / "random-sdxl", seed=1)
    one, other = load(checkpoints, "prompt-memory"), load(tmp_path, "prompt-memory")
    for painter, folder in ((one, checkpoints), (other, tmp_path), (one, checkpoints)):
        painted = [np.asarray(p.picture, int) for p in painter.paint(PROMPTS, SEEDS)]
        assert np.abs(np.stack(painted) - pixels(folder, "none")).max() <= 1


def n_tensors() -> int:
    gc.collect()
    # By their own type: to ask what lazy objects of other tests are would wake them.
    return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())


def test_a_painter_that_is_closed_keeps_nothing_on_the_device(checkpoints):
    load(checkpoints, "prompt-memory").close()  # libraries keep some of their own
    before = n_tensors()
    painter = load(checkpoints, "prompt-memory")
    painter.paint(PROMPTS, SEEDS)
    assert n_tensors() > before
    painter.close()
    assert n_tensors() <= before


# Recordings. CUDA's own recorder needs a card; this one does on a CPU what that does: it takes down
# each operation with the very memory that it worked on, and plays them again over that.


class Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, operation: Any, _types: Any, args: Any = (), kwargs: Any = None):
        out = operation(*args, **(kwargs or {}))
        self.told.append((operation, args, kwargs or {}, out))
        return out

    def play(self) -> None:
        for operation, args, kwargs, out in self.told:
            again = operation(*args, **kwargs)
            for mine, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if isinstance(mine, torch.Tensor):
                    mine.copy_(new)


def on_tape(call: Any) -> tuple[Any, Any]:
    with Tape() as tape:
        out = call()
    return out, tape.play


class Watched:
    """A function, recorded on tape, and how often it was really called."""

    def __init__(self, function: Any) -> None:
        self.n_calls = 0
        self._function = function
        self.graphed = speed.Graphed(self._called, device="cpu", record=on_tape)

    def _called(self, *args: Any, **kwargs: Any) -> Any:
        self.n_calls += 1
        return self._function(*args, **kwargs)


def test_a_recording_is_played_with_each_call_s_own_numbers():
    one = Watched(lambda x, *, shift, scale: (x @ x.T * scale + shift, {"sum": x.sum()}))
    draw, given = torch.Generator().manual_seed(1), []
    for _ in range(3):
        x, shift = torch.randn(3, 4, generator=draw), torch.randn(3, generator=draw)
        given.append((x, x.clone()))
        product, more = one.graphed(x, shift=shift, scale=2)
        assert torch.equal(product, x @ x.T * 2 + shift)
        assert torch.equal(more["sum"], x.sum())
    assert all(torch.equal(x, kept) for x, kept in given)
    assert one.n_calls == 1


def test_what_was_returned_is_not_changed_by_the_next_call():
    one = Watched(lambda x: x + 1)
    first = one.graphed(torch.zeros(2))
    one.graphed(torch.ones(2))
    assert first.tolist() == [1, 1]
    first.zero_()
    assert one.graphed(torch.ones(2)).tolist() == [2, 2]
    assert one.n_calls == 1


@pytest.mark.parametrize(
    "other",
    [
        lambda f: f(torch.ones(3), 2),
        lambda f: f(torch.ones(2, dtype=torch.float64), 2),
        lambda f: f(torch.ones(2, 2).T[0], 2),  # the same numbers, laid out otherwise
        lambda f: f(torch.ones(2), 3),
        lambda f: f(torch.ones(2), scale=2),
    ],
    ids=["size", "type", "layout", "number", "name"],
)
def test_another_form_is_another_recording(other):
    one = Watched(lambda x, scale: x * scale)
    one.graphed(torch.ones(2), 2)
    other(one.graphed)
    assert one.n_calls == 2
    assert one.graphed(torch.full((2,), 5.0), 2).tolist() == [10, 10]
    assert one.n_calls == 2


def test_a_function_that_fails_is_asked_again():
    def full(x: Any) -> Any:
        if one.n_calls == 1:
            raise torch.OutOfMemoryError("full")
        return x + 1

    one = Watched(full)
    with pytest.raises(torch.OutOfMemoryError):
        one.graphed(torch.zeros(2))
    assert one.graphed(torch.zeros(2)).tolist() == [1, 1]


@pytest.mark.parametrize("place", ["meta", "none"])
def test_a_call_with_tensors_elsewhere_is_made_as_it_is(place):
    one = Watched(lambda x, other: x * 2)
    elsewhere = torch.ones(2, device="meta") if place == "meta" else None
    for n in (1, 2):
        assert one.graphed(torch.ones(2) if place == "meta" else 1, elsewhere) is not None
        assert one.n_calls == n


def test_a_recording_is_for_cuda_unless_told_otherwise():
    graphed = speed.Graphed(lambda x, *, scale: x * scale)
    assert graphed(torch.ones(2), scale=3).tolist() == [3, 3]


@pytest.mark.parametrize("guidance", [0, 5])
def test_pictures_from_recordings_are_those_of_the_model(checkpoints, guidance):
    """Every part that `graphs` records, on tape: steps, prompts and seeds change between calls."""
    recipe = studio.recipe(
        revision=folder_revision(checkpoints / "random-sdxl"), guidance=guidance, steps=3
    )
    painter = pipelines.load(
        recipe, weights.locate(recipe, [checkpoints]), device="cpu", options=["none"]
    )
    plain = [np.asarray(p.picture, int) for p in painter.paint(PROMPTS, SEEDS)]
    parts = [
        painter._pipeline.unet,
        painter._pipeline.text_encoder_2,
        painter._pipeline.vae.decoder,
    ]
    watched = [Watched(part.forward) for part in parts]
    for part, one in zip(parts, watched):
        part.forward = one.graphed
    for order in ([0, 1, 2], [2, 0, 1]):
        again = painter.paint([PROMPTS[n] for n in order], [SEEDS[n] for n in order])
        for n, painting in zip(order, again):
            assert np.abs(np.asarray(painting.picture, int) - plain[n]).max() <= 1
    assert [one.n_calls for one in watched] == [1, 1, 1]


@pytest.mark.parametrize("memory", [(), ("prompt-memory",)])
def test_batches_of_any_size_need_few_recordings_and_are_filled_up_to_less_than_twice(
    checkpoints, memory
):
    plain = load(checkpoints, "none")
    painter = load(checkpoints, *(memory or ("none",)))
    painter._options += ("graphs",)  # a CPU does without
    parts = {"unet": painter._pipeline.unet, "encoder": painter._pipeline.text_encoder_2}
    asked: dict[str, list[int]] = {name: [] for name in parts}
    for name, part in parts.items():
        note_sizes(part, asked[name])
    for n in range(1, 10):
        # With a memory, n - 1 of them are new.
        prompts, seeds = ["again", *(f"{n} {k}" for k in range(n - 1))], list(range(n))
        painted = [np.asarray(p.picture, int) for p in painter.paint(prompts, seeds)]
        wanted = [np.asarray(p.picture, int) for p in plain.paint(prompts, seeds)]
        assert np.abs(np.stack(painted) - np.stack(wanted)).max() <= 1
    assert asked["unet"][::2] == [1, 2, 4, 4, 8, 8, 8, 8, 16]  # two steps
    assert set(asked["encoder"]) == ({1, 2, 4, 8} if memory else {1, 2, 4, 8, 16})


def note_sizes(part: Any, sizes: list[int]) -> None:
    forward = part.forward

    def noted(first: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(first))
        return forward(first, *args, **kwargs)

    part.forward = noted


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("PAINTING_OPTIONS=graphs,warp", "names warp; expected one or more of graphs"),
        ("PAINTING_OPTIONS=graphs,none", "names none beside others; expected it alone"),
        ("PAINTING_DEVICE=gpu", "is gpu; expected cuda, cuda:1, mps or cpu"),
        ("PAINTING_DEVICE=cuda:9999", "is cuda:9999: torch finds no such device here"),
    ],
)
def test_a_worker_whose_own_settings_are_wrong_does_not_start(setting, said):
    """Else it would fail one image after another, beside workers that could paint them."""
    name, _, value = setting.partition("=")
    command = [sys.executable, "-m", "celery", "-A", "generation.celery", "worker"]
    environment = os.environ | {name: value}
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert f"{name} {said}" in done.stderr


def test_the_benchmark_compares_paths_in_one_run():
    """The short form: our tiny model, one step, a few images."""
    few = ["--steps", "1", "--images", "8", "--batch", "2", "--repeats", "1"]
    command = [sys.executable, "-m", "benchmarks.generation", *few, "--options", "fused-qkv"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "plain loop, 2 at once" in done.stdout
    assert "times as fast" in done.stdout
    assert "fused-qkv" in done.stdout
