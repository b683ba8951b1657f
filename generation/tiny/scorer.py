"""Look at a picture of the tiny family and say what in it is right.

`look` finds the things in a picture without knowing the prompt; `score` holds them against
what was asked. Both work on any square picture of SIDE pixels or a whole multiple of it, so a
display file scores as its original does. numpy only: simulated raters call this on machines
without torch, a few milliseconds a picture.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generation.tiny.scenes import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SIDE,
    SIZES,
    Asked,
    Thing,
    coverage,
)

_LEAST_AREA = 24  # pixels; the smallest thing of the grammar covers about 65
_LEAST_SHARE = 0.25  # of a blob: a second colour with less is taken for a smear
_NEAR = 70.0  # RGB distance within which a pixel counts as a palette colour
_CANON = 16  # pixels, side of the box in which shapes are compared
_BLUR_OF_RENDERS = 1.25  # half-covered pixels per pixel of outline in a true render, about


@dataclass(frozen=True)
class Seen:
    """What is in a picture: a key of BACKGROUNDS and its things, left to right."""

    background: str
    things: tuple[Thing, ...]


@dataclass(frozen=True)
class Score:
    """What a picture got right of its prompt; None where the prompt asks nothing of the kind.

    colours : the set of colours found equals the set asked.
    count : as many things as asked.
    relation : the asked colours stand as asked, the centres differing more along the axis of
        the relation than across it.
    shapes : the pairs of shape and colour found equal those asked, counted.
    background : its colour is nearest to the one asked.
    size : every thing asked with a size has a like-coloured thing of that size.
    quality : 0..1, how clean the paint is (flat areas, crisp outlines, known colours),
        whatever was asked; true renders are near 1.
    """

    colours: bool
    count: bool
    relation: bool | None
    shapes: bool
    background: bool
    size: bool | None
    quality: float

    @property
    def all_right(self) -> bool:
        """Colours, count, background, shapes and (where asked) relation right together."""
        return all((self.colours, self.count, self.background, self.shapes)) and (
            self.relation is not False
        )


def score(pixels: NDArray[np.uint8], asked: Asked) -> Score:
    """Hold a picture, uint8 (H, W, 3), against what its prompt asked; see `look` for errors."""
    picture = _reduce(pixels)
    seen = _look(picture)
    wanted = asked.things
    return Score(
        colours={t.colour for t in seen.things} == {t.colour for t in wanted},
        count=len(seen.things) == len(wanted),
        relation=_stands(seen, asked) if asked.relation else None,
        shapes=sorted((t.shape, t.colour) for t in seen.things)
        == sorted((t.shape, t.colour) for t in wanted),
        background=seen.background == asked.background,
        size=_sized(seen, asked) if any(t.size for t in wanted) else None,
        quality=_quality(picture, seen.background),
    )


def look(pixels: NDArray[np.uint8]) -> Seen:
    """Find the background and the things of a picture, uint8 (H, W, 3).

    Raises
    ------
    ValueError : not uint8 RGB, or the sides are not one same multiple of SIDE.
    """
    return _look(_reduce(pixels))


def _reduce(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Area-average to float32 (SIDE, SIDE, 3)."""
    shape, times = pixels.shape, pixels.shape[0] // SIDE
    if pixels.dtype != np.uint8 or not times or shape != (times * SIDE, times * SIDE, 3):
        raise ValueError(
            f"expected uint8 of shape (k*{SIDE}, k*{SIDE}, 3), got {pixels.dtype} of {shape}"
        )
    blocks = pixels.reshape(SIDE, times, SIDE, times, 3)
    picture: NDArray[np.float32] = blocks.mean(axis=(1, 3), dtype=np.float32)
    return picture


def _distances(picture: NDArray[np.float32], palette: NDArray[np.float32]) -> NDArray[np.float32]:
    """RGB distance of every pixel to every colour: (SIDE, SIDE, colours)."""
    squares = (picture**2).sum(-1, keepdims=True) - 2 * picture @ palette.T + (palette**2).sum(-1)
    distances: NDArray[np.float32] = np.sqrt(np.maximum(squares, 0))
    return distances


def _look(picture: NDArray[np.float32]) -> Seen:
    background = _background(picture)
    ground = np.array(BACKGROUNDS[background], np.float32)
    paints = np.array(list(COLOURS.values()), np.float32)
    to_ground = np.linalg.norm(picture - ground, axis=-1)
    to_paint = _distances(picture, paints)
    nearest, to_nearest = to_paint.argmin(axis=-1), to_paint.min(axis=-1)
    solid = np.where(to_nearest < np.minimum(_NEAR, to_ground), nearest, -1)
    things = []
    for blob in _blobs(to_ground > np.minimum(to_nearest, _NEAR)):
        counts = np.bincount(solid[blob][solid[blob] >= 0], minlength=len(COLOURS))
        for colour in np.flatnonzero(counts >= max(_LEAST_AREA, _LEAST_SHARE * blob.sum())):
            mask = blob if (counts >= _LEAST_AREA).sum() == 1 else blob & (nearest == colour)
            things.append(_name(picture, mask, list(COLOURS)[colour], ground))
    return Seen(background, tuple(sorted(things, key=lambda t: t.x)))


def _background(picture: NDArray[np.float32]) -> str:
    """The ground whose colour most pixels are nearest to, paints competing."""
    palette = np.array([*BACKGROUNDS.values(), *COLOURS.values()], np.float32)
    nearest = _distances(picture, palette).argmin(axis=-1)
    counts = np.bincount(nearest.ravel(), minlength=len(palette))[: len(BACKGROUNDS)]
    return list(BACKGROUNDS)[counts.argmax()]


def _blobs(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """The 4-connected parts of a mask of at least _LEAST_AREA pixels, as masks.

    Labels are joined run by run with a union-find: a few hundred runs a picture.
    """
    labels = np.zeros(mask.shape, np.int64)
    parent = [0]

    def root(label: int) -> int:
        while parent[label] != label:
            label = parent[label]
        return label

    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    for row in range(mask.shape[0]):
        starts, ends = np.flatnonzero(edges[row] == 1), np.flatnonzero(edges[row] == -1)
        for start, end in zip(starts, ends, strict=True):
            above = set(labels[row - 1, start:end].tolist()) - {0} if row else set()
            roots = sorted({root(label) for label in above})
            if not roots:
                parent.append(len(parent))
                roots = [len(parent) - 1]
            for other in roots[1:]:
                parent[other] = roots[0]
            labels[row, start:end] = roots[0]
    final = np.array([root(label) for label in range(len(parent))])[labels]
    areas = np.bincount(final.ravel())
    return [final == i for i in range(1, len(areas)) if areas[i] >= _LEAST_AREA]


def _name(
    picture: NDArray[np.float32], mask: NDArray[np.bool_], colour: str, ground: NDArray[Any]
) -> Thing:
    """Name the shape and size of one blob by its likeness to the drawn shapes."""
    paint = np.array(COLOURS[colour], np.float32) - ground
    cover = np.clip((picture - ground) @ paint / (paint @ paint), 0, 1)
    cover = np.where(_grown(mask), cover, 0)
    left, width = _span(cover.max(axis=0))
    top, height = _span(cover.max(axis=1))
    at_x = np.clip((left + (np.arange(_CANON) + 0.5) / _CANON * width).astype(int), 0, SIDE - 1)
    at_y = np.clip((top + (np.arange(_CANON) + 0.5) / _CANON * height).astype(int), 0, SIDE - 1)
    boxed = cover[np.ix_(at_y, at_x)]
    unlike = ((boxed - _drawn_shapes()) ** 2).mean(axis=(1, 2))
    shape = SHAPES[unlike.argmin() % len(SHAPES)]
    area = cover.sum()
    size = min(SIZES, key=lambda s: abs(np.sqrt(area) - np.sqrt(_drawn_area(shape, s))))
    return Thing(shape, colour, size, float(left + width / 2), float(top + height / 2))


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask and its neighbours: the half-covered rim belongs to the thing."""
    padded = np.pad(mask, 1)
    grown: NDArray[np.bool_] = (
        mask | padded[2:, 1:-1] | padded[:-2, 1:-1] | padded[1:-1, 2:] | padded[1:-1, :-2]
    )
    return grown


def _span(profile: NDArray[np.float32]) -> tuple[float, float]:
    """Start and length of the covered part of a profile, in fractions of a pixel."""
    inside = np.flatnonzero(profile > 0.5)
    if not len(inside):
        return 0.0, float(len(profile))
    first, last = inside[0], inside[-1]
    before = profile[first - 1] if first else 0.0
    after = profile[last + 1] if last + 1 < len(profile) else 0.0
    return float(first - before), float(last + 1 - first + before + after)


@cache
def _drawn_shapes() -> NDArray[np.float32]:
    """Every shape at every size as the picture shows it, boxed: (sizes * shapes, 16, 16)."""
    drawn = []
    for radius in SIZES.values():
        for shape in SHAPES:
            cover = _draw(shape, radius)
            left, width = _span(cover.max(axis=0))
            top, height = _span(cover.max(axis=1))
            steps = (np.arange(_CANON) + 0.5) / _CANON
            at_x, at_y = (left + steps * width).astype(int), (top + steps * height).astype(int)
            drawn.append(cover[np.ix_(at_y, at_x)])
    return np.array(drawn, np.float32)


def _draw(shape: str, radius: float) -> NDArray[np.float32]:
    grid = np.arange(SIDE, dtype=np.float32) + 0.5 - SIDE / 2
    return coverage(shape, grid[None], grid[:, None], radius)


@cache
def _drawn_area(shape: str, size: str) -> float:
    return float(_draw(shape, SIZES[size]).sum())


def _stands(seen: Seen, asked: Asked) -> bool:
    """Whether one thing of each asked colour stands as asked; of several, any pair may."""
    first, second = (
        [t for t in seen.things if t.colour == wanted.colour] for wanted in asked.things
    )
    along, across = {
        "left": (lambda a, b: b.x - a.x, lambda a, b: b.y - a.y),
        "right": (lambda a, b: a.x - b.x, lambda a, b: b.y - a.y),
        "above": (lambda a, b: b.y - a.y, lambda a, b: b.x - a.x),
        "below": (lambda a, b: a.y - b.y, lambda a, b: b.x - a.x),
    }[asked.relation or ""]
    return any(along(a, b) > max(4.0, abs(across(a, b))) for a in first for b in second)


def _sized(seen: Seen, asked: Asked) -> bool:
    found = {(t.colour, t.size) for t in seen.things}
    return all((t.colour, t.size) in found for t in asked.things if t.size)


def _quality(picture: NDArray[np.float32], background: str) -> float:
    """How near the picture comes to flat paint on flat ground with one-pixel rims.

    The mean RGB distance to the nearest mix of ground and one paint, and the share of pixels
    that are such a mix (beyond what the outlines explain), each turned into 0..1.
    """
    ground = np.array(BACKGROUNDS[background], np.float32)
    paints = np.array(list(COLOURS.values()), np.float32) - ground
    offset = picture - ground
    along, lengths = offset @ paints.T, (paints**2).sum(axis=1)
    share = np.clip(along / lengths, 0, 1)
    squares = (offset**2).sum(-1, keepdims=True) - 2 * share * along + share**2 * lengths
    which = squares.argmin(axis=-1)[..., None]
    stray = np.sqrt(np.maximum(np.take_along_axis(squares, which, -1), 0)).mean()
    cover = np.take_along_axis(share, which, -1)[..., 0]
    filled = cover > 0.5
    outline = (filled[1:] != filled[:-1]).sum() + (filled[:, 1:] != filled[:, :-1]).sum()
    mixed = (4 * cover * (1 - cover)).sum() / max(outline, 60)
    return float(np.exp(-stray / 12) * np.exp(-max(0.0, mixed / _BLUR_OF_RENDERS - 1)))
