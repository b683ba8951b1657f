"""What may go wrong with painting, one function each. Each says what it does to a real site."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.conf import settings

from chaos.painting.edges import BEGUN, DONE, HELD, KILLED, PAINTING, numbered
from chaos.painting.scene import PROMPTS, Scene, seeds, tiny
from evalsite.studies import queries as study_queries
from evalsite.studies import services as study_services
from evalsite.studies.models import Study
from evalsite.studies.spec import load_spec
from generation import messages, pace, queries, services
from generation.models import Image, Pace
from generation.spec import find_checkpoint

BATCH = 8  # how many images a worker paints at once on a CPU
AWHILE = 1.5  # seconds: some rounds of the sweep
DIED = f"{services.MAX_ATTEMPTS} times while it painted"


@dataclass(frozen=True)
class Fault:
    """A name for it, what is done, and the doing; `short` ones run in the tests."""

    name: str
    did: str
    run: Callable[[Scene], None]
    short: bool


FAULTS: dict[str, Fault] = {}


def _fault(
    did: str, *, short: bool = False
) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
    def register(run: Callable[[Scene], None]) -> Callable[[Scene], None]:
        name = run.__name__.replace("_", "-")
        FAULTS[name] = Fault(name, did, run, short)
        return run

    return register


@_fault("nothing: images of two recipes", short=True)
def none(scene: Scene) -> None:
    worker = scene.site.worker()
    scene.injure()
    scene.ask(BATCH + 1)
    scene.ask(2, tiny(steps=2))
    scene.recover()
    scene.until_quiet()
    _expect_attempts(scene, 1)
    devices = {row.provenance.get("device") for row in scene.rows()}
    scene.promise(devices == {"cpu"}, f"painted on {devices}")
    said = worker.said()
    scene.promise("Loaded tiny-base" in said, "the log does not say what was loaded")
    for noise in ("%|", "torchvision", "Traceback"):
        scene.promise(noise not in said, f"the worker's log holds {noise!r}")
    scene.judge()


def _expect_attempts(scene: Scene, n: int, but: int = 0) -> None:
    """So many for each image, but for one: a worker that lives costs none."""
    found = set(scene.rows().exclude(pk=but).values_list("attempts", flat=True))
    scene.promise(found == {n}, f"images took {sorted(found)} attempts, expected {n} each")


# Processes die.


@_fault("kill -9 of the worker's child while it paints", short=True)
def child_killed(scene: Scene) -> None:
    ids = scene.ask_and_hold(3)
    child = scene.until_held().pid
    scene.injure()
    os.kill(child, signal.SIGKILL)
    scene.plan()
    scene.recover()  # without the sweep: the clock stays before any lease's end
    batches = {row.provenance.get("batch_size") for row in scene.rows(ids)}
    scene.promise(batches == {1}, f"after a death images came in batches of {batches}")
    _expect_attempts(scene, 2)
    scene.judge()


@_fault("kill -9 of the whole worker while it paints; another starts")
def worker_killed(scene: Scene) -> None:
    ids = scene.ask_and_hold(3)
    scene.injure()
    scene.site.kill(scene.site.worker())
    scene.plan()
    scene.site.pass_leases(ids)
    scene.site.worker()
    scene.recover()
    scene.judge()


@_fault("SIGTERM to the worker while it paints; another starts", short=True)
def worker_stopped(scene: Scene) -> None:
    ids = scene.ask_and_hold(BATCH + 3)
    worker = scene.site.worker()
    scene.injure()
    os.kill(worker.pid, signal.SIGTERM)
    scene.until(lambda: "Warm shutdown" in worker.said(), "the worker to obey")
    scene.plan()
    scene.site.until_gone(worker)
    scene.promise(worker.status == 0, f"the worker's exit status is {worker.status}")
    states = list(scene.rows(ids).values_list("status", "attempts"))
    kept = [("READY", 1)] * BATCH + [("QUEUED", 0)] * 3
    scene.promise(states == kept, f"the worker left {states}")
    scene.promise(messages.waiting() == set(ids), "the worker did not hand its message back")
    scene.site.worker()
    scene.recover()
    scene.judge()


@_fault("kill -9 before each step from message to row, a new image each time")
def each_step(scene: Scene) -> None:
    names = _steps_of_one_image(scene)
    scene.injure()
    steps = [numbered(name, names[: n + 1].count(name)) for n, name in enumerate(names)]
    for number, step in enumerate(steps, 1):
        scene.plan(die_at=step)
        (image,) = scene.ask(1)
        scene.recover()
        scene.until_quiet()
        deaths = [line.step for line in scene.lines(KILLED)]
        expected = [f"{KILLED} before {one}" for one in steps[:number]]
        scene.promise(deaths == expected, f"the worker did not die before {step}")
        ready = scene.rows([image]).filter(status=Image.Status.READY).exists()
        scene.promise(ready, f"after a death before {step} the image is not READY")
    # Whole or not, a file that has no row yet stays behind: the row might have been written.
    storing = names[names.index("temporary file") + 1 : names.index(DONE)]
    scene.judge(orphans_allowed=len(storing))


@_fault("kill -9 of the child while it paints and the batch before dries; clean_files later")
def dying_while_drying(scene: Scene) -> None:
    scene.plan(hold=PROMPTS[BATCH])
    scene.ask(BATCH + 1)
    scene.site.worker()
    child = scene.until_held().pid
    scene.until(lambda: len(scene.lines("rename")) >= BATCH, "the files of the first batch")
    ready = scene.rows().filter(status=Image.Status.READY)
    scene.promise(not ready.exists(), "a row before its batch is dry")
    scene.injure()
    os.kill(child, signal.SIGKILL)
    scene.plan()
    scene.recover()
    scene.until_quiet()
    scene.judge(orphans_allowed=BATCH)
    cleaning = scene.site.clean_files(after=timedelta(days=2))
    scene.promise(cleaning.status == 0, f"clean_files: {cleaning.said()}")
    scene.judge()  # no file without a row is left, and no row without its file


@_fault("kill -9 of the child while it paints on with images of another message")
def dying_while_painting_on(scene: Scene) -> None:
    scene.ask_and_hold(2)
    others = scene.ask(BATCH + 1)
    scene.plan(hold=PROMPTS[BATCH])  # a prompt of theirs alone
    child = scene.until_held(2).pid
    own = [line.task_id for line in scene.lines(HELD)]
    scene.promise(own[0] == own[1], "nobody paints on")
    scene.injure()
    os.kill(child, signal.SIGKILL)
    scene.plan()
    scene.recover()  # without the sweep: the clock stays before any lease's end
    tried = set(scene.rows(others).values_list("attempts", flat=True))
    scene.promise(tried <= {1, 2}, f"images painted on took {sorted(tried)} attempts")
    scene.judge(orphans_allowed=BATCH)


def _steps_of_one_image(scene: Scene) -> list[str]:
    """What a worker does for one image, as its diary has it, once the pipeline is loaded."""
    for _ in range(2):
        scene.ask(1)
        scene.site.worker()
        scene.recover()
        scene.until_quiet()
    lines = scene.site.folder.diary()
    # Not the last message: the sweep may have sent a second one for the same image.
    painted = [line.task_id for line in lines if line.step == PAINTING][-1]
    return [line.step for line in lines if line.task_id == painted and line.step != BEGUN]


@_fault("all is cancelled while a worker paints some of it, and asked for again later")
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


# Prompts, memory, weights.


@_fault("a prompt that kills the process, with seven others in its batch")
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


@_fault("timing a recipe kills the process whenever it is tried; messages keep coming")
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
    _expect_attempts(scene, 1)
    scene.judge()


@_fault("memory for two images at once, and a prompt that fits not even alone")
def memory_full(scene: Scene) -> None:
    scene.plan(largest=2, too_large=PROMPTS[5])
    scene.injure()
    ids = scene.ask(BATCH, tiny(steps=4))  # of this recipe it is remembered how little fits
    scene.site.worker()
    scene.recover()
    sizes = {row.provenance.get("batch_size", 0) for row in scene.rows(ids)}
    scene.promise(max(sizes) <= 2, f"batches of {sizes} images")
    _expect_attempts(scene, 1, but=ids[5])
    scene.judge({ids[5]: "too small for one image"})


@_fault("the weights are taken away; images of others wait beside")
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


# Files.


@_fault("no space left on the device, for longer than three attempts last")
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


@_fault("of a study's stored files one is cut short, one holds another picture")
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


# The broker.


@_fault("kill -9 of Valkey with work at hand and queued; it starts again")
def broker_killed(scene: Scene) -> None:
    site = scene.site
    scene.ask_and_hold(3)
    scene.ask(3, tiny(steps=2))
    scene.injure()
    site.broker.server.terminate()
    scene.ask(3, tiny(steps=3))  # nobody hears of them
    scene.until(lambda: "The broker is away" in site.sweep.said(), "the sweep to notice")
    time.sleep(AWHILE)
    site.broker.server.start()
    scene.plan()
    scene.recover()
    scene.until(lambda: "The broker is back" in site.sweep.said(), "the sweep to notice")
    said = [site.sweep.said().count(f"The broker is {where}") for where in ("away", "back")]
    scene.promise(said == [1, 1], f"the sweep said {said} times that it was away and back")
    scene.judge()


@_fault("FLUSHALL with work at hand and queued", short=True)
def broker_emptied(scene: Scene) -> None:
    scene.ask_and_hold(3)
    ids = scene.ask(3, tiny(steps=2))
    scene.injure()
    scene.site.broker.empty()
    scene.plan()
    scene.site.pass_leases(ids)
    scene.recover()
    scene.judge()


@_fault("all connections to the broker cut three times while a worker paints")
def connections_cut(scene: Scene) -> None:
    """A worker that loses its connection puts its message back, and goes on painting."""
    site = scene.site
    scene.ask_and_hold(3)
    others = [site.start_worker() for _ in range(2)]
    scene.injure()
    for _ in range(services.MAX_ATTEMPTS):
        scene.until(lambda: site.broker.n_listeners() >= 3, "the workers to connect")
        site.broker.cut_connections()
    scene.until(lambda: site.broker.n_listeners() >= 3, "the workers to connect")
    scene.until(lambda: not site.broker.messages(), "the message to be taken")
    scene.plan()
    scene.recover()
    _expect_attempts(scene, 1)
    scene.judge()
    site.kill(*others)


@_fault("a message delivered three times, to two workers at once", short=True)
def duplicates(scene: Scene) -> None:
    site = scene.site
    site.kill(*site.workers)
    scene.plan(hold=PROMPTS[0])
    scene.ask(3)
    site.broker.deliver(site.broker.messages() * 2)
    scene.injure()
    for _ in range(2):
        site.start_worker()
    scene.until(lambda: len(scene.lines(HELD)) + len(scene.lines(DONE)) > 1, "both to be told")
    scene.plan()
    scene.recover()
    scene.until_quiet()
    _expect_attempts(scene, 1)
    scene.judge()
    site.kill(site.workers[-1])


@_fault("a dead worker's message comes back while another paints")
def late_delivery(scene: Scene) -> None:
    site = scene.site
    ids = scene.ask_and_hold(3)
    scene.injure()
    site.kill(site.worker())
    site.pass_leases(ids)
    site.start_worker()
    scene.until_held(2)
    site.broker.forget_who_works()
    site.start_worker()  # it restores what nobody seems to work on: the other's message too
    scene.until(lambda: len(scene.lines(BEGUN)) > 2, "a message to come again")
    scene.plan()
    scene.recover()
    scene.until_quiet()
    _expect_attempts(scene, 2)  # one of the dead, one of the living: nobody came between
    scene.judge()
    site.kill(site.workers[-1])


# Time.


@_fault("SIGSTOP until the lease is over and another painted; SIGCONT", short=True)
def worker_stalled(scene: Scene) -> None:
    site = scene.site
    ids = scene.ask_and_hold(3)
    stalled = site.worker()
    child = scene.until_held().pid
    scene.injure()
    stalled.send(signal.SIGSTOP)
    scene.plan()
    site.pass_leases(ids)
    site.start_worker()
    scene.recover()
    before = scene.snapshot()
    stalled.send(signal.SIGCONT)
    scene.until(lambda: child in {line.pid for line in scene.lines(DONE)}, "it to come back")
    scene.promise(scene.snapshot() == before, "a late result was stored")
    scene.judge()
    site.kill(stalled)
