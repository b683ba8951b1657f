"""The studies that come with the project say what was published, and can be rated through."""

import tomllib
from typing import Any

from evalsite.desk.management.commands.demo import RATERS
from evalsite.studies.catalogue import spread
from evalsite.studies.resolve import planned_pairs
from evalsite.studies.spec import PRESETS, load_spec, presets
from evalsite.studies.spec_problems import flat_sources
from generation.tiny.scenes import CATEGORIES, is_held_out, parse


def test_the_presets_can_be_read():
    assert presets() == ["demo", "sdxl-turbo"]
    assert all(load_spec(name).slug == name for name in presets())


def _settings(data: dict[str, Any]) -> set[str]:
    """Every setting that a file states, by the name that a source may have."""
    names = set()
    for key, value in data.items():
        if isinstance(value, dict):
            names |= {f"{key}.{inner}" for inner in value}
        elif key in ("systems", "criteria"):
            own = {"key", "label", "family"}
            names |= {
                f"{key}.{row['key']}.{inner}" for row in value for inner in row if inner not in own
            }
        else:
            names.add(key)
    return names


def test_every_setting_of_the_published_study_has_its_source():
    data = tomllib.loads((PRESETS / "sdxl-turbo.toml").read_text())
    sources = flat_sources(data.pop("sources"))
    assert _settings(spread(data)[0]) == set(sources)


def test_the_published_questions_stand_word_for_word():
    for name in presets():
        questions = {criterion.key: criterion.question for criterion in load_spec(name).criteria}
        assert questions == {
            "prompt_following": "Which image looks more representative of the text shown above "
            "and faithfully follows it?",
            "image_quality": "Given the prompt above, which image is of higher quality and "
            "aesthetically more pleasing?",
        }


def test_the_demo_asks_for_scenes_that_training_never_sees():
    prompts = load_spec("demo").prompts
    assert len(prompts) == 24
    assert {prompt.category for prompt in prompts} == set(CATEGORIES)
    for prompt in prompts:
        asked = parse(prompt.text)
        assert asked.category == prompt.category
        assert is_held_out(asked), prompt.text


def test_thirty_raters_finish_the_demo():
    demo = load_spec("demo")
    n_pairs = len(planned_pairs([system.key for system in demo.systems], None))
    n_votes = n_pairs * len(demo.prompts) * len(demo.criteria) * demo.votes_per_comparison
    assert demo.votes_per_rater is not None
    assert n_votes <= RATERS * demo.votes_per_rater
