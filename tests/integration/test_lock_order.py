"""One lock order: whatever people, workers, dispatchers and gc do at once, none waits in a circle.

Postgres ends one transaction of a circle with SQLSTATE 40P01 (deadlock detected). Many hands on few jobs look for one.
LOCKS_S=60 looks longer, LOCKS_SEED repeats what the hands chose.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from services.api.commands import clusterings as clustering_commands
from services.api.commands import exports as export_commands
from services.api.commands import jobs as commands
from services.api.commands import sources as source_commands
from services.api.commands.deletion import delete_job
from services.api.problems import Conflict, Invalid, NotFound, TooMany
from services.api.schemas.requests import ClusteringRequest, ExportRequest
from services.exports import store as exports_store
from services.exports.store import WrittenExport
from shared import gc, tasks
from shared.db import Database
from shared.errors import ErrorKind, PermanentError, TransientError
from shared.folder_blobs import FolderBlobs
from shared.pipeline import Queue
from shared.settings import load_settings
from shared.tables import DEFAULT_PROJECT_ID
from shared.tasks import Claim

SEED = int(os.environ.get("LOCKS_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
STRESS_S = float(os.environ.get("LOCKS_S", "3"))
WORKERS, PEOPLE, JOBS, SOURCES, VIDEOS = 6, 6, 3, 8, 10
MODELS = ["colour", "shape"]
MORE_MODELS = ["hog_color", "efficientnet_b0", "vit_mae_base"]


@pytest.fixture
def impatient(database: Database) -> Database:
    """The database, which looks for circles as soon as somebody waits."""
    with database.transaction() as connection:
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f"ALTER DATABASE {name} SET deadlock_timeout = '20ms'"))
    database.dispose()
    return database


class Crowd:
    """Everybody who changes rows, each at random, on the same few jobs."""

    def __init__(self, rows, blobs, settings) -> None:
        self.rows, self.blobs, self.settings = rows, blobs, settings
        self.database: Database = rows.database
        self.jobs = [self.new_job() for _ in range(JOBS)]
        self.over = threading.Event()
        self.acts: Counter[str] = Counter()
        self.circles: Counter[str] = Counter()
        self.broken: list[BaseException] = []

    def new_job(self) -> str:
        return self.rows.job(sources=SOURCES, models=MODELS)

    def upload(self) -> str:
        """The URL of an upload, mostly of one that others name too."""
        if there := self.rows.one("SELECT 'upload:' || id FROM uploads WHERE random() < 0.7 LIMIT 1"):
            return there
        return self.rows.one(
            """INSERT INTO uploads (project_id, file_name, size_bytes, sha256, blob)
            VALUES (:project, 'a.mp4', 1, 'x', 'uploads/' || gen_random_uuid()) RETURNING 'upload:' || id""",
            project=DEFAULT_PROJECT_ID,
        )

    def run(self, number: int, act: Callable[[random.Random], str]) -> None:
        chance = random.Random(SEED * 1000 + number)
        while not self.over.is_set():
            try:
                self.acts[act(chance)] += 1
            except (NotFound, Conflict, Invalid, TooMany):
                pass  # somebody deleted, cancelled or finished the job, it has that URL, or there are many exports
            except DBAPIError as error:
                if getattr(error.orig, "pgcode", None) != "40P01":
                    self.broken.append(error)
                    return
                self.circles[" ".join(str(error.statement).split())[:80]] += 1
                sys.stdout.write(f"{error.orig}\n{error.statement}\n")
            except BaseException as error:
                self.broken.append(error)
                return

    # --- workers

    def work(self, chance: random.Random) -> str:
        queue = chance.choice([Queue.KEYFRAMES, Queue.EMBEDDING, Queue.EMBEDDING, Queue.CLUSTERING, Queue.EXPORTS])
        ids = self.rows.task_ids(queue.value)
        claims = self.rows.claim(*chance.sample(ids, min(len(ids), 4)))
        if claims and queue is Queue.EMBEDDING:
            with self.database.transaction() as connection:
                claims += tasks.claim_more(connection, claims[0], key_frames=30, owner="test", lease_s=60)
        with self.database.transaction() as connection:
            tasks.renew(connection, chance.sample(claims, len(claims)), lease_s=60)
        for claim in claims:
            self.end(claim, chance.choice(["succeed"] * 6 + ["fail", "later", "back", "expire"]))
        return queue.value

    def end(self, claim: Claim, how: str) -> None:
        rows = self.rows
        if how == "fail":
            rows.end(claim, lambda c, claim: tasks.fail(c, claim, ErrorKind.DAMAGED, "no"))
        elif how == "later":
            error = TransientError(ErrorKind.UNREACHABLE, "away")
            rows.end(claim, lambda c, claim: tasks.try_later(c, claim, error, backoff_s=0.01))
        elif how == "back":
            rows.end(claim, tasks.hand_back)
        elif how == "expire":
            rows.do(
                "UPDATE tasks SET lease_until = now() - interval '1 s' WHERE id = :id AND state = 'running'",
                id=claim.task_id,
            )
        elif claim.queue is Queue.KEYFRAMES:
            number = rows.one("SELECT position FROM sources WHERE id = :id", id=claim.source_id)
            rows.cut_up(claim, sha256=f"sha-{(number or 0) % VIDEOS}")
        elif claim.queue is Queue.EMBEDDING:
            rows.embed(claim)
        elif claim.queue is Queue.EXPORTS:
            with self.database.transaction() as connection:
                work = exports_store.load(connection, claim)
            if work:
                rows.save(claim, exports_store, WrittenExport(f"exports/{claim.task_id}", 1, 1), work)
        else:
            try:
                rows.cluster(claim)
            except PermanentError as error:  # asked for before there was a vector
                reason = error
                rows.end(claim, lambda c, claim: tasks.fail(c, claim, reason.kind, reason.message))

    # --- people, two of whom often want something else of the same job

    def meddle(self, chance: random.Random) -> str:
        job_id = chance.choice(self.jobs)
        how = chance.choice(["cancel", "cancel", "retry", "retry", "sources", "models", "clustering", "delete"])
        if chance.random() < 0.2:
            return self.change_sources(chance, job_id)
        if chance.random() < 0.2:
            return self.export(chance, job_id)
        if how == "delete":
            delete_job(self.database, self.blobs, DEFAULT_PROJECT_ID, job_id)
            self.jobs[self.jobs.index(job_id)] = self.new_job()  # one of two who delete it at once is told otherwise
            return how
        with self.database.transaction() as connection:
            if how == "cancel":
                commands.cancel_job(connection, DEFAULT_PROJECT_ID, job_id)
            elif how == "retry":
                commands.retry_job(connection, DEFAULT_PROJECT_ID, job_id)
            elif how == "sources":
                urls = [f"https://example.org/{chance.randrange(50)}" for _ in range(3)]
                source_commands.add(connection, DEFAULT_PROJECT_ID, self.settings, job_id, urls, expand=False)
            elif how == "models":
                names = [chance.choice(MORE_MODELS)]
                commands.add_models(connection, DEFAULT_PROJECT_ID, self.settings, job_id, names)
            else:
                asked = ClusteringRequest(model=chance.choice(MODELS), n_clusters=2)
                clustering_commands.ask_for(connection, DEFAULT_PROJECT_ID, job_id, asked)
        return how

    def change_sources(self, chance: random.Random, job_id: str) -> str:
        source_id = self.rows.one("SELECT id FROM sources WHERE job_id = :job ORDER BY random() LIMIT 1", job=job_id)
        where = (self.database, self.blobs, DEFAULT_PROJECT_ID)
        how = chance.choice(["remove", "remove failed", "correct", "delete clustering"])
        if how == "remove failed":
            source_commands.remove_failed(*where, job_id)
        elif how == "remove" and source_id:
            source_commands.remove(*where, job_id, source_id)
        elif how == "correct" and source_id:
            url = chance.choice([f"https://example.org/{chance.randrange(1000)}", self.upload()])
            source_commands.correct(*where, self.settings, job_id, source_id, url, expand=False)
        elif made := self.rows.one("SELECT id FROM clusterings ORDER BY random() LIMIT 1"):
            with self.database.transaction() as connection:
                clustering_commands.delete(connection, DEFAULT_PROJECT_ID, made)
        return how

    def export(self, chance: random.Random, job_id: str) -> str:
        if chance.random() < 0.5 and (there := self.rows.one("SELECT id FROM exports ORDER BY random() LIMIT 1")):
            if chance.random() < 0.5:
                self.rows.do("UPDATE exports SET expires_at = now() WHERE id = :id", id=there)
                return "export expires"
            export_commands.delete(self.database, self.blobs, DEFAULT_PROJECT_ID, there)
            return "delete export"
        with self.database.transaction() as connection:
            export_commands.ask_for(connection, DEFAULT_PROJECT_ID, self.settings, ExportRequest(job_id=job_id))
        return "export"

    # --- two dispatchers, one of which tidies up

    def dispatch(self, chance: random.Random) -> str:
        with self.database.transaction() as connection:
            tasks.take_back_expired(connection)
        for queue in Queue:
            with self.database.transaction() as connection:
                due = tasks.due(connection, queue, window=100, per_host=4)
            with self.database.transaction() as connection:
                tasks.mark_sent(connection, due)
            with self.database.transaction() as connection:
                tasks.forget_overtaken(connection, queue, after_s=0)
                tasks.forget_sent(connection, queue)
        return "dispatch"

    def collect(self, chance: random.Random) -> str:
        gc.collect(self.database, self.blobs, older_than_s=0, delete=True, adopt=True)
        time.sleep(0.1)
        return "collect"


def test_nobody_waits_in_a_circle(rows, impatient, tmp_path):
    settings = load_settings({"REELMAP_DATABASE_URL": rows.database.url, "REELMAP_HUB": "yes"})
    crowd = Crowd(rows, FolderBlobs(tmp_path), settings)
    hands = [crowd.work] * WORKERS + [crowd.meddle] * PEOPLE + [crowd.dispatch] * 2 + [crowd.collect]
    threads = [threading.Thread(target=crowd.run, args=pair) for pair in enumerate(hands)]
    for thread in threads:
        thread.start()
    time.sleep(STRESS_S)
    crowd.over.set()
    for thread in threads:
        thread.join()
    sys.stdout.write(f"LOCKS_SEED={SEED}, acts: {dict(crowd.acts)}, circles: {dict(crowd.circles)}\n")
    assert not crowd.broken, crowd.broken
    assert not crowd.circles
