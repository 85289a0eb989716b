"""Rows for integration tests: everything a test does not care about has a value already."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, text

from services.clustering import store as clustering_store
from services.clustering.clusterer import ClusteringSettings, cluster
from services.embedding import store as embedding_store
from services.keyframes import store as keyframes_store
from services.keyframes.choosing.shots import Shot
from services.keyframes.extraction import Extraction, KeyFrame
from services.keyframes.reading.frames import VideoFacts
from services.keyframes.store import SourceResult
from shared import catalog, tasks
from shared.db import Database
from shared.tables import DEFAULT_PROJECT_ID
from shared.tasks import Claim

_numbers = itertools.count(1)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated, empty database."""
    database = Database(database_url, pool_size=4, max_overflow=8)
    yield database
    database.dispose()


@dataclass
class Rows:
    """Writes and reads rows, each call in a transaction of its own."""

    database: Database
    job_ids: list[str] = field(default_factory=list)

    def one(self, statement: str, **values: Any) -> Any:
        """The first column of the first row."""
        with self.database.transaction() as connection:
            return connection.execute(text(statement), values).scalar()

    def all(self, statement: str, **values: Any) -> Sequence[Any]:
        with self.database.transaction() as connection:
            return connection.execute(text(statement), values).all()

    def do(self, statement: str, **values: Any) -> int:
        with self.database.transaction() as connection:
            return connection.execute(text(statement), values).rowcount

    def job(self, *, sources: int = 1, models: Sequence[str] = ("colour",), host: str | None = None) -> str:
        """A job with that many sources and their keyframes tasks, as the API makes it."""
        with self.database.transaction() as connection:
            job_id = connection.execute(
                text(
                    """INSERT INTO jobs (project_id, models, key_frames, clustering)
                    VALUES (:project, :models, :key_frames, :clustering) RETURNING id"""
                ),
                {
                    "project": DEFAULT_PROJECT_ID,
                    "models": list(models),
                    "key_frames": json.dumps({"strategy": "uniform", "every_s": 1.0}),
                    "clustering": json.dumps({**catalog.COMMON_CLUSTERING, "n_clusters": 2}),
                },
            ).scalar_one()
            self._add_sources(connection, job_id, sources, host)
        self.job_ids.append(job_id)
        return job_id

    def add_sources(self, job_id: str, sources: int = 1) -> None:
        """More sources for a job, as the API adds them."""
        with self.database.transaction() as connection:
            tasks.lock_job(connection, job_id)
            tasks.next_round(connection, job_id)
            self._add_sources(connection, job_id, sources, None)

    def _add_sources(self, connection: Connection, job_id: str, sources: int, host: str | None) -> None:
        for _ in range(sources):
            number = next(_numbers)
            connection.execute(
                text("INSERT INTO sources (job_id, position, url, host) VALUES (:job, :n, :url, :host)"),
                {"job": job_id, "n": number, "url": f"http://videos.example/{number}.mp4", "host": host},
            )
        tasks.add_keyframes_tasks(connection, job_id)

    def task_ids(self, queue: str, job_id: str | None = None) -> list[str]:
        """Ids of the queue's queued tasks, oldest first."""
        return [
            row.id
            for row in self.all(
                """SELECT id FROM tasks WHERE queue = :queue AND state = 'queued' AND (:job IS NULL OR
                CAST(job_id AS text) = :job) ORDER BY created_at, id""",
                queue=queue,
                job=job_id,
            )
        ]

    def task_ids_sent(self) -> list[str]:
        """Ids of the tasks that were sent and not claimed."""
        return [row.id for row in self.all("SELECT id FROM tasks WHERE state = 'queued' AND sent_at IS NOT NULL")]

    def claim(self, *task_ids: str, lease_s: float = 60) -> list[Claim]:
        with self.database.transaction() as connection:
            return tasks.claim(connection, task_ids, owner="test", lease_s=lease_s)

    def end(self, claim: Claim, move: Callable[[Connection, Claim], bool] = tasks.succeed) -> bool:
        """End a task as the runner does: the move, then `advance`."""
        with self.database.transaction() as connection:
            moved = move(connection, claim)
            if moved and claim.job_id:
                tasks.advance(connection, claim.job_id)
        return moved

    def cut_up(self, claim: Claim, *, key_frames_: int = 3, sha256: str | None = None) -> bool:
        """End a keyframes task with that many key frames, as the stage does. False: the task was not ours any more."""
        return self.save(claim, keyframes_store, source_result(key_frames_, sha256 or f"sha-{next(_numbers)}"))

    def embed(self, claim: Claim, *, dimension: int = 4) -> bool:
        """End an embedding task with a vector for each of its key frames, as the stage does."""
        with self.database.transaction() as connection:
            connection.execute(text("INSERT INTO models (name) VALUES (:m) ON CONFLICT DO NOTHING"), {"m": claim.model})
            work = embedding_store.load(connection, claim)
        if work is None:
            return False
        vectors = [np.random.default_rng(zlib.crc32(blob.encode())).normal(size=dimension) for blob in work.blobs]
        X = np.array(vectors, dtype=np.float32).reshape(-1, dimension)
        return self.save(claim, embedding_store, X, work)

    def cluster(self, claim: Claim) -> bool:
        """End a clustering task, as the stage does."""
        with self.database.transaction() as connection:
            corpus = clustering_store.load(connection, claim)
        if corpus is None:
            return False
        settings = ClusteringSettings(parameters={"n_clusters": 2})
        return self.save(claim, clustering_store, cluster(corpus.X, settings, groups=corpus.videos), corpus)

    def save(self, claim: Claim, store: Any, result: Any, loaded: Any = None) -> bool:
        """Succeed, save and advance in one transaction, as the runner does.

        store: the service's module. loaded: what it loaded before; None: what it loads now. False: not ours any more.
        """
        with self.database.transaction() as connection:
            if not tasks.succeed(connection, claim):
                return False
            loaded = loaded or store.load(connection, claim)
            store.save(connection, claim, loaded, result)
            if claim.job_id:
                tasks.advance(connection, claim.job_id)
        return True

    def job_state(self, job_id: str) -> str:
        return self.one("SELECT state FROM jobs WHERE id = :id", id=job_id)


def source_result(key_frames: int, sha256: str, *, known: str | None = None, **changes: Any) -> SourceResult:
    """What the keyframes stage saves of a video. known: the extraction that the project has of it already."""
    pictures = tuple(
        KeyFrame(10 * i, 0.4 * i, i, 0, Path("picture.jpg"), Path("small.jpg"), 64, 48, ()) for i in range(key_frames)
    )
    facts = VideoFacts("mp4", "h264", "yuv420p", 64, 48, 0, 1.0, 25.0, 4.0, 0.0, False)
    extraction = Extraction(100, 4.0, facts, (Shot(0, 100, 0.0, 4.0),), pictures, 0)
    values = {
        "sha256": sha256,
        "size_bytes": 1,
        "title": None,
        "recipe": "recipe",
        "analysis_recipe": "recipe",
        "extraction_id": known or keyframes_store.new_extraction_id(),
        "extraction": None if known else extraction,
    }
    return SourceResult(**{**values, **changes})


@pytest.fixture
def rows(database: Database) -> Rows:
    """Writes and reads rows of an empty database."""
    return Rows(database)


@pytest.fixture
def make_rows() -> Callable[[Database], Rows]:
    """Writes and reads rows of a database of the test's own."""
    return Rows


@pytest.fixture
def make_source_result() -> Callable[..., SourceResult]:
    """What the keyframes stage saves of a video, see `source_result`."""
    return source_result
