"""KEDA's questions, as they are rendered, asked as the role that KEDA logs in as, come to the right number of pods."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest
from sqlalchemy.engine import make_url

from shared import tasks
from shared.errors import ErrorKind
from shared.pipeline import Queue
from shared.scaler_role import ROLE, set_scaler_role
from tests.k8s.rendering import overlay

PASSWORD = "scaler"  # pragma: allowlist secret


class Keda:
    """What KEDA and the autoscaler that it makes do with a trigger (KEDA, "Scaling Deployments"; Kubernetes, "HPA")."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._scaled = {each["metadata"]["name"]: each["spec"] for each in overlay("gpu").of("ScaledObject")}

    def value(self, name: str) -> float:
        """The trigger's number now."""
        [trigger] = self._scaled[name]["triggers"]
        connection = psycopg2.connect(self._url)
        try:
            with connection.cursor() as cursor:
                cursor.execute(trigger["metadata"]["query"])
                [[value]] = cursor.fetchall()  # exactly one number, or KEDA reports an error
        finally:
            connection.close()
        return float(value)

    def pods(self, name: str) -> int:
        """How many pods it comes to in the end: none below the threshold, else one for each so much, within bounds.

        Without the autoscaler's tolerance, which depends on how many there are: it changes nothing while the number is
        within 10 % of what those do.
        """
        spec = self._scaled[name]
        [trigger] = spec["triggers"]
        value, metadata = self.value(name), trigger["metadata"]
        if spec["minReplicaCount"] == 0 and value <= float(metadata["activationTargetQueryValue"]):
            return 0
        wanted = math.ceil(value / float(metadata["targetQueryValue"]))
        return min(max(wanted, spec["minReplicaCount"], 1), spec["maxReplicaCount"])

    def all_pods(self) -> dict[str, int]:
        return {name: self.pods(name) for name in self._scaled}


@pytest.fixture
def keda(database_url) -> Iterator[Keda]:
    set_scaler_role(database_url, PASSWORD)
    url = make_url(database_url).set(drivername="postgresql", username=ROLE, password=PASSWORD)
    yield Keda(url.render_as_string(hide_password=False))
    connection = psycopg2.connect(
        make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")
    connection.close()


QUIET = {"keyframes": 0, "embedding": 0, "query": 1, "clustering": 0, "exports": 1}


def test_every_queue_is_scaled_and_a_quiet_cluster_has_one_pod_for_people(keda):
    assert set(QUIET) == set(Queue)
    assert keda.all_pods() == QUIET


def test_two_videos_for_each_pod_up_to_the_most(rows, keda):
    counts = []
    for number in range(1, 26):
        rows.job(sources=1, host=f"host-{number}.example")
        counts.append(keda.pods("keyframes"))
    assert counts == [min(math.ceil(n / 2), 10) for n in range(1, 26)]
    assert {**keda.all_pods(), "keyframes": 0} == QUIET


def test_no_more_pods_than_one_host_is_asked_by(rows, keda):
    rows.job(sources=500, host="one.example")
    assert (keda.value("keyframes"), keda.pods("keyframes")) == (4, 2)
    rows.job(sources=500, host="two.example")
    assert keda.pods("keyframes") == 4
    rows.job(sources=3, host=None)  # uploads, which are fetched from nobody
    assert keda.value("keyframes") == 4 * (2 + 3)


def put_off(rows: Any, task_id: str) -> None:
    rows.do("UPDATE tasks SET run_at = now() + interval '1 hour' WHERE id = :id", id=task_id)


def succeed(rows: Any, task_id: str) -> None:
    rows.end(*rows.claim(task_id))


def fail(rows: Any, task_id: str) -> None:
    [claim] = rows.claim(task_id)
    rows.end(claim, lambda connection, held: tasks.fail(connection, held, ErrorKind.NOT_FOUND, "gone"))


def cancel(rows: Any, task_id: str) -> None:
    job_id = rows.one("SELECT job_id FROM tasks WHERE id = :id", id=task_id)
    with rows.database.transaction() as connection:
        tasks.cancel_job(connection, job_id)


@pytest.mark.parametrize(
    "bring, counts",
    [
        (lambda rows, task_id: None, True),  # queued and due
        (lambda rows, task_id: rows.do("UPDATE tasks SET sent_at = now() WHERE id = :id", id=task_id), True),
        (lambda rows, task_id: rows.claim(task_id), True),  # running: nobody may stop its worker
        (put_off, False),  # queued, and to be tried later
        (succeed, False),
        (fail, False),
        (cancel, False),
    ],
    ids=["due", "sent", "running", "put off", "succeeded", "failed", "cancelled"],
)
def test_a_task_counts_while_it_runs_or_is_due(rows, keda, bring: Callable[[Any, str], Any], counts):
    job_id = rows.job(sources=1)
    [task_id] = rows.task_ids("keyframes", job_id)
    bring(rows, task_id)
    assert keda.value("keyframes") == counts
    assert keda.pods("keyframes") == counts


def test_workers_follow_a_job_through_its_stages_and_go(rows, keda):
    """Eighteen sources under one model: cut up, embedded by four chunks a pod, clustered once; then nothing is left."""
    job_id = rows.job(sources=18, models=["colour"], host=None)
    assert keda.pods("keyframes") == 9
    for claim in rows.claim(*rows.task_ids("keyframes", job_id)):
        assert rows.cut_up(claim)
    assert keda.all_pods() == {**QUIET, "embedding": 4}, "eighteen chunks, and four GPUs at most"
    claims = rows.claim(*rows.task_ids("embedding", job_id))
    assert keda.pods("embedding") == 4, "running work counts, though no message is left in the queue"
    for claim in claims[:13]:
        assert rows.embed(claim)
    assert keda.pods("embedding") == 2, "five chunks"
    for claim in claims[13:]:
        assert rows.embed(claim)
    assert keda.all_pods() == {**QUIET, "clustering": 1}
    [claim] = rows.claim(*rows.task_ids("clustering", job_id))
    assert keda.pods("clustering") == 1
    assert rows.cluster(claim)
    assert keda.all_pods() == QUIET
