"""A study file that is wrong says where, what was expected and what was found."""

import copy
from pathlib import Path
from typing import Any

import pytest

from evalsite.studies.spec import SpecError, load_spec, parse_spec
from tests.studies.files import imported, painted, study_file, tables, write_toml


def problems(**changes: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(tables(**changes), name="small.toml", folder=Path("/tmp"))
    return caught.value.problems


def claim(**changes: Any) -> dict[str, Any]:
    declared = {"kind": "superiority", "first": "alpha", "second": "beta", "criterion": "quality"}
    return declared | changes


def systems(**changes: Any) -> list[dict[str, Any]]:
    return [painted("base"), painted("turbo", **changes)]


def test_a_whole_file_is_read(tmp_path):
    spec = load_spec(study_file(tmp_path))
    assert spec.study_slug == "small"
    assert [system.key for system in spec.systems] == ["alpha", "beta"]
    assert spec.folder == tmp_path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"systems": systems(steps="four")},
            '[[systems]] number 2 (key "turbo"), steps: '
            'expected a whole number from 1 to 1,000, found "four"',
        ),
        (
            {"systems": systems(steps=0)},
            '[[systems]] number 2 (key "turbo"), steps: '
            "expected a whole number from 1 to 1,000, found 0",
        ),
        (
            {"systems": systems(step=4)},
            '[[systems]] number 2 (key "turbo"), step: there is no such key; did you mean "steps"?',
        ),
        (
            {"systems": systems(family="flux")},
            '[[systems]] number 2 (key "turbo"), family: '
            'expected "sdxl", "deepfloyd-if", "amused", "diffusers" or "imported", found "flux"',
        ),
        (
            {"systems": systems(family="amused", scheduler="LCMScheduler")},
            '[[systems]] number 2 (key "turbo"), scheduler: there is no such key; known: check',
        ),
        (
            {"systems": systems(family="deepfloyd-if")},
            '[[systems]] number 2 (key "turbo"), stages: expected one or two [[systems.stages]], '
            "found nothing",
        ),
        (
            {"systems": systems(family="deepfloyd-if", stages=[{"checkpoint": "org/x"}])},
            '[[systems]] number 2 (key "turbo"), stages.1.steps: expected a whole number from '
            "1 to 1,000, found nothing",
        ),
        (
            {"systems": systems(lora="org/lora", lora_revision="0" * 39)},
            '[[systems]] number 2 (key "turbo"), lora_revision: expected a commit of 40',
        ),
        (
            {"systems": systems(dtype="fp16")},
            '[[systems]] number 2 (key "turbo"), dtype: '
            'expected "float32", "float16" or "bfloat16", found "fp16"',
        ),
        (
            {"systems": systems(revision="main")},
            '[[systems]] number 2 (key "turbo"), revision: expected a commit of 40 hexadecimal '
            'digits, or "sha256:" and 64 of them, found "main"',
        ),
        (
            {"systems": systems(scheduler="LCM")},
            "[[systems]] number 2 (key \"turbo\"), scheduler: 'LCM' is not known, expected one of",
        ),
        (
            {"systems": systems(size=[64, "x"])},
            '[[systems]] number 2 (key "turbo"), size: expected pixels, as one number for a '
            'square or [width, height]: multiples of 8 from 8 to 8192, found "x"',
        ),
        (
            {"systems": systems(size=65)},
            '[[systems]] number 2 (key "turbo"), size: expected pixels, as one number for a '
            "square or [width, height]: multiples of 8 from 8 to 8192, found 65",
        ),
        ({"systems": [painted("base")]}, "[[systems]]: expected at least two [[systems]]"),
        (
            {"systems": [painted("same"), painted("same")]},
            '[[systems]], key: expected each key once, found "same" 2 times',
        ),
        (
            {"systems": [painted("base"), painted("Turbo")]},
            '[[systems]] number 2 (key "Turbo"), key: expected a key of small letters, digits, '
            '- and _, at most 60, found "Turbo"',
        ),
        (
            {"systems": systems(steps=1_000_000)},
            '[[systems]] number 2 (key "turbo"), steps: '
            "expected a whole number from 1 to 1,000, found 1000000",
        ),
        (
            {"systems": systems(timesteps=[1000])},
            '[[systems]] number 2 (key "turbo"), timesteps: '
            "expected a list of whole numbers from 0 to 999, found 1000",
        ),
        (
            {"votes_per_comparison": 10**20},
            f"votes_per_comparison: expected a whole number from 1 to 32,767, found {10**20}",
        ),
        (
            {"votes_per_rater": 2**31},
            "votes_per_rater: expected a whole number from 1 to 2,147,483,647, found 2147483648",
        ),
        ({"seed": -1}, "seed: expected a whole number from 0 to 2^53 - 1, found -1"),
        ({"seed": 2**53}, f"seed: expected a whole number from 0 to 2^53 - 1, found {2**53}"),
        ({"seed": "7"}, 'seed: expected a whole number from 0 to 2^53 - 1, found "7"'),
        ({"turbo": 1}, "turbo: there is no such key; known: baseline, claims, consent"),
        ({"pairs": "some"}, 'pairs: expected "all" or "baseline", found "some"'),
        (
            {"pairs": "baseline"},
            "baseline: expected the key of a system (alpha, beta), found nothing",
        ),
        (
            {"pairs": "baseline", "baseline": "gamma"},
            'baseline: expected the key of a system (alpha, beta), found "gamma"',
        ),
        (
            {"baseline": "alpha"},
            'baseline: expected pairs = "baseline" beside it, found pairs = "all"',
        ),
        (
            {"display": {"size": 64.5}},
            "[display], size: expected pixels: a whole number from 16 to 4096, found 64.5",
        ),
        (
            {"display": {"size": 64, "resampler": "best"}},
            '[display], resampler: expected "nearest", "bilinear", "bicubic" or "lanczos", '
            'found "best"',
        ),
        (
            {"systems": systems(), "display": {"size": 128}},
            '[display], size: expected at most 64 (the native size of "turbo"), '
            "or an upscaler declared; found 128",
        ),
        (
            {"prompts": ["a", {"text": "", "category": "x"}]},
            'prompts, number 2, text: expected a text of 1 to 4000 characters, found ""',
        ),
        (
            {"prompts": ["a", 5]},
            "prompts, number 2: expected a text, or a table as "
            '{ text = "...", category = "..." }, found 5',
        ),
        (
            {"prompts": ["a", "b", "a"]},
            "prompts, number 3: expected each prompt once, found the text of number 1 again",
        ),
        ({"prompts": []}, "prompts: expected a list of prompts, or a table [prompts]"),
        (
            {"prompts": {"file": "p.txt", "stratify": "category"}},
            "[prompts], stratify: expected a draw beside it, as draw = 100",
        ),
        (
            {"prompts": {"file": "p.txt", "draw": 0}},
            "[prompts], draw: expected a whole number from 1 to 2,147,483,647, found 0",
        ),
        (
            {"prompts": {"file": "p.txt", "strat": "x"}},
            '[prompts], strat: there is no such key; did you mean "stratify"?',
        ),
        (
            {"criteria": [{"key": "quality", "question": "Which?", "ties": "maybe"}]},
            '[[criteria]] number 1 (key "quality"), ties: expected "forced" (left or right) or '
            '"allowed" ("no preference" as well), found "maybe"',
        ),
        (
            {"criteria": [{"key": "quality"}]},
            '[[criteria]] number 1 (key "quality"), question: expected the question as asked, '
            "found nothing",
        ),
        (
            {"claims": [claim(), claim(kind="better")]},
            '[[claims]] number 2, kind: expected "superiority", "non_inferiority" or '
            '"equivalence", found "better"',
        ),
        (
            {"claims": [{"kind": "superiority", "first": "alpha"}]},
            "[[claims]] number 1, second: expected a key of small letters",
        ),
        ({"claims": [claim(first="gamma")]}, "[[claims]] number 1, first: expected the key of a"),
        (
            {"claims": [claim(second="gamma")]},
            "[[claims]] number 1, second: expected the key of a system (alpha, beta), found "
            '"gamma"',
        ),
        (
            {"claims": [claim(second="alpha")]},
            '[[claims]] number 1, second: expected another system than first, found "alpha" again',
        ),
        (
            {"claims": [claim(criterion="taste")]},
            '[[claims]] number 1, criterion: expected one of quality, found "taste"',
        ),
        (
            {
                "systems": [imported("alpha"), imported("beta"), imported("gamma")],
                "pairs": "baseline",
                "baseline": "gamma",
                "claims": [claim()],
            },
            '[[claims]] number 1, second: expected "gamma", to which all others are compared, '
            'found "beta"',
        ),
        (
            {"claims": [claim(kind="equivalence")]},
            "[[claims]] number 1, margin: expected a number between 0 and 0.5: how far from one "
            'half a win rate makes no difference, as 0.05, beside kind = "equivalence"; '
            "found nothing",
        ),
        (
            {"claims": [claim(margin=0.05)]},
            '[[claims]] number 1, margin: expected none beside kind = "superiority", found 0.05',
        ),
        *(
            (
                {"claims": [claim(kind="non_inferiority", margin=margin)]},
                "[[claims]] number 1, margin: expected a number between 0 and 0.5: how far from "
                f"one half a win rate makes no difference, as 0.05, found {margin}",
            )
            for margin in (5, 0.5, 0.0, -0.1)
        ),
        (
            {"claims": [claim(), claim(first="beta", second="alpha"), claim()]},
            "[[claims]] number 3: expected each claim once, found that of number 1 again",
        ),
        (
            {
                "claims": [
                    claim(kind="equivalence", margin=0.05),
                    claim(kind="equivalence", margin=0.1, first="beta", second="alpha"),
                ]
            },
            "[[claims]] number 2: expected each claim once, found that of number 1 again",
        ),
        ({"claims": "all"}, '[[claims]]: expected [[claims]], found "all"'),
        ({"looks": {"number": 3}}, "[looks], number: there is no such key; known: at"),
        *(
            (
                {"looks": {"at": at}},
                '[looks], at: expected "any_time", or shares of the planned votes from 0.05 to '
                f"0.95, rising by 0.01 or more, as [0.5, 0.75], found {shown}",
            )
            for at, shown in [
                ("often", '"often"'),
                ([], "[]"),
                (0.5, "0.5"),
                ([0.5, 0.5], "[0.5, 0.5]"),
                ([0.75, 0.5], "[0.75, 0.5]"),
                ([0.5, 1.0], "[0.5, 1.0]"),
                ([0.01, 0.5], "[0.01, 0.5]"),
                ([True], "[True]"),
                (["0.5"], "['0.5']"),
            ]
        ),
        (
            {"sources": {"votes": "the paper"}},
            "[sources], votes: there is no such key; known: title, slug",
        ),
        (
            {"sources": {"systems": {"alpha": {"folder": 3}}}},
            "[sources], systems.alpha.folder: expected a text, found 3",
        ),
    ],
)
def test_a_problem_names_table_key_and_what_was_expected(changes, message):
    found = problems(**changes)
    assert any(line.startswith(f"small.toml: {message}") for line in found), found


@pytest.mark.parametrize("place", ["instructions", "consent"])
def test_what_raters_read_names_no_system(place):
    telling = systems()
    telling[0]["label"] = "Turbo, 4 steps"
    found = problems(systems=telling, **{place: "Is turbo, 4 steps better?"})
    assert found == [
        f"small.toml: {place}: expected words that name no system, "
        'found "Turbo, 4 steps": raters read this'
    ]


def test_control_characters_are_refused_wherever_a_text_stands():
    found = problems(
        title="a\0b",
        instructions="one\ttab\nand line\r\nends",
        consent="bell\a",
        prompts=["a", {"text": "b", "category": "c\x1b"}],
        criteria=[{"key": "q", "question": "Which\x85?"}],
        systems=[*systems(label="T\0", licence="\x7f")],
    )
    said = "expected text, found the control character"
    assert [line.partition(": ")[2] for line in found] == [
        f"title: {said} U+0000",
        f"consent: {said} U+0007",
        f"prompts, number 2, category: {said} U+001B",
        f'[[systems]] number 2 (key "turbo"), label: {said} U+0000',
        f'[[systems]] number 2 (key "turbo"), licence: {said} U+007F',
        f'[[criteria]] number 1 (key "q"), question: {said} U+0085',
    ]
    assert problems(sources={"seed": "dice\0"})[0].endswith(f"[sources], seed: {said} U+0000")


def test_all_problems_are_listed_at_once():
    found = problems(seed="7", title="", turbo=1, systems=systems(steps="four", dtype="fp16"))
    assert len(found) == 5


def test_problems_between_keys_are_listed_at_once():
    found = problems(
        prompts=["a", "a"], pairs="baseline", criteria=2 * [{"key": "q", "question": "Which?"}]
    )
    assert len(found) == 3


def test_problems_of_one_key_and_between_keys_are_listed_at_once():
    found = problems(
        title="",
        prompts=["a", "a"],
        systems=[*systems(steps="four"), painted("base"), painted("large", size=32)],
        instructions="Is system base better?",
    )
    assert [line.partition(": ")[2] for line in found] == [
        'title: expected a text of 1 to 200 characters, found ""',
        '[[systems]] number 2 (key "turbo"), steps: expected a whole number from 1 to 1,000, '
        'found "four"',
        '[[systems]], key: expected each key once, found "base" 2 times',
        "prompts, number 2: expected each prompt once, found the text of number 1 again",
        '[display], size: expected at most 32 (the native size of "large"), or an upscaler '
        "declared; found 64",
        'instructions: expected words that name no system, found "System base": raters read this',
    ]


def test_claims_of_a_file_with_problems_are_looked_at_too():
    found = problems(
        systems=[painted("alpha"), painted("beta", steps=0)],
        criteria=[{"key": "quality", "question": ""}],
        claims=[
            claim(),
            claim(kind="best"),
            claim(second="gamma", margin=0.1),
            claim(criterion="fit"),
            claim(first="beta", second="beta"),
        ],
    )
    assert [line.partition(": ")[2] for line in found] == [
        '[[systems]] number 2 (key "beta"), steps: expected a whole number from 1 '
        "to 1,000, found 0",
        '[[criteria]] number 1 (key "quality"), question: expected the question as asked, found ""',
        '[[claims]] number 2, kind: expected "superiority", "non_inferiority" or "equivalence", '
        'found "best"',
        '[[claims]] number 3, second: expected the key of a system (alpha, beta), found "gamma"',
        '[[claims]] number 3, margin: expected none beside kind = "superiority", found 0.1',
        '[[claims]] number 4, criterion: expected one of quality, found "fit"',
        '[[claims]] number 5, second: expected another system than first, found "beta" again',
    ]


def test_a_claim_may_be_about_a_system_whose_key_cannot_be_read():
    nameless = {name: value for name, value in painted("beta").items() if name != "key"}
    found = problems(systems=[painted("alpha"), nameless], claims=[claim(), claim(second="alpha")])
    assert [line.partition(": ")[2] for line in found] == [
        "[[systems]] number 2, key: expected a key of small letters, digits, - and _, at most 60, "
        "found nothing",
        '[[claims]] number 2, second: expected another system than first, found "alpha" again',
    ]


def test_a_system_of_an_unknown_use_is_known_by_that_name_to_claims():
    unknown = {"use": "tiny-lcm-9", "label": "LCM"}
    claims = [claim(second="tiny-lcm-9"), claim(second="tiny-turbo-2")]
    found = problems(systems=[painted("alpha"), unknown], claims=claims)
    assert [line.partition(": ")[2] for line in found[1:]] == [
        "[[claims]] number 2, second: expected the key of a system (alpha, tiny-lcm-9), "
        'found "tiny-turbo-2"',
    ]
    found = problems(systems=[painted("alpha"), unknown | {"key": "mine"}], claims=claims[:1])
    assert "expected the key of a system (alpha, mine)" in found[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"pairs": "baseline", "baseline": "turbo", "systems": systems(steps=0)},
        {"pairs": "some", "baseline": "alpha"},
        {"display": {"size": 8}, "systems": systems()},
        {"systems": systems(steps=0), "sources": {"systems": {"turbo": "the paper"}}},
        {"prompts": {"file": "p.txt", "draw": 0, "stratify": "category"}},
    ],
)
def test_a_rule_that_rests_on_a_faulty_key_is_passed_over(changes):
    assert len(problems(**changes)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = 1\nseed = 2\n", "line 2, column 9: not TOML: cannot overwrite a value"),
        ("title = \n", "line 1, column 9: not TOML: invalid value"),
        ("[display\n", "line 1, column 9: not TOML: expected ']' at the end of a table"),
    ],
)
def test_a_file_that_is_not_toml_names_the_line(tmp_path, text, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(SpecError, match="not TOML") as caught:
        load_spec(path)
    assert caught.value.problems[0].startswith(f"bad.toml: {message}")


def test_a_file_in_another_encoding_names_the_line(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_bytes('title = "a"\n# caf\xe9\n'.encode("latin-1"))
    with pytest.raises(SpecError, match=r"bad.toml: line 2: expected UTF-8 text"):
        load_spec(path)


def test_a_missing_file_names_the_presets(tmp_path):
    with pytest.raises(SpecError, match=r"there is no such file .* presets: demo, sdxl-turbo"):
        load_spec(tmp_path / "none.toml")


def test_claims_and_looks_are_read_as_they_stand():
    declared = [claim(), claim(kind="non_inferiority", first="beta", second="alpha", margin=0.05)]
    spec = parse_spec(
        tables(claims=declared, looks={"at": [0.5, 0.75]}), name="small.toml", folder=Path("/tmp")
    )
    assert [dict(one) for one in spec.claims] == [declared[0] | {"margin": None}, declared[1]]
    assert spec.looks is not None
    assert spec.looks.at == [0.5, 0.75]


def test_an_upscaler_allows_a_display_larger_than_the_images():
    data = tables(systems=systems(), display={"size": 128, "upscaler": "nearest"})
    assert parse_spec(data, name="small.toml", folder=Path("/tmp")).display.size == 128


def test_one_number_for_size_is_a_square():
    spec = parse_spec(
        tables(systems=[painted("wide", size=[128, 64]), painted("square", size=64)]),
        name="small.toml",
        folder=Path("/tmp"),
    )
    assert [system.size for system in spec.systems] == [[128, 64], [64, 64]]


def test_toml_and_tables_say_the_same(tmp_path):
    data = tables(sources={"seed": "our choice"}, prompts=[{"text": "a", "category": "b"}, "c"])
    path = write_toml(tmp_path / "small.toml", copy.deepcopy(data))
    assert load_spec(path) == parse_spec(data, name="small.toml", folder=tmp_path)


def test_imported_systems_have_no_sampling_settings():
    found = problems(systems=[imported("alpha", steps=4), imported("beta")])
    assert found == [
        'small.toml: [[systems]] number 1 (key "alpha"), steps: there is no such key; known: '
        "family, folder, key, label, licence, revision"
    ]


def test_the_example_in_the_documentation_is_a_study_file(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "study-file.md").read_text(encoding="utf-8")
    example = text.split("```toml\n")[1].split("```")[0]
    path = tmp_path / "example.toml"
    path.write_text(example, encoding="utf-8")
    spec = load_spec(path)
    tables = (spec.display, spec.prompts, *spec.systems[:2], spec.criteria[0], spec.claims[0])
    for table in (spec, *tables, spec.looks):
        shown = {key for key in type(table).model_fields if f"{key} = " in example}
        assert shown == set(type(table).model_fields) - {
            "display",
            "prompts",
            "systems",
            "criteria",
            "claims",
            "looks",
            "sources",
        }
