"""Everybody at once: workers that live, die and come late, people who change their minds, and what holds afterwards."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections import Counter

import pytest
from sqlalchemy.exc import DBAPIError

from services.api.commands.deletion import delete_job
from shared import tasks
from shared.db import is_passing
from shared.errors import ErrorKind, PermanentError, TransientError
from shared.folder_blobs import FolderBlobs
from shared.pipeline import Queue
from shared.tables import DEFAULT_PROJECT_ID

SEED = int(os.environ.get("ATTACK_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
ATTACK_S = float(os.environ.get("ATTACK_S", "3"))
WORKERS, PEOPLE, JOBS, VIDEOS = 6, 1, 4, 7


class Attack:
    """Acts at random on a few jobs, from many threads."""

    def __init__(self, rows, blobs) -> None:
        self.rows = rows
        self.blobs = blobs
        self.jobs = [self.new_job() for _ in range(JOBS)]
        self.over = threading.Event()
        self.passing: Counter[str] = Counter()
        self.acts: Counter[str] = Counter()
        self.broken: list[BaseException] = []

    def new_job(self) -> str:
        return self.rows.job(sources=3, models=["colour", "shape"])

    def run(self, number: int, act) -> None:
        chance = random.Random(SEED * 1000 + number)
        while not self.over.is_set():
            try:
                act(chance)
            except DBAPIError as error:
                if not is_passing(error):
                    self.broken.append(error)
                    return
                self.passing[getattr(error.orig, "pgcode", None)] += 1
            except BaseException as error:
                self.broken.append(error)
                return

    # --- what workers do

    def work(self, chance: random.Random, *, honest: bool = False) -> bool:
        """Claim one open task and bring it to one of its ends. honest: none but the good one. False: none was due."""
        queue = chance.choice(list(Queue))
        with self.rows.database.transaction() as connection:
            due = tasks.due(connection, queue, window=100, per_host=4)
            tasks.mark_sent(connection, due)
        ids = self.rows.task_ids(queue.value)
        if not ids:
            return False
        claims = self.rows.claim(chance.choice(ids))
        if claims and queue is Queue.EMBEDDING:
            with self.rows.database.transaction() as connection:
                claims += tasks.claim_more(connection, claims[0], key_frames=100, owner="test", lease_s=60)
        for claim in claims:
            self.end(claim, "succeed" if honest else chance.choice(self.ENDS))
        return bool(claims)

    ENDS = ("succeed",) * 5 + ("fail", "try_later", "hand_back", "expire", "come_late", "cut_off")

    def end(self, claim, how: str) -> None:
        self.acts[how] += 1
        rows = self.rows
        if how == "fail":
            rows.end(claim, lambda c, claim: tasks.fail(c, claim, ErrorKind.DAMAGED, "no"))
        elif how == "try_later":
            error = TransientError(ErrorKind.UNREACHABLE, "away")
            rows.end(claim, lambda c, claim: tasks.try_later(c, claim, error, backoff_s=0.01))
        elif how == "hand_back":
            rows.end(claim, tasks.hand_back)
        elif how in ("expire", "come_late"):
            rows.do(
                "UPDATE tasks SET lease_until = now() - interval '1 s' WHERE id = :id AND state = 'running'",
                id=claim.task_id,
            )
            with rows.database.transaction() as connection:
                tasks.take_back_expired(connection)
            if how == "come_late":
                self.succeed(claim)
        elif how == "cut_off":
            with rows.database.engine.connect() as connection:  # dies before its commit, so nothing was saved
                connection.begin()
                tasks.succeed(connection, claim)
                connection.rollback()
            rows.end(claim, tasks.hand_back)
        else:
            with rows.database.transaction() as connection:
                tasks.renew(connection, [claim], lease_s=60)
            self.succeed(claim)

    def succeed(self, claim) -> None:
        rows = self.rows
        if claim.queue is Queue.KEYFRAMES:
            # Some sources are the same video.
            number = rows.one("SELECT position FROM sources WHERE id = :id", id=claim.source_id)
            # None where a person deleted the job meanwhile; what is saved for it then must come to nothing.
            saved = rows.cut_up(claim, sha256=f"sha-{(number or 0) % VIDEOS}")
        elif claim.queue is Queue.EMBEDDING:
            saved = rows.embed(claim)
        else:
            try:
                saved = rows.cluster(claim)
            except PermanentError as error:  # a person asked too early
                reason = error
                saved = rows.end(claim, lambda c, claim: tasks.fail(c, claim, reason.kind, reason.message))
        if not saved:
            self.acts["fenced"] += 1

    # --- what people do

    def meddle(self, chance: random.Random) -> None:
        job_id = chance.choice(self.jobs)
        how = chance.choice(["cancel", "retry", "retry", "sources", "models", "clustering", "delete", "nothing"])
        self.acts[how] += 1
        if how == "delete":
            delete_job(self.rows.database, self.blobs, DEFAULT_PROJECT_ID, job_id)
            self.jobs[self.jobs.index(job_id)] = self.new_job()
            return
        with self.rows.database.transaction() as connection:
            if how == "cancel":
                tasks.cancel_job(connection, job_id)
            elif how == "retry":
                tasks.retry_job(connection, job_id)
                tasks.advance(connection, job_id)
            elif how == "models" and tasks.lock_job(connection, job_id) is not tasks.JobState.CANCELLED:
                model = chance.choice(["third", "fourth"])
                connection.exec_driver_sql(
                    "UPDATE jobs SET models = models || ARRAY[%s] WHERE id = %s AND %s <> ALL (models)",
                    (model, job_id, model),
                )
                tasks.next_round(connection, job_id)
                tasks.add_embedding_tasks(connection, job_id)
                tasks.advance(connection, job_id)
            elif how == "clustering":
                asked = connection.exec_driver_sql(
                    """INSERT INTO clusterings (job_id, round, model, settings, settings_key, asked)
                    SELECT id, round, models[1], clustering, 'asked', true FROM jobs WHERE id = %s RETURNING id""",
                    (job_id,),
                ).scalar()
                if asked:
                    tasks.add_clustering_task(connection, job_id, asked)
        if how == "sources" and self.rows.one(
            """SELECT state <> 'cancelled' AND (SELECT count(*) FROM sources WHERE job_id = j.id) < 12
            FROM jobs j WHERE id = :id""",
            id=job_id,
        ):
            self.rows.add_sources(job_id)
        time.sleep(chance.uniform(0, 0.1))

    def finish(self) -> None:
        """Requeue what is cancelled or failed, and let an honest worker do the rest."""
        chance = random.Random(SEED)
        self.rows.do("UPDATE tasks SET lease_until = now() - interval '1 s' WHERE state = 'running'")
        with self.rows.database.transaction() as connection:
            tasks.take_back_expired(connection)
        for job_id in self.jobs:
            with self.rows.database.transaction() as connection:
                tasks.retry_job(connection, job_id)
                tasks.advance(connection, job_id)
        self.rows.do("UPDATE tasks SET run_at = now() WHERE state = 'queued'")
        until = time.monotonic() + 60
        while self.rows.one("SELECT count(*) FROM tasks WHERE state IN ('queued', 'running')"):
            assert time.monotonic() < until, "work that nobody can finish is left"
            self.work(chance, honest=True)


@pytest.fixture
def attack(rows, tmp_path) -> Attack:
    return Attack(rows, FolderBlobs(tmp_path))


def test_nothing_is_stuck_doubled_or_lost_when_all_act_at_once(rows, attack):
    threads = [threading.Thread(target=attack.run, args=(n, attack.work)) for n in range(WORKERS)]
    threads += [threading.Thread(target=attack.run, args=(100 + n, attack.meddle)) for n in range(PEOPLE)]
    for thread in threads:
        thread.start()
    time.sleep(ATTACK_S)
    attack.over.set()
    for thread in threads:
        thread.join()
    sys.stdout.write(f"ATTACK_SEED={SEED}, acts: {dict(attack.acts)}, passing errors: {dict(attack.passing)}\n")
    assert not attack.broken, attack.broken
    assert "40P01" not in attack.passing, "somebody waited in a circle"

    # In the middle of it: a job with nothing open is final, and a final job has nothing of its own open.
    assert stuck_jobs(rows) == []
    attack.finish()
    assert stuck_jobs(rows) == []
    assert {rows.job_state(job_id) for job_id in attack.jobs} == {"succeeded"}
    for what, statement in NEVER.items():
        assert rows.all(statement) == [], what
    assert rows.one("SELECT count(*) FROM videos") <= VIDEOS


NEVER = {
    "a video that no source is about": "SELECT id FROM videos WHERE id NOT IN (SELECT video_id FROM sources)",
    "a task tried more often than allowed": "SELECT id FROM tasks WHERE attempt > attempts_allowed",
    "two clusterings of one job, round and model": """
        SELECT job_id, round, model FROM clusterings WHERE NOT asked
        GROUP BY job_id, round, model HAVING count(*) > 1""",
    "a model without a clustering of the last round": """
        SELECT j.id, m.name FROM jobs j CROSS JOIN unnest(j.models) AS m (name) WHERE NOT EXISTS (
            SELECT FROM clusterings c JOIN tasks t ON t.clustering_id = c.id
            WHERE c.job_id = j.id AND c.round = j.round AND c.model = m.name AND NOT c.asked
              AND t.state = 'succeeded')""",
    "a key frame without a vector": """
        SELECT k.id FROM jobs j CROSS JOIN unnest(j.models) AS m (name) JOIN sources s ON s.job_id = j.id
        JOIN key_frames k ON k.extraction_id = s.extraction_id
        WHERE NOT EXISTS (SELECT FROM embeddings e WHERE e.key_frame_id = k.id AND e.model = m.name)""",
    "a last clustering that did not see every key frame once": """
        SELECT c.id, c.key_frame_count, seen.n FROM clusterings c JOIN jobs j ON j.id = c.job_id AND j.round = c.round
        CROSS JOIN LATERAL (
            SELECT count(*) AS n FROM key_frames WHERE extraction_id IN (
                SELECT s.extraction_id FROM sources s WHERE s.job_id = j.id)) AS seen
        WHERE NOT c.asked AND (seen.n <> c.key_frame_count OR NOT c.complete
            OR seen.n <> (SELECT count(*) FROM assignments a WHERE a.clustering_id = c.id))""",
}


def stuck_jobs(rows) -> list:
    return rows.all(
        """
        SELECT j.id, j.state, open.n FROM jobs j CROSS JOIN LATERAL (
            SELECT count(*) AS n FROM tasks t WHERE t.job_id = j.id AND t.state IN ('queued', 'running')
            AND NOT EXISTS (SELECT FROM clusterings c WHERE c.id = t.clustering_id AND c.asked)) AS open
        WHERE (open.n = 0) <> (j.state NOT IN ('queued', 'running'))"""
    )
