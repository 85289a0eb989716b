"""Faults of workers: processes that die, hang, freeze, and are asked to stop."""

from __future__ import annotations

import os
import signal
import time

from services.client import FINAL_STATES
from tests.faults.installation import Broken, Member, wait_for
from tests.faults.scene import GOOD, Scene, fault


def _running_slowly(scene: Scene, seconds: float) -> str:
    """A job with one source that comes slowly, whose task is running. Returns its id."""
    job_id = scene.submit(GOOD[:1], slow_s=seconds)
    scene.installation.wait_running("keyframes", job_id=job_id)
    scene.wait_a_moment()
    return job_id


def _holder(scene: Scene, job_id: str, queue: str = "keyframes") -> tuple[Member, int]:
    """The worker that holds the job's running task, and the process of its pool that does it."""
    child = scene.installation.owner_of_running(job_id, queue)
    for member in scene.installation.members.values():
        if child in member.children():
            return member, child
    raise Broken(f"nobody is the parent of process {child}")


def _until_running_elsewhere(scene: Scene, job_id: str, *, attempt: int = 2, queue: str = "keyframes") -> float:
    """Wait until the job's task has been claimed once more. Returns the seconds."""
    return wait_for(
        lambda: (
            scene.installation.one(
                "SELECT max(attempt) FROM tasks WHERE job_id = :job AND queue = :queue", job=job_id, queue=queue
            )
            >= attempt
        ),
        for_s=scene.lease_and_notice_s,
        what=lambda: f"attempt {attempt}: {scene.installation.describe(job_id)}",
    )


def _expect_attempts(scene: Scene, job_id: str, n: int) -> None:
    if (used := scene.installation.attempts(job_id)) != n:
        raise Broken(f"{used} attempts instead of {n}")


@fault(
    "F1",
    "kill -9 of the process that does a task",
    measures="until the task runs elsewhere",
    short=True,
    within_s=lambda scene: scene.lease_and_notice_s,
)
def kill_the_child(scene: Scene) -> float:
    job_id = _running_slowly(scene, 4)
    _, child = _holder(scene, job_id)
    os.kill(child, signal.SIGKILL)
    took_s = _until_running_elsewhere(scene, job_id)
    scene.finish(job_id, GOOD[:1])
    _expect_attempts(scene, job_id, 2)
    return took_s


@fault(
    "F2",
    "kill -9 of a worker with all its processes",
    measures="until the task runs elsewhere",
    short=True,
    within_s=lambda scene: scene.lease_and_notice_s,
)
def kill_the_worker(scene: Scene) -> float:
    job_id = _running_slowly(scene, 4)
    member, _ = _holder(scene, job_id)
    scene.installation.end(member.name, signal.SIGKILL)
    took_s = _until_running_elsewhere(scene, job_id)
    scene.finish(job_id, GOOD[:1])
    _expect_attempts(scene, job_id, 2)
    scene.installation.start(member.name)
    return took_s


@fault("F3", "SIGTERM in mid-task, with time enough", measures="until the worker ended", short=True)
def stop_with_time(scene: Scene) -> float:
    job_id = _running_slowly(scene, scene.timing.stop_grace_s / 2)
    member, _ = _holder(scene, job_id)
    took_s = scene.installation.end(member.name, within_s=scene.timing.stop_grace_s + 15)
    scene.finish(job_id, GOOD[:1])
    _expect_attempts(scene, job_id, 1)
    scene.installation.start(member.name)
    return took_s


@fault(
    "F4",
    "SIGTERM in mid-task, SIGKILL before the grace is over",
    measures="until the task runs elsewhere",
    within_s=lambda scene: scene.lease_and_notice_s,
)
def stop_without_time(scene: Scene) -> float:
    job_id = _running_slowly(scene, scene.timing.stop_grace_s + 5)
    member, _ = _holder(scene, job_id)
    member.signal(signal.SIGTERM)
    time.sleep(min(1.0, scene.timing.stop_grace_s / 2))
    scene.installation.end(member.name, signal.SIGKILL)
    took_s = _until_running_elsewhere(scene, job_id)
    scene.finish(job_id, GOOD[:1])
    _expect_attempts(scene, job_id, 2)
    scene.installation.start(member.name)
    return took_s


@fault(
    "F4b",
    "SIGTERM in mid-task, the task longer than the grace",
    measures="until the task is handed back",
    within_s=lambda scene: scene.timing.stop_grace_s + 5,
)
def hand_back(scene: Scene) -> float:
    job_id = _running_slowly(scene, scene.timing.stop_grace_s + 10)
    member, _ = _holder(scene, job_id)
    member.signal(signal.SIGTERM)
    took_s = wait_for(
        lambda: (
            scene.installation.one(
                "SELECT attempts_allowed FROM tasks WHERE job_id = :job AND queue = 'keyframes'", job=job_id
            )
            == 4
        ),
        for_s=scene.timing.stop_grace_s + 10,
        what="the task to be handed back",
    )
    scene.installation.end(member.name, within_s=15)
    scene.finish(job_id, GOOD[:1])
    _expect_attempts(scene, job_id, 2)
    scene.installation.start(member.name)
    return took_s


@fault(
    "F13",
    "SIGSTOP of a worker until its lease is over, then SIGCONT",
    measures="until the task runs elsewhere",
    short=True,
    within_s=lambda scene: scene.lease_and_notice_s,
)
def freeze(scene: Scene) -> float:
    job_id = _running_slowly(scene, 2)
    member, _ = _holder(scene, job_id)
    member.signal_all(signal.SIGSTOP)
    took_s = _until_running_elsewhere(scene, job_id)
    scene.finish(job_id, GOOD[:1])
    member.signal_all(signal.SIGCONT)
    wait_for(
        lambda: (
            "event=lease_lost" in scene.installation.log_of(member.name)
            or "event=fenced" in scene.installation.log_of(member.name)
        ),
        for_s=30,
        what="the thawed worker to notice that the task is not its own any more",
    )
    scene.check(job_id, GOOD[:1])
    _expect_attempts(scene, job_id, 2)
    return took_s


@fault("F14", "a task that kills its worker every time", measures="until it is given up", short=True)
def poison(scene: Scene) -> float:
    installation = scene.installation
    installation.order("keyframes.computing", "kill", only="poison=1", always=True)
    began_at = time.monotonic()
    job_id = installation.submit([*scene.urls(GOOD[:1]), *scene.urls(GOOD[:1], poison=1)])
    # Three leases run out, and between them a task may wait for a place.
    installation.wait_final(job_id, for_s=4 * scene.lease_and_notice_s)
    took_s = time.monotonic() - began_at
    [good, bad] = installation.rows(
        """SELECT t.state, t.attempt, t.error_kind, t.error FROM tasks t JOIN sources s ON s.id = t.source_id
        WHERE s.job_id = :job ORDER BY s.position""",
        job=job_id,
    )
    if (good.state, good.attempt) != ("succeeded", 1):
        raise Broken(f"its sibling came to harm: {good}")
    if (bad.state, bad.attempt, bad.error_kind) != ("failed", 3, "worker_lost"):
        raise Broken(f"it ended as {bad}")
    if took_s < 2 * scene.timing.lease_s:
        raise Broken(f"three attempts in {took_s:.0f} s are a hot loop")
    return took_s


@fault("F16", "a task that hangs in C, Python's lock held", measures="until the hung process is replaced")
def hang(scene: Scene) -> float:
    installation = scene.installation
    # Celery's hard limit is the deadline and a minute.
    for name in ("keyframes", "keyframes-2"):
        installation.end(name)
    installation.start("keyframes", "keyframes-2", keyframes_deadline_s=10.0)
    installation.order("keyframes.computing", "hang")
    job_id = scene.submit(GOOD[:1])
    installation.wait_reached("keyframes.computing")
    member, child = _holder(scene, job_id)
    began_at = time.monotonic()
    _until_running_elsewhere(scene, job_id)
    scene.finish(job_id, GOOD[:1])
    _expect_attempts(scene, job_id, 2)
    wait_for(lambda: child not in member.children(), for_s=90, what="the hung process to be killed")
    took_s = time.monotonic() - began_at
    wait_for(lambda: len(member.children()) >= 2, for_s=15, what="another process in its place")
    for name in ("keyframes", "keyframes-2"):
        installation.end(name)
    installation.start("keyframes", "keyframes-2")
    return took_s


@fault(
    "F27b",
    "a worker whose GPU stays lost, beside one that works",
    measures="until the broken worker ended itself",
    within_s=lambda scene: 4 * scene.lease_and_notice_s,
)
def stay_without_a_device(scene: Scene) -> float:
    installation = scene.installation
    broken = scene.folder / f"broken-{time.monotonic_ns()}"
    broken.mkdir()
    (broken / "embedding.computing").write_text('{"do": "device_lost", "always": true}')
    installation.end("embedding")
    installation.start("embedding", failpoints_folder=broken)
    installation.start("embedding-2")
    began_at = time.monotonic()
    jobs: list[str] = []

    def has_ended() -> bool:
        # Each is put off by the broken one at most once or twice, and done by the other.
        if sum(installation.state_of(job_id) not in FINAL_STATES for job_id in jobs) < 4:
            jobs.append(scene.submit(GOOD[:1]))
        return not installation.is_running("embedding")

    wait_for(has_ended, for_s=5 * scene.lease_and_notice_s, what="the broken worker to end itself")
    took_s = time.monotonic() - began_at
    if "event=spoiled" not in installation.log_of("embedding"):
        raise Broken("it ended for another reason")
    for job_id in jobs:
        scene.finish(job_id, GOOD[:1])
    installation.end("embedding-2")
    installation.start("embedding")
    return took_s


@fault("F27", "the GPU is lost in mid-chunk", measures="until the chunk runs in another process", short=True)
def lose_the_device(scene: Scene) -> float:
    installation = scene.installation
    installation.order("embedding.computing", "device_lost")
    before = installation.members["embedding"].children()
    job_id = scene.submit(GOOD[:1])
    installation.wait_reached("embedding.computing")
    took_s = _until_running_elsewhere(scene, job_id, queue="embedding")
    scene.finish(job_id, GOOD[:1])
    _expect_attempts(scene, job_id, 2)
    if set(before) & set(installation.members["embedding"].children()):
        raise Broken("the process that lost its device is still there")
    return took_s
