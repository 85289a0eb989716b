"""Faults of Redis and of the way to it. The rows are the truth, so all that can be lost is time."""

from __future__ import annotations

import time

from services.client import Client
from shared.celery_app import make_celery, send
from shared.pipeline import Queue
from tests.faults.installation import Broken, wait_for
from tests.faults.scene import GOOD, WORKERS, Scene, fault


def _until_claimed(scene: Scene, job_id: str, *, for_s: float) -> float:
    """Wait until a task of the job has been claimed. Returns the seconds."""
    return wait_for(
        lambda: scene.installation.one(
            "SELECT count(*) FROM tasks WHERE job_id = :job AND claimed_at IS NOT NULL", job=job_id
        ),
        for_s=for_s,
        what=lambda: f"a claim: {scene.installation.describe(job_id)}",
    )


def _until_all_consume(scene: Scene, *, for_s: float = 90) -> float:
    """Wait until each keyframes worker has taken a task from now on. Returns the seconds."""
    installation = scene.installation
    waiting = {"keyframes", "keyframes-2"}
    parents = {name: set(installation.members[name].children()) for name in waiting}
    # As many as there are processes, slow, so that no worker can take them all.
    jobs = [installation.submit([url for _ in range(4) for url in scene.urls(GOOD[:1], slow_s=2)])]

    def all_have() -> bool:
        owners = installation.rows(
            "SELECT DISTINCT owner FROM tasks WHERE state = 'running' AND job_id = CAST(:job AS uuid)", job=jobs[-1]
        )
        pids = {int(row.owner.rpartition(":")[2]) for row in owners}
        for name in list(waiting):
            if pids & parents[name]:
                waiting.discard(name)
        if waiting and installation.state_of(jobs[-1]) == "succeeded":
            jobs.append(installation.submit([url for _ in range(4) for url in scene.urls(GOOD[:1], slow_s=2)]))
        return not waiting

    took_s = wait_for(all_have, for_s=for_s, what=lambda: f"{', '.join(waiting)} to consume")
    for job_id in jobs:
        installation.wait_final(job_id, for_s=scene.timing.patience_s)
    return took_s


def _restarts(scene: Scene, *, busy: bool) -> float:
    """Take Redis down a few times without persistence. Returns the longest wait until workers consumed again."""
    installation = scene.installation
    longest_s = 0.0
    for _ in range(scene.timing.redis_cycles):
        before = scene.submit(GOOD, slow_s=scene.timing.redis_down_s) if busy else None
        if before:
            installation.wait_running("keyframes", job_id=before)
        scene.wait_a_moment()
        installation.crash(installation.redis)
        time.sleep(scene.timing.redis_down_s)
        during = scene.submit(GOOD[:1])
        installation.redis.start()
        longest_s = max(longest_s, _until_all_consume(scene))
        scene.finish(during, GOOD[:1])
        if before:
            scene.finish(before)
            if installation.attempts(before) != 1:
                raise Broken("work was repeated although its worker lived")
    return longest_s


@fault(
    "F5",
    "Redis killed and started empty, workers idle",
    measures="until workers consume again",
    short=True,
    within_s=lambda scene: 15,
)
def restart_idle(scene: Scene) -> float:
    return _restarts(scene, busy=False)


@fault(
    "F5b",
    "Redis killed and started empty, workers busy",
    measures="until workers consume again",
    within_s=lambda scene: 15,
)
def restart_busy(scene: Scene) -> float:
    return _restarts(scene, busy=True)


def _silence(scene: Scene, *, busy: bool) -> float:
    """A route to Redis that swallows everything. Returns the seconds from its end until workers consume again."""
    installation = scene.installation
    before = scene.submit(GOOD, slow_s=scene.timing.silence_s / 2) if busy else None
    if before:
        installation.wait_running("keyframes", job_id=before)
    pids = [installation.members[name].pid for name in WORKERS]
    scene.wait_a_moment()
    installation.cut("redis", *WORKERS, mode="silent")
    time.sleep(scene.timing.silence_s)
    installation.heal("redis", *WORKERS)
    took_s = _until_all_consume(scene)
    if before:
        scene.finish(before)
    if pids != [installation.members[name].pid for name in WORKERS]:
        raise Broken("a worker was started again")
    return took_s


@fault(
    "F6",
    "a network to Redis that goes silent, workers idle",
    measures="from its healing until workers consume again",
    short=True,
    within_s=lambda scene: 15,
)
def silence_idle(scene: Scene) -> float:
    return _silence(scene, busy=False)


@fault(
    "F6b",
    "a network to Redis that goes silent, workers busy",
    measures="from its healing until workers consume again",
    within_s=lambda scene: 15,
)
def silence_busy(scene: Scene) -> float:
    return _silence(scene, busy=True)


@fault(
    "F7",
    "FLUSHALL with many tasks queued and four running",
    measures="until the first queued task runs",
    short=True,
    within_s=lambda scene: 90,
)
def flush(scene: Scene) -> float:
    installation = scene.installation
    # One slow source for each process, so that everything else waits.
    running = installation.submit([url for _ in range(4) for url in scene.urls(GOOD[:1], slow_s=6)])
    installation.wait_running("keyframes", job_id=running, n=4)
    [url] = scene.urls(GOOD[:1])  # one video, so that the many are fast
    queued = installation.submit([f"{url}&number={i}" for i in range(scene.timing.many)])
    with installation.broker() as broker:
        wait_for(lambda: broker.llen(Queue.KEYFRAMES.value), for_s=5, what="messages to be queued")
        scene.wait_a_moment()
        broker.flushall()
    took_s = _until_claimed(scene, queued, for_s=120)
    for job_id in (running, queued):
        installation.wait_final(job_id, for_s=scene.timing.patience_s)
        if installation.state_of(job_id) != "succeeded" or installation.attempts(job_id) != 1:
            raise Broken(f"not each once: {installation.describe(job_id)}")
    return took_s


@fault("F8", "Redis is full", measures="from room being there until the job ended", short=True)
def full(scene: Scene) -> float:
    installation = scene.installation
    with installation.broker() as broker:
        broker.config_set("maxmemory", "1")
        job_id = scene.submit()
        time.sleep(3)
        if installation.one("SELECT count(*) FROM tasks WHERE job_id = :job AND claimed_at IS NOT NULL", job=job_id):
            raise Broken("a message went through a Redis that was full")
        if not installation.is_running("dispatcher"):
            raise Broken("the dispatcher ended")
        broker.config_set("maxmemory", "0")
    return scene.finish(job_id)


@fault("F9", "Redis is away when the API starts and a job is submitted", measures="from its return until the job ended")
def away(scene: Scene) -> float:
    installation = scene.installation
    installation.redis.stop()
    installation.end("api")
    installation.start("api")
    if not installation.answers("/readyz"):
        raise Broken("the API says that it is not ready")
    job_id = scene.submit()
    installation.redis.start()
    return scene.finish(job_id)


@fault("F12", "one message delivered ten times at once", measures="until the job ended", short=True)
def doubled(scene: Scene) -> float:
    installation = scene.installation
    installation.order("dispatcher.after_publish", "hold")  # so that its own message is one of them
    job_id = scene.submit(GOOD[:1], slow_s=1)
    installation.wait_reached("dispatcher.after_publish")
    task_id = str(installation.one("SELECT id FROM tasks WHERE job_id = :job", job=job_id))
    app = make_celery(installation.settings_for_us())
    for _ in range(9):
        send(app, Queue.KEYFRAMES, task_id)
    app.close()
    installation.let_go("dispatcher.after_publish")
    took_s = scene.finish(job_id, GOOD[:1])

    def seen() -> int:
        logs = installation.log_of("keyframes") + installation.log_of("keyframes-2")
        return sum("event=nothing_to_claim" in line and task_id in line for line in logs.splitlines())

    wait_for(lambda: seen() == 9, for_s=30, what=lambda: f"nine deliveries with nothing to claim, not {seen()}")
    if installation.attempts(job_id) != 1:
        raise Broken("it ran more than once")
    return took_s


@fault("F17", "10,000 tasks queued and one worker", measures="the slowest of the API's answers meanwhile")
def slow_consumer(scene: Scene) -> float:
    installation = scene.installation
    installation.end("keyframes-2")
    [url] = scene.urls(GOOD[:1])
    job_id = installation.submit([f"{url}&number={i}" for i in range(10_000)])
    most, slowest_s = 0, 0.0
    client: Client = installation.client
    until = time.monotonic() + 30
    with installation.broker() as broker:
        while time.monotonic() < until:
            began_at = time.monotonic()
            client.job(job_id)
            slowest_s = max(slowest_s, time.monotonic() - began_at)
            most = max(most, int(broker.llen(Queue.KEYFRAMES.value)))
            time.sleep(0.2)
    if most > installation.settings.sent_window + 50:
        raise Broken(f"{most} messages were in the queue")
    if slowest_s > 1:
        raise Broken(f"the API took {slowest_s:.1f} s")
    client.cancel(job_id)
    installation.start("keyframes-2")
    return slowest_s


@fault("F28", "a rolling upgrade under load, old and new messages mixed", measures="until the job ended")
def roll(scene: Scene) -> float:
    installation = scene.installation
    jobs = [scene.submit(slow_s=2) for _ in range(3)]
    app = make_celery(installation.settings_for_us())
    # What a later version may send: more than we know of, and a body that only it can read.
    for body in ({"v": 1, "later": True}, {"v": 2}):
        for task_id in installation.rows("SELECT id FROM tasks WHERE state = 'queued' LIMIT 3"):
            app.send_task(
                "reelmap.keyframes", kwargs={**body, "task_id": str(task_id[0])}, queue="keyframes", retry=False
            )
    app.close()
    began_at = time.monotonic()
    for name in ("keyframes", "dispatcher", "keyframes-2", "embedding", "api", "clustering"):
        installation.end(name, within_s=scene.timing.stop_grace_s + 40)
        installation.start(name)
    for job_id in jobs:
        scene.finish(job_id)
    return time.monotonic() - began_at
