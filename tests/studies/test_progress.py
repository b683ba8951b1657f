"""How far painting is: counts, a rate that says nothing it does not know, and reasons."""

from datetime import datetime, timedelta

import pytest

from evalsite.studies import painting, services
from evalsite.studies.models import Entry, Study
from evalsite.studies.progress import SystemProgress, progress
from generation.failures import gist, without_numbers
from generation.models import Image
from generation.services import claim_images
from tests import world
from tests.studies.files import draft, imported, painted
from tests.world import HOUR, MINUTE, NOON, SECOND

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def asked(n_prompts: int = 40, **options: object) -> Study:
    study = world.study(n_prompts=n_prompts, n_systems=2, **options)
    services.prepare(study, at=NOON)
    return study


def come(study: Study, n: int, at: datetime, batch: int = 1, system: str = "system-0") -> None:
    """A worker has finished so many more of a system's images, all at once."""
    waiting = Entry.objects.filter(system__study=study, system__key=system, image__status="QUEUED")
    ids = list(waiting.order_by("pk").values_list("image_id", flat=True)[:n])
    Image.objects.filter(pk__in=ids).update(
        status="READY",
        file="images/there.webp",
        sha256="0",
        width=64,
        height=64,
        finished_at=at,
        provenance={"batch_size": batch},
    )


def first_of(study: Study, *, at: datetime) -> SystemProgress:
    return progress(study, at=at)[0]


def broken(study: Study, *errors: str, system: str = "system-0") -> list[int]:
    """The system's images have failed with these errors; their ids."""
    waiting = Entry.objects.filter(system__study=study, system__key=system, image__status="QUEUED")
    ids = list(waiting.order_by("pk").values_list("image_id", flat=True)[: len(errors)])
    for pk, error in zip(ids, errors, strict=True):
        Image.objects.filter(pk=pk).update(status="FAILED", error=error, finished_at=NOON)
    return ids


# How far.


def test_every_image_is_counted_under_what_became_of_it():
    study = asked(6)
    come(study, 2, NOON)
    broken(study, "no")
    ids = Image.objects.filter(status="QUEUED", entries__system__key="system-0")
    claim_images([ids.order_by("pk")[0].pk], task_id="task", at=NOON)
    one, other = progress(study, at=NOON)
    assert (one.wanted, one.ready, one.failed, one.claimed, one.queued) == (6, 2, 1, 1, 2)
    assert (one.pending, one.unasked, one.displayed) == (3, 0, 0)
    assert (other.key, other.queued) == ("system-1", 6)
    painting.cancel(study, system="system-0", at=NOON)
    one = first_of(study, at=NOON)
    assert (one.pending, one.unasked, one.cancelled_at) == (0, 3, NOON)


def test_before_it_is_prepared_a_study_has_asked_for_nothing():
    one, _ = progress(world.study(n_prompts=3), at=NOON)
    assert (one.wanted, one.ready, one.pending, one.unasked) == (3, 0, 0, 3)


# How fast.


def test_the_rate_is_that_of_the_last_minutes_and_says_when_it_will_be_done():
    study = asked(40)
    for number in range(6):  # four every ten seconds
        come(study, 4, NOON + MINUTE + 10 * number * SECOND, batch=4)
    one = first_of(study, at=NOON + MINUTE + 50 * SECOND)
    assert one.rate == pytest.approx(0.4)
    assert one.time_left == timedelta(seconds=16 / 0.4)


@pytest.mark.parametrize("n_batches", [0, 1])
def test_one_batch_does_not_say_how_long_one_takes(n_batches):
    study = asked(40)
    for _ in range(n_batches):
        come(study, 16, NOON + MINUTE, batch=16)
    one = first_of(study, at=NOON + MINUTE + SECOND)
    assert (one.rate, one.time_left) == (None, None)


def test_batches_that_were_stored_together_say_no_more_than_one():
    study = asked(40)
    come(study, 16, NOON + MINUTE, batch=4)
    come(study, 16, NOON + 2 * MINUTE, batch=4)
    assert first_of(study, at=NOON + 2 * MINUTE).rate == pytest.approx(16 / 60)


def test_the_rate_falls_while_nothing_comes_and_is_soon_not_known():
    study = asked(40)
    for number in range(5):
        come(study, 1, NOON + number * SECOND)
    rates = [first_of(study, at=NOON + n * SECOND).rate for n in (4, 8, 60)]
    assert rates == [pytest.approx(1.0), pytest.approx(0.5), pytest.approx(4 / 60)]
    assert first_of(study, at=NOON + 65 * SECOND).rate is None


def test_a_slow_painter_is_waited_for_longer():
    study = asked(40)
    for number in range(3):
        come(study, 1, NOON + 2 * number * MINUTE)
    assert first_of(study, at=NOON + 6 * MINUTE).rate == pytest.approx(2 / 360)


def test_what_was_painted_long_ago_says_nothing_about_now():
    study = asked(40)
    for number in range(20):
        come(study, 1, NOON + number * SECOND)
    for number in range(5):
        come(study, 1, NOON + HOUR + 10 * number * SECOND)
    assert first_of(study, at=NOON + HOUR + 40 * SECOND).rate == pytest.approx(0.1)


def test_images_that_were_there_before_do_not_count_as_painted_now():
    other = asked(30)
    for number in range(30):
        come(other, 1, NOON + number * SECOND)
    study = world.study(n_prompts=40)
    services.prepare(study, at=NOON + 30 * SECOND)
    one = first_of(study, at=NOON + 31 * SECOND)
    assert (one.ready, one.pending, one.rate) == (30, 10, None)


def test_imported_images_have_no_rate(tmp_path):
    study = draft(tmp_path, systems=[imported("alpha"), painted("beta")])
    services.prepare(study, at=NOON)
    alpha, beta = progress(study, at=NOON + SECOND)
    assert (alpha.ready, alpha.rate, alpha.time_left) == (3, None, None)
    assert (beta.pending, beta.rate) == (3, None)


# Why images failed.


def test_errors_that_differ_in_numbers_alone_are_one_reason_with_an_example():
    study = asked(8)
    ids = broken(
        study,
        "Painting failed. ValueError: prompt 17 has 93 tokens",
        "The pipeline could not be loaded. OSError: unet is not there",
        "Painting failed. ValueError: prompt 4 has 101 tokens",
        "Painting failed. ValueError: prompt 5 has 101 tokens\nat 0x7f01\nand a tail",
    )
    one, other = progress(study, at=NOON)
    assert [(f.words, f.n, f.image_id) for f in one.failures] == [
        ("Painting failed. ValueError: prompt … has … tokens", 3, ids[0]),
        ("The pipeline could not be loaded. OSError: unet is not there", 1, ids[1]),
    ]
    assert one.failures[0].prompt == "prompt number 0"
    assert other.failures == ()


def test_a_long_reason_is_cut_visibly_and_a_whole_one_is_not():
    study = asked(4)
    broken(
        study,
        f"OSError: {'far ' * 100}away",
        f"ValueError: {'x' * 288}",  # 300 characters, all of which are read
        f"RuntimeError: short\n{'and a tail ' * 60}",
    )
    told = {failure.words for failure in first_of(study, at=NOON).failures}
    assert told == {
        f"OSError: {'far ' * 72}far…",
        f"ValueError: {'x' * 288}",
        "RuntimeError: short",
    }


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("Traceback (most recent call last):\n  File x\nOSError: full\n", "OSError: full"),
        ("RuntimeError: CUDA error\nCompile with TORCH_USE_CUDA_DSA.", "RuntimeError: CUDA error"),
        ("\n", "no reason was given"),
    ],
)
def test_the_telling_line_of_an_error_stands_for_it(error, line):
    assert gist(error) == line


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Tried to allocate 2.50 GiB. Process 81", "Tried to allocate 20 GiB. Process 9", True),
        ("object at 0x7f3a01bc", "object at 0x55", True),
        ("task 3f2b8c1e-0000-4abc-9def-0123456789ab", "task 00000000-" + "1234-" * 3 + "a" * 12, 1),
        ("file 9b2c01ffe3a0", "file 0011223344ff", True),
        ("KeyError: 'unet'", "KeyError: 'vae'", False),
        ("sdxl1 is gone", "sdxl2 is gone", False),
        ("in fp16", "in fp32", False),
    ],
)
def test_numbers_and_identifiers_make_no_reason_of_their_own(one, other, alike):
    assert (without_numbers(one) == without_numbers(other)) == alike


def test_of_very_many_different_errors_the_rest_is_counted(monkeypatch):
    monkeypatch.setattr("evalsite.studies.progress.N_ERRORS", 2)
    study = asked(6)
    broken(study, "alpha", "beta", "gamma", "alpha", "delta")
    failures = first_of(study, at=NOON).failures
    assert [(one.words, one.n) for one in failures] == [
        ("alpha", 2),
        ("beta", 1),
        ("further failures, too many to read", 2),
    ]


# At what cost.


def test_it_takes_the_same_few_queries_at_any_size(django_assert_num_queries):
    for n_prompts in (6, 60):
        study = asked(n_prompts, seed=n_prompts)
        for number in range(3):
            come(study, 1, NOON + number * SECOND)
            come(study, 1, NOON + number * SECOND, system="system-1")
        broken(study, "one", "two")
        with django_assert_num_queries(6):
            progress(study, at=NOON + 3 * SECOND)
    done = world.prepared_study()
    with django_assert_num_queries(2):
        progress(done, at=NOON)
