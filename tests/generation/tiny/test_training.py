"""Training from nothing, at toy size: every stage, a kill in the middle, and what is written."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from generation.tiny import train
from generation.tiny.data import draw_sentences
from generation.tiny.evaluate import load, paint
from generation.tiny.loop import chance
from generation.tiny.model import SLOTS, TOKENS, build_tokenizer
from generation.tiny.scenes import SIDE, describe, draw_asked

ROOT = Path(__file__).resolve().parents[3]


def toy(out: Path, work: Path) -> list[str]:
    """The command line of a run of seconds that writes a checkpoint at every step."""
    small = ["--scale", "0.0012", "--save-every", "0", "--device", "cpu"]
    return ["--out", str(out), "--work", str(work), *small]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    """The folders that a run without interruption writes."""
    folder = tmp_path_factory.mktemp("unbroken")
    train.main(toy(folder / "out", folder / "work"))
    return folder / "out"


# A run that dies as it puts its fourth checkpoint of the teacher in place: whoever would watch it
# from outside might come too late.
DOOMED = """
import os, signal, sys
from generation.tiny import train

def watch(event, arguments, left=[3]):
    if event == "os.rename" and str(arguments[1]).endswith("teacher.pt"):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

sys.addaudithook(watch)
train.main(sys.argv[1:])
"""


def test_a_killed_run_goes_on_to_the_same_weights(unbroken, tmp_path):
    out, work = tmp_path / "out", tmp_path / "work"
    command = [sys.executable, "-c", DOOMED, *toy(out, work)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    stopped_at = torch.load(work / "teacher.pt", weights_only=True)["step"]
    assert 0 < stopped_at < train.stages.Plan().scaled(0.0012).teacher_steps
    assert not out.exists()

    train.main(toy(out, work))
    written = sorted(path.relative_to(out) for path in out.rglob("*.safetensors"))
    assert len(written) == 3 * len(train.MEMBERS)
    for path in written:
        again, once = load_file(out / path), load_file(unbroken / path)
        assert again.keys() == once.keys()
        assert all(torch.equal(again[key], once[key]) for key in once)


def test_the_checkpoints_of_another_plan_are_refused(tmp_path):
    train._hold_plan(tmp_path / "plan.json", {"seed": 0, "teacher_steps": 5})
    train._hold_plan(tmp_path / "plan.json", {"seed": 0, "teacher_steps": 5})
    with pytest.raises(SystemExit, match="a run of other settings"):
        train._hold_plan(tmp_path / "plan.json", {"seed": 1, "teacher_steps": 5})


def test_the_stock_pipeline_paints_from_what_is_written(unbroken):
    pipeline = load(unbroken / "tiny-base")
    assert pipeline.text_encoder is None
    pixels = paint(pipeline, ["a red ring on a white background"] * 2, steps=2)
    assert pixels.shape == (2, SIDE, SIDE, 3)
    assert (pixels[0] != pixels[1]).any()  # each image has a seed of its own


def test_every_word_of_the_grammar_is_one_token():
    tokenizer = build_tokenizer()
    rng = np.random.default_rng(21)
    for _ in range(500):
        prompt = describe(draw_asked(rng))
        ids = tokenizer(prompt).input_ids
        assert len(ids) == len(prompt.split()) + 2 <= TOKENS - SLOTS
    assert len(tokenizer("zebra " * 30, truncation=True).input_ids) == TOKENS


def test_slots_hold_what_the_prompt_asks():
    ids, answers = draw_sentences(np.random.default_rng(22), 64, build_tokenizer())
    assert ids.shape == (64, TOKENS)
    assert (ids[:, -SLOTS:] == build_tokenizer().pad_token_id).all()
    things = (answers["presence"] == 1).sum(dim=1)
    assert ((answers["shape"] >= 0).sum(dim=1) == things).all()
    assert (answers["background"][:, -1] >= 0).all()


def test_chance_is_the_same_for_the_same_step_and_no_other():
    first, again = chance(0, "vae", 3), chance(0, "vae", 3)
    assert first.numpy.random() == again.numpy.random()
    assert torch.equal(torch.rand(3, generator=first.torch), torch.rand(3, generator=again.torch))
    assert chance(0, "vae", 4).numpy.random() != chance(0, "text", 4).numpy.random()
