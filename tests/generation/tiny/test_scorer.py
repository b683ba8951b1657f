"""The scorer: it must pass true renders, and catch what is wrong in them."""

import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from generation.tiny.scenes import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    Scene,
    describe,
    draw_scene,
    parse,
    render,
)
from generation.tiny.scorer import look, score


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(11)
    return [draw_scene(rng, held_out=bool(i % 2)) for i in range(500)]


@pytest.fixture(scope="module")
def pictures(scenes):
    return render(scenes)


def repainted(scene: Scene, rng: np.random.Generator, **others: list[str]) -> np.ndarray:
    """The scene with one property of one thing changed to another of the options."""
    which = int(rng.integers(len(scene.things)))
    things = list(scene.things)
    for name, options in others.items():
        left = [option for option in options if option != getattr(things[which], name)]
        things[which] = replace(things[which], **{name: left[rng.integers(len(left))]})
    return render([replace(scene, things=tuple(things))])[0]


def test_renders_pass(scenes, pictures):
    scores = [score(picture, scene.asked) for picture, scene in zip(pictures, scenes)]
    assert np.mean([one.all_right for one in scores]) >= 0.98
    assert np.mean([one.size is not False for one in scores]) >= 0.98
    assert min(one.quality for one in scores) > 0.95


def test_one_changed_colour_is_caught(scenes):
    rng = np.random.default_rng(12)
    passed = [
        score(repainted(scene, rng, colour=list(COLOURS)), scene.asked).all_right
        for scene in scenes
    ]
    assert np.mean(passed) <= 0.10


def test_one_changed_shape_is_caught_and_the_colours_still_count(scenes):
    rng = np.random.default_rng(13)
    scores = [
        score(repainted(scene, rng, shape=list(SHAPES)), scene.asked) for scene in scenes[:200]
    ]
    assert np.mean([one.shapes for one in scores]) <= 0.02
    assert np.mean([one.colours for one in scores]) >= 0.98


def test_a_missing_thing_another_ground_and_a_turned_relation_are_each_caught():
    rng = np.random.default_rng(14)
    scene = draw_scene(rng, "relation")
    asked = scene.asked
    missing = score(render([replace(scene, things=scene.things[:1])])[0], asked)
    assert not missing.count
    assert not missing.relation
    other = next(ground for ground in BACKGROUNDS if ground != asked.background)
    moved = replace(scene, asked=replace(asked, background=other))
    assert not score(render([moved])[0], asked).background
    turned = {"left": "right", "right": "left", "above": "below", "below": "above"}
    against = score(render([scene])[0], replace(asked, relation=turned[asked.relation]))
    assert against.relation is False
    assert against.colours
    assert not against.all_right


def test_size_counts_where_it_is_asked():
    asked = parse("a large red ring on a white background")
    scene = draw_scene(np.random.default_rng(15), "background")
    things = (replace(scene.things[0], shape="ring", colour="red", size="small", x=30.0, y=30.0),)
    picture = render([Scene(asked, things)])[0]
    assert score(picture, asked).size is False
    assert score(picture, parse("a small red ring on a white background")).size is True
    assert score(picture, parse("a red ring on a white background")).size is None


def test_things_are_found_where_they_are(scenes, pictures):
    for picture, scene in zip(pictures[:100], scenes):
        seen = look(picture)
        assert seen.background == scene.asked.background
        placed = sorted(scene.things, key=lambda thing: thing.x)
        for found, thing in zip(seen.things, placed, strict=True):
            assert abs(found.x - thing.x) < 1.5
            assert abs(found.y - thing.y) < 2.5  # boxes of stars and triangles lie off centre


@pytest.mark.parametrize("resampler", [Image.NEAREST, Image.BICUBIC, Image.LANCZOS])
def test_a_display_file_scores_as_its_original(scenes, pictures, resampler):
    for picture, scene in zip(pictures[:150], scenes):
        shown = np.asarray(Image.fromarray(picture).resize((384, 384), resampler))
        small, large = score(picture, scene.asked), score(shown, scene.asked)
        assert replace(large, quality=small.quality) == small
        assert abs(large.quality - small.quality) < 0.06


def test_quality_falls_with_noise_and_blur(scenes, pictures):
    rng = np.random.default_rng(16)
    for picture, scene in zip(pictures[:20], scenes):
        noisy = np.clip(picture + rng.normal(0, 25, picture.shape), 0, 255).astype(np.uint8)
        small = Image.fromarray(picture).resize((12, 12), Image.BILINEAR)
        blurred = np.asarray(small.resize((64, 64), Image.BICUBIC))
        clean = score(picture, scene.asked).quality
        assert score(noisy, scene.asked).quality < clean - 0.2
        assert score(blurred, scene.asked).quality < clean - 0.2


def test_any_picture_gets_a_score():
    asked = parse("two red stars on a pink background")
    rng = np.random.default_rng(17)
    for picture in (
        np.zeros((64, 64, 3), np.uint8),
        np.full((64, 64, 3), 255, np.uint8),
        rng.integers(0, 256, (64, 64, 3), dtype=np.uint8),
    ):
        judged = score(picture, asked)
        assert not judged.all_right
        assert 0 <= judged.quality <= 1


@pytest.mark.parametrize("shape", [(64, 64), (64, 128, 3), (100, 100, 3), (32, 32, 3)])
def test_pixels_of_another_form_are_refused(shape):
    with pytest.raises(ValueError, match="expected uint8"):
        score(np.zeros(shape, np.uint8), parse("a red ring on a white background"))


def test_a_picture_takes_milliseconds(scenes, pictures):
    started = time.process_time()
    for picture, scene in zip(pictures[:50], scenes):
        score(picture, scene.asked)
    assert (time.process_time() - started) / 50 < 0.03


def test_prompts_are_scored_as_they_read(scenes, pictures):
    for picture, scene in zip(pictures[:30], scenes):
        assert score(picture, parse(describe(scene))) == score(picture, scene.asked)
