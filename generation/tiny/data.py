"""Training batches, drawn on the spot from the scene grammar; held-out meanings never occur."""

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import CLIPTokenizer

from generation.tiny.model import SLOTS, TOKENS
from generation.tiny.scenes import (
    BACKGROUNDS,
    CATEGORIES,
    COLOURS,
    RELATIONS,
    SHAPES,
    SIDE,
    SIZES,
    Asked,
    Scene,
    describe,
    draw_asked,
    draw_scene,
    render,
)

CROP = SIDE // 2

# What a slot of the text encoder is trained to hold, with the number of answers of each.
# The last answer of size and place is "not said"; the background is read from its own slot.
HEADS = {
    "presence": 2,
    "shape": len(SHAPES),
    "colour": len(COLOURS),
    "size": len(SIZES) + 1,
    "place": len(RELATIONS) + 1,
    "background": len(BACKGROUNDS),
}
# What a teacher learns from: the grammar's own shares, with more of what it finds hardest.
_SHARES = {"background": 0.05, "size": 0.22, "counting": 0.14, "colour": 0.28, "relation": 0.31}
UNASKED = -100  # cross_entropy's ignore_index


def to_tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W) in -1..1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous()


def tokenize(tokenizer: CLIPTokenizer, prompts: list[str]) -> torch.Tensor:
    """int64 (N, TOKENS), padded and cut as SDXL's pipeline does it."""
    ids: torch.Tensor = tokenizer(
        prompts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt"
    ).input_ids
    return ids


def draw_pictures(rng: np.random.Generator, n: int) -> torch.Tensor:
    """n rendered scenes: float32 (n, 3, SIDE, SIDE) in -1..1."""
    return to_tensor(render([draw_scene(rng) for _ in range(n)]))


def draw_crops(rng: np.random.Generator, n: int) -> torch.Tensor:
    """n quarter pictures around a thing: a quarter of the cost, most of the detail."""
    scenes = [draw_scene(rng) for _ in range(n)]
    pixels = render(scenes)
    crops = []
    for picture, scene in zip(pixels, scenes, strict=True):
        thing = scene.things[rng.integers(len(scene.things))]
        corner = np.array([thing.y, thing.x]) - CROP / 2 + rng.uniform(-8, 8, 2)
        top, left = np.clip(corner.round().astype(int), 0, SIDE - CROP)
        crops.append(picture[top : top + CROP, left : left + CROP])
    return to_tensor(np.stack(crops))


def draw_sentences(
    rng: np.random.Generator, n: int, tokenizer: CLIPTokenizer
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """n prompts and what their slots must hold.

    Returns token ids (n, TOKENS) and, for each of HEADS, answers int64 (n, SLOTS) with
    UNASKED where a slot has none.
    """
    asks = [draw_asked(rng) for _ in range(n)]
    answers = {head: torch.full((n, SLOTS), UNASKED) for head in HEADS}
    for row, asked in enumerate(asks):
        for head, per_slot in _answers(asked).items():
            answers[head][row] = torch.tensor(per_slot)
    return tokenize(tokenizer, [describe(asked) for asked in asks]), answers


def _answers(asked: Asked) -> dict[str, list[int]]:
    filled = {head: [UNASKED] * SLOTS for head in HEADS}
    relation = list(RELATIONS).index(asked.relation) if asked.relation else len(RELATIONS)
    for slot, thing in enumerate(asked.things):
        filled["shape"][slot] = SHAPES.index(thing.shape)
        filled["colour"][slot] = list(COLOURS).index(thing.colour)
        filled["size"][slot] = list(SIZES).index(thing.size) if thing.size else len(SIZES)
        # Left and right, above and below are neighbours: the second thing stands opposite.
        filled["place"][slot] = relation ^ slot if asked.relation else relation
    filled["presence"] = [int(slot < len(asked.things)) for slot in range(SLOTS - 1)] + [UNASKED]
    filled["background"][-1] = list(BACKGROUNDS).index(asked.background)
    return filled


def draw_captioned(
    rng: np.random.Generator, n: int, tokenizer: CLIPTokenizer
) -> tuple[list[Scene], torch.Tensor]:
    """n scenes and their prompts as token ids (n, TOKENS)."""
    drawn = rng.choice(len(CATEGORIES), size=n, p=[_SHARES[name] for name in CATEGORIES])
    scenes = [draw_scene(rng, CATEGORIES[i]) for i in drawn]
    return scenes, tokenize(tokenizer, [describe(scene) for scene in scenes])
