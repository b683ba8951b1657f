"""`manage.py study`: from a file to a report, in words a person can follow. No torch, no broker."""

import io
import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from evalsite.desk.management.commands import study as study_command
from evalsite.studies.models import Study
from generation.models import Image
from tests import world
from tests.studies.files import (
    PROMPTS,
    image_folder,
    imported,
    painted,
    picture,
    study_file,
)

pytestmark = pytest.mark.django_db


def run(*arguments: object) -> str:
    """What the command prints."""
    out = io.StringIO()
    call_command("study", *map(str, arguments), stdout=out)
    return out.getvalue()


def refused(*arguments: object) -> str:
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    return str(caught.value)


def test_a_study_goes_from_its_file_to_its_report(tmp_path: Path):
    path = study_file(tmp_path)
    checked = run("check", path)
    assert "3 prompts, 1 pair of systems: 3 comparisons, 6 votes wanted (1 question)" in checked
    assert checked.count("CC0-1.0") == 2
    assert "Everything is here." in checked
    assert "Study small is now a draft" in run("apply", path)
    assert "Ready. Next: study open small" in run("prepare", "small")
    opened = run("open", "small")
    study = Study.objects.get(slug="small")
    assert f"/s/{study.code}/" in opened
    for _ in range(2):
        world.vote_to_the_end(world.rater(study))
    status = run("status", "small")
    assert "small, open" in status
    assert "6 of 6 votes (100%), 2 raters" in status
    assert "paused" in run("pause", "small")
    run("open", "small")
    assert "closed" in run("close", "small")
    run("report", "small", "--out", tmp_path / "report")
    assert (tmp_path / "report" / "report.json").exists()


def closed_study(tmp_path: Path) -> None:
    """Three prompts, two votes on each."""
    run("apply", study_file(tmp_path))
    run("prepare", "small")
    run("open", "small")
    for _ in range(2):
        world.vote_to_the_end(world.rater(Study.objects.get(slug="small")))
    run("close", "small")


def test_a_report_says_where_it_lies_and_what_suits_few_prompts(tmp_path, settings):
    settings.VAR_DIR = tmp_path / "var"
    closed_study(tmp_path)
    out = tmp_path / "var" / "reports" / "small"
    said = run("report", "small")
    assert f"Written to {out}\n" in said
    assert "Fewer than 10 prompts" in said
    assert (out / "report.html").exists()
    assert "Fewer than 10 prompts" not in run("report", "small", "--fixed-prompts")


def test_a_report_reads_the_votes_as_asked(tmp_path):
    closed_study(tmp_path)
    out = tmp_path / "report"
    asked = ("--fixed-prompts", "--ties", "drop", "--confidence", "0.9")
    run("report", "small", "--out", out, *asked)
    options = json.loads((out / "report.json").read_text())["settings"]["options"]
    assert options == {"confidence": 0.9, "fixed_prompts": True, "ties": "drop", "seed": 0}
    assert "90% interval" in (out / "report.html").read_text()
    assert "--confidence" in refused("report", "small", "--out", out, "--confidence", "95")
    assert "--ties" in refused("report", "small", "--out", out, "--ties", "split")


def test_a_study_is_found_by_its_file_too(tmp_path):
    path = study_file(tmp_path)
    run("apply", path)
    run("prepare", path)
    assert "Raters start at" in run("open", path)


def test_check_lists_what_is_wrong_with_a_file(tmp_path):
    path = study_file(tmp_path, seed=-1, pairs="some")
    assert refused("check", path).splitlines() == [
        f"Cannot check {path}:",
        "  - small.toml: seed: expected a whole number from 0 to 2^53 - 1, found -1",
        '  - small.toml: pairs: expected "all" or "baseline", found "some"',
    ]


def test_check_looks_at_what_is_sound_in_a_file_with_problems(tmp_path):
    path = study_file(
        tmp_path,
        title="",
        prompts={"file": "gone.txt"},
        systems=[
            imported("alpha", folder="gone"),
            painted("beta", checkpoint="./none", revision=""),
            painted("delta", steps=0, checkpoint="./none", revision=""),
            painted("gamma", timesteps=[9, 5]),
        ],
    )
    assert refused("check", path).splitlines() == [
        f"Cannot check {path}:",
        '  - small.toml: title: expected a text of 1 to 200 characters, found ""',
        '  - small.toml: [[systems]] number 3 (key "delta"), steps: expected a whole number of '
        "at least 1, found 0",
        f"  - gone.txt: there is no such file (looked for {tmp_path / 'gone.txt'})",
        f"  - alpha: folder: there is no folder {tmp_path / 'gone'}; put its images and manifest "
        "there",
        f"  - beta: checkpoint: there is no folder {tmp_path / 'none'}",
        "  - gamma: timesteps: 2 given, expected as many as steps (4)",
        "  - gamma: scheduler: explicit timesteps need a scheduler by name",
    ]


def test_check_says_a_rule_of_the_painter_s_once(tmp_path):
    path = study_file(tmp_path, systems=[imported("alpha"), painted("beta", timesteps=[9, 5])])
    told = refused("check", path)
    assert told.count("expected as many as steps") == 1
    assert "alpha" not in told


def test_check_says_per_system_what_is_missing(tmp_path):
    systems = [imported("alpha"), imported("beta", folder="nowhere"), painted("hub", licence="")]
    path = study_file(tmp_path, systems=systems)
    out = io.StringIO()
    with pytest.raises(CommandError, match="Not everything is here"):
        call_command("study", "check", str(path), stdout=out)
    text = out.getvalue()
    assert f"System beta\n    folder: there is no folder {tmp_path / 'nowhere'}" in text
    assert "licence: expected the licence" in text
    assert "org/model at 0123456789" in text
    assert not Study.objects.exists()


def test_check_counts_nothing_while_the_prompts_cannot_be_read(tmp_path):
    path = study_file(tmp_path)
    path = study_file(tmp_path, prompts={"file": "nowhere.tsv"})
    out = io.StringIO()
    with pytest.raises(CommandError, match="Not everything is here"):
        call_command("study", "check", str(path), stdout=out)
    assert "nowhere.tsv: there is no such file" in out.getvalue()
    assert "0 prompts" not in out.getvalue()


def test_check_warns_where_the_shape_of_an_image_tells_its_system(tmp_path):
    path = study_file(tmp_path)
    assert "Worth a look" not in run("check", path)
    for image in (tmp_path / "images").glob("beta-*.png"):
        image.write_bytes(picture((30, 30, 200), size=(64, 36)))
    said = run("check", path)
    assert "Worth a look" in said
    assert "64 x 64 pixels: alpha 64 x 64, beta 64 x 36; raters can tell the systems" in said
    assert "Everything is here." in said  # it stops nothing


def test_check_of_the_published_study_says_what_to_bring():
    out = io.StringIO()
    with pytest.raises(CommandError):
        call_command("study", "check", "sdxl-turbo", stdout=out)
    text = out.getvalue()
    for expected in (
        "PartiPrompts.tsv: there is no such file",
        "stages 1: revision: not pinned; write the commit of DeepFloyd/IF-II-L-v1.0",
        "StyleGAN-T++ (imported)",
        "hf download stabilityai/sdxl-turbo",
        "Non-Commercial",
    ):
        assert expected in text


def test_apply_refuses_what_was_edited_elsewhere(tmp_path):
    run("apply", study_file(tmp_path))
    Study.objects.update(title="Edited")
    path = study_file(tmp_path, title="From the file")
    assert "--replace" in refused("apply", path)
    run("apply", path, "--replace")
    assert Study.objects.get().title == "From the file"


def test_apply_takes_another_slug_and_marks_simulated_raters(tmp_path):
    run("apply", study_file(tmp_path), "--slug", "twin", "--simulated")
    assert Study.objects.get().slug == "twin"
    assert Study.objects.get().simulated
    assert "twin, draft, simulated" in run("status", "twin")


def test_an_unknown_study_lists_the_known_ones(tmp_path):
    run("apply", study_file(tmp_path))
    known = "Studies: small. Presets: demo, sdxl-turbo."
    assert refused("status", "smal") == f"There is no study smal. {known}"
    assert "Apply it first: study apply demo" in refused("prepare", "demo")


def test_a_folder_is_refused_as_one(tmp_path):
    assert "is a folder; expected a study file" in refused("check", tmp_path)


def test_open_gives_the_whole_address_where_the_site_knows_its_name(tmp_path, settings):
    run("apply", study_file(tmp_path))
    run("prepare", "small")
    settings.ALLOWED_HOSTS = settings.HOME_HOSTS
    assert "(after the site's own address)" in run("open", "small")
    run("pause", "small")
    settings.ALLOWED_HOSTS, settings.SECURE_TLS = ["*", "study.example.org"], True
    assert f"https://study.example.org/s/{Study.objects.get().code}/" in run("open", "small")


def test_a_draft_cannot_be_opened_before_it_is_prepared(tmp_path):
    run("apply", study_file(tmp_path))
    assert refused("open", "small").splitlines() == [
        "Study small is not prepared:",
        "  - the pairs are not laid: 3 missing, 0 no longer wanted",
    ]


def test_prepare_refuses_before_painting_where_weights_are_missing(tmp_path):
    run("apply", study_file(tmp_path, systems=[painted("a"), painted("b", steps=2)]))
    assert "org/model at 0123456789" in refused("prepare", "small")
    assert not Image.objects.exists()
    asked = run("prepare", "small", "--anyway", "--no-wait")
    assert "Asked for" in asked
    assert Image.objects.count() == 2 * len(PROMPTS)


def test_prepare_ends_with_the_reasons_when_everything_failed(tmp_path):
    run("apply", study_file(tmp_path, systems=[painted("a"), painted("b", steps=2)]))
    run("prepare", "small", "--anyway", "--no-wait")
    Image.objects.update(status="FAILED", error="out of memory")
    out = io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("study", "prepare", "small", "--anyway", stdout=out)
    assert "nothing to compare: 2 systems, 0 prompts" in str(caught.value)
    assert "study prepare small --retry" in str(caught.value)
    assert "3 x out of memory" in out.getvalue()


def test_prepare_says_when_no_worker_seems_to_run(tmp_path, monkeypatch):
    run("apply", study_file(tmp_path, systems=[painted("a"), painted("b", steps=2)]))
    monkeypatch.setattr(study_command, "STALLED_AFTER", 0.0)
    naps = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt  # the person at the terminal

    monkeypatch.setattr(study_command.time, "sleep", nap)
    out = io.StringIO()
    with pytest.raises(SystemExit) as left:
        call_command("study", "prepare", "small", "--anyway", stdout=out)
    assert left.value.code == 130
    assert out.getvalue().count("Start a worker with: celery -A generation.celery worker") == 1
    assert "go on with: study prepare small" in out.getvalue()


def test_preparing_an_open_study_is_no_error(tmp_path):
    run("apply", study_file(tmp_path))
    run("prepare", "small")
    run("open", "small")
    assert "Study small is open: nothing is left to prepare." in run("prepare", "small")
    assert "as the file says, open" in run("apply", tmp_path / "small.toml")


def test_a_prompt_file_beside_the_study_file_is_drawn_from(tmp_path):
    rows = "".join(f"prompt {i}\t{'ab'[i % 2]}\tBasic\t\n" for i in range(20))
    (tmp_path / "p.tsv").write_text("Prompt\tCategory\tChallenge\tNote\n" + rows)
    image_folder(tmp_path / "images", prompts=[f"prompt {i}" for i in range(20)])
    prompts = {"file": "p.tsv", "draw": 6, "stratify": "category"}
    path = study_file(tmp_path, prompts=prompts)
    assert "6 prompts" in run("check", path)
    run("apply", path)
    assert sorted(Study.objects.get().prompts.values_list("category", flat=True)) == list("aaabbb")
