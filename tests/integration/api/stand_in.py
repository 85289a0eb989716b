"""A stand-in for the workers, which drives `shared.tasks` itself: jobs get results without a video being read."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sqlalchemy import Connection, insert, text

from services.api.context import Service
from shared import tasks
from shared.errors import ErrorKind
from shared.tables import (
    DEFAULT_PROJECT_ID,
    assignments,
    clusters,
    embeddings,
    extractions,
    key_frames,
    videos,
)
from shared.tasks import Claim


class Workers:
    """Does tasks as workers would: claims, writes result rows, succeeds, advances."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._numbers = itertools.count()

    def claim(self, connection: Connection, where: str, **values: object) -> list[Claim]:
        """Claim every queued task that matches."""
        ids = connection.execute(
            text(f"SELECT t.id FROM tasks t WHERE t.state = 'queued' AND {where} ORDER BY t.created_at, t.id"), values
        ).scalars()
        return tasks.claim(connection, list(ids), owner="test", lease_s=60)

    def extract(self, job_id: str, *, frames: int = 100, key_frames_each: int = 3, same_video: bool = False) -> None:
        """Every queued source becomes a video of its own, or all of them one and the same."""
        with self.service.database.transaction() as connection:
            for claim in self.claim(connection, "t.job_id = :job AND t.queue = 'keyframes'", job=job_id):
                number = 0 if same_video else next(self._numbers)
                assert tasks.succeed(connection, claim)
                self._save_video(connection, claim, number, frames, key_frames_each)
                tasks.lock_job(connection, job_id)
                tasks.add_embedding_tasks(connection, job_id)
                tasks.advance(connection, job_id)

    def _save_video(self, connection: Connection, claim: Claim, number: int, frames: int, count: int) -> None:
        sha256 = hashlib.sha256(str(number).encode()).hexdigest()
        known = connection.execute(
            text(
                """SELECT v.id, x.id AS extraction_id FROM videos v JOIN extractions x ON x.video_id = v.id
                WHERE v.sha256 = :sha256"""
            ),
            {"sha256": sha256},
        ).one_or_none()
        if known:
            video_id, extraction_id = known
        else:
            video_id, extraction_id = self._new_video(connection, sha256, frames, count)
        connection.execute(
            text("UPDATE sources SET video_id = :video, extraction_id = :extraction WHERE id = :id"),
            {"video": video_id, "extraction": extraction_id, "id": claim.source_id},
        )

    def _new_video(self, connection: Connection, sha256: str, frames: int, count: int) -> tuple[str, str]:
        video_id = connection.execute(
            insert(videos).values(project_id=DEFAULT_PROJECT_ID, sha256=sha256, size_bytes=1000).returning(videos.c.id)
        ).scalar_one()
        extraction_id = connection.execute(
            insert(extractions)
            .values(
                video_id=video_id,
                recipe="r",
                analysis_recipe="r",
                settings={},
                frames=frames,
                duration_s=frames / 10,
                facts={"container": "mp4", "codec": "h264", "width_px": 640, "height_px": 360, "pixel_format": "x"},
                shots=[[0, frames, 0.0, frames / 10]],
                damaged_packets=0,
                key_frame_count=count,
            )
            .returning(extractions.c.id)
        ).scalar_one()
        for position in range(count):
            blob, small_blob = (f"pictures/{extraction_id}/{position}{end}" for end in (".jpg", "_small.jpg"))
            for name, size_px in ((blob, 64), (small_blob, 16)):
                self.put_picture(name, size_px)
            connection.execute(
                insert(key_frames).values(
                    extraction_id=extraction_id,
                    position=position,
                    frame_index=position * 10,
                    time_s=position * 1.0,
                    shot_index=0,
                    width_px=64,
                    height_px=64,
                    blob=blob,
                    small_blob=small_blob,
                    repeats=[[0.5, 0.75]] if position == 0 else [],
                )
            )
        return video_id, extraction_id

    def put_picture(self, name: str, size_px: int) -> None:
        with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
            Image.new("RGB", (size_px, size_px)).save(file, "JPEG")
            file.flush()
            self.service.blobs.put(name, Path(file.name))

    def embed(self, job_id: str, model: str | None = None) -> None:
        """Give every key frame of every queued chunk a vector, on a line from the first axis to the second."""
        where = "t.job_id = :job AND t.queue = 'embedding' AND t.model = coalesce(:model, t.model)"
        with self.service.database.transaction() as connection:
            for claim in self.claim(connection, where, job=job_id, model=model):
                assert tasks.succeed(connection, claim)
                connection.execute(
                    text("INSERT INTO models (name, dimension) VALUES (:name, 3) ON CONFLICT DO NOTHING"),
                    {"name": claim.model},
                )
                rows = connection.execute(
                    text(
                        """
                        SELECT k.id FROM key_frames k JOIN extractions x ON x.id = k.extraction_id
                        WHERE x.video_id = :video AND NOT EXISTS (
                            SELECT FROM embeddings e WHERE e.key_frame_id = k.id AND e.model = :model)
                        ORDER BY k.position"""
                    ),
                    {"video": claim.video_id, "model": claim.model},
                ).scalars()
                for id_ in list(rows):
                    angle = 0.01 * next(self._numbers)
                    connection.execute(
                        insert(embeddings).values(
                            key_frame_id=id_, model=claim.model, vector=np.array([np.cos(angle), np.sin(angle), 0])
                        )
                    )
                tasks.advance(connection, job_id)

    def cluster(self, job_id: str, *, n_clusters: int = 2, noise: int = 0) -> None:
        """Run every queued clustering: key frames dealt out in turn, the first `noise` of them to noise."""
        with self.service.database.transaction() as connection:
            for claim in self.claim(connection, "t.job_id = :job AND t.queue = 'clustering'", job=job_id):
                assert tasks.succeed(connection, claim)
                self._save_clusters(connection, claim, n_clusters, noise)
                tasks.advance(connection, job_id)

    def _save_clusters(self, connection: Connection, claim: Claim, n_clusters: int, noise: int) -> None:
        ids = list(
            connection.execute(
                text(
                    """SELECT DISTINCT k.id, x.video_id, k.position FROM sources s
                    JOIN extractions x ON x.id = s.extraction_id
                    JOIN key_frames k ON k.extraction_id = x.id WHERE s.job_id = :job ORDER BY x.video_id, k.position"""
                ),
                {"job": claim.job_id},
            ).scalars()
        )
        labels = [-1 if i < noise else i % n_clusters for i in range(len(ids))]
        connection.execute(
            text(
                """UPDATE clusterings SET key_frame_count = :n, complete = true, n_clusters_used = :k, seed = 0,
                inertia = 1.5, silhouette = 0.5, noise_count = :noise, notes = '["a note"]', evidence = '[]'
                WHERE id = :id"""
            ),
            {"n": len(ids), "k": n_clusters, "noise": noise, "id": claim.clustering_id},
        )
        for label in range(n_clusters):
            members = [id_ for id_, own in zip(ids, labels, strict=True) if own == label]
            connection.execute(
                insert(clusters).values(
                    clustering_id=claim.clustering_id,
                    label=label,
                    size=len(members),
                    video_count=1,
                    mean_distance=0.5,
                    medoid_id=members[0],
                )
            )
        connection.execute(
            insert(assignments),
            [
                {
                    "clustering_id": claim.clustering_id,
                    "key_frame_id": id_,
                    "label": label,
                    "distance": None if label < 0 else 0.1 * (1 + i // 4),
                }
                for i, (id_, label) in enumerate(zip(ids, labels, strict=True))
            ],
        )

    def finish(self, job_id: str, **how: object) -> None:
        """All stages of a job, one after the other."""
        self.extract(job_id, **how)  # type: ignore[arg-type]
        self.embed(job_id)
        self.cluster(job_id)

    def fail(self, job_id: str, kind: ErrorKind, reason: str, *, limit: int = 1, queue: str = "keyframes") -> None:
        """Fail so many queued tasks of the job."""
        with self.service.database.transaction() as connection:
            where = "t.job_id = :job AND t.queue = :queue"
            for claim in self.claim(connection, where, job=job_id, queue=queue)[:limit]:
                assert tasks.fail(connection, claim, kind, reason)
            connection.execute(
                text(
                    """UPDATE tasks SET state = 'queued', lease_until = NULL, owner = NULL, attempt = 0
                    WHERE job_id = :job AND state = 'running'"""
                ),
                {"job": job_id},
            )
            tasks.advance(connection, job_id)
