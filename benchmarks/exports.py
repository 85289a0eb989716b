"""Measures what a large export takes: `python -m benchmarks.exports [--key-frames 20000] [--picture-kb 30]`.

Fills a database and a folder of its own with key frames of synthetic videos in one clustering, exports them in each
format by the handler of the worker, sends each file as the API does, and prints seconds and the memory of this process.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import text

from services.api.app import create_app
from services.exports.tasks import ExportsHandler
from services.local.guard import Guard
from services.local.postgres import EmbeddedPostgres
from shared import catalog, tasks
from shared.db import Database, migrate
from shared.folder_blobs import FolderBlobs
from shared.runner import Runner
from shared.settings import Settings
from shared.tables import DEFAULT_PROJECT_ID

PER_VIDEO = 100
CLUSTERS = 100


def fill(database: Database, blobs: FolderBlobs, count: int, picture_bytes: int) -> str:
    """A clustering of so many key frames. Returns its id."""
    with database.transaction() as connection:
        job_id = connection.execute(
            text(
                """INSERT INTO jobs (project_id, models, key_frames, clustering)
                VALUES (:p, '{m}', '{}', '{}') RETURNING id"""
            ),
            {"p": DEFAULT_PROJECT_ID},
        ).scalar_one()
        clustering_id: str = connection.execute(
            text(
                """INSERT INTO clusterings (job_id, round, model, settings, settings_key, asked, key_frame_count)
                VALUES (:job, 1, 'm', '{}', 'k', false, :n) RETURNING id"""
            ),
            {"job": job_id, "n": count},
        ).scalar_one()
        for number in range(count // PER_VIDEO):
            _add_video(connection, job_id, clustering_id, number)
        names = connection.execute(text("SELECT blob FROM key_frames")).scalars()
        for name in names:
            path = blobs.path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(picture_bytes))
    return clustering_id


def _add_video(connection: Any, job_id: str, clustering_id: str, number: int) -> None:
    connection.execute(
        text(
            """WITH v AS (INSERT INTO videos (project_id, sha256, size_bytes) VALUES (:p, :sha, 1) RETURNING id),
            x AS (INSERT INTO extractions (id, video_id, recipe, analysis_recipe, settings, frames, duration_s, facts,
                shots, damaged_packets, key_frame_count)
                SELECT CAST(:x AS uuid), v.id, 'r', 'r', '{}', 1, 1, '{}', '[]', 0, :n FROM v RETURNING id, video_id),
            s AS (INSERT INTO sources (job_id, position, url, title, video_id, extraction_id)
                SELECT :job, :number, 'https://films.example/' || :number, 'Film number ' || :number, x.video_id, x.id
                FROM x),
            k AS (INSERT INTO key_frames (extraction_id, position, frame_index, time_s, shot_index, width_px, height_px,
                blob, small_blob, repeats)
                SELECT x.id, f, f, f, 0, 960, 540, 'pictures/' || x.id || '/' || lpad(f::text, 7, '0') || '.jpg', '',
                    '[]'
                FROM x, generate_series(0, :n - 1) AS f RETURNING id, position)
            INSERT INTO assignments (clustering_id, key_frame_id, label, distance)
            SELECT :clustering, k.id, (k.position + :number) % :clusters, random() FROM k"""
        ),
        {
            "p": DEFAULT_PROJECT_ID,
            "sha": str(number),
            "x": str(uuid.uuid4()),
            "n": PER_VIDEO,
            "job": job_id,
            "number": number,
            "clustering": clustering_id,
            "clusters": CLUSTERS,
        },
    )


def ask(database: Database, clustering_id: str, format_: str) -> tuple[str, str]:
    """An export and its task. Returns their ids."""
    with database.transaction() as connection:
        export_id: str = connection.execute(
            text(
                """INSERT INTO exports (project_id, subject, format, expires_at) VALUES (:p,
                jsonb_build_object('kind', 'clustering', 'clustering_id', CAST(:clustering AS text)), :format,
                now() + interval '1 day') RETURNING id"""
            ),
            {"p": DEFAULT_PROJECT_ID, "clustering": clustering_id, "format": format_},
        ).scalar_one()
        tasks.add_export_task(connection, export_id)
        task_id = connection.execute(text("SELECT id FROM tasks WHERE export_id = :id"), {"id": export_id}).scalar_one()
    return export_id, task_id


def measured(what: str, run: Callable[[], object]) -> None:
    """Print what it takes."""
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    began_at = time.monotonic()
    said = run()
    took_s = time.monotonic() - began_at
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"{what}: {took_s:.1f} s, peak memory {peak_mb:.0f} MB (+{peak_mb - before_mb:.1f} MB) {said or ''}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--key-frames", type=int, default=20_000)
    parser.add_argument("--picture-kb", type=int, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Guard() as guard:
        server = EmbeddedPostgres(Path(folder, "postgres"), guard, durable=False)
        url = server.start()
        migrate(url)
        database, blobs = Database(url), FolderBlobs(Path(folder, "blobs"))
        clustering_id = fill(database, blobs, arguments.key_frames, arguments.picture_kb * 1000)
        settings = Settings(own_models={}, database_url=url, blobs_folder=blobs.folder, access="open")
        runner = Runner(database, Path(folder, "work"), lease_s=60, heartbeat_s=20, backoff_s=10, stop_grace_s=10)
        handler = ExportsHandler(settings, database, blobs)
        client = create_app(settings).test_client()

        def send(export_id: str) -> str:
            with client.get(f"/api/v1/exports/{export_id}/file", buffered=False) as answer:
                return f"{sum(len(block) for block in answer.response):,} bytes"

        for format_ in sorted(catalog.formats()):
            export_id, task_id = ask(database, clustering_id, format_)
            measured(f"{format_}, written", lambda task_id=task_id: runner.run_tasks([task_id], handler))  # type: ignore[misc]
            measured(f"{format_}, sent", lambda export_id=export_id: send(export_id))  # type: ignore[misc]
        database.dispose()
        server.stop()


if __name__ == "__main__":
    main()
