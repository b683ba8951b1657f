"""Processes die, are stopped, or stand still."""

import os
import signal
from datetime import timedelta

from chaos.painting.edges import BEGUN, DONE, HELD, KILLED, PAINTING, numbered
from chaos.painting.faults.registry import BATCH, expect_attempts, fault
from chaos.painting.scene import PROMPTS, Scene, tiny
from generation import messages
from generation.models import Image


@fault("nothing: images of two recipes", short=True)
def none(scene: Scene) -> None:
    worker = scene.site.worker()
    scene.injure()
    scene.ask(BATCH + 1)
    scene.ask(2, tiny(steps=2))
    scene.recover()
    scene.until_quiet()
    expect_attempts(scene, 1)
    devices = {row.provenance.get("device") for row in scene.rows()}
    scene.promise(devices == {"cpu"}, f"painted on {devices}")
    said = worker.said()
    scene.promise("Loaded tiny-base" in said, "the log does not say what was loaded")
    for noise in ("%|", "torchvision", "Traceback"):
        scene.promise(noise not in said, f"the worker's log holds {noise!r}")
    scene.judge()


@fault("kill -9 of the worker's child while it paints", short=True)
def child_killed(scene: Scene) -> None:
    ids = scene.ask_and_hold(3)
    child = scene.until_held().pid
    scene.injure()
    os.kill(child, signal.SIGKILL)
    scene.plan()
    scene.recover()  # without the sweep: the clock stays before any lease's end
    batches = {row.provenance.get("batch_size") for row in scene.rows(ids)}
    scene.promise(batches == {1}, f"after a death images came in batches of {batches}")
    expect_attempts(scene, 2)
    scene.judge()


@fault("kill -9 of the whole worker while it paints; another starts")
def worker_killed(scene: Scene) -> None:
    ids = scene.ask_and_hold(3)
    scene.injure()
    scene.site.kill(scene.site.worker())
    scene.plan()
    scene.site.pass_leases(ids)
    scene.site.worker()
    scene.recover()
    scene.judge()


@fault("SIGTERM to the worker while it paints; another starts", short=True)
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


@fault("kill -9 before each step from message to row, a new image each time")
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


@fault("kill -9 of the child while it paints and the batch before dries; clean_files later")
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


@fault("kill -9 of the child while it paints on with images of another message")
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


@fault("SIGSTOP until the lease is over and another painted; SIGCONT", short=True)
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
