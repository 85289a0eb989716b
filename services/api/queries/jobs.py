"""Jobs and how far they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from services.api import cursors, paths
from services.api.cursors import Page, cut
from services.api.problems import NotFound
from services.api.progress import Pace, eta_s
from services.api.schemas.answers import Job, Progress, StageFailure, StageProgress
from shared.errors import MAY_PASS
from shared.pipeline import JOB_STAGES, Stage
from shared.tasks import COUNTS_NOW, JobState, TaskState

#: Reasons that a job shows: further ones help nobody.
MOST_FAILURES = 20

_COLUMNS = """id, name, state, round, models, key_frames, clustering, created_at, started_at, finished_at,
    worked_s + coalesce(EXTRACT(EPOCH FROM now() - resumed_at), 0)::float8 AS worked_s"""


def get_job(connection: Connection, project_id: str, job_id: str) -> Job:
    """Raises `NotFound`."""
    rows = connection.execute(
        text(f"SELECT {_COLUMNS} FROM jobs WHERE project_id = :project AND id = :job"),
        {"project": project_id, "job": job_id},
    ).all()
    if not rows:
        raise job_not_found(job_id)
    return _with_progress(connection, rows)[0]


def job_not_found(job_id: str) -> NotFound:
    """What every address below an unknown job answers."""
    return NotFound(f"There is no job {job_id}.", "job_id")


def require_job(connection: Connection, project_id: str, job_id: str) -> None:
    """Raises `NotFound` unless the project has the job."""
    found = connection.execute(
        text("SELECT FROM jobs WHERE project_id = :project AND id = :job"), {"project": project_id, "job": job_id}
    ).first()
    if found is None:
        raise job_not_found(job_id)


def list_jobs(
    connection: Connection, project_id: str, *, limit: int, cursor: str | None = None, state: JobState | None = None
) -> Page[Job]:
    """The project's jobs, newest first. Raises `Invalid` for a cursor of another list."""
    values: dict[str, Any] = {"project": project_id, "limit": limit + 1}
    where = "project_id = :project"
    if state:
        where += " AND state = :state"
        values["state"] = state
    if cursor:
        where += " AND (created_at, id) < (:created_at, CAST(:id AS uuid))"
        values["created_at"], values["id"] = cursors.decode(cursor, cursors.time, cursors.identifier)
    rows = connection.execute(
        text(f"SELECT {_COLUMNS} FROM jobs WHERE {where} ORDER BY created_at DESC, id DESC LIMIT :limit"), values
    ).all()
    kept, next_cursor = cut(rows, limit, lambda row: (row.created_at, row.id))
    return Page(_with_progress(connection, kept), next_cursor)


def _with_progress(connection: Connection, rows: Sequence[Any]) -> list[Job]:
    job_ids = [row.id for row in rows]
    paces, progress, hopeful = _stages(connection, job_ids)
    contents = _contents(connection, job_ids)
    failures = _failures(connection, [id_ for id_ in job_ids if any(each.failed for each in progress[id_].values())])
    return [
        _job(row, paces[row.id], progress[row.id], hopeful[row.id], contents.get(row.id), failures[row.id])
        for row in rows
    ]


def _job(
    row: Any,
    paces: dict[Stage, Pace],
    progress: Progress,
    retry_may_help: bool,
    content: Any,
    failures: list[StageFailure],
) -> Job:
    frames, key_frames = (content.frames, content.key_frames) if content else (0, 0)
    return Job(
        **row._mapping,
        progress={stage: progress.get(stage, StageProgress()) for stage in JOB_STAGES},
        sources=content.sources if content else 0,
        videos=content.videos if content else 0,
        frames=frames,
        key_frames_count=key_frames,
        reduction=reduction(frames, key_frames),
        eta_s=eta_s(paces) if row.state in (JobState.QUEUED, JobState.RUNNING) else None,
        retry_may_help=retry_may_help,
        failures=failures,
        links={
            "self": paths.job(row.id),
            "sources": paths.job_sources(row.id),
            "key_frames": paths.job_key_frames(row.id),
            "clusterings": paths.job_clusterings(row.id),
            "page": paths.job_page(row.id),
            "key_frames_page": paths.job_key_frames_page(row.id),
        },
    )


def reduction(frames: int | None, key_frames: int | None) -> float | None:
    """The part of the frames that were left out; None when none were read."""
    return 1 - (key_frames or 0) / frames if frames else None


def _stages(
    connection: Connection, job_ids: Sequence[str]
) -> tuple[dict[str, dict[Stage, Pace]], dict[str, Progress], dict[str, bool]]:
    """Per job and stage: the pace, and the tasks by state; per job: whether to try again may help.

    Of clusterings, those that this round made.
    """
    rows = connection.execute(
        text(
            f"""
            SELECT t.job_id, t.stage, t.state, count(*) AS n,
                   count(*) FILTER (WHERE t.finished_at >= j.resumed_at) AS ended,
                   EXTRACT(EPOCH FROM now() - min(t.claimed_at) FILTER (WHERE t.claimed_at >= j.resumed_at))::float8
                       AS since_s,
                   bool_or(t.state = 'cancelled' OR t.state = 'failed' AND t.error_kind = ANY(:passing)) AS hopeful
            FROM tasks t JOIN jobs j ON j.id = t.job_id LEFT JOIN clusterings c ON c.id = t.clustering_id
            WHERE t.job_id = ANY(CAST(:jobs AS uuid[]))
              AND {COUNTS_NOW}
            GROUP BY t.job_id, t.stage, t.state"""
        ),
        {"jobs": list(job_ids), "passing": list(MAY_PASS)},
    ).all()
    of_stage: dict[tuple[str, Stage], list[Any]] = defaultdict(list)
    for row in rows:
        of_stage[row.job_id, Stage(row.stage)].append(row)
    paces: dict[str, dict[Stage, Pace]] = defaultdict(dict)
    progress: dict[str, Progress] = defaultdict(dict)
    for (job_id, stage), by_state in of_stage.items():
        counts = {row.state: row.n for row in by_state}
        progress[job_id][stage] = StageProgress(**counts, total=sum(counts.values()))
        paces[job_id][stage] = Pace(
            queued=counts.get(TaskState.QUEUED, 0),
            running=counts.get(TaskState.RUNNING, 0),
            ended=sum(row.ended for row in by_state if row.state in (TaskState.SUCCEEDED, TaskState.FAILED)),
            since_s=max((row.since_s for row in by_state if row.since_s is not None), default=None),
        )
    hopeful: dict[str, bool] = defaultdict(bool)
    for row in rows:
        hopeful[row.job_id] |= row.hopeful
    return paces, progress, hopeful


def _failures(connection: Connection, job_ids: Sequence[str]) -> dict[str, list[StageFailure]]:
    """Per job: why tasks failed, each reason once, the most frequent first.

    What failed of sources is counted by its kind, because each sentence names a source; one of them stands for all.
    """
    found: dict[str, list[StageFailure]] = defaultdict(list)
    if not job_ids:
        return found
    rows = connection.execute(
        text(
            f"""
            SELECT t.job_id, t.stage, t.model, t.error_kind AS kind, min(t.error) AS message, count(*) AS tasks
            FROM tasks t JOIN jobs j ON j.id = t.job_id LEFT JOIN clusterings c ON c.id = t.clustering_id
            WHERE t.job_id = ANY(CAST(:jobs AS uuid[]))
              AND t.state = 'failed' AND {COUNTS_NOW}
            GROUP BY t.job_id, t.stage, t.model, t.error_kind, CASE WHEN t.source_id IS NULL THEN t.error END
            ORDER BY tasks DESC, t.stage, t.model, message"""
        ),
        {"jobs": list(job_ids)},
    ).mappings()
    for row in rows:
        reasons = found[row["job_id"]]
        if len(reasons) < MOST_FAILURES:
            reasons.append(StageFailure(**{name: value for name, value in row.items() if name != "job_id"}))
    return found


def _contents(connection: Connection, job_ids: Sequence[str]) -> dict[str, Any]:
    """Per job: sources, videos, frames read and key frames; a video that occurs twice counts once."""
    rows = connection.execute(
        text(
            """
            SELECT s.job_id, sum(s.sources)::bigint AS sources, count(s.extraction_id) AS videos,
                   coalesce(sum(x.frames), 0)::bigint AS frames,
                   coalesce(sum(x.key_frame_count), 0)::bigint AS key_frames
            FROM (SELECT job_id, extraction_id, count(*) AS sources FROM sources
                  WHERE job_id = ANY(CAST(:jobs AS uuid[])) GROUP BY job_id, extraction_id) s
            LEFT JOIN extractions x ON x.id = s.extraction_id
            GROUP BY s.job_id"""
        ),
        {"jobs": list(job_ids)},
    ).all()
    return {row.job_id: row for row in rows}
