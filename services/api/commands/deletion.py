"""Deletes a job, and whatever no source refers to any more."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from services.api.queries.jobs import job_not_found, require_job
from shared import tasks
from shared.blobs import BlobStore
from shared.db import Database, is_conflict
from shared.errors import TransientError

logger = logging.getLogger(__name__)

#: Cascades over a job of thousands of videos take longer than what one statement of the API may otherwise take.
STATEMENT_TIMEOUT_S = 600


def delete_job(database: Database, blobs: BlobStore, project_id: str, job_id: str) -> None:
    """Delete the job in whatever state it is. Raises `NotFound`.

    Blobs go after the commit, as well as that goes: what stays behind is an orphan, and orphans are collected.
    """

    def delete(connection: Connection) -> list[str]:
        require_job(connection, project_id, job_id)
        connection.execute(text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT_S}s'"))
        return _delete_rows(connection, job_id)

    delete_blobs(blobs, database.retrying(delete, after=is_conflict))


def delete_blobs(blobs: BlobStore, names: Sequence[str]) -> None:
    """Delete blobs that no row names any more, as well as that goes."""
    try:
        blobs.delete(names)
    except TransientError as error:
        logger.warning("could not delete every blob, they are orphans now: %s", error)


def _delete_rows(connection: Connection, job_id: str) -> list[str]:
    """Returns the names of the blobs that no row names any more."""
    # Waits for workers that are saving, and fences those that would save later; the job's row is ours from here on.
    if tasks.lock_whole_job(connection, job_id) is None:
        raise job_not_found(job_id)
    tasks.lock_export_tasks(connection, job_id=job_id)
    used = hold_used(connection, "job_id = CAST(:job AS uuid)", job=job_id)
    exports = connection.execute(
        text("DELETE FROM exports WHERE job_id = :job RETURNING blob"), {"job": job_id}
    ).scalars()
    exported = [blob for blob in exports if blob]
    connection.execute(text("DELETE FROM jobs WHERE id = :job"), {"job": job_id})
    return [*exported, *delete_unused(connection, used)]


@dataclass(frozen=True)
class Used:
    """Ids of the videos, extractions and uploads that some sources refer to."""

    video_ids: list[str]
    extraction_ids: list[str]
    upload_ids: list[str]


def hold_used(connection: Connection, which: str, **values: Any) -> Used:
    """What those sources refer to for which a condition holds; it stays until the end of the transaction.

    A worker that saves the same video for another job holds its row or waits for ours; afterwards it finds the video
    gone and cuts it up again, or we find its source and leave the video.
    """
    rows = connection.execute(
        text(f"SELECT url, video_id, extraction_id FROM sources WHERE {which}"),
        values,
    ).all()
    used = Used(
        sorted({row.video_id for row in rows if row.video_id}),
        sorted({row.extraction_id for row in rows if row.extraction_id}),
        sorted({row.url.removeprefix("upload:") for row in rows if row.url.startswith("upload:")}),
    )
    for table, ids in (("videos", used.video_ids), ("uploads", used.upload_ids)):
        _execute(connection, f"SELECT id FROM {table} WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR UPDATE", ids)
    return used


def delete_unused(connection: Connection, used: Used) -> list[str]:
    """Delete of these what no source refers to. Returns the names of the blobs that no row names any more."""
    unused = "NOT EXISTS (SELECT FROM sources s WHERE s.extraction_id = x.id)"
    pictures = _execute(
        connection,
        f"""SELECT unnest(array_remove(ARRAY[k.blob, k.small_blob, k.analysis_blob], NULL))
        FROM key_frames k JOIN extractions x ON x.id = k.extraction_id
        WHERE x.id = ANY(CAST(:ids AS uuid[])) AND {unused}""",
        used.extraction_ids,
    )
    _execute(
        connection,
        f"DELETE FROM extractions x WHERE x.id = ANY(CAST(:ids AS uuid[])) AND {unused}",
        used.extraction_ids,
    )
    _execute(
        connection,
        """DELETE FROM videos v WHERE v.id = ANY(CAST(:ids AS uuid[]))
        AND NOT EXISTS (SELECT FROM sources s WHERE s.video_id = v.id)""",
        used.video_ids,
    )
    files = _execute(
        connection,
        """DELETE FROM uploads u WHERE u.id = ANY(CAST(:ids AS uuid[]))
        AND NOT EXISTS (SELECT FROM sources s WHERE s.url = 'upload:' || u.id) RETURNING u.blob""",
        used.upload_ids,
    )
    return [*pictures, *files]


def _execute(connection: Connection, statement: str, ids: Sequence[str]) -> list[str]:
    """The first column of what the statement returns for these ids."""
    result = connection.execute(text(statement), {"ids": list(ids)})
    return list(result.scalars()) if result.returns_rows else []
