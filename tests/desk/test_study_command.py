"""`manage.py study`: from a file to a report, in words a person can follow. No torch, no broker."""

import io
import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from evalsite.desk.management.commands import study as study_command
from evalsite.desk.wording import rate_words, time_words
from evalsite.studies.models import Study
from generation.models import Image
from tests import world
from tests.desk.study_command import refused, run
from tests.studies.files import (
    PROMPTS,
    image_folder,
    painted,
    study_file,
)

pytestmark = pytest.mark.django_db


def test_a_study_goes_from_its_file_to_its_report(tmp_path: Path):
    path = study_file(tmp_path)
    checked = run("check", path)
    assert "3 prompts, 1 pair of systems: 3 comparisons, 6 votes wanted (1 question)" in checked
    assert checked.count("CC0-1.0") == 2
    assert "Everything is here." in checked
    assert "Study small is now a draft" in run("apply", path)
    assert "Ready. Next: study open small" in run("prepare", "small")
    assert run("prepare", "small", "--no-next").endswith("  Ready.\n")
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


def test_apply_says_whether_it_changed_the_draft(tmp_path):
    assert "Study small is now a draft." in run("apply", study_file(tmp_path))
    said = run("apply", tmp_path / "small.toml")
    assert "Study small is as the file says, draft: nothing was changed. Next:" in said
    said = run("apply", study_file(tmp_path, title="Another"))
    assert "Study small is a draft, rewritten as the file says. Next:" in said
    assert Study.objects.get().title == "Another"


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
    assert "study retry small" in str(caught.value)
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


def asked(tmp_path: Path) -> Study:
    """Six images of two systems, asked for and not there yet."""
    run("apply", study_file(tmp_path, systems=[painted("a"), painted("b", steps=2)]))
    run("prepare", "small", "--anyway", "--no-wait")
    return Study.objects.get()


def test_cancel_says_what_is_painted_no_more_and_retry_asks_again(tmp_path):
    study = asked(tmp_path)
    assert "nothing is cancelled" not in run("cancel", "small", "--system", "a")
    said = run("status", "small")
    assert "cancelled, 3 not asked for" in said
    assert "3 images are not ready to be shown yet" in said
    cancelled = "3 images were cancelled; they are asked for again with: study retry small"
    assert cancelled in said
    assert f"  - {cancelled}\n" in f"{refused('open', 'small')}\n"
    assert said.count("waits for a worker") == 1
    assert "Cancelled: 3 images." in (said := run("cancel", "small"))
    assert "study retry small\n" in said
    assert "nothing is cancelled" in run("cancel", "small")
    assert set(Image.objects.values_list("status", flat=True)) == {"CANCELLED"}
    again = run("retry", "small", "--system", "b", "--anyway", "--no-wait")
    assert "small, 3 to paint" in again
    assert Image.objects.filter(status="QUEUED").count() == 3
    world.paint(study, world.plain_picture)
    assert "Nothing is to be painted again." in run("retry", "small", "--system", "b")


def test_cancel_says_what_another_study_still_has_painted(tmp_path):
    asked(tmp_path)
    systems = [painted("a"), painted("c", steps=3)]
    run("apply", study_file(tmp_path, "other.toml", systems=systems))
    run("prepare", "other", "--anyway", "--no-wait")
    said = run("cancel", "small")
    assert "Cancelled: 3 images. Painted all the same, for another study: 3 images." in said
    assert "cancelled, 3 painted all the same" in run("status", "small")


WHY = {
    "retry": "It goes without the images that failed.",
    "cancel": "It waits for no image, so there is nothing to cancel.",
}


@pytest.mark.parametrize("act", WHY)
def test_what_is_open_is_neither_retried_nor_cancelled(tmp_path, act):
    run("apply", study_file(tmp_path))
    run("prepare", "small")
    assert "has no system c. Its systems: alpha, beta." in refused(act, "small", "--system", "c")
    run("open", "small")
    assert f"its design stands since it was opened. {WHY[act]}" in refused(act, "small")


def test_failures_are_told_by_reason_with_an_example_and_what_to_do(tmp_path):
    study = asked(tmp_path)
    first = Image.objects.filter(entries__system__key="a").order_by("pk")
    for image in first:
        image.status, image.error = "FAILED", f"OSError: block {image.pk} is bad\nsee the manual"
        image.save()
    said = run("status", "small")
    assert f"3 x OSError: block … is bad (for example image {first[0].pk}, “a red kite”)" in said
    assert "asked for again with: study retry small" in said
    world.paint(study, world.plain_picture)
    with pytest.raises(CommandError):  # on a prompt without an image of a nothing is to compare
        run("prepare", "small", "--anyway")
    run("retry", "small", "--anyway", "--no-wait")
    world.paint(study, world.plain_picture)
    study.on_duplicate = study.on_blank = "KEEP"
    study.save()
    assert "Ready. Next: study open small" in run("prepare", "small", "--anyway")


def test_a_log_gets_a_line_for_each_system_with_its_rate(tmp_path, monkeypatch):
    study = asked(tmp_path)
    now = timezone.now()
    for n in range(2):
        world.paint(study, world.plain_picture, limit=1, at=now + n * timedelta(seconds=1))
    naps = iter([None, KeyboardInterrupt])

    def nap(_seconds: float) -> None:
        if stop := next(naps):
            raise stop

    monkeypatch.setattr(study_command.time, "sleep", nap)
    monkeypatch.setattr(study_command.timezone, "now", lambda: now + timedelta(seconds=2))
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("study", "prepare", "small", "--anyway", stdout=out)
    assert "  a: 2 of 3, 30 images a minute, about 5 s left\n" in out.getvalue()
    assert "  b: 0 of 3, waits for a worker\n" in out.getvalue()
    assert "To have no more painted: study cancel small" in out.getvalue()


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (40, "40 images a second"),
        (1.25, "1.2 images a second"),
        (0.4, "24 images a minute"),
        (1 / 90, "40 images an hour"),
        (1 / 7200, "0.5 images an hour"),
    ],
)
def test_a_rate_is_told_in_a_unit_in_which_something_comes(rate, words):
    assert rate_words(rate) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "about 5 s"),
        (83, "about 85 s"),
        (95, "about 2 min"),
        (89 * 60, "about 89 min"),
        (100 * 60, "about 1 h 40 min"),
        (24 * 3600, "about 24 h"),
        (100 * 3600, "about 4 days"),
    ],
)
def test_time_left_is_told_roughly(seconds, words):
    assert time_words(timedelta(seconds=seconds)) == words


def test_preparing_an_open_study_is_no_error(tmp_path):
    run("apply", study_file(tmp_path))
    run("prepare", "small")
    run("open", "small")
    assert "Study small is open: nothing is left to prepare." in run("prepare", "small")
    assert "as the file says, open: nothing was changed." in run("apply", tmp_path / "small.toml")


def test_a_prompt_file_beside_the_study_file_is_drawn_from(tmp_path):
    rows = "".join(f"prompt {i}\t{'ab'[i % 2]}\tBasic\t\n" for i in range(20))
    (tmp_path / "p.tsv").write_text("Prompt\tCategory\tChallenge\tNote\n" + rows)
    image_folder(tmp_path / "images", prompts=[f"prompt {i}" for i in range(20)])
    prompts = {"file": "p.tsv", "draw": 6, "stratify": "category"}
    path = study_file(tmp_path, prompts=prompts)
    assert "6 prompts" in run("check", path)
    run("apply", path)
    assert sorted(Study.objects.get().prompts.values_list("category", flat=True)) == list("aaabbb")
