"""Prompt files: read as published, refused with line and column, drawn by a seed."""

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from evalsite.studies.prompts import (
    PromptFileError,
    PromptQuery,
    PromptRow,
    allocate,
    draw_order,
    read_prompts,
)

PUBLISHED = (  # the header of PartiPrompts, with what makes such files hard to read
    "Prompt\tCategory\tChallenge\tNote\n"
    "bond\tAbstract\tBasic\tConcepts\n"
    '"G I G G L E" painted on a wall\tIllustrations\tWriting & Symbols\t\n'
    'a sign that says "Let\'s PAINT!"\tAnimals\tWriting & Symbols\t\n'
    "un café à côté d’un œuf 🥚\tFood & Beverage\tSimple Detail\tas it is\n"
    "\n"
    "  a horse with spaces around  \tAnimals\tBasic\t\n"
    "a cat without a note\tAnimals\tComplex\n"
)
EVERYTHING = PromptQuery()


def write(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def refused(path: Path, query: PromptQuery = EVERYTHING) -> list[str]:
    with pytest.raises(PromptFileError) as caught:
        read_prompts(path, query, seed=1)
    return caught.value.problems


def texts(rows: list[PromptRow]) -> list[str]:
    return [row.text for row in rows]


# Reading


def test_the_published_form_is_read_as_it_stands(tmp_path):
    rows = read_prompts(write(tmp_path, "Parti.tsv", PUBLISHED), EVERYTHING, seed=1)
    assert texts(rows) == [
        "bond",
        '"G I G G L E" painted on a wall',
        'a sign that says "Let\'s PAINT!"',
        "un café à côté d’un œuf 🥚",
        "a horse with spaces around",
        "a cat without a note",
    ]
    assert (rows[0].category, rows[0].challenge, rows[0].line) == ("Abstract", "Basic", 2)
    assert (rows[4].category, rows[4].line) == ("Animals", 7)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_a_byte_order_mark_do_not_matter(tmp_path, ending, mark):
    path = write(tmp_path, "p.tsv", mark + PUBLISHED.replace("\n", ending))
    assert len(read_prompts(path, EVERYTHING, seed=1)) == 6


def test_csv_cells_may_hold_commas_quotes_and_lines(tmp_path):
    path = write(
        tmp_path,
        "p.csv",
        'text,kind\n"one, two",a\n"a ""sign""",b\n"first line\nsecond line",c\nlast,d\n',
    )
    rows = read_prompts(path, PromptQuery(category="kind"), seed=1)
    assert texts(rows) == ["one, two", 'a "sign"', "first line\nsecond line", "last"]
    assert [row.line for row in rows] == [2, 3, 4, 6]
    assert [row.category for row in rows] == ["a", "b", "c", "d"]


def test_txt_is_one_prompt_a_line(tmp_path):
    path = write(tmp_path, "p.txt", "a dog\n\n  a cat \nold\u2028paper\n")
    assert texts(read_prompts(path, EVERYTHING, seed=1)) == ["a dog", "a cat", "old\u2028paper"]


def test_jsonl_is_one_object_a_line(tmp_path):
    path = write(tmp_path, "p.jsonl", '{"prompt": "a dog", "category": "x"}\n\n{"prompt": "b"}\n')
    rows = read_prompts(path, EVERYTHING, seed=1)
    assert [(row.text, row.category) for row in rows] == [("a dog", "x"), ("b", "")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.xlsx", "x", "p.xlsx: expected a file ending in .tsv, .csv, .txt or .jsonl"),
        ("p.txt", "\n \n", "p.txt: expected at least one prompt, found none"),
        ("p.tsv", "Prompt\tCategory\n", "p.tsv: expected at least one prompt, found none"),
        (
            "p.tsv",
            "Caption\tCategory\na\tb\n",
            'p.tsv: expected a column "Prompt" or "text", or `text = "NAME"` in the study file; '
            "found Caption, Category",
        ),
        (
            "p.tsv",
            "Prompt\tCategory\na\tb\n\tb\n",
            'p.tsv: line 3, column "Prompt": expected a prompt, found nothing',
        ),
        (
            "p.tsv",
            "Prompt\tCategory\na\tb\nc\td\n a\tb\n",
            'p.tsv: line 4, column "Prompt": the same prompt stands on line 2; each may stand once',
        ),
        (
            "p.tsv",
            "Prompt\tCategory\na\tb\tc\n",
            "p.tsv: line 2: expected 2 columns, found 3",
        ),
        ("p.tsv", "Prompt\na\tb\n", "p.tsv: line 2: expected 1 column, found 2"),
        (
            "p.tsv",
            "Prompt\tPrompt\na\tb\n",
            'p.tsv: line 1: expected every column name once, found "Prompt" twice',
        ),
        (
            "p.tsv",
            f"Prompt\tCategory\na\t{'c' * 81}\n",
            'p.tsv: line 2, column "Category": expected at most 80 characters, found 81',
        ),
        (
            "p.txt",
            "a\x00b\n",
            'p.txt: line 1, column "text": expected text, found the control character U+0000',
        ),
        (
            "p.tsv",
            "Prompt\tCategory\na\tx\x00y\n",
            'p.tsv: line 2, column "Category": expected text, found the control character U+0000',
        ),
        (
            "p.csv",
            'text\n"a"b\n',
            "p.csv: line 2: expected CSV with quotes in pairs",
        ),
        ("p.jsonl", '{"text": "a"}\n{oops\n', "p.jsonl: line 2: expected one JSON object"),
        (
            "p.jsonl",
            '{"text": "half of \\ud83d"}\n',
            'p.jsonl: line 1, column "text": expected text, found half a character, U+D83D',
        ),
        ("p.jsonl", '["a"]\n', "p.jsonl: line 1: expected a JSON object, found a list"),
    ],
)
def test_a_bad_file_names_line_and_column(tmp_path, name, text, message):
    found = refused(write(tmp_path, name, text))
    assert found[0].startswith(message)


def test_another_encoding_names_the_line_and_the_byte(tmp_path):
    path = write(tmp_path, "p.txt", "a dog\na café\n", encoding="latin-1")
    assert refused(path) == [
        "p.txt: line 2: expected UTF-8 text, found the byte 0xe9; save the file as UTF-8"
    ]


def test_a_missing_file_says_where_it_was_looked_for(tmp_path):
    assert refused(tmp_path / "p.tsv") == [
        f"p.tsv: there is no such file (looked for {tmp_path / 'p.tsv'})"
    ]


def test_a_column_that_is_asked_for_must_be_there(tmp_path):
    path = write(tmp_path, "p.tsv", PUBLISHED)
    assert refused(path, PromptQuery(category="Topic", challenge="Level")) == [
        f'p.tsv: {setting} = "{name}": there is no such column; '
        "found Category, Challenge, Note, Prompt"
        for setting, name in (("category", "Topic"), ("challenge", "Level"))
    ]


def test_many_problems_are_all_kept_and_few_are_shown(tmp_path):
    path = write(tmp_path, "p.txt", "a\n" * 50)
    with pytest.raises(PromptFileError) as caught:
        read_prompts(path, EVERYTHING, seed=1)
    assert len(caught.value.problems) == 49
    assert str(caught.value).endswith("... and 29 more")


# Filters


def test_filters_keep_and_leave_out(tmp_path):
    path = write(tmp_path, "p.tsv", PUBLISHED)
    query = PromptQuery(include={"Category": ["Animals"]}, exclude={"Challenge": ["Basic"]})
    assert texts(read_prompts(path, query, seed=1)) == [
        'a sign that says "Let\'s PAINT!"',
        "a cat without a note",
    ]


def test_an_unknown_value_or_column_lists_those_that_exist(tmp_path):
    path = write(tmp_path, "p.tsv", PUBLISHED)
    query = PromptQuery(include={"Topic": ["x"]}, exclude={"Challenge": ["basic"]})
    assert refused(path, query) == [
        'p.tsv: include: there is no column "Topic"; found Category, Challenge, Note, Prompt',
        'p.tsv: exclude: no row has Challenge "basic"; '
        "found Basic, Complex, Simple Detail, Writing & Symbols",
    ]


def test_filters_that_leave_nothing_are_refused(tmp_path):
    path = write(tmp_path, "p.tsv", PUBLISHED)
    query = PromptQuery(include={"Category": ["Abstract"]}, exclude={"Challenge": ["Basic"]})
    assert refused(path, query) == ["p.tsv: no prompt is left after include and exclude"]


# The draw


def numbered(tmp_path: Path, n: int = 60) -> Path:
    """60 prompts: 30 of a, 20 of b, 10 of c."""
    kinds = "aaabbc"
    rows = [f"prompt {i}\t{kinds[i % 6]}" for i in range(n)]
    return write(tmp_path, "n.tsv", "\n".join(["Prompt\tCategory", *rows]))


def test_the_same_seed_draws_the_same_prompts_whatever_the_order_of_lines(tmp_path):
    path = numbered(tmp_path)
    query = PromptQuery(draw=12)
    drawn = texts(read_prompts(path, query, seed=5))
    header, *lines = path.read_text().split("\n")
    random.Random(0).shuffle(lines)
    path.write_text("\n".join([header, *lines]))
    assert texts(read_prompts(path, query, seed=5)) == drawn
    assert len(set(drawn)) == 12


def test_another_seed_draws_other_prompts(tmp_path):
    path = numbered(tmp_path)
    draws = {tuple(texts(read_prompts(path, PromptQuery(draw=5), seed=s))) for s in range(50)}
    assert len(draws) == 50


def test_a_longer_draw_begins_with_the_shorter(tmp_path):
    path = numbered(tmp_path)
    short = texts(read_prompts(path, PromptQuery(draw=5), seed=5))
    assert texts(read_prompts(path, PromptQuery(draw=30), seed=5))[:5] == short


def test_every_prompt_is_drawn_about_equally_often(tmp_path):
    path = numbered(tmp_path)
    rows = read_prompts(path, EVERYTHING, seed=1)
    counts = Counter(row.text for s in range(600) for row in draw_order(rows, s)[:12])
    assert len(counts) == 60  # each is expected 120 times, with a standard deviation near 10
    assert 70 < min(counts.values()) <= max(counts.values()) < 170


def test_a_draw_larger_than_what_is_left_is_refused(tmp_path):
    query = PromptQuery(draw=31, include={"Category": ["a"]})
    assert refused(numbered(tmp_path), query) == [
        "n.tsv: draw = 31, but only 30 prompts are left to draw from"
    ]
    assert refused(numbered(tmp_path, n=1), PromptQuery(draw=2)) == [
        "n.tsv: draw = 2, but only 1 prompt is left to draw from"
    ]


@pytest.mark.parametrize("stratify", ["Category", "category"])
def test_a_stratified_draw_keeps_the_proportions(tmp_path, stratify):
    rows = read_prompts(numbered(tmp_path), PromptQuery(draw=12, stratify=stratify), seed=5)
    assert Counter(row.category for row in rows) == {"a": 6, "b": 4, "c": 2}


def test_an_equal_draw_takes_the_same_from_each(tmp_path):
    query = PromptQuery(draw=12, stratify="category", share="equal")
    rows = read_prompts(numbered(tmp_path), query, seed=5)
    assert Counter(row.category for row in rows) == {"a": 4, "b": 4, "c": 4}


def test_an_equal_draw_that_cannot_be_had_is_refused(tmp_path):
    path = numbered(tmp_path)
    assert refused(path, PromptQuery(draw=13, stratify="category", share="equal")) == [
        "n.tsv: stratify = 'category': a draw of 13 cannot be split evenly over 3 strata; "
        'expected a multiple of 3, or share = "proportional"'
    ]
    assert refused(path, PromptQuery(draw=33, stratify="category", share="equal")) == [
        "n.tsv: stratify = 'category': 11 are wanted from each stratum, but 'c' has 10"
    ]


def test_a_stratum_must_have_a_name(tmp_path):
    path = write(tmp_path, "p.tsv", "Prompt\tCategory\na\tx\nb\t\n")
    assert refused(path, PromptQuery(draw=1, stratify="category")) == [
        "p.tsv: stratify = 'category': the column is empty on line 3"
    ]


def test_largest_remainders_by_hand():
    # Quotas of 10 over 7, 5 and 3 of 15: 4.67, 3.33 and 2. Down: 4, 3, 2. The one left goes to .67.
    assert allocate({"x": 7, "y": 5, "z": 3}, 10, "proportional") == {"x": 5, "y": 3, "z": 2}


def test_shares_are_whole_add_up_and_fit():
    rng = random.Random(3)
    for _ in range(300):
        sizes = {str(i): rng.randint(1, 40) for i in range(rng.randint(1, 8))}
        draw = rng.randint(1, sum(sizes.values()))
        counts = allocate(sizes, draw, "proportional")
        assert sum(counts.values()) == draw
        assert all(counts[name] <= size for name, size in sizes.items())
        total = sum(sizes.values())
        assert all(abs(counts[name] - draw * size / total) < 1 for name, size in sizes.items())


# The real file


@pytest.mark.skipif(
    not (Path(os.environ.get("EVALSITE_REFERENCE_DATA", "/nowhere")) / "PartiPrompts.tsv").exists(),
    reason="EVALSITE_REFERENCE_DATA names no folder with PartiPrompts.tsv",
)
def test_partiprompts_works_by_naming_it():
    path = Path(os.environ["EVALSITE_REFERENCE_DATA"]) / "PartiPrompts.tsv"
    rows = read_prompts(path, EVERYTHING, seed=1)
    assert len(rows) == 1632
    assert Counter(row.challenge for row in rows)["Basic"] == 272
    assert len({row.category for row in rows}) == 12
    assert any(row.text.startswith('"G I G G L E" painted') for row in rows)
    query = PromptQuery(exclude={"Challenge": ["Basic"]}, draw=100, stratify="category")
    drawn = read_prompts(path, query, seed=1)
    assert len(drawn) == 100
    assert all(row.challenge != "Basic" for row in drawn)
