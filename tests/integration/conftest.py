"""Rows for integration tests: everything a test does not care about has a value already."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, insert, text

from shared import catalog, tasks
from shared.db import Database
from shared.tables import DEFAULT_PROJECT_ID, embeddings, key_frames
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

    def cut_up(self, claim: Claim, *, key_frames_: int = 3, sha256: str | None = None) -> None:
        """End a keyframes task with that many key frames, as the stage does."""
        with self.database.transaction() as connection:
            assert tasks.succeed(connection, claim)
            video_id, extraction_id = self.video(connection, key_frames_, sha256 or f"sha-{next(_numbers)}")
            connection.execute(
                text("UPDATE sources SET video_id = :video, extraction_id = :extraction WHERE id = :id"),
                {"video": video_id, "extraction": extraction_id, "id": claim.source_id},
            )
            tasks.lock_job(connection, claim.job_id)
            tasks.add_embedding_tasks(connection, claim.job_id, [video_id])
            tasks.advance(connection, claim.job_id)

    def video(self, connection: Connection, key_frames_: int, sha256: str) -> tuple[str, str]:
        """A video and its extraction; the ones that are there when the bytes are known."""
        there = connection.execute(
            text("SELECT v.id, x.id FROM videos v JOIN extractions x ON x.video_id = v.id WHERE v.sha256 = :sha"),
            {"sha": sha256},
        ).one_or_none()
        if there:
            return there[0], there[1]
        video_id = connection.execute(
            text("INSERT INTO videos (project_id, sha256, size_bytes) VALUES (:p, :sha, 1) RETURNING id"),
            {"p": DEFAULT_PROJECT_ID, "sha": sha256},
        ).scalar_one()
        extraction_id = connection.execute(
            text(
                """INSERT INTO extractions (video_id, recipe, settings, frames, duration_s, facts, shots,
                   damaged_packets, key_frame_count)
                VALUES (:video, 'r', '{}', 100, 4.0, '{"width_px": 64, "height_px": 48}', '[[0, 100, 0.0, 4.0]]', 0, :n)
                RETURNING id"""
            ),
            {"video": video_id, "n": key_frames_},
        ).scalar_one()
        connection.execute(
            insert(key_frames),
            [
                {
                    "extraction_id": extraction_id,
                    "position": i,
                    "frame_index": 10 * i,
                    "time_s": 0.4 * i,
                    "pts": i,
                    "shot_index": 0,
                    "width_px": 64,
                    "height_px": 48,
                    "blob": f"pictures/{extraction_id}/{i}.jpg",
                    "small_blob": f"pictures/{extraction_id}/{i}_small.jpg",
                    "repeats": [],
                }
                for i in range(key_frames_)
            ],
        )
        return video_id, extraction_id

    def embed(self, claim: Claim, *, dimension: int = 4) -> None:
        """End an embedding task with a vector for each of its key frames, as the stage does."""
        with self.database.transaction() as connection:
            assert tasks.succeed(connection, claim)
            connection.execute(text("INSERT INTO models (name) VALUES (:m) ON CONFLICT DO NOTHING"), {"m": claim.model})
            rows = connection.execute(
                text(
                    """SELECT k.id, k.frame_index FROM key_frames k JOIN extractions x ON x.id = k.extraction_id
                    WHERE x.video_id = :video AND NOT EXISTS (
                        SELECT FROM embeddings e WHERE e.key_frame_id = k.id AND e.model = :model)"""
                ),
                {"video": claim.video_id, "model": claim.model},
            ).all()
            for row in rows:
                vector = np.random.default_rng(row.frame_index).normal(size=dimension).astype(np.float32)
                connection.execute(insert(embeddings), {"key_frame_id": row.id, "model": claim.model, "vector": vector})
            tasks.advance(connection, claim.job_id)

    def job_state(self, job_id: str) -> str:
        return self.one("SELECT state FROM jobs WHERE id = :id", id=job_id)


@pytest.fixture
def rows(database: Database) -> Rows:
    """Writes and reads rows of an empty database."""
    return Rows(database)
