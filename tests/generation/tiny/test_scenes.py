"""The grammar: sentences, their meaning, and the pictures that satisfy them."""

from dataclasses import replace

import numpy as np
import pytest

from generation.tiny.scenes import (
    CATEGORIES,
    SIDE,
    SIZES,
    Asked,
    AskedThing,
    describe,
    draw_asked,
    draw_scene,
    is_held_out,
    parse,
    render,
)


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("held_out", [False, True])
def test_every_prompt_reads_back_as_what_was_asked(category, held_out):
    rng = np.random.default_rng(1)
    for _ in range(200):
        asked = draw_asked(rng, category, held_out=held_out)
        assert asked.category == category
        assert parse(describe(asked)) == asked


def test_a_prompt_means_what_it_says():
    assert parse("a red circle to the left of a blue star on a grey background") == Asked(
        (AskedThing("circle", "red"), AskedThing("star", "blue")), "grey", "left"
    )
    assert parse("three yellow crosses on a pink background") == Asked(
        (AskedThing("cross", "yellow"),) * 3, "pink"
    )
    assert parse("a small red ring and a large black star on a white background") == Asked(
        (AskedThing("ring", "red", "small"), AskedThing("star", "black", "large")), "white"
    )


def test_capitals_and_a_full_stop_do_not_matter():
    plain = parse("two green squares on a cream background")
    assert parse("  Two green  squares on a cream background. ") == plain


@pytest.mark.parametrize(
    ("prompt", "complaint"),
    [
        ("", "expected one of a, three, two, found the end"),
        ("a cat on a white background", "black, blue, green, purple, red, yellow, found 'cat'"),
        ("two red circle on a white background", "squares, stars, triangles, found 'circle'"),
        ("a red circle", "found the end"),
        ("a red circle on a blue background", "expected one of cream, grey, pink, white"),
        ("a red circle on a white background, please", "expected background, found"),
        ("a red circle on a white background now", "expected the end, found 'now'"),
        ("a large red ring above a blue star on a white background", "expected one of and, on"),
        ("a red ring and a red star on a white background", "of different colours"),
        ("a big red ring on a white background", "found 'big'"),
        (
            "a small red ring and a small blue star on a white background",
            "expected two things of different sizes",
        ),
    ],
)
def test_text_outside_the_grammar_is_refused_with_what_was_expected(prompt, complaint):
    with pytest.raises(ValueError, match="not a scene of the tiny family") as refusal:
        parse(prompt)
    assert complaint in str(refusal.value)
    assert repr(prompt) in str(refusal.value)


def test_held_out_meanings_are_never_drawn_for_training():
    rng = np.random.default_rng(2)
    trained = {draw_scene(rng).asked for _ in range(2500)}
    kept = {draw_scene(rng, held_out=True).asked for _ in range(400)}
    assert not trained & kept
    assert not any(map(is_held_out, trained))


def test_sentences_for_one_picture_are_held_out_together():
    rng = np.random.default_rng(3)
    turned = {"left": "right", "right": "left", "above": "below", "below": "above"}
    for _ in range(300):
        asked = draw_asked(rng, "relation", held_out=bool(rng.random() < 0.5))
        other = replace(asked, things=asked.things[::-1], relation=turned[asked.relation])
        assert is_held_out(other) == is_held_out(asked)
        pair = draw_asked(rng, "colour")
        assert not is_held_out(replace(pair, things=pair.things[::-1]))


def test_about_a_tenth_of_all_meanings_is_held_out():
    asks = {
        Asked((AskedThing(shape, colour), AskedThing(other, "black")), ground, relation)
        for shape in ("circle", "star", "ring", "cross")
        for colour in ("red", "blue", "green", "yellow")
        for other in ("circle", "square", "triangle", "ring")
        for ground in ("white", "grey", "pink")
        for relation in ("left", "above", None)
    }
    assert 0.06 < np.mean([is_held_out(asked) for asked in asks]) < 0.14


def test_things_stand_apart_inside_the_picture_and_as_asked():
    rng = np.random.default_rng(4)
    for _ in range(500):
        scene = draw_scene(rng)
        for i, thing in enumerate(scene.things):
            radius = SIZES[thing.size]
            assert radius < thing.x < SIDE - radius
            assert radius < thing.y < SIDE - radius
            for other in scene.things[:i]:
                apart = max(abs(thing.x - other.x), abs(thing.y - other.y))
                assert apart > radius + SIZES[other.size]
        if scene.asked.relation == "left":
            first, second = scene.things
            assert second.x - first.x > abs(second.y - first.y)


def test_two_things_without_a_place_stand_in_reading_order():
    rng = np.random.default_rng(7)
    for _ in range(200):
        first, second = draw_scene(rng, "colour").things
        drift = abs(SIZES[first.size] - SIZES[second.size])  # large things fit less far out
        assert max(second.x - first.x, second.y - first.y) > 10
        assert min(second.x - first.x, second.y - first.y) >= -drift


def test_a_picture_does_not_depend_on_those_rendered_with_it():
    rng = np.random.default_rng(5)
    scenes = [draw_scene(rng) for _ in range(8)]
    together = render(scenes)
    assert together.shape == (8, SIDE, SIDE, 3)
    for picture, scene in zip(together, scenes):
        np.testing.assert_array_equal(picture, render([scene])[0])


def test_the_same_seed_draws_the_same_scenes():
    def draw() -> list[object]:
        rng = np.random.default_rng(6)
        return [draw_scene(rng) for _ in range(20)]

    assert draw() == draw()
