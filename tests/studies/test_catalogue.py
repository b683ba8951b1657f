"""The catalogue of ready systems: whole, sourced, and usable by name in a study file."""

import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from evalsite.studies.catalogue import CATALOGUE, About, WeightFacts, catalogue, find, read_on
from evalsite.studies.resolve import resolve
from evalsite.studies.spec import SpecError, load_spec, parse_spec
from evalsite.studies.spec_problems import unpinned
from evalsite.studies.spec_systems import PaintedSystem
from tests.studies.files import tables

WEIGHTS = CATALOGUE.parents[2] / "generation" / "tiny" / "weights"


def read(*systems: dict[str, object]) -> list[str]:
    """The systems of a small study, which must be readable, as `key: steps`."""
    spec = parse_spec(tables(systems=list(systems)), name="small.toml", folder=Path("/tmp"))
    return [f"{s.key}: {s.steps}" for s in spec.systems if isinstance(s, PaintedSystem)]


def test_every_ready_system_can_be_painted_or_says_why_not():
    for entry in catalogue().values():
        if not isinstance(entry.system, PaintedSystem):
            assert entry.about.import_reason
            continue
        entry.system.recipe(Path("/tmp"), pin=unpinned)  # raises where a family would refuse it
        assert entry.system.licence
        assert entry.about.memory_gb


def test_the_systems_of_the_published_study_are_there():
    assert set(catalogue()) > {
        *("sdxl-turbo-1", "sdxl-turbo-4", "sdxl-turbo-4-demo", "sdxl-base-50", "if-xl"),
        *("lcm-xl-1", "lcm-xl-2", "lcm-xl-4", "lcm-lora-xl-1", "lcm-lora-xl-2", "lcm-lora-xl-4"),
        *("amused-512", "openmuse", "stylegan-t-plus-plus", "tiny-base-50"),
    }


@pytest.mark.parametrize("broken", [(About, "memory_gb"), (WeightFacts, "disk_gb")])
def test_a_figure_without_its_source_is_refused(broken):
    table, field = broken
    other = {"settings_source": "ours"} if table is About else {}
    with pytest.raises(ValidationError, match=f"{field}: expected"):
        table.model_validate({field: 7.0, **other})


@pytest.mark.parametrize("key", sorted(catalogue()))
def test_a_printed_block_is_the_system_again(key):
    (printed,) = tomllib.loads(find(key).as_toml())["systems"]
    assert printed == find(key).table


def test_a_study_uses_a_ready_system_and_overrides_what_it_says_itself():
    own = {"use": "tiny-base-8", "key": "mine", "steps": 9}
    assert read({"use": "tiny-base-8"}, own) == ["tiny-base-8: 8", "mine: 9"]


def test_a_mistake_beside_use_is_found_like_any_other():
    with pytest.raises(SpecError) as caught:
        read({"use": "tiny-base-8"}, {"use": "tiny-base-2", "step": 9})
    assert caught.value.problems == [
        'small.toml: [[systems]] number 2 (key "tiny-base-2"), step: there is no such key; '
        'did you mean "steps"?'
    ]


def test_a_system_that_is_not_there_is_named_with_the_nearest():
    with pytest.raises(SpecError) as caught:
        read({"use": "tiny-base-8"}, {"use": "sdxl-turbo-5"})
    (problem,) = caught.value.problems
    assert problem.startswith('small.toml: [[systems]] number 2, use: there is no ready system "sd')
    assert 'did you mean "sdxl-turbo-' in problem


def test_a_system_that_is_not_there_hides_no_other_mistake():
    with pytest.raises(SpecError) as caught:
        read({"use": "sdxl-turbo-5"}, {"use": "tiny-base-2", "step": 9})
    assert [problem.partition(": ")[2][:40] for problem in caught.value.problems] == [
        "[[systems]] number 1, use: there is no r",
        '[[systems]] number 2 (key "tiny-base-2")',
    ]


def test_the_demo_paints_ready_systems_with_weights_that_are_here():
    demo = resolve(load_spec("demo"), checkpoint_dirs=[WEIGHTS])
    assert [s.key for s in demo.systems if s.key not in catalogue()] == []
    assert [s.problems + s.missing for s in demo.systems] == [()] * 5


def test_the_document_says_what_the_catalogue_says():
    document = (CATALOGUE.parents[2] / "docs" / "systems.md").read_text()
    assert f"Read on {read_on()}" in document
    for entry in catalogue().values():
        assert f"| `{entry.key}` | {entry.system.label} | {entry.system.family} |" in document
        assert f"| {entry.about.settings_source} |" in document
        assert entry.about.memory_source in document
        for place, facts in entry.weights.items():
            size = f"{facts.disk_gb:g} GB: {facts.disk_source}" if facts.disk_gb else "not known"
            assert f"| {place} | {size} |" in document
