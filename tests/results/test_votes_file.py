"""Votes from anywhere: every usual form is understood, every bad row is named."""

from pathlib import Path

import polars as pl
import pytest

from evalsite.results.votes_file import VotesFileError, VoteTable, read_votes

HEAD = "criterion,rater_id,prompt_id,system_a,system_b,winner\n"


def read(folder: Path, name: str, content: str | bytes, **options: bool) -> VoteTable:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_votes(path, **options)[0]


def refused(folder: Path, name: str, content: str | bytes) -> list[str]:
    with pytest.raises(VotesFileError) as caught:
        read(folder, name, content)
    return str(caught.value).splitlines()


def names_of(table: VoteTable) -> list[tuple[str, str, float]]:
    rows = zip(table.first, table.second, table.outcomes, strict=True)
    return [(table.systems[i], table.systems[j], float(y)) for i, j, y in rows]


def test_our_own_columns_are_read(tmp_path):
    table = read(tmp_path, "v.csv", HEAD + "q,r2,p1,Y,X,a\nq,r1,p2,X,Y,tie\nq,none, p1 ,X,Z,b\n")
    assert names_of(table) == [("Y", "X", 1.0), ("X", "Y", 0.5), ("X", "Z", 0.0)]
    assert table.criteria == ("q",)
    assert table.systems == ("X", "Y", "Z")
    assert table.raters.names == ("none", "r1", "r2")
    assert table.raters.codes.tolist() == [2, 1, -1]
    assert table.prompts.codes.tolist() == [0, 1, 0]
    assert table.a_on_left is None


ARENA = [("X", "Y", 1.0), ("Y", "X", 0.5), ("X", "Y", 0.0), ("X", "Y", 0.5)]
ARENA_ROWS = [
    {"model_a": "X", "model_b": "Y", "winner": "model_a", "judge": 1, "tstamp": 7.5},
    {"model_a": "Y", "model_b": "X", "winner": "tie (bothbad)", "judge": 1, "tstamp": 8.5},
    {"model_a": "X", "model_b": "Y", "winner": "Model_B", "judge": 2, "tstamp": 8.5},
    {"model_a": "X", "model_b": "Y", "winner": "tie", "judge": 2, "tstamp": 8.5},
]


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_the_arenas_spellings_are_read_in_every_form(tmp_path, ending):
    frame, path = pl.DataFrame(ARENA_ROWS), tmp_path / f"votes.{ending}"
    {
        "csv": frame.write_csv,
        "tsv": lambda to: frame.write_csv(to, separator="\t"),
        "jsonl": frame.write_ndjson,
        "parquet": frame.write_parquet,
    }[ending](path)
    table, _ = read_votes(path)
    assert names_of(table) == ARENA
    assert table.criteria == ("overall",)
    assert table.raters.names == ("1", "2")
    assert table.prompts is None


def test_a_winner_may_be_named(tmp_path):
    table = read(tmp_path, "v.csv", "model_a,model_b,winner\nX,Y,Y\nX,Y,X\n")
    assert table.outcomes.tolist() == [0.0, 1.0]


def test_a_semicolon_a_byte_order_mark_and_other_columns_do_no_harm(tmp_path):
    table = read(tmp_path, "v.csv", b"\xef\xbb\xbfmodel_a;model_b;winner;mood\nX;Y;a;good\n")
    assert names_of(table) == [("X", "Y", 1.0)]
    assert table.unused == ("mood",)


def test_nested_values_in_jsonl_are_passed_over(tmp_path):
    row = '{"model_a":"X","model_b":"Y","winner":"tie","conversation":[{"role":"user"}]}\n'
    assert names_of(read(tmp_path, "v.jsonl", row)) == [("X", "Y", 0.5)]


def test_a_byte_order_mark_and_bytes_do_no_harm_either(tmp_path):
    row = '{"model_a":"X","model_b":"Y","winner":"tie"}\n'
    assert names_of(read(tmp_path, "v.jsonl", b"\xef\xbb\xbf" + row.encode())) == [("X", "Y", 0.5)]
    path = tmp_path / "v.parquet"
    images = {"image": [b"\xff\xd8"], "model_a": ["X"], "model_b": ["Y"], "winner": ["tie"]}
    pl.DataFrame(images).write_parquet(path)
    assert names_of(read_votes(path)[0]) == [("X", "Y", 0.5)]


def test_a_hole_in_a_column_of_numbers_is_no_name(tmp_path):
    path = tmp_path / "v.parquet"
    votes = {"model_a": ["X", "X"], "model_b": ["Y", "Y"], "winner": ["a", "b"]}
    pl.DataFrame({**votes, "prompt_id": [1.0, float("nan")]}).write_parquet(path)
    with pytest.raises(VotesFileError, match=r"row 2: prompt_id: expected a name.* found nothing"):
        read_votes(path)


def test_a_word_that_is_also_the_other_systems_name_is_refused(tmp_path):
    head = "system_a,system_b,winner,left\n"
    assert refused(
        tmp_path, "v.csv", head + "A,B,a,A\nA,B,A,a\nB,A,A,b\nB,A,a,A\nB,tie,tie,a\n"
    ) == [
        f"v.csv: line {line}: {column}: expected a word that cannot also mean another system, "
        f"found {word}"
        for line, column, word in ((4, "winner", "A"), (5, "left", "A"), (6, "winner", "tie"))
    ]


def test_in_a_studys_own_file_a_word_is_never_a_name(tmp_path):
    text = "system_a,system_b,winner,left,n_given,response_ms\nb,a,a,a,1,900\n"
    assert names_of(read(tmp_path, "v.csv", text, are_own=True)) == [("b", "a", 1.0)]
    assert "cannot also mean another system" in refused(tmp_path, "v.csv", text)[0]


def test_sides_that_the_file_and_the_reader_tell_differently_are_refused(tmp_path):
    text = "system_a,system_b,winner,left\nX,Y,a,a\nX,Y,a,b\nX,Y,b,b\n"
    with pytest.raises(VotesFileError, match="line 3: left: expected a on every row") as caught:
        read(tmp_path, "v.csv", text, a_is_left=True)
    assert str(caught.value).endswith("found b\n... and 1 more")
    assert read(tmp_path, "v.csv", text[:-16], a_is_left=True).a_on_left.tolist() == [True]


def test_sides_come_from_a_column_or_from_the_reader(tmp_path):
    text = "system_a,system_b,winner,left\nX,Y,a,a\nX,Y,a,Y\n"
    assert read(tmp_path, "v.csv", text).a_on_left.tolist() == [True, False]
    text = "system_a,system_b,winner\nX,Y,a\n"
    assert read(tmp_path, "v.csv", text).a_on_left is None
    assert read(tmp_path, "v.csv", text, a_is_left=True).a_on_left.tolist() == [True]


def test_every_bad_row_is_named_with_its_line_column_and_reason(tmp_path):
    rows = "q,r,p,X,X,a\nq,,p,Y,X,c\n,r,p,Y,,a\nq,r,p,X,Y,a\n"
    assert refused(tmp_path, "v.csv", HEAD + rows) == [
        "v.csv: line 2: system_b: expected another system than system_a, found X",
        "v.csv: line 3: rater_id: expected a name, or none where there is none, found nothing",
        "v.csv: line 3: winner: expected a, b or tie, found c",
        "v.csv: line 4: criterion: expected a name, found nothing",
        "v.csv: line 4: system_b: expected a name, found nothing",
    ]


def test_whether_a_program_voted_is_true_or_false(tmp_path):
    head, row = "system_a,system_b,winner,simulated\n", "X,Y,a,"
    words = ["true", "False", "", "1", "NO"]
    table = read(tmp_path, "v.csv", head + "".join(f"{row}{word}\n" for word in words))
    assert table.simulated.tolist() == [True, False, False, True, False]
    assert refused(tmp_path, "v.csv", f"{head}{row}perhaps\n") == [
        "v.csv: line 2: simulated: expected true or false, found perhaps"
    ]


SLICED = "criterion,rater_id,prompt_id,system_a,system_b,winner,category,challenge,rater_group\n"


def test_a_prompt_of_two_categories_is_named_with_its_lines(tmp_path):
    rows = [
        "q,r1,p1,X,Y,a,warm,easy,staff",
        "q,r2,p1,X,Y,a,cold,easy,crowd",
        "q,r1,p2,X,Y,b,cold,hard,staff",
        "q,r2,p2,X,Y,b,none,easy,crowd",
        "q,r1,p1,X,Z,?,cold,easy,crowd",
        "q,r2,p1,X,Z,a,warm,hard,crowd",
    ]
    assert refused(tmp_path, "v.csv", SLICED + "\n".join(rows)) == [
        "v.csv: line 3: category: found cold for prompt p1, expected warm as on line 2",
        "v.csv: line 5: challenge: found easy for prompt p2, expected hard as on line 4",
        "v.csv: line 6: category: found cold for prompt p1, expected warm as on line 2",
        "v.csv: line 6: rater_group: found crowd for rater r1, expected staff as on line 2",
        "v.csv: line 6: winner: expected a, b or tie, found ?",
        "v.csv: line 7: challenge: found hard for prompt p1, expected easy as on line 2",
    ]


def test_many_contradictions_are_counted_beyond_a_limit(tmp_path):
    rows = [f"q,r{i % 3},p1,X,Y,a,{'warm' if i % 2 else 'cold'},," for i in range(100)]
    problems = refused(tmp_path, "v.csv", SLICED + "\n".join(rows))
    assert problems[0] == (
        "v.csv: line 3: category: found warm for prompt p1, expected cold as on line 2"
    )
    assert len(problems) == 21
    assert problems[-1] == "... and 30 more"


@pytest.mark.parametrize(
    "rows",
    [
        ["q,r1,p1,X,Y,a,warm,,", "q,r2,p1,X,Y,a,cold,,", "q,r1,p2,X,Y,a,warm,,"],  # of raters
        ["q,r1,p1,X,Y,a,warm,,", "s,r1,p1,X,Y,a,cold,,"],  # another question, another prompt
        ["q,none,p1,X,Y,a,warm,,", "q,none,p1,X,Y,a,cold,,"],  # perhaps of raters
        ["q,r1,p1,X,Y,a,,,one", "q,r2,p1,X,Y,a,,,two", "q,r1,p2,X,Y,a,,,one"],
    ],
)
def test_a_slice_that_may_be_a_property_is_no_contradiction(tmp_path, rows):
    assert len(read(tmp_path, "v.csv", SLICED + "\n".join(rows))) == len(rows)


def test_many_bad_rows_are_counted_beyond_a_limit(tmp_path):
    problems = refused(tmp_path, "v.csv", HEAD + "q,r,p,X,Y,?\n" * 100)
    assert len(problems) == 21
    assert problems[-1] == "... and 80 more"


def test_lines_are_those_of_the_file(tmp_path):
    text = HEAD + 'q,r,"two\nlines",X,Y,a\n\nq,r,p,X,Y,?\n'
    assert refused(tmp_path, "v.csv", text)[0].startswith("v.csv: line 5: winner")
    row = '{"model_a":"X","model_b":"Y","winner":"%s"}\n'
    assert refused(tmp_path, "v.jsonl", row % "a" + "\n" + row % "?")[0].startswith(
        "v.jsonl: line 3: winner"
    )


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("v.csv", "a,b\n1,2\n", "v.csv: no column system_a or model_a; found a, b"),
        ("v.csv", HEAD, "v.csv: holds no votes"),
        ("v.csv", "", "v.csv: holds no votes"),
        ("v.csv", HEAD + "q,r,p,X,Y,a,more\n", "v.csv: line 2: expected 6 cells, found 7"),
        ("v.csv", HEAD.encode() + b"q,r\xe9,p,X,Y,a\n", "v.csv: line 2: expected UTF-8 text"),
        ("v.jsonl", '{"winner": "a"}\n{oops}\n', "v.jsonl: line 2: expected JSON: "),
        ("v.jsonl", "[1]\n", "v.jsonl: line 1: expected an object"),
        ("v.jsonl", '{"winner": NaN}\n', "v.jsonl: line 1: expected JSON: NaN is no number"),
        (
            "v.csv",
            "model_a,model_b,winner,Winner\nX,Y,a,b\n",
            "v.csv: two columns are called winner",
        ),
        (
            "v.csv",
            "model_a,model_b,winner,Preference\nX,Y,a,b\n",
            "v.csv: columns winner and Preference are both read as winner: leave one out",
        ),
        (
            "v.csv",
            'model_a,model_b,winner\nX,Y,a\nX,"Y,a\nX,Y,b\n',
            "v.csv: line 3: expected 3 cells, found 2 up to line 4: is a quote left open?",
        ),
        (
            "v.csv",
            "model_a,model_b,winner,left\nX,Y,a,z\n",
            "v.csv: line 2: left: expected a, b or the name of one of the two systems, found z",
        ),
        ("v.csv", "model_a,model_a,winner\nX,Y,a\n", "v.csv: two columns are called model_a"),
        ("v.csv", HEAD.encode("utf-16"), "v.csv: expected UTF-8 text, found UTF-16"),
        (
            "v.csv",
            'model_a,model_b,winner\nX"1,Y,a\nX,Y,b\n',
            'v.csv: line 2: expected each " inside',
        ),
        ("v.parquet", b"rubbish", "v.parquet: expected a Parquet file"),
        ("v.xlsx", b"", "v.xlsx: expected a file that ends in one of .csv, .tsv, .jsonl"),
    ],
)
def test_a_file_that_is_no_table_of_votes_is_refused(tmp_path, name, content, problem):
    assert refused(tmp_path, name, content)[0].startswith(problem)


def test_a_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VotesFileError, match=r"^\.: expected a file that ends in"):
        read_votes(Path("."))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(VotesFileError, match=r"nowhere\.csv: cannot be read: No such file"):
        read_votes(tmp_path / "nowhere.csv")
