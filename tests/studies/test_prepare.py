"""Entries, comparisons and display files of a draft: laid once, resumable, the same for all."""

import hashlib
from collections.abc import Iterable
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from evalsite.studies import display_files, queries, services
from evalsite.studies.display_files import make_display_files
from evalsite.studies.models import Comparison, Entry, Study
from evalsite.studies.queries import seed_of
from evalsite.studies.services import CannotPrepare, StudyNotDraft
from evalsite.voting.services import NotPrepared, open_study
from generation.models import Image
from tests.studies.files import PROMPTS, draft, image_folder, imported, painted, picture
from tests.world import NOON

pytestmark = pytest.mark.django_db

THREE = [painted("a"), painted("b", steps=2), painted("c", steps=1)]


def laid(folder, **changes: Any) -> Study:
    """A draft whose images are asked for and not there yet."""
    study = draft(folder, **{"systems": THREE} | changes)
    services.prepare(study, at=NOON)
    return study


def arrive(images: Iterable[Image], size: tuple[int, int] = (64, 64)) -> None:
    """A worker has painted these."""
    for image in images:
        colour = (image.pk * 37 % 200, image.pk * 11 % 200, 90)
        data = picture(colour, size)
        image.file.save("painted.png", ContentFile(data), save=False)
        image.sha256, image.status = hashlib.sha256(data).hexdigest(), Image.Status.READY
        image.width, image.height = size
        image.save()


def fail(image: Image, reason: str = "out of memory") -> None:
    image.status, image.error = Image.Status.FAILED, f"Traceback ...\n{reason}"
    image.save()


def break_file(image: Image) -> None:
    """It was stored as something that is no image."""
    image.sha256 = hashlib.sha256(b"not an image").hexdigest()
    image.file.save("broken.png", ContentFile(b"not an image"))


def waiting(study: Study) -> list[Image]:
    return list(Image.objects.filter(entries__prompt__study=study, status="QUEUED").distinct())


def entry(study: Study, system: str, position: int = 0) -> Entry:
    return Entry.objects.get(prompt__study=study, prompt__position=position, system__key=system)


# Laying


def test_every_system_gets_the_same_seed_on_a_prompt(tmp_path):
    study = laid(tmp_path)
    for prompt in study.prompts.all():
        seeds = set(prompt.entries.values_list("seed", flat=True))
        assert seeds == {seed_of(study.seed, prompt.text)}
        images = Image.objects.filter(entries__prompt=prompt)
        assert set(images.values_list("seed", flat=True)) == seeds
    assert Entry.objects.values("seed").distinct().count() == len(PROMPTS)


def test_seeds_are_exact_in_json_and_differ_by_study_prompt_and_sample():
    seeds = {seed_of(s, text, sample) for s in range(9) for text in "abc" for sample in range(3)}
    assert len(seeds) == 81
    assert all(0 <= seed < 2**53 for seed in seeds)
    assert max(seeds) > 2**52
    assert seed_of(7, "a red kite") == 3258945142224340  # written down: it must never change


def test_every_two_systems_are_compared_in_study_order(tmp_path):
    study = laid(tmp_path)
    for prompt in study.prompts.all():
        pairs = Comparison.objects.filter(first__prompt=prompt, second__prompt=prompt)
        keys = pairs.order_by("pk").values_list("first__system__key", "second__system__key")
        assert list(keys) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_each_system_is_compared_with_the_baseline_only(tmp_path):
    study = laid(tmp_path, pairs="baseline", baseline="b")
    pairs = queries.live_comparisons(study).values_list("first__system__key", "second__system__key")
    assert set(pairs) == {("a", "b"), ("b", "c")}
    assert pairs.count() == 6


def test_preparing_again_asks_for_nothing_twice(tmp_path):
    study = laid(tmp_path)
    before = [list(model.objects.order_by("pk").values()) for model in (Entry, Comparison, Image)]
    services.prepare(study, at=NOON)
    assert before == [
        list(model.objects.order_by("pk").values()) for model in (Entry, Comparison, Image)
    ]


def test_studies_with_equal_recipes_prompts_and_seeds_share_images(tmp_path):
    laid(tmp_path)
    other = laid(tmp_path, slug="other", systems=THREE[:2], prompts=[*PROMPTS[:2], "new"])
    assert Image.objects.count() == 9 + 2
    assert Entry.objects.filter(prompt__study=other).count() == 6


def test_another_study_seed_asks_for_other_images(tmp_path):
    laid(tmp_path)
    laid(tmp_path, slug="other", seed=8)
    assert Image.objects.count() == 18


def test_a_changed_draft_is_laid_anew_and_keeps_what_is_still_wanted(tmp_path):
    study = laid(tmp_path)
    kept = entry(study, "a", 1).pk
    study.prompts.filter(position=0).update(text="something else")
    system = study.systems.get(key="c")
    system.recipe["steps"] = 3
    system.save()
    services.prepare(study, at=NOON)
    assert entry(study, "a", 1).pk == kept
    assert entry(study, "a", 0).image.prompt == "something else"
    assert {e.image.recipe["steps"] for e in system.entries.all()} == {3}
    assert Comparison.objects.count() == 9
    assert not Entry.objects.exclude(prompt__study=study).exists()


def test_an_opened_study_is_not_prepared_again(tmp_path):
    study = laid(tmp_path)
    arrive(waiting(study))
    make_display_files(at=NOON)
    open_study(study=study, at=NOON)
    with pytest.raises(StudyNotDraft):
        services.prepare(study, at=NOON)


def test_imported_images_are_ready_at_once(tmp_path):
    study = draft(tmp_path)
    preparation = services.prepare(study, at=NOON)
    assert [(s.key, s.ready) for s in preparation.systems] == [("alpha", 3), ("beta", 3)]
    assert make_display_files(at=NOON) == 6
    assert queries.is_prepared(study)


def test_imported_and_painted_systems_stand_side_by_side(tmp_path):
    image_folder(tmp_path / "images", ["alpha"])
    study = laid(tmp_path, systems=[imported("alpha"), painted("b")])
    assert queries.preparation(study, at=NOON).pending == 3
    arrive(waiting(study))
    assert make_display_files(at=NOON) == 6


def test_imported_images_smaller_than_the_display_need_an_upscaler(tmp_path):
    image_folder(tmp_path / "images", size=(48, 32))
    study = draft(tmp_path)
    with pytest.raises(CannotPrepare, match="alpha: 3 images are smaller than the display size"):
        services.prepare(study, at=NOON)
    assert not Entry.objects.exists()
    study.upscaler = "NEAREST"
    study.save()
    services.prepare(study, at=NOON)


def test_a_single_image_that_is_too_small_is_told_as_one(tmp_path):
    (tmp_path / "one").mkdir()
    image_folder(tmp_path / "one" / "images", size=(48, 32))
    study = draft(tmp_path / "one", prompts=[PROMPTS[0]])
    with pytest.raises(CannotPrepare, match="alpha: 1 image is smaller than the display size"):
        services.prepare(study, at=NOON)


# Display files


def test_a_prompt_is_shown_only_once_none_of_its_images_is_pending(tmp_path):
    study = laid(tmp_path)
    images = [entry(study, key).image for key in "abc"]
    arrive(images[:2])
    assert make_display_files(at=NOON) == 0
    arrive(images[2:])
    assert make_display_files(at=NOON) == 3
    assert Entry.objects.exclude(display="").count() == 3


def test_display_files_of_a_prompt_are_of_one_length_and_named_at_random(tmp_path):
    study = laid(tmp_path)
    arrive(waiting(study))
    make_display_files(at=NOON)
    names = list(Entry.objects.values_list("display", flat=True))
    assert len(set(names)) == 9
    for prompt in study.prompts.all():
        assert len({e.display.size for e in prompt.entries.all()}) == 1
    for name in names:
        folder, _, file = name.partition("/")
        assert folder == "display"
        assert len(file) == 32 + len(".webp")


def test_making_them_again_makes_none(tmp_path):
    study = laid(tmp_path)
    arrive(waiting(study))
    assert make_display_files(at=NOON) == 9
    assert make_display_files(at=NOON) == 0


def test_a_call_stops_at_its_limit(tmp_path):
    study = laid(tmp_path)
    arrive(waiting(study))
    assert [make_display_files(at=NOON, limit=4) for _ in range(3)] == [6, 3, 0]


def stored_display_files() -> set[str]:
    return {f"display/{name}" for name in default_storage.listdir("display")[1]}


def test_whoever_comes_second_leaves_no_file_behind(tmp_path):
    study = laid(tmp_path)
    arrive(waiting(study))
    slow = list(study.prompts.first().entries.select_related("image", "system"))
    make_display_files(at=NOON)
    before = stored_display_files()
    frame = display_files._frame_of(study)
    assert display_files._store(slow, [b"late"] * 3, frame, at=NOON) == 0
    assert stored_display_files() == before
    assert not Entry.objects.filter(display="").exists()


def test_files_of_an_image_no_longer_wanted_are_not_attached(tmp_path):
    study = laid(tmp_path)
    arrive(waiting(study))
    slow = list(study.prompts.first().entries.select_related("image", "system"))
    other = entry(study, "a", 1)
    Entry.objects.filter(pk=slow[0].pk).update(image=other.image)  # the draft changed meanwhile
    frame = display_files._frame_of(study)
    assert display_files._store(slow, [b"late"] * 3, frame, at=NOON) == 0
    assert not Entry.objects.exclude(display="").exists()  # all or none


def test_files_made_for_an_older_frame_are_not_attached(tmp_path):
    study = laid(tmp_path)
    arrive(waiting(study))
    slow = list(study.prompts.first().entries.select_related("image", "system"))
    frame = display_files._frame_of(study)
    Study.objects.filter(pk=study.pk).update(display_size=32)  # edited while files were made
    assert display_files._store(slow, [b"late"] * 3, frame, at=NOON) == 0
    assert not Entry.objects.exclude(display="").exists()


def test_painted_images_below_the_display_size_keep_the_study_closed(tmp_path):
    study = laid(tmp_path)
    Study.objects.filter(pk=study.pk).update(display_size=128, upscaler="")
    study.refresh_from_db()
    arrive(waiting(study))
    make_display_files(at=NOON)
    assert "images are smaller than the display size" in " ".join(queries.obstacles(study))
    with pytest.raises(NotPrepared):
        open_study(study=study, at=NOON)


def test_a_new_system_makes_every_file_of_a_prompt_anew(
    tmp_path, django_capture_on_commit_callbacks
):
    study = laid(tmp_path, systems=THREE[:2])
    arrive(waiting(study))
    make_display_files(at=NOON)
    old = set(Entry.objects.values_list("display", flat=True))
    recipe = {**study.systems.first().recipe, "steps": 50}
    study.systems.create(key="z", label="Z", recipe=recipe, licence="CC0-1.0", position=9)
    with django_capture_on_commit_callbacks(execute=True):
        services.prepare(study, at=NOON)
    assert not old & stored_display_files()
    arrive(waiting(study), size=(96, 96))
    make_display_files(at=NOON)
    for prompt in study.prompts.all():
        assert len({e.display.size for e in prompt.entries.all()}) == 1


def test_a_store_that_is_away_is_waited_for(tmp_path):
    study = laid(tmp_path)
    arrive(waiting(study))
    first = entry(study, "a").image
    there = first.file.name
    Image.objects.filter(pk=first.pk).update(file="images/not-there-now.png")
    assert make_display_files(at=NOON) == 6  # the other prompts
    assert queries.live_prompts(study).count() == 3
    Image.objects.filter(pk=first.pk).update(file=there)
    assert make_display_files(at=NOON) == 3


# Failures


def test_a_prompt_with_a_failed_image_leaves_for_all_systems(tmp_path):
    study = laid(tmp_path)
    fail(entry(study, "b").image)
    arrive(waiting(study))
    assert make_display_files(at=NOON) == 6
    prompt = study.prompts.get(position=0)
    assert (prompt.removed_at, prompt.removed_reason) == (NOON, "no image of b: out of memory")
    assert queries.live_comparisons(study).count() == 6
    assert queries.is_prepared(study)
    assert open_study(study=study, at=NOON).spec["removed_prompts"][0]["text"] == PROMPTS[0]


def test_an_image_that_cannot_be_decoded_counts_as_failed(tmp_path):
    study = laid(tmp_path)
    arrive(waiting(study))
    break_file(entry(study, "b").image)
    make_display_files(at=NOON)
    reason = study.prompts.get(position=0).removed_reason
    assert reason.startswith("no image of b: expected an image")
    assert queries.is_prepared(study)


def test_a_stored_file_that_was_changed_is_not_shown_and_may_be_had_again(tmp_path):
    study = laid(tmp_path)
    arrive(waiting(study))
    hurt, other = entry(study, "b").image, entry(study, "b", 1).image
    with default_storage.open(hurt.file.name, "wb") as file:
        file.write(default_storage.open(other.file.name).read())  # a whole picture, but not this
    assert make_display_files(at=NOON) == 6
    hurt.refresh_from_db()
    assert (hurt.status, hurt.finished_at) == ("FAILED", NOON)
    assert "not what was stored" in hurt.error
    assert study.prompts.get(position=0).removed_reason == f"no image of b: {hurt.error}"
    services.prepare(study, retry=True, at=NOON)
    assert waiting(study) == [hurt]
    arrive([hurt])
    make_display_files(at=NOON)
    assert queries.is_prepared(study)


@pytest.mark.parametrize("how", ["failed", "broken"])
def test_only_the_comparisons_leave_where_the_study_says_so(tmp_path, how):
    study = laid(tmp_path, on_failure="drop_comparison")
    arrive(waiting(study))
    image = entry(study, "b").image
    if how == "failed":
        fail(image)
    else:
        break_file(image)
    assert make_display_files(at=NOON) == 8
    assert make_display_files(at=NOON) == 0
    gone = Comparison.objects.filter(removed_at__isnull=False)
    keys = gone.values_list("first__system__key", "second__system__key")
    assert set(keys) == {("a", "b"), ("b", "c")}
    assert not study.prompts.filter(removed_at__isnull=False).exists()
    assert queries.is_prepared(study)


@pytest.mark.parametrize("on_failure", ["drop_prompt", "drop_comparison"])
def test_what_failed_returns_when_it_is_tried_again(tmp_path, on_failure):
    study = laid(tmp_path, on_failure=on_failure)
    fail(entry(study, "b").image)
    arrive(waiting(study))
    make_display_files(at=NOON)
    assert queries.live_comparisons(study).count() < 9
    services.prepare(study, at=NOON)
    assert queries.live_comparisons(study).count() < 9  # a failed image stays failed
    services.prepare(study, retry=True, at=NOON)
    assert queries.live_comparisons(study).count() == 9
    arrive(waiting(study))
    make_display_files(at=NOON)
    assert queries.is_prepared(study)
    for prompt in study.prompts.all():
        assert len({e.display.size for e in prompt.entries.all()}) == 1


# Readiness


def test_what_stands_in_the_way_is_said_in_words(tmp_path):
    study = draft(tmp_path, systems=THREE)
    assert queries.obstacles(study) == [
        "the pairs are not laid: 9 missing, 0 no longer wanted",
    ]
    services.prepare(study, at=NOON)
    assert queries.obstacles(study) == ["9 images are not ready to be shown yet"]
    with pytest.raises(NotPrepared):
        open_study(study=study, at=NOON)
    arrive(waiting(study))
    make_display_files(at=NOON)
    assert queries.obstacles(study) == []
    study.pairing, study.baseline = "BASELINE", "a"
    study.save()
    assert queries.obstacles(study) == ["the pairs are not laid: 0 missing, 3 no longer wanted"]
    study.criteria.all().delete()
    assert "no criterion: raters would be asked nothing" in queries.obstacles(study)


def test_what_waits_for_the_sweep_is_told_from_what_is_to_be_painted(tmp_path):
    study = laid(tmp_path)
    how = "or: study prepare small"
    form = f"painted, but not yet in the form that raters see: the sweep makes that, {how}"
    arrive([entry(study, "a", 0).image])
    arrive([entry(study, "a", 1).image])
    arrive([entry(study, "b", 1).image])
    fail(entry(study, "c", 1).image)
    assert queries.obstacles(study) == [
        "5 images are not ready to be shown yet",
        "1 image is painted, but another of its prompt is not",
        f"2 images are {form}",
        f"1 image failed: the sweep takes out what needs it, {how}",
    ]
    arrive(waiting(study))
    assert queries.obstacles(study) == [
        f"8 images are {form}",
        f"1 image failed: the sweep takes out what needs it, {how}",
    ]
    make_display_files(at=NOON)
    assert queries.obstacles(study) == []


def test_progress_counts_by_system_with_reasons(tmp_path):
    study = laid(tmp_path)
    fail(entry(study, "b", 0).image)
    fail(entry(study, "b", 1).image)
    arrive([entry(study, "a", 2).image])
    a, b, c = queries.preparation(study, at=NOON).systems
    assert (a.wanted, a.ready, a.pending, a.failed) == (3, 1, 2, 0)
    assert (b.failed, b.pending, b.failures[0].words) == (2, 1, "out of memory")
    assert (c.pending, c.displayed) == (3, 0)


def test_progress_takes_the_same_few_queries_at_any_size(tmp_path, django_assert_num_queries):
    small = laid(tmp_path, systems=THREE[:2], prompts=["one"])
    large = laid(tmp_path, slug="large", prompts=[f"prompt {i}" for i in range(20)])
    for study in (small, large):
        with django_assert_num_queries(13):
            queries.preparation(study, at=NOON)
