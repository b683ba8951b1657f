"""The scenes that the tiny family paints: what a prompt may ask, and how it looks.

A prompt is a sentence of a small grammar; `Asked` is its meaning, `Scene` one way to satisfy
it, `render` the picture. Training draws its pictures here, evaluation its prompts, and the
scorer its colours and shapes, so that all three speak of the same things. numpy only: raters
and the site read prompts on machines without torch.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, get_args

import numpy as np
from numpy.typing import NDArray

_Grid = NDArray[Any]
Category = Literal["background", "size", "counting", "colour", "relation"]

SIDE = 64  # pixels, height and width
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (30, 150, 60),
    "blue": (40, 80, 220),
    "yellow": (250, 200, 20),
    "purple": (140, 50, 170),
    "black": (20, 20, 20),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "cream": (240, 218, 165),
    "grey": (160, 165, 170),
    "pink": (250, 185, 205),
}
SHAPES = ("circle", "square", "triangle", "ring", "cross", "star")
SIZES: dict[str, float] = {"small": 8.0, "medium": 11.0, "large": 14.0}  # half extents, pixels
RELATIONS: dict[str, str] = {
    "left": "to the left of",
    "right": "to the right of",
    "above": "above",
    "below": "below",
}
NUMBERS = {"two": 2, "three": 3}
PLURALS = {shape: "crosses" if shape == "cross" else f"{shape}s" for shape in SHAPES}
CATEGORIES: tuple[Category, ...] = get_args(Category)

# How often training draws each category: one thing 25%, counted things 20%, two things 55%.
_SHARES = {"background": 0.12, "size": 0.20, "counting": 0.20, "colour": 0.13, "relation": 0.35}
_GAP = 3.0  # pixels between the boxes of two things
_MARGIN = 2.0  # pixels between a thing's box and the edge
_OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
_HELD_OUT_OF_256 = 26  # about a tenth of all meanings


@dataclass(frozen=True)
class AskedThing:
    """One thing that a prompt asks for; `size` is None where the prompt leaves it open."""

    shape: str
    colour: str
    size: str | None = None


@dataclass(frozen=True)
class Asked:
    """The meaning of a prompt: one to three things, how two of them stand, the background.

    `relation` is a key of RELATIONS and holds for the first thing against the second; None
    where nothing is said. Three things, and two equal things, are counted ("three red stars").
    """

    things: tuple[AskedThing, ...]
    background: str
    relation: str | None = None

    @property
    def category(self) -> Category:
        """What the prompt chiefly tests: a key of the demo study's categories."""
        if self.relation:
            return "relation"
        if self.things[0].size:
            return "size"
        if len(self.things) == 1:
            return "background"
        return "counting" if self.things[0] == self.things[1] else "colour"


@dataclass(frozen=True)
class Thing:
    """One thing as painted: centre (x, y) in pixels from the top left, half extent by `size`."""

    shape: str
    colour: str
    size: str
    x: float
    y: float


@dataclass(frozen=True)
class Scene:
    """One way to satisfy a prompt; things stand in the order in which it names them."""

    asked: Asked
    things: tuple[Thing, ...]


# --- sentences -------------------------------------------------------------------------


def describe(scene: Scene | Asked) -> str:
    """The prompt for a scene, or for a meaning: "a red circle above a blue star on a white ..."."""
    asked = scene.asked if isinstance(scene, Scene) else scene
    if asked.category == "counting":
        number = next(word for word, n in NUMBERS.items() if n == len(asked.things))
        head = f"{number} {asked.things[0].colour} {asked.things[0].shape}s".replace(
            "crosss", "crosses"
        )
    else:
        joint = RELATIONS[asked.relation] if asked.relation else "and"
        head = f" {joint} ".join(_noun_phrase(thing) for thing in asked.things)
    return f"{head} on a {asked.background} background"


def _noun_phrase(thing: AskedThing) -> str:
    return " ".join(word for word in ("a", thing.size, thing.colour, thing.shape) if word)


def parse(prompt: str) -> Asked:
    """The meaning of a prompt, so that `parse(describe(scene)) == scene.asked`.

    Capitals, doubled spaces and a full stop at the end do not matter.

    Raises
    ------
    ValueError : the text is outside of the grammar; names the word and what was expected.
    """
    reader = _Reader(prompt)
    opening = reader.take({"a", *NUMBERS})
    things: tuple[AskedThing, ...]
    relation = None
    if opening in NUMBERS:
        colour = reader.take(COLOURS)
        plural = reader.take(PLURALS.values())
        shape = next(shape for shape in SHAPES if PLURALS[shape] == plural)
        things = (AskedThing(shape, colour),) * NUMBERS[opening]
    else:
        sized = reader.peek() in SIZES
        things = (reader.thing(sized),)
        joint = reader.joint(sized)
        if joint:
            reader.take({"a"})
            things += (reader.thing(sized),)
            relation = None if joint == "and" else joint
    asked = Asked(things, reader.background(), relation)
    _check(asked, reader.refuse)
    return asked


class _Reader:
    """Reads a prompt word by word; every refusal says what was expected instead."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        self.words = prompt.lower().strip().removesuffix(".").split()
        self.at = 0

    def refuse(self, why: str) -> NoReturn:
        raise ValueError(f"not a scene of the tiny family: {self.prompt!r}: {why}")

    def peek(self) -> str:
        return self.words[self.at] if self.at < len(self.words) else ""

    def take(self, options: Iterable[str]) -> str:
        """The next word, which must be one of the options."""
        known, word = sorted(options), self.peek()
        if word not in known:
            expected = known[0] if len(known) == 1 else f"one of {', '.join(known)}"
            self.refuse(f"expected {expected}, found {repr(word) if word else 'the end'}")
        self.at += 1
        return word

    def thing(self, sized: bool) -> AskedThing:
        size = self.take(SIZES) if sized else None
        colour = self.take(COLOURS)
        return AskedThing(self.take(SHAPES), colour, size)

    def joint(self, sized: bool) -> str | None:
        """The word "and" or a key of RELATIONS; None where the background follows at once."""
        if self.peek() == "on":
            return None
        word = self.take({"on", "and"} if sized else {"on", "and", "to", "above", "below"})
        if word == "to":
            self.take({"the"})
            word = self.take({"left", "right"})
            self.take({"of"})
        return word

    def background(self) -> str:
        self.take({"on"})
        self.take({"a"})
        background = self.take(BACKGROUNDS)
        self.take({"background"})
        if self.peek():
            self.refuse(f"expected the end, found {self.peek()!r}")
        return background


def _check(asked: Asked, refuse: Callable[[str], NoReturn]) -> None:
    """What the words allow and the grammar does not: two things must differ to be told apart."""
    if len(asked.things) != 2 or asked.category == "counting":
        return
    first, second = asked.things
    if first.colour == second.colour:
        refuse("expected two things of different colours")
    if first.size and first.size == second.size:
        refuse("expected two things of different sizes")


# --- chance ----------------------------------------------------------------------------


def is_held_out(asked: Asked) -> bool:
    """Whether a meaning is kept for evaluation; about one in ten is, and training draws none.

    Sentences that ask for the same picture ("a left of b", "b right of a") share the answer.
    """
    things = asked.things
    relation = asked.relation
    if relation in ("right", "below"):
        things, relation = things[::-1], _OPPOSITE[relation]
    elif relation is None:
        things = tuple(sorted(things, key=str))
    canon = describe(Asked(things, asked.background, relation))
    return hashlib.sha256(f"tiny {canon}".encode()).digest()[0] < _HELD_OUT_OF_256


def draw_asked(
    rng: np.random.Generator, category: Category | None = None, *, held_out: bool = False
) -> Asked:
    """Draw a meaning; without a category, one is drawn by training's own shares.

    `held_out` draws from the meanings kept for evaluation alone; otherwise from all others.
    """
    if category is None:
        category = CATEGORIES[rng.choice(len(CATEGORIES), p=[_SHARES[c] for c in CATEGORIES])]
    while True:
        asked = _draw_any(rng, category)
        if is_held_out(asked) == held_out:
            return asked


def _draw_any(rng: np.random.Generator, category: Category) -> Asked:
    background = _pick(rng, BACKGROUNDS)
    shapes = _pick(rng, SHAPES), _pick(rng, SHAPES)
    colours = rng.permutation(list(COLOURS))[:2].tolist()
    sizes: list[str | None] = [None, None]
    if category == "size":
        sizes = rng.permutation(list(SIZES))[:2].tolist()
    pair = tuple(AskedThing(*words) for words in zip(shapes, colours, sizes, strict=True))
    if category == "counting":
        return Asked(pair[:1] * int(rng.integers(2, 4)), background)
    if category == "background" or (category == "size" and rng.random() < 0.65):
        return Asked(pair[:1], background)
    return Asked(pair, background, _pick(rng, RELATIONS) if category == "relation" else None)


def _pick(rng: np.random.Generator, options: Iterable[str]) -> str:
    listed = list(options)
    return listed[rng.integers(len(listed))]


def place(asked: Asked, rng: np.random.Generator) -> Scene:
    """Draw sizes where the prompt leaves them open, and places that satisfy it.

    Boxes of two things never touch; for a relation the centres differ more along its axis
    than across it. Where no place is said, two things stand in reading order, the first
    further left or higher: a picture half decided then already says which of them is where.
    Three things are small or medium, or they would not fit.
    """
    choices = list(SIZES)[:2] if len(asked.things) == 3 else list(SIZES)
    equal = _pick(rng, choices)  # counted things look alike
    sizes = [
        thing.size or (equal if asked.category == "counting" else _pick(rng, choices))
        for thing in asked.things
    ]
    radii = [SIZES[size] for size in sizes]
    two = len(radii) == 2
    centres = _place_two(radii, asked, rng) if two else _place_freely(radii, rng)
    things = tuple(
        Thing(thing.shape, thing.colour, size, float(x), float(y))
        for thing, size, (x, y) in zip(asked.things, sizes, centres, strict=True)
    )
    return Scene(asked, things)


def _place_freely(radii: list[float], rng: np.random.Generator) -> NDArray[np.float64]:
    low = np.array(radii)[:, None] + _MARGIN
    while True:
        centres = rng.uniform(low, SIDE - low, (len(radii), 2))
        apart = np.abs(centres[:, None] - centres[None]).max(axis=2)
        need = np.add.outer(radii, radii) + _GAP
        if (apart >= need)[~np.eye(len(radii), dtype=bool)].all():
            return centres


def _place_two(radii: list[float], asked: Asked, rng: np.random.Generator) -> NDArray[np.float64]:
    relation = asked.relation or _pick(rng, ("left", "above"))
    axis = 0 if relation in ("left", "right") else 1
    near, far = (0, 1) if relation in ("left", "above") else (1, 0)
    gap = radii[0] + radii[1] + _GAP
    low = np.array(radii) + _MARGIN
    centres = np.empty((2, 2))
    centres[near, axis] = rng.uniform(low[near], SIDE - low[far] - gap)
    centres[far, axis] = rng.uniform(centres[near, axis] + gap, SIDE - low[far])
    across = 1 - axis
    centres[:, across] = rng.uniform(low, SIDE - low)
    if asked.relation:  # near one line, so that "left of" is not "above" as well
        middle = rng.uniform(low.max(), SIDE - low.max())
        drift = rng.uniform(-4, 4, 2)
        centres[:, across] = middle + drift
    else:
        centres[:, across].sort()
    centres[:, across] = np.clip(centres[:, across], low, SIDE - low)
    return centres


def draw_scene(
    rng: np.random.Generator, category: Category | None = None, *, held_out: bool = False
) -> Scene:
    """Draw a scene for training, or for evaluation where `held_out`; see `draw_asked`."""
    return place(draw_asked(rng, category, held_out=held_out), rng)


# --- pictures --------------------------------------------------------------------------


def render(scenes: Sequence[Scene]) -> NDArray[np.uint8]:
    """Paint scenes, antialiased: uint8 (len(scenes), SIDE, SIDE, 3), sRGB."""
    canvas = np.empty((len(scenes), SIDE, SIDE, 3), np.float32)
    backgrounds = [BACKGROUNDS[s.asked.background] for s in scenes]
    canvas[:] = np.array(backgrounds, np.float32).reshape(-1, 1, 1, 3)
    for slot in range(max((len(s.things) for s in scenes), default=0)):
        for shape in SHAPES:
            rows = [
                i
                for i, s in enumerate(scenes)
                if len(s.things) > slot and s.things[slot].shape == shape
            ]
            if rows:
                _paint(canvas, rows, [scenes[i].things[slot] for i in rows])
    return (canvas + 0.5).astype(np.uint8)


def _paint(canvas: NDArray[np.float32], rows: list[int], things: list[Thing]) -> None:
    """Blend one thing of one shape into each of the rows."""
    grid = np.arange(SIDE, dtype=np.float32) + 0.5
    x, y, r = np.array([(t.x, t.y, SIZES[t.size]) for t in things], np.float32).T[..., None, None]
    cover = coverage(things[0].shape, grid[None, None, :] - x, grid[None, :, None] - y, r)
    colour = np.array([COLOURS[t.colour] for t in things], np.float32)[:, None, None]
    canvas[rows] += cover[..., None] * (colour - canvas[rows])


def coverage(shape: str, x: _Grid, y: _Grid, r: _Grid | float) -> _Grid:
    """Share of each pixel inside a shape of half extent r centred at 0 (x right, y down)."""
    cover: _Grid = np.clip(0.5 - _DISTANCES[shape](x, y, r), 0, 1)
    return cover


# Signed distances to the outline in pixels, negative inside (exact near the edges, which is
# all that antialiasing asks for).


def _circle(x: _Grid, y: _Grid, r: _Grid | float) -> _Grid:
    distance: _Grid = np.hypot(x, y) - r
    return distance


def _square(x: _Grid, y: _Grid, r: _Grid | float) -> _Grid:
    distance: _Grid = np.maximum(np.abs(x), np.abs(y)) - 0.9 * r
    return distance


def _triangle(x: _Grid, y: _Grid, r: _Grid | float) -> _Grid:
    slope = (np.abs(x) * 1.8 - (y + 0.9 * r)) / np.float32(np.hypot(1.8, 1.0))
    distance: _Grid = np.maximum(slope, y - 0.9 * r)
    return distance


def _ring(x: _Grid, y: _Grid, r: _Grid | float) -> _Grid:
    distance: _Grid = np.abs(np.hypot(x, y) - 0.75 * r) - 0.25 * r
    return distance


def _cross(x: _Grid, y: _Grid, r: _Grid | float) -> _Grid:
    far, near = np.maximum(np.abs(x), np.abs(y)), np.minimum(np.abs(x), np.abs(y))
    distance: _Grid = np.maximum(far - r, near - 0.33 * r)
    return distance


def _star(x: _Grid, y: _Grid, r: _Grid | float) -> _Grid:
    fifth = 2 * np.pi / 5
    angle = np.abs((np.arctan2(x, -y) + fifth / 2) % fifth - fifth / 2)
    rho, outer, inner = np.hypot(x, y), 1.1 * r, 0.47 * r
    px, py = rho * np.cos(angle), rho * np.sin(angle)
    qx, qy = inner * np.cos(fifth / 2), inner * np.sin(fifth / 2)
    length = np.hypot(qx - outer, qy)
    distance: _Grid = ((px - outer) * qy - py * (qx - outer)) / length
    return distance


_DISTANCES: dict[str, Callable[[_Grid, _Grid, _Grid | float], _Grid]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "ring": _ring,
    "cross": _cross,
    "star": _star,
}
