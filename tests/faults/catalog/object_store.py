"""Faults of an object store: it refuses, is slow, says nothing, breaks off."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.faults.installation import Broken, wait_for
from tests.faults.scene import Scene, fault
from tests.object_store import refusal

#: Each way of an answer through a slow network: many round trips together are longer than a short lease.
SLOW_S = 2.0
#: Of what a connection carries before it is closed: the head of a request and some of a picture.
BROKEN_AFTER_BYTES = 1500


def _until_put_off(scene: Scene, job_id: str, queue: str) -> None:
    """Wait until a task of the job waits for a store that may be back later."""
    wait_for(
        lambda: scene.installation.one(
            """SELECT count(*) FROM tasks WHERE job_id = :job AND queue = :queue AND state = 'queued'
            AND error_kind = 'store_unavailable'""",
            job=job_id,
            queue=queue,
        ),
        for_s=scene.timing.patience_s,
        what=lambda: f"a {queue} task to be put off: {scene.installation.describe(job_id)}",
    )


def _heal(scene: Scene, job_id: str, *, attempts: int) -> float:
    """Heal the store and wait for the job, of which each task took at most so many attempts. Returns the seconds."""
    scene.installation.disturb_store("pass")
    took_s = scene.finish(job_id)
    if (used := scene.installation.attempts(job_id)) > attempts:
        raise Broken(f"{used} attempts instead of {attempts}")
    return took_s


def _break_at_each_stage(scene: Scene, disturb: Callable[[], None]) -> float:
    """Disturb the store while pictures are written, and while they are read. Returns the longer recovery's seconds."""
    installation = scene.installation
    disturb()
    writing = scene.submit()
    _until_put_off(scene, writing, "keyframes")
    longest_s = _heal(scene, writing, attempts=3)
    installation.order("embedding.computing", "hold")
    reading = scene.submit()
    installation.wait_reached("embedding.computing")
    disturb()
    installation.let_go("embedding.computing")
    _until_put_off(scene, reading, "embedding")
    return max(longest_s, _heal(scene, reading, attempts=3))


@fault(
    "F26b",
    "the object store answers SlowDown while pictures are written, and 500 while they are read",
    measures="from its healing until the job ended",
    short=True,
    in_a_bucket=True,
)
def refuse(scene: Scene) -> float:
    answers = iter([refusal(503, "SlowDown"), refusal(500, "InternalError")])
    return _break_at_each_stage(scene, lambda: scene.installation.disturb_store("answer", answer=next(answers)))


@fault("F26c", "the object store is slow", measures="until the job ended", in_a_bucket=True)
def answer_slowly(scene: Scene) -> float:
    scene.installation.disturb_store("pass", delay_s=SLOW_S)
    job_id = scene.submit()
    took_s = scene.finish(job_id)
    if (used := scene.installation.attempts(job_id)) != 1:
        raise Broken(f"a slow store cost {used - 1} attempts")
    return took_s


@fault(
    "F26d",
    "the network to the object store goes silent while pictures are written",
    measures="from its healing until the job ended",
    in_a_bucket=True,
)
def fall_silent(scene: Scene) -> float:
    scene.installation.disturb_store("silent")
    job_id = scene.submit()
    scene.installation.wait_running("keyframes", job_id=job_id)
    time.sleep(scene.timing.silence_s)
    return _heal(scene, job_id, attempts=2)


@fault(
    "F26e",
    "connections to the object store break in mid-upload, and in mid-download",
    measures="from its healing until the job ended",
    in_a_bucket=True,
)
def break_off(scene: Scene) -> float:
    return _break_at_each_stage(
        scene, lambda: scene.installation.disturb_store("break", limit_bytes=BROKEN_AFTER_BYTES)
    )
