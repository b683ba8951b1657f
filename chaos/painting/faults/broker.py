"""The broker dies, forgets, or says things twice."""

import time

from chaos.painting.edges import BEGUN, DONE, HELD
from chaos.painting.faults.registry import AWHILE, expect_attempts, fault
from chaos.painting.scene import PROMPTS, Scene, tiny
from generation import services


@fault("kill -9 of Valkey with work at hand and queued; it starts again")
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


@fault("FLUSHALL with work at hand and queued", short=True)
def broker_emptied(scene: Scene) -> None:
    scene.ask_and_hold(3)
    ids = scene.ask(3, tiny(steps=2))
    scene.injure()
    scene.site.broker.empty()
    scene.plan()
    scene.site.pass_leases(ids)
    scene.recover()
    scene.judge()


@fault("all connections to the broker cut three times while a worker paints")
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
    expect_attempts(scene, 1)
    scene.judge()
    site.kill(*others)


@fault("a message delivered three times, to two workers at once", short=True)
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
    expect_attempts(scene, 1)
    scene.judge()
    site.kill(site.workers[-1])


@fault("a dead worker's message comes back while another paints")
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
    expect_attempts(scene, 2)  # one of the dead, one of the living: nobody came between
    scene.judge()
    site.kill(site.workers[-1])
