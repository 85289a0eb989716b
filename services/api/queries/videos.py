"""Videos: the content behind sources, and the key frames that were chosen of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

from services.api import paths
from services.api.cursors import Page
from services.api.problems import NotFound
from services.api.queries import key_frames
from services.api.queries.jobs import reduction
from services.api.queries.sources import VIDEO_COLUMNS, video_facts
from services.api.schemas.answers import KeyFrame, SeenVideo


def get_video(connection: Connection, project_id: str, video_id: str, job_id: str | None = None) -> SeenVideo:
    """The video as this job read it, or as it was read last. Raises `NotFound`, also when the job does not have it."""
    row = _row(connection, project_id, video_id, job_id)
    sources = key_frames.sources_of(connection, project_id, [row.extraction_id], None)[row.extraction_id]
    return SeenVideo(
        **video_facts(row),
        key_frames=row.key_frame_count,
        reduction=reduction(row.frames, row.key_frame_count),
        sources=[key_frames.source_at(source, 0.0) for source in sources],
        links={
            "self": paths.video(video_id, job_id),
            "key_frames": paths.video_key_frames(video_id, job_id),
            "page": paths.video_page(video_id, job_id),
        },
    )


def list_key_frames(
    connection: Connection,
    project_id: str,
    video_id: str,
    job_id: str | None = None,
    *,
    limit: int,
    cursor: str | None = None,
) -> Page[KeyFrame]:
    """The key frames that this job chose of the video, or that were chosen last, by time.

    Raises `NotFound`, or `Invalid` for a wrong cursor.
    """
    row = _row(connection, project_id, video_id, job_id)
    jobs = [job_id] if job_id else None
    return key_frames.list_of_extraction(connection, project_id, row.extraction_id, jobs, limit=limit, cursor=cursor)


def _row(connection: Connection, project_id: str, video_id: str, job_id: str | None) -> Any:
    row = connection.execute(
        text(
            f"""SELECT x.id AS extraction_id, {VIDEO_COLUMNS}
            FROM videos v JOIN extractions x ON x.video_id = v.id
            WHERE v.id = :video AND v.project_id = :project AND EXISTS (
                SELECT FROM sources s WHERE s.extraction_id = x.id
                {"AND s.job_id = :job" if job_id else ""})
            ORDER BY x.created_at DESC, x.id LIMIT 1"""
        ),
        {"video": video_id, "project": project_id, "job": job_id},
    ).one_or_none()
    if row is None:
        raise NotFound(f"There is no video {video_id}{f' in job {job_id}' if job_id else ''}.", "video_id")
    return row
