"""The sources of a job: each submitted URL and what came of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from services.api import cursors, paths
from services.api.cursors import Page, cut
from services.api.queries.jobs import reduction, require_job
from services.api.schemas.answers import Attempt, Failure, Source, Video
from shared.tasks import TaskState

#: What a query selects of a video `v` and its extraction `x` for `video_facts`.
VIDEO_COLUMNS = """v.id AS video_id, v.sha256, v.size_bytes, x.duration_s, x.frames, x.facts, x.damaged_packets,
    x.key_frame_count, jsonb_array_length(x.shots) AS shots"""
#: Attempts that a source shows: a worker that is stopped again and again makes any number.
MOST_ATTEMPTS = 20


def list_sources(
    connection: Connection,
    project_id: str,
    job_id: str,
    *,
    limit: int,
    cursor: str | None = None,
    state: TaskState | None = None,
) -> Page[Source]:
    """The job's sources in the order they were submitted. Raises `NotFound`, or `Invalid` for a wrong cursor."""
    require_job(connection, project_id, job_id)
    values: dict[str, Any] = {"job": job_id, "limit": limit + 1}
    where = "s.job_id = :job"
    if state:
        where += " AND t.state = :state"
        values["state"] = state
    if cursor:
        where += " AND s.position > :position"
        (values["position"],) = cursors.decode(cursor, cursors.whole)
    rows = connection.execute(
        text(
            f"""
            SELECT s.id, s.job_id, s.position, s.url, s.title, s.expanded_into, s.parent_id,
                   t.id AS task_id, t.state, t.attempt, t.error_kind, t.error,
                   {VIDEO_COLUMNS}
            FROM sources s
            JOIN tasks t ON t.source_id = s.id
            LEFT JOIN videos v ON v.id = s.video_id
            LEFT JOIN extractions x ON x.id = s.extraction_id
            WHERE {where} ORDER BY s.position LIMIT :limit"""
        ),
        values,
    ).all()
    kept, next_cursor = cut(rows, limit, lambda row: (row.position,))
    histories = _histories(connection, [row.task_id for row in kept])
    return Page([_source(row, histories[row.task_id]) for row in kept], next_cursor)


def _histories(connection: Connection, task_ids: Sequence[str]) -> dict[str, list[Attempt]]:
    """The last attempts at each task, the oldest first; one that runs has no outcome yet."""
    rows = connection.execute(
        text(
            """
            SELECT t.id, made.* FROM tasks t CROSS JOIN LATERAL (
                SELECT * FROM (
                    SELECT attempt, owner, started_at, ended_at, outcome, error_kind, error
                    FROM task_attempts WHERE task_id = t.id
                    UNION ALL SELECT t.attempt, t.owner, t.claimed_at, NULL, NULL, NULL, NULL WHERE t.state = 'running'
                ) AS every ORDER BY attempt DESC LIMIT :most) AS made
            WHERE t.id = ANY(CAST(:tasks AS uuid[])) ORDER BY t.id, made.attempt"""
        ),
        {"tasks": list(task_ids), "most": MOST_ATTEMPTS},
    ).all()
    found: dict[str, list[Attempt]] = defaultdict(list)
    for row in rows:
        found[row.id].append(
            Attempt(
                attempt=row.attempt,
                owner=row.owner,
                started_at=row.started_at,
                ended_at=row.ended_at,
                outcome=row.outcome,
                error=failure(row),
            )
        )
    return found


def _source(row: Any, history: list[Attempt]) -> Source:
    return Source(
        id=row.id,
        position=row.position,
        url=row.url,
        state=row.state,
        attempts=row.attempt,
        history=history,
        error=failure(row),
        title=row.title,
        expanded_into=row.expanded_into,
        parent_id=row.parent_id,
        video=Video(**video_facts(row)) if row.facts is not None else None,
        key_frames=row.key_frame_count,
        reduction=reduction(row.frames, row.key_frame_count),
        links={}
        if row.facts is None
        else {
            "video": paths.video(row.video_id, row.job_id),
            "key_frames": paths.video_key_frames(row.video_id, row.job_id),
            "page": paths.video_page(row.video_id, row.job_id),
        },
    )


def failure(row: Any) -> Failure | None:
    """Why the task of this row failed, or why it is going to be tried again."""
    return Failure(kind=row.error_kind, message=row.error) if row.error else None


def video_facts(row: Any) -> dict[str, Any]:
    """The fields of `schemas.Video`, of a row of `VIDEO_COLUMNS`."""
    facts = ("width_px", "height_px", "container", "codec", "average_rate_hz")
    return {
        "id": row.video_id,
        "sha256": row.sha256,
        "size_bytes": row.size_bytes,
        "duration_s": row.duration_s,
        "frames": row.frames,
        "shots": row.shots,
        "damaged_packets": row.damaged_packets,
        "notes": row.facts.get("notes", []),
        **{name: row.facts.get(name) for name in facts},
    }
