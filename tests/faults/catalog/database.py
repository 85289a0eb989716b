"""Faults of Postgres, which everybody waits for and nobody gives up on."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.faults.installation import Broken, Installation, wait_for
from tests.faults.scene import GOOD, NotHere, Scene, fault


@fault("F10", "Postgres killed -9 during a renewal, a COMMIT and claims", measures="until the jobs ended", short=True)
def restart(scene: Scene) -> float:
    installation = scene.installation
    slow = scene.submit(GOOD[:1], slow_s=2 * scene.timing.heartbeat_s)  # renews its lease meanwhile
    installation.wait_running("keyframes", job_id=slow)
    installation.order("keyframes.before_commit", "hold")
    held = scene.submit(GOOD[:1])
    installation.wait_reached("keyframes.before_commit")
    more = [scene.submit() for _ in range(2)]
    scene.wait_a_moment()
    installation.crash(installation.postgres)
    installation.let_go("keyframes.before_commit")
    time.sleep(1)
    installation.postgres.start()
    began_at = time.monotonic()
    for job_id, names in [(slow, GOOD[:1]), (held, GOOD[:1]), *((job_id, GOOD) for job_id in more)]:
        scene.finish(job_id, names)
    return time.monotonic() - began_at


@fault("F10b", "the answers of Postgres are lost during a COMMIT", measures="until the job ended")
def lose_the_answer(scene: Scene) -> float:
    installation = scene.installation
    installation.order("keyframes.before_commit", "hold")
    job_id = scene.submit(GOOD[:1])
    installation.wait_reached("keyframes.before_commit")
    began_at = time.monotonic()
    names = ("keyframes", "keyframes-2")
    installation.cut("postgres", *names, mode="mute")
    installation.let_go("keyframes.before_commit")
    wait_for(
        lambda: installation.one("SELECT state FROM tasks WHERE job_id = :job", job=job_id) == "succeeded",
        for_s=10,
        what="the COMMIT to go through",
    )
    installation.heal("postgres", *names)
    scene.finish(job_id, GOOD[:1])
    if installation.attempts(job_id) != 1:
        raise Broken("what was saved was done again")
    # The worker is still waiting for its answer.
    wait_for(
        lambda: any("event=fenced" in installation.log_of(name) for name in names),
        for_s=60,
        what="the worker to learn that its task is not open any more",
    )
    return time.monotonic() - began_at


@fault("F11", "Postgres is away for minutes", measures="from its return until the jobs ended", short=True)
def away(scene: Scene) -> float:
    installation = scene.installation
    running = scene.submit(GOOD, slow_s=3)
    installation.wait_running("keyframes", job_id=running)
    installation.postgres.stop()
    until = time.monotonic() + scene.timing.postgres_down_s
    while time.monotonic() < until:
        _expect_refusal(installation)
        time.sleep(min(5.0, scene.timing.postgres_down_s / 4))
    for name in installation.members:
        if not installation.is_running(name):
            raise Broken(f"{name} ended: {installation.log_of(name)[-1000:]}")
    installation.postgres.start()
    began_at = time.monotonic()
    wait_for(lambda: installation.answers("/readyz"), for_s=30, what="the API to be ready again")
    scene.finish(scene.submit())
    scene.finish(running)
    return time.monotonic() - began_at


def _expect_refusal(installation: Installation) -> None:
    """The API says 503 in a problem document, soon, with when to ask again."""
    with requests.Session() as session:
        session.trust_env = False
        base = f"http://127.0.0.1:{installation.port}"
        for answer in (
            session.get(f"{base}/api/v1/jobs", timeout=20),
            session.post(f"{base}/api/v1/jobs", json={"videos": ["http://example.org/a.mp4"]}, timeout=20),
        ):
            seen = (answer.status_code, answer.headers["Content-Type"], bool(answer.headers.get("Retry-After")))
            if seen != (503, "application/problem+json", True):
                raise Broken(f"the API answered {seen}: {answer.text[:200]}")
        if session.get(f"{base}/livez", timeout=20).status_code != 200:
            raise Broken("the API says that it does not live")


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """A file system of its own, of this size. Raises `NotHere` where that takes rights that we do not have."""
    folder.mkdir(parents=True)
    made = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0755", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if not made or made.returncode:
        raise NotHere("a small file system can be mounted by root on Linux only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """No byte is free on the folder's file system for the length of the `with`."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            pass
        try:
            while True:
                file.write(b"\0" * 256)
        except OSError:
            pass
    try:
        yield
    finally:
        path.unlink()


@fault("F22", "no room left in a worker's work folder", measures="from room being there until the job ended")
def work_folder_full(scene: Scene) -> float:
    installation = scene.installation
    with small_disk(scene.folder / f"small-{time.monotonic_ns()}", 16) as disk:
        for name in ("keyframes", "keyframes-2"):
            installation.end(name)
        installation.start("keyframes", work_folder=disk)
        with filled(disk):
            job_id = scene.submit(GOOD[:1])
            wait_for(
                lambda: installation.one("SELECT error_kind FROM tasks WHERE job_id = :job", job=job_id) == "disk_full",
                for_s=60,
                what=lambda: f"the task to be put off: {installation.describe(job_id)}",
            )
        took_s = scene.finish(job_id, GOOD[:1])
        if left := [path for path in (disk / "keyframes").iterdir()]:
            raise Broken(f"left behind: {left}")
        installation.end("keyframes")
    installation.start("keyframes", "keyframes-2")
    return took_s


@fault("F23", "no room left on the disk of Postgres", measures="from room being there until the job ended")
def database_full(scene: Scene) -> float:
    from tests.faults.scene import PROCESSES

    with small_disk(scene.folder / f"disk-{time.monotonic_ns()}", 400) as disk:
        os.chmod(disk, 0o755)
        with Installation(disk / "reelmap", scene.timing.environ()) as installation:
            installation.start(*PROCESSES)
            there = Scene(installation, scene.site, scene.timing, scene.chance, scene.folder)
            job_id = there.submit(slow_s=3)
            installation.wait_running("keyframes", job_id=job_id)
            with filled(disk):
                refused = 0
                until = time.monotonic() + 10
                while time.monotonic() < until:
                    refused += not _accepts(installation)
                    time.sleep(0.5)
            # A Postgres that could not write its log ends itself; whoever runs it starts it again.
            if installation.postgres.process is None or installation.postgres.process.poll() is not None:
                installation.postgres.stop()
                installation.postgres.start()
            began_at = time.monotonic()
            installation.wait_final(job_id, for_s=scene.timing.patience_s)
            if installation.state_of(job_id) in ("failed", "partly_failed"):
                # Attempts were used up, and said why, while the disk that all share was full; a person tries again.
                kinds = installation.rows(
                    "SELECT DISTINCT error_kind FROM tasks WHERE job_id = :job AND state = 'failed'", job=job_id
                )
                if [row.error_kind for row in kinds] != ["disk_full"]:
                    raise Broken(f"failed because of {kinds}")
                installation.client.retry(job_id)
            there.finish(job_id)
            wait_for(
                lambda: not installation.one("SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')"),
                for_s=scene.timing.patience_s,
                what="the end of every job that was accepted",
            )
            there.settle()
            return time.monotonic() - began_at


def _accepts(installation: Installation) -> bool:
    with requests.Session() as session:
        session.trust_env = False
        url = f"http://127.0.0.1:{installation.port}/api/v1/jobs"
        body = {"videos": ["http://127.0.0.1:9/none.mp4"], "models": ["hog_color"]}
        return session.post(url, json=body, timeout=20).status_code == 202
