"""Images that are none: found before a rater sees them, and dealt with by the study's own rules."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from PIL import Image as Pictures
from PIL import ImageDraw

from evalsite.results.documents import write_report
from evalsite.studies import queries, services
from evalsite.studies.display_files import make_display_files
from evalsite.studies.models import Prompt, Study
from evalsite.voting.services import NotPrepared, close_study, open_study
from generation.encoding import flat_colour
from generation.services import DamagedFileError, read_stored
from tests import world
from tests.results import contract
from tests.studies.files import draft, image_folder, study_file
from tests.world import HOUR, NOON

pytestmark = pytest.mark.django_db


def prepared(
    folder: Path, *, blank: int = -1, twins: tuple[int, ...] = (), **changes: Any
) -> Study:
    """Two systems on three prompts; alpha's image may be black on one, and the same on several."""
    image_folder(folder / "images")
    for number in twins:
        first = (folder / "images" / f"alpha-{twins[0]}.png").read_bytes()
        (folder / "images" / f"alpha-{number}.png").write_bytes(first)
    if blank >= 0:
        Pictures.new("RGB", (64, 64)).save(folder / "images" / f"alpha-{blank}.png")
    study = draft(folder, **changes)
    services.prepare(study, at=NOON)
    make_display_files(at=NOON)
    return study


def removed(study: Study) -> list[tuple[int, str]]:
    gone = study.prompts.filter(removed_at__isnull=False)
    return list(gone.values_list("position", "removed_reason"))


def test_a_study_of_good_images_has_no_defect(tmp_path):
    assert queries.preparation(prepared(tmp_path), at=NOON).defects == ()


def test_a_blank_image_keeps_the_study_closed_until_somebody_decides(tmp_path):
    study = prepared(tmp_path, blank=1)
    (obstacle,) = queries.obstacles(study)
    assert obstacle.startswith("1 blank image: look at them, then decide")
    with pytest.raises(NotPrepared, match="on_blank"):
        open_study(study=study, at=NOON)
    Study.objects.update(on_blank="KEEP")
    study.refresh_from_db()
    assert open_study(study=study, at=NOON).state == "OPEN"


def test_what_was_found_is_said_in_words(tmp_path):
    found = queries.preparation(prepared(tmp_path, blank=1, twins=(0, 2)), at=NOON).defects
    assert [defect.sentence for defect in found] == [
        "p000, “a red kite”: duplicate image of alpha: the same pixels as on p002 "
        "(refuse; in the study)",
        "p001, “two blue doors”: blank image of alpha: one colour all over, black "
        "(refuse; in the study)",
        "p002, “rain over a harbour”: duplicate image of alpha: the same pixels as on p000 "
        "(refuse; in the study)",
    ]


def test_a_large_number_of_defects_is_told_as_every_other(tmp_path):
    study = prepared(tmp_path, blank=1)
    (defect,) = queries.preparation(study, at=NOON).defects
    (obstacle,) = queries.obstacles(study, [defect] * 1200)
    assert obstacle.startswith("1,200 blank images: look at them")


def test_blank_images_are_not_told_as_duplicates_of_each_other(tmp_path):
    image_folder(tmp_path / "images")
    for number in (0, 1):
        Pictures.new("RGB", (64, 64), "white").save(tmp_path / "images" / f"beta-{number}.png")
    study = draft(tmp_path)
    services.prepare(study, at=NOON)
    found = queries.preparation(study, at=NOON).defects
    assert [(one.kind, one.detail[-7:]) for one in found] == [("BLANK", "#ffffff")] * 2


def test_a_prompt_leaves_for_all_systems_where_the_study_drops_defects(tmp_path):
    study = prepared(tmp_path, blank=1, on_blank="drop")
    assert removed(study) == [(1, "blank image of alpha: one colour all over, black")]
    assert queries.obstacles(study) == []


def test_every_prompt_of_a_duplicate_leaves_whichever_came_first(tmp_path):
    study = prepared(tmp_path, twins=(0, 2), on_duplicate="drop")
    assert [position for position, _ in removed(study)] == [0, 2]
    assert queries.is_prepared(study)


def test_painted_defects_leave_as_their_images_come():
    def picture(position: int, prompt: str) -> Pictures.Image:
        number = int(prompt[-1])
        made = world.plain_picture(position, "same" if position and number > 1 else prompt)
        if position or number:
            made.paste("white", (0, 0, 8, 8))
        return made

    study = world.prepared_study(
        n_prompts=5, picture=picture, on_blank="DROP", on_duplicate="DROP", votes_per_comparison=1
    )
    assert [position for position, _ in removed(study)] == [0, 2, 3, 4]
    assert queries.is_prepared(study)


def test_only_comparisons_leave_where_a_failure_would_take_only_those(tmp_path):
    study = prepared(tmp_path, blank=1, on_blank="drop", on_failure="drop_comparison")
    assert removed(study) == []
    assert queries.live_comparisons(study).count() == 2
    assert queries.is_prepared(study)


def test_the_rules_are_applied_anew_when_they_were_changed(tmp_path):
    study = prepared(tmp_path, blank=1, twins=(0, 2))
    for rule, gone in (("DROP", [0, 1, 2]), ("KEEP", [])):
        Study.objects.update(on_blank=rule, on_duplicate=rule)
        study.refresh_from_db()
        services.prepare(study, at=NOON)
        make_display_files(at=NOON)
        assert [position for position, _ in removed(study)] == gone
    assert queries.is_prepared(study)


def test_a_rule_changed_after_preparing_asks_to_prepare_again(tmp_path):
    study = prepared(tmp_path, blank=1)
    Study.objects.update(on_blank="DROP")
    study.refresh_from_db()
    assert "prepare it again" in queries.obstacles(study)[0]


def test_pictures_are_the_same_whatever_file_they_came_in(tmp_path):
    image_folder(tmp_path / "images")
    with Pictures.open(tmp_path / "images" / "alpha-0.png") as picture:
        picture.save(tmp_path / "images" / "alpha-2.png", compress_level=0)
    study = draft(tmp_path)
    services.prepare(study, at=NOON)
    assert [one.kind for one in queries.preparation(study, at=NOON).defects] == ["DUPLICATE"] * 2


def test_one_image_of_two_systems_is_no_duplicate(tmp_path):
    image_folder(tmp_path / "images")
    same = (tmp_path / "images" / "alpha-0.png").read_bytes()
    (tmp_path / "images" / "beta-1.png").write_bytes(same)
    study = draft(tmp_path)
    services.prepare(study, at=NOON)
    assert queries.preparation(study, at=NOON).defects == ()


def lossy(picture: Pictures.Image, quality: int) -> Pictures.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Pictures.open(file).convert("RGB")


def grain(colour: int, spread: float) -> Pictures.Image:
    """One colour under normal noise, as a decoder near its end or a camera leaves it."""
    noise = np.random.default_rng(1).normal(0, spread, (512, 512, 3))
    return Pictures.fromarray(np.clip(np.rint(colour + noise), 0, 255).astype(np.uint8))


def drawing(ground: int, ink: int, width: int = 1) -> Pictures.Image:
    picture = Pictures.new("RGB", (512, 512), (ground,) * 3)
    ImageDraw.Draw(picture).line((200, 210, 330, 260), fill=(ink,) * 3, width=width)
    return picture


def fog(top: int, bottom: int) -> Pictures.Image:
    rows = np.rint(np.linspace(top, bottom, 512)).astype(np.uint8)
    return Pictures.fromarray(np.broadcast_to(rows[:, None, None], (512, 512, 3)).copy())


@pytest.mark.parametrize(
    ("picture", "colour"),
    [
        (Pictures.new("RGB", (8, 8), (1, 2, 3)), "#010203"),
        (lossy(Pictures.new("RGB", (513, 301), (17, 200, 93)), 30), None),
        (lossy(Pictures.new("RGB", (512, 512)), 75), "#000000"),
        (grain(0, 0.5), "#000000"),
        (lossy(grain(0, 1.5), 75), None),
        (lossy(grain(128, 1), 75), "#808080"),
        (fog(200, 204), None),
    ],
)
def test_a_picture_of_one_colour_to_the_eye_is_blank(picture, colour):
    found = flat_colour(picture)
    assert found
    assert colour in (None, found)


@pytest.mark.parametrize(
    "picture",
    [
        drawing(255, 250),
        lossy(drawing(255, 235), 75),
        drawing(0, 12, width=3),
        lossy(drawing(0, 12, width=3), 50),
        fog(200, 208),
        grain(128, 2),
    ],
)
def test_what_an_eye_can_see_is_not_blank(picture):
    assert flat_colour(picture) == ""


def test_one_pixel_of_another_colour_is_enough():
    picture = Pictures.new("RGB", (8, 8), (1, 2, 3))
    picture.putpixel((7, 7), (1, 2, 8))
    assert flat_colour(picture) == ""


def test_the_command_lists_them_before_the_study_opens(tmp_path):
    image_folder(tmp_path / "images")
    Pictures.new("RGB", (64, 64)).save(tmp_path / "images" / "alpha-1.png")
    out = io.StringIO()
    call_command("study", "apply", str(study_file(tmp_path)), stdout=out)
    with pytest.raises(CommandError, match="1 blank image:"):
        call_command("study", "prepare", "small", stdout=out)
    call_command("study", "status", "small", stdout=out)
    assert out.getvalue().count("p001, “two blue doors”: blank image of alpha") == 2


def test_the_report_says_what_was_found_and_what_the_rule_did(tmp_path):
    study = prepared(tmp_path, blank=1, twins=(0, 2), on_blank="drop", on_duplicate="keep")
    open_study(study=study, at=NOON)
    close_study(study=study, at=NOON + HOUR)
    report = write_report(study, tmp_path / "report", at=NOON + HOUR).data
    contract.check(report)
    told = [
        (one["prompt_id"], one["kind"], one["rule"], one["in_study"])
        for one in report["study"]["image_defects"]
    ]
    assert told == [
        ("p000", "DUPLICATE", "KEEP", True),
        ("p001", "BLANK", "DROP", False),
        ("p002", "DUPLICATE", "KEEP", True),
    ]
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Kept: a duplicate image of System alpha on prompt p000" in page
    assert Prompt.objects.get(position=1).removed_reason in page


def test_the_report_tells_of_an_image_that_was_made_anew(tmp_path):
    study = prepared(tmp_path)
    hurt = study.prompts.get(position=2).entries.get(system__key="beta").image
    Path(hurt.file.path).write_bytes(b"cut short")
    with pytest.raises(DamagedFileError):
        read_stored(hurt, at=NOON - HOUR)
    services.prepare(study, at=NOON)  # the folder still has it
    open_study(study=study, at=NOON)
    close_study(study=study, at=NOON + HOUR)
    report = write_report(study, tmp_path / "report", at=NOON + HOUR).data
    contract.check(report)
    told = report["study"]["image_events"]
    assert [(one["kind"], one["prompt_id"], one["system"]) for one in told] == [
        ("DAMAGED", "p002", "beta"),
        ("REPAINTED", "p002", "beta"),
    ]
    assert told[1]["sha256_before"] == told[1]["sha256_after"] == hurt.sha256
    page = (tmp_path / "report" / "report.html").read_text()
    image, day = "The image of System beta on prompt p002", f"{NOON:%Y-%m-%d}"
    before = "11:00 UTC, before this study was opened"
    assert f"{image} was found damaged in the store ({day} {before})." in page
    again = "was made a second time, with the same pixels"
    assert f"{image} {again} ({day} 12:00 UTC)." in page
