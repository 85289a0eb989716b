"""What nothing refers to goes, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from services.dispatcher.housekeeping import forget_old_rows, remove_orphans
from shared.folder_blobs import FolderBlobs
from shared.tables import DEFAULT_PROJECT_ID

DAY_S = 24 * 3600


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


def put(blobs: FolderBlobs, tmp_path: Path, *names: str, age_s: float = 2 * DAY_S) -> None:
    for name in names:
        source = tmp_path / "source"
        source.write_bytes(b"x")
        blobs.put(name, source)
        os.utime(blobs.folder / name, (time.time() - age_s,) * 2)


def names(blobs: FolderBlobs) -> set[str]:
    return {name for name, _ in blobs.names("")}


def test_old_blobs_that_no_row_names_go_and_the_others_stay(rows, database, blobs, tmp_path):
    rows.job()
    rows.cut_up(*rows.claim(*rows.task_ids("keyframes")))
    pictures = [row[0] for row in rows.all("SELECT unnest(ARRAY[blob, small_blob]) FROM key_frames")]
    rows.do(
        """INSERT INTO uploads (project_id, file_name, size_bytes, sha256, blob)
        VALUES (:p, 'f', 1, 's', 'uploads/used')""",
        p=DEFAULT_PROJECT_ID,
    )
    rows.do("INSERT INTO queries (project_id, model, blob) VALUES (:p, 'm', 'queries/used')", p=DEFAULT_PROJECT_ID)
    used = {*pictures, "uploads/used", "queries/used"}
    unused = {
        "pictures/00000000-0000-0000-0000-00000000abcd/0000010.jpg",
        "pictures/not-an-id/x.jpg",
        "pictures/stray",
        "uploads/left",
        "queries/left",
    }
    young = {"pictures/00000000-0000-0000-0000-00000000abce/0000010.jpg", "uploads/young", "queries/young"}
    put(blobs, tmp_path, *used, *unused)
    put(blobs, tmp_path, *young, age_s=DAY_S / 2)
    assert remove_orphans(database, blobs) == len(unused)
    assert names(blobs) == used | young
    assert remove_orphans(database, blobs) == 0


def test_many_orphans_go_in_several_batches(rows, database, blobs, tmp_path):
    put(blobs, tmp_path, *[f"queries/{n}" for n in range(1001)])
    assert remove_orphans(database, blobs) == 1001


def test_query_pictures_and_idempotency_keys_are_kept_for_a_day(rows, database):
    for age in ("23 hours", "25 hours"):
        rows.do(
            """INSERT INTO queries (project_id, model, blob, created_at)
            VALUES (:p, 'm', :age, now() - CAST(:age AS interval))""",
            p=DEFAULT_PROJECT_ID,
            age=age,
        )
        rows.do(
            """INSERT INTO idempotency_keys (project_id, key, fingerprint, status, body, created_at)
            VALUES (:p, :age, 'f', 202, '{}', now() - CAST(:age AS interval))""",
            p=DEFAULT_PROJECT_ID,
            age=age,
        )
    forget_old_rows(database)
    assert rows.all("SELECT blob FROM queries") == [("23 hours",)]
    assert rows.all("SELECT key FROM idempotency_keys") == [("23 hours",)]


def add_upload(rows, blob: str, *, age: str) -> str:
    return rows.one(
        """INSERT INTO uploads (project_id, file_name, size_bytes, sha256, blob, created_at)
        VALUES (:p, 'f', 1, 's', :blob, now() - CAST(:age AS interval)) RETURNING id""",
        p=DEFAULT_PROJECT_ID,
        blob=blob,
        age=age,
    )


def test_uploads_of_no_job_are_kept_for_a_day_and_go_with_their_bytes(rows, database, blobs, tmp_path):
    add_upload(rows, "uploads/young", age="23 hours")
    add_upload(rows, "uploads/old", age="25 hours")
    rows.job()
    rows.do("UPDATE sources SET url = 'upload:' || :id", id=add_upload(rows, "uploads/submitted", age="25 hours"))
    put(blobs, tmp_path, "uploads/young", "uploads/old", "uploads/submitted")
    forget_old_rows(database)
    remove_orphans(database, blobs)
    assert names(blobs) == {"uploads/young", "uploads/submitted"}


def test_an_upload_that_is_being_submitted_stays(rows, database):
    upload = add_upload(rows, "uploads/old", age="25 hours")
    with database.transaction() as submitting:
        submitting.execute(text("SELECT FROM uploads WHERE id = :id FOR SHARE"), {"id": upload})
        forget_old_rows(database)
    assert rows.all("SELECT blob FROM uploads") == [("uploads/old",)]
