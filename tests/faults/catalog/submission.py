"""Faults between a person and the first message: the API and the dispatcher die at the worst moments."""

from __future__ import annotations

import signal
import threading
import time
import uuid
from typing import Any

import requests

from services.dispatcher.dispatch import Dispatcher
from shared.celery_app import make_celery, send
from shared.db import Database
from tests.faults.installation import Broken, Installation, wait_for
from tests.faults.scene import Scene, fault


def _post(installation: Installation, key: str, urls: list[str]) -> requests.Response | None:
    """Submit a job under an idempotency key; None when the connection ended without an answer."""
    with requests.Session() as session:
        session.trust_env = False
        try:
            return session.post(
                f"http://127.0.0.1:{installation.port}/api/v1/jobs",
                json={"videos": urls, "models": ["hog_color"], "clustering": {"n_clusters": 4, "seed": 7}},
                headers={"Idempotency-Key": key},
                timeout=30,
            )
        except requests.exceptions.ConnectionError:
            return None


def _submit_through_a_death(scene: Scene, point: str) -> tuple[str, float, int]:
    """Submit, have the API die at `point`, submit again. Returns the job, the seconds, and how many jobs there were
    after the death."""
    installation = scene.installation
    before = installation.one("SELECT count(*) FROM jobs")
    installation.order(point, "kill")
    key, urls = uuid.uuid4().hex, scene.urls()
    if (answer := _post(installation, key, urls)) is not None:
        raise Broken(f"the API lived and answered {answer.status_code}")
    began_at = time.monotonic()
    between = installation.one("SELECT count(*) FROM jobs") - before
    answers: list[Any] = []
    wait_for(
        lambda: answers.append(_post(installation, key, urls)) or answers[-1] is not None,
        for_s=30,
        what="an answer of the API",
    )
    took_s = time.monotonic() - began_at
    if answers[-1].status_code != 202:
        raise Broken(f"the API answered {answers[-1].status_code}: {answers[-1].text}")
    if (made := installation.one("SELECT count(*) FROM jobs") - before) != 1:
        raise Broken(f"{made} jobs were made of one")
    job_id = str(answers[-1].json()["id"])
    scene.finish(job_id)
    return job_id, took_s, between


@fault("F18", "the API dies after the commit, before its answer", measures="until the same key is answered", short=True)
def die_after_commit(scene: Scene) -> float:
    _, took_s, between = _submit_through_a_death(scene, "api.after_commit")
    if between != 1:
        raise Broken("the job was not committed")
    return took_s


@fault("F19", "the API dies before the commit", measures="until the same key is answered", short=True)
def die_before_commit(scene: Scene) -> float:
    _, took_s, between = _submit_through_a_death(scene, "api.before_commit")
    if between != 0:
        raise Broken("a job was there before its commit")
    return took_s


@fault("F20", "the dispatcher dies between a message and its stamp", measures="until the job ended", short=True)
def die_before_stamp(scene: Scene) -> float:
    installation = scene.installation
    installation.order("dispatcher.after_publish", "kill")
    job_id = scene.submit()
    installation.wait_reached("dispatcher.after_publish")
    wait_for(lambda: not installation.is_running("dispatcher"), for_s=10, what="the dispatcher to die")
    began_at = time.monotonic()
    installation.start("dispatcher")
    scene.finish(job_id)
    if installation.attempts(job_id) != 1:
        raise Broken("a doubled message made a doubled run")
    return time.monotonic() - began_at


@fault("F21", "two dispatchers, both leading; then the first is killed -9", measures="until the second leads")
def two_dispatchers(scene: Scene) -> float:
    installation = scene.installation
    # One that does not ask for the lead, beside the real one.
    app = make_celery(installation.settings_for_us())
    database = Database(installation.postgres.url())
    over = threading.Event()
    with installation.broker() as broker:
        second = Dispatcher(
            database=database,
            redis=broker,
            send=lambda queue, task_id: send(app, queue, task_id),
            sent_window=500,
            fetches_per_host=100,
            resend_after_s=scene.timing.resend_after_s,
        )

        def turn() -> None:
            while not over.is_set():
                second.turn()

        thread = threading.Thread(target=turn)
        thread.start()
        jobs = [scene.submit() for _ in range(4)]
        for job_id in jobs:
            scene.finish(job_id)
            if installation.attempts(job_id) != 1:
                raise Broken("two dispatchers made a task run twice")
        over.set()
        thread.join()
    database.dispose()
    app.close()

    installation.start("dispatcher-2")
    job_id = scene.submit(slow_s=2)
    installation.end("dispatcher", signal.SIGKILL)
    took_s = wait_for(
        lambda: "event=leading" in installation.log_of("dispatcher-2"), for_s=60, what="the second to lead"
    )
    scene.finish(job_id)
    installation.end("dispatcher-2")
    installation.start("dispatcher")
    return took_s
