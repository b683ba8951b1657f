"""A prompt, the weights, memory or a file is at fault, or nobody wants it any more."""

import json
import shutil
import signal
import time
from pathlib import Path

from django.conf import settings

from chaos.painting.edges import KILLED
from chaos.painting.faults.registry import AWHILE, BATCH, expect_attempts, fault
from chaos.painting.scene import PROMPTS, Scene, seeds, tiny
from evalsite.studies import queries as study_queries
from evalsite.studies import services as study_services
from evalsite.studies.models import Study
from evalsite.studies.spec import load_spec
from generation import pace, queries, services
from generation.models import Image, Pace
from generation.spec import find_checkpoint

DIED = f"{services.MAX_ATTEMPTS} times while it painted"


@fault("all is cancelled while a worker paints some of it, and asked for again later")
def cancelled(scene: Scene) -> None:
    site = scene.site
    ids = scene.ask_and_hold(BATCH + 3)
    services.withdraw(scene.rows(ids))
    scene.plan()
    scene.until_done(1)
    site.folder.put_forward(site.folder.now() + 2 * queries.NUDGE_AGAIN_AFTER)
    time.sleep(AWHILE)  # the sweep may send what it likes
    scene.until_quiet()
    states = set(scene.rows().values_list("status", "file"))
    scene.promise(states == {("CANCELLED", "")}, f"cancelled images became {states}")
    scene.promise(not scene.strays(), "what was painted of cancelled images lies about")
    scene.injure()
    services.ask_again(scene.rows(ids), at=site.folder.now())
    scene.recover()
    scene.judge()


@fault("a prompt that kills the process, with seven others in its batch")
def prompt_kills(scene: Scene) -> None:
    poison = PROMPTS[2]
    scene.plan(kill=poison)
    scene.injure()
    ids = scene.ask(BATCH)
    scene.site.worker()
    scene.until(
        lambda: not scene.pending() or len(scene.lines(KILLED)) > services.MAX_ATTEMPTS,
        "the images",
    )
    n_deaths = len(scene.lines(KILLED))
    scene.promise(n_deaths == services.MAX_ATTEMPTS, f"the prompt killed {n_deaths} processes")
    if n_deaths <= services.MAX_ATTEMPTS:
        scene.recover()
    scene.judge({ids[2]: DIED})


@fault("timing a recipe kills the process whenever it is tried; messages keep coming")
def timing_kills(scene: Scene) -> None:
    recipe = tiny(steps=5)
    Pace.objects.filter(recipe_digest=recipe.digest).delete()  # nobody has timed it
    scene.plan(kill=pace.prompt(0))
    scene.injure()
    for _ in range(pace.TIMINGS + 2):
        scene.ask(2, recipe)
        scene.site.worker()
        scene.recover()
        scene.until_quiet()
    n_deaths = len(scene.lines(KILLED))
    scene.promise(n_deaths == pace.TIMINGS, f"timing killed {n_deaths} processes")
    expect_attempts(scene, 1)
    scene.judge()


@fault("memory for two images at once, and a prompt that fits not even alone")
def memory_full(scene: Scene) -> None:
    scene.plan(largest=2, too_large=PROMPTS[5])
    scene.injure()
    ids = scene.ask(BATCH, tiny(steps=4))  # of this recipe it is remembered how little fits
    scene.site.worker()
    scene.recover()
    sizes = {row.provenance.get("batch_size", 0) for row in scene.rows(ids)}
    scene.promise(max(sizes) <= 2, f"batches of {sizes} images")
    expect_attempts(scene, 1, but=ids[5])
    scene.judge({ids[5]: "too small for one image"})


@fault("the weights are taken away; images of others wait beside")
def weights_missing(scene: Scene) -> None:
    there = find_checkpoint("tiny-base", settings.CHECKPOINT_DIRS)
    assert there
    ours = settings.CHECKPOINT_DIRS[-1] / f"taken-away-{next(seeds)}"
    shutil.copytree(there, ours)
    recipe = tiny(checkpoint=ours.name)
    elsewhere = ours.rename(scene.site.folder.path / ours.name)
    scene.injure()
    lost, _others = scene.ask(3, recipe), scene.ask(3)
    scene.site.worker()
    scene.recover()
    scene.judge(dict.fromkeys(lost, "no such folder"))
    elsewhere.rename(ours)
    services.retry_failed(scene.rows(lost), at=scene.site.folder.now())
    _expect_whole_again(scene)


def _expect_whole_again(scene: Scene) -> None:
    """What failed was asked for once more, and nothing stands in its way."""
    scene.until(lambda: not scene.pending(), "what was asked for again")
    states = set(scene.rows().values_list("status", flat=True))
    scene.promise(states == {"READY"}, f"asked for again, images are {states}")


@fault("no space left on the device, for longer than three attempts last")
def disk_full(scene: Scene) -> None:
    scene.plan(disk_full=True)
    scene.injure()
    ids = scene.ask(BATCH + 2)
    scene.site.worker()
    for n in range(services.MAX_ATTEMPTS + 2):
        scene.until_done(n + 1)
        scene.site.pass_leases(ids)
        scene.promise(not scene.rows().filter(status="READY").exists(), "READY on a full disk")
    scene.plan()
    scene.site.pass_leases(ids)
    scene.recover()
    scene.judge()


@fault("of a study's stored files one is cut short, one holds another picture")
def file_damaged(scene: Scene) -> None:
    site = scene.site
    study = _small_study(scene)
    site.sweep.send(signal.SIGSTOP)  # it makes the display files, so it must come later
    study_services.prepare(study, at=site.folder.now())
    wanted = Image.objects.filter(entries__prompt__study=study)
    scene.image_ids += wanted.values_list("pk", flat=True)
    site.worker()
    scene.recover()
    short, other, whole = (
        study.prompts.get(position=n).entries.select_related("image")[0].image for n in range(3)
    )
    scene.injure()
    content = Path(short.file.path).read_bytes()
    Path(short.file.path).write_bytes(content[: len(content) // 2])
    shutil.copy(whole.file.path, other.file.path)
    site.sweep.send(signal.SIGCONT)
    scene.until(lambda: study_queries.is_prepared(study), "the display files")
    scene.recover()
    removed = study.prompts.exclude(removed_at=None).values_list("position", flat=True)
    scene.promise(sorted(removed) == [0, 1], f"prompts {sorted(removed)} left, expected 0 and 1")
    scene.judge({short.pk: "not what was stored", other.pk: "not what was stored"})
    study_services.prepare(study, retry=True, at=site.folder.now())
    _expect_whole_again(scene)


def _small_study(scene: Scene) -> Study:
    number = next(seeds)
    systems = "".join(
        f"""
        [[systems]]
        key = "tiny-{steps}"
        label = "Tiny, {steps}"
        family = "sdxl"
        checkpoint = "tiny-base"
        steps = {steps}
        guidance = 0.0
        size = 64
        dtype = "float32"
        licence = "Apache-2.0"
        """
        for steps in (1, 2)
    )
    head = f"""
        title = "Damaged"
        slug = "damaged-{number}"
        seed = {number}
        votes_per_comparison = 1
        prompts = {json.dumps(PROMPTS[-3:])}
        display = {{ size = 64 }}
        """
    question = '\n[[criteria]]\nkey = "quality"\nquestion = "Which is better?"\n'
    file = scene.site.folder.path / "damaged.toml"
    file.write_text(head + systems + question)
    return study_services.apply_spec(load_spec(file), at=scene.site.folder.now())
