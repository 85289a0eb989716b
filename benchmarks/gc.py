"""Measures what looking through many blobs takes: `python -m benchmarks.gc [--blobs 100000]`.

Fills a folder with blobs that rows of a database of its own name, and as many that none does; prints seconds and the
growth of this process for the dry run of `reelmap gc`, for `reelmap doctor --thorough`, and for the removal.
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

from services.local.checks import store
from services.local.checks.check import Subject
from services.local.guard import Guard
from services.local.postgres import EmbeddedPostgres
from shared.db import Database, migrate
from shared.folder_blobs import FolderBlobs
from shared.gc import KEPT_S, collect
from shared.settings import Settings
from shared.tables import DEFAULT_PROJECT_ID

PER_EXTRACTION = 20
OLD_S = 2 * KEPT_S


def fill(database: Database, folder: Path, count: int) -> None:
    """Half of the blobs are pictures of extractions, the others of none."""
    at = time.time() - OLD_S
    with database.transaction() as connection:
        for number in range(count // PER_EXTRACTION):
            extraction_id = str(uuid.uuid4())
            if number % 2:
                _add_rows(connection, extraction_id, number)
            (folder / "pictures" / extraction_id).mkdir(parents=True)
            for frame in range(PER_EXTRACTION // 2):
                for ending in (".jpg", "_small.jpg"):
                    path = folder / "pictures" / extraction_id / f"{frame:07d}{ending}"
                    path.write_bytes(b"x")
                    os.utime(path, (at, at))


def _add_rows(connection: Any, extraction_id: str, number: int) -> None:
    connection.execute(
        text(
            """WITH v AS (INSERT INTO videos (project_id, sha256, size_bytes) VALUES (:p, :sha, 1) RETURNING id),
            x AS (INSERT INTO extractions (id, video_id, recipe, analysis_recipe, settings, frames, duration_s, facts,
                shots, damaged_packets, key_frame_count)
                SELECT CAST(:x AS uuid), v.id, 'r', 'r', '{}', 1, 1, '{}', '[]', 0, :n FROM v
                RETURNING id)
            INSERT INTO key_frames (extraction_id, position, frame_index, time_s, shot_index, width_px, height_px, blob,
                small_blob, repeats)
            SELECT x.id, f, f, f, 0, 1, 1, 'pictures/' || x.id || '/' || lpad(f::text, 7, '0') || '.jpg',
                'pictures/' || x.id || '/' || lpad(f::text, 7, '0') || '_small.jpg', '[]'
            FROM x, generate_series(0, :n - 1) AS f"""
        ),
        {"p": DEFAULT_PROJECT_ID, "sha": str(number), "x": extraction_id, "n": PER_EXTRACTION // 2},
    )


def measured(what: str, run: Callable[[], object]) -> None:
    """Print what it takes."""
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    began_at = time.monotonic()
    said = run()
    took_s = time.monotonic() - began_at
    grown_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000 - before_mb
    print(f"{what}: {took_s:.1f} s, peak memory {before_mb + grown_mb:.0f} MB (+{grown_mb:.1f} MB)\n    {said}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blobs", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Guard() as guard:
        server = EmbeddedPostgres(Path(folder, "postgres"), guard, durable=False)
        url = server.start()
        migrate(url)
        database = Database(url)
        blobs = FolderBlobs(Path(folder, "blobs"))
        fill(database, blobs.folder, arguments.blobs)
        subject = Subject(Settings(own_models={}, blobs_folder=blobs.folder), None, database, None, {})

        def look(delete: bool) -> object:
            return [
                garbage for garbage in collect(database, blobs, older_than_s=KEPT_S, delete=delete) if garbage.count
            ]

        measured("gc, dry run", lambda: look(False))
        measured("doctor, every blob", lambda: store.every_blob(subject))
        measured("gc --delete", lambda: look(True))
        database.dispose()
        server.stop()


if __name__ == "__main__":
    main()
