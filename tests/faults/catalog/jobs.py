"""Faults that come with a job: bad files, everything at one instant, a person who changes her mind, a failing store."""

from __future__ import annotations

import time

from tests.faults.installation import Broken, wait_for
from tests.faults.scene import GOOD, MIXED, Scene, fault


@fault("F15", "files that are no videos", measures="until the job ended", short=True)
def bad_files(scene: Scene) -> float:
    job_id = scene.submit(MIXED)
    took_s = scene.finish(job_id, MIXED)
    kinds = [
        row.error_kind
        for row in scene.installation.rows(
            """SELECT t.error_kind FROM tasks t JOIN sources s ON s.id = t.source_id WHERE s.job_id = :job
            AND t.state = 'failed' AND t.attempt = 1 ORDER BY s.position""",
            job=job_id,
        )
    ]
    if kinds != ["not_a_video", "damaged", "empty", "not_found"]:
        raise Broken(f"failed at the first attempt: {kinds}")
    return took_s


@fault(
    "F25", "the last tasks of a job end at one instant in eight processes", measures="until the job ended", short=True
)
def at_one_instant(scene: Scene) -> float:
    installation = scene.installation
    first = scene.submit(GOOD[:1])
    scene.finish(first, GOOD[:1])
    [url] = (row.url for row in installation.rows("SELECT url FROM sources WHERE job_id = :job", job=first))
    # The same video: everything is known, so that the clustering is all that follows.
    installation.start("keyframes-3", keyframes_processes=4)
    installation.order("keyframes.before_commit", "hold", always=True)
    job_id = installation.submit([f"{url}&number={i}" for i in range(8)])
    try:
        installation.wait_running("keyframes", job_id=job_id, n=8)
        time.sleep(1)  # all of them are as far as the point
        began_at = time.monotonic()
        installation.let_go("keyframes.before_commit")
        installation.wait_final(job_id, for_s=scene.timing.patience_s)
    finally:
        installation.forget_orders()
    clusterings = installation.one("SELECT count(*) FROM clusterings WHERE job_id = :job", job=job_id)
    tasks = installation.one("SELECT count(*) FROM tasks WHERE job_id = :job AND queue = 'clustering'", job=job_id)
    if (clusterings, tasks, installation.state_of(job_id)) != (1, 1, "succeeded"):
        raise Broken(f"{clusterings} clusterings, {tasks} tasks of them: {installation.describe(job_id)}")
    took_s = time.monotonic() - began_at
    installation.end("keyframes-3")
    return took_s


@fault("F26", "the blob store fails, then is slow beyond the lease", measures="until the jobs ended", short=True)
def failing_store(scene: Scene) -> float:
    installation = scene.installation
    began_at = time.monotonic()
    installation.order("blobs.put", "io_error")
    failing = scene.submit(GOOD[:1])
    installation.wait_reached("blobs.put")
    scene.finish(failing, GOOD[:1])
    if installation.attempts(failing) != 2:
        raise Broken(f"{installation.attempts(failing)} attempts")
    installation.order("blobs.put", "hold")
    slow = scene.submit(GOOD[:1])
    installation.wait_reached("blobs.put")
    time.sleep(1.5 * scene.timing.lease_s)
    installation.let_go("blobs.put")
    scene.finish(slow, GOOD[:1])
    if installation.attempts(slow) != 1:
        raise Broken("a slow store cost the lease")
    return time.monotonic() - began_at


@fault(
    "F29", "a job is cancelled in mid-task at each stage, and tried again", measures="the longest until workers let go"
)
def cancel_everywhere(scene: Scene) -> float:
    installation = scene.installation
    longest_s = 0.0
    for queue in ("keyframes", "embedding", "clustering"):
        for place in ("computing", "before_commit"):
            point = f"{queue}.{place}"
            installation.order(point, "hold")
            job_id = scene.submit()
            installation.wait_reached(point)
            # A transaction that is about to commit holds its rows, so the cancellation waits for it, or comes first.
            if place == "before_commit":
                installation.let_go(point)
            installation.client.cancel(job_id)
            began_at = time.monotonic()
            installation.let_go(point)
            before = installation.describe(job_id)
            if installation.state_of(job_id) == "cancelled":
                wait_for(
                    lambda: not installation.leftovers(),
                    for_s=2 * scene.timing.heartbeat_s + 5,
                    what="workers to let go of a cancelled job",
                )
                longest_s = max(longest_s, time.monotonic() - began_at)
                time.sleep(1)
                if installation.describe(job_id) != before:
                    raise Broken(f"something of a cancelled job went on: {installation.describe(job_id)}")
                installation.client.retry(job_id)
            scene.finish(job_id)
    return longest_s
