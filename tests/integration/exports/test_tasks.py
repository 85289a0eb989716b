"""The handler under the runner: stopped, late, and beside a job that goes away."""

from __future__ import annotations

import json

import pytest

from services.exports.formats import zip as zip_format
from services.exports.tasks import ExportsHandler
from shared import tasks
from shared.folder_blobs import FolderBlobs
from shared.runner import Runner
from shared.settings import Settings
from shared.tables import DEFAULT_PROJECT_ID


@pytest.fixture
def blobs(tmp_path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


@pytest.fixture
def export(rows, blobs, tmp_path):
    """Asks for an export of a job with 300 key frames. Returns the ids of job, export and task."""
    job_id = rows.job()
    rows.cut_up(*rows.claim(*rows.task_ids("keyframes")), key_frames_=300)
    picture = tmp_path / "picture"
    picture.write_bytes(b"picture")
    for row in rows.all("SELECT blob FROM key_frames"):
        blobs.put(row.blob, picture)
    export_id = rows.one(
        """INSERT INTO exports (project_id, job_id, subject, format, expires_at)
        VALUES (:p, :job, CAST(:subject AS jsonb), 'zip', now() + interval '1 day') RETURNING id""",
        p=DEFAULT_PROJECT_ID,
        job=job_id,
        subject=json.dumps({"kind": "job", "job_id": job_id}),
    )
    with rows.database.transaction() as connection:
        tasks.add_export_task(connection, export_id)
    return job_id, export_id, rows.task_ids("exports")[0]


@pytest.fixture
def run(database, blobs, tmp_path):
    def run(task_id: str, *, stopping=lambda: False, deadline_s: float = 60) -> None:
        runner = Runner(
            database,
            tmp_path / "work",
            lease_s=60,
            heartbeat_s=20,
            backoff_s=0,
            stop_grace_s=0,
            stopping=stopping,
        )
        settings = Settings(own_models={}, exports_deadline_s=deadline_s)
        runner.run_tasks([task_id], ExportsHandler(settings, database, blobs))

    return run


def the_task(rows):
    return rows.all("SELECT state, attempt, error_kind FROM tasks WHERE queue = 'exports'")[0]


def test_an_export_that_is_interrupted_is_begun_again_and_leaves_nothing(rows, export, run, blobs, tmp_path):
    _, _, task_id = export
    looks = iter(range(1000))
    run(task_id, stopping=lambda: next(looks) > 150)
    assert the_task(rows) == ("queued", 1, None)
    assert list(blobs.entries("exports/")) == []
    assert list((tmp_path / "work").iterdir()) == []
    run(task_id)
    assert the_task(rows).state == "succeeded"
    [written] = rows.all("SELECT blob, size_bytes, key_frame_count, written_count FROM exports")
    assert [(entry.name, entry.size_bytes) for entry in blobs.entries("exports/")] == [tuple(written[:2])]
    assert tuple(written[2:]) == (300, 300)


def test_an_export_that_takes_too_long_says_so(rows, export, run):
    run(export[2], deadline_s=0)
    assert (the_task(rows).state, the_task(rows).error_kind) == ("failed", "deadline")


def test_more_key_frames_than_a_file_may_hold_are_refused_in_words(rows, export, run, monkeypatch):
    monkeypatch.setattr(zip_format, "MOST_KEY_FRAMES", 299)
    run(export[2])
    assert (the_task(rows).state, the_task(rows).error_kind) == ("failed", "too_large")
    assert "These are 300 key frames, and one file of this format holds at most 299" in rows.one(
        "SELECT error FROM tasks WHERE queue = 'exports'"
    )


def test_a_job_that_goes_away_meanwhile_takes_the_export_along(rows, export, run, blobs):
    job_id, _, task_id = export
    looks = iter(range(1000))

    def delete_in_the_middle() -> bool:
        if next(looks) == 100:
            rows.do("DELETE FROM jobs WHERE id = CAST(:job AS uuid)", job=job_id)
        return False

    run(task_id, stopping=delete_in_the_middle)
    assert rows.one("SELECT count(*) FROM exports") == rows.one("SELECT count(*) FROM tasks") == 0
    assert len(list(blobs.entries("exports/"))) <= 1, "an orphan, which is collected"


def test_an_export_that_was_deleted_before_it_began_is_nothing_to_do(rows, export, run, blobs):
    rows.do("DELETE FROM exports")
    run(export[2])
    assert list(blobs.entries("exports/")) == []
