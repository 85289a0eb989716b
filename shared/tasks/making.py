"""Making tasks: one for each piece of work that has none yet."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection

from shared.pipeline import CHUNK_SIZE
from shared.tasks.channels import notify_due
from shared.tasks.statements import NO_ID, sql

#: How often a new task may be tried.
ATTEMPTS_ALLOWED = 3


def add_keyframes_tasks(connection: Connection, job_id: str) -> int:
    """One task for each source of the job that has none. Returns how many."""
    return _added(
        connection,
        """
        INSERT INTO tasks (job_id, stage, queue, source_id, host, attempts_allowed)
        SELECT s.job_id, 'keyframes', 'keyframes', s.id, s.host, :attempts FROM sources s
        WHERE s.job_id = :job AND NOT EXISTS (SELECT FROM tasks t WHERE t.source_id = s.id)
        ORDER BY s.position
        ON CONFLICT DO NOTHING""",
        job=job_id,
    )


def add_embedding_tasks(connection: Connection, job_id: str, video_ids: Collection[str] | None = None) -> int:
    """One task for each chunk of the job's videos (of `video_ids` only, when given) and model that lacks a vector.

    The caller holds the job's row (`lock_job`), so that models added at the same time are not missed. Tasks that are
    there are looked for, not run into: the worker that is ending one would be waited for while it waits for the job.
    By the videos' ids, because each row holds its video against a deletion of another job, which takes them so.
    """
    return _added(
        connection,
        f"""
        INSERT INTO tasks (job_id, stage, queue, video_id, model, chunk, attempts_allowed)
        SELECT DISTINCT s.job_id, 'embedding', 'embedding', s.video_id, m.name, k.position / {CHUNK_SIZE},
               CAST(:attempts AS integer)
        FROM sources s
        JOIN jobs j ON j.id = s.job_id
        CROSS JOIN LATERAL unnest(j.models) AS m (name)
        JOIN key_frames k ON k.extraction_id = s.extraction_id
        WHERE s.job_id = :job {"" if video_ids is None else "AND s.video_id IN :videos"}
          AND NOT EXISTS (SELECT FROM embeddings e WHERE e.key_frame_id = k.id AND e.model = m.name)
          AND NOT EXISTS (
            SELECT FROM tasks t WHERE t.queue = 'embedding' AND t.job_id = s.job_id AND t.video_id = s.video_id
            AND t.model = m.name AND t.chunk = k.position / {CHUNK_SIZE})
        ORDER BY s.video_id, m.name, k.position / {CHUNK_SIZE}
        ON CONFLICT DO NOTHING""",
        *(() if video_ids is None else ("videos",)),
        job=job_id,
        **({} if video_ids is None else {"videos": list(video_ids) or [NO_ID]}),
    )


def add_clustering_task(connection: Connection, job_id: str, clustering_id: str) -> None:
    """The task that runs a clustering."""
    _added(
        connection,
        """
        INSERT INTO tasks (job_id, stage, queue, model, clustering_id, attempts_allowed)
        SELECT :job, 'clustering', 'clustering', c.model, c.id, :attempts FROM clusterings c WHERE c.id = :clustering
        ON CONFLICT DO NOTHING""",
        job=job_id,
        clustering=clustering_id,
    )


def add_query_task(connection: Connection, query_id: str) -> None:
    """The task that embeds a query picture."""
    _added(
        connection,
        """
        INSERT INTO tasks (stage, queue, model, query_id, attempts_allowed)
        SELECT 'embedding', 'query', q.model, q.id, :attempts FROM queries q WHERE q.id = :query
        ON CONFLICT DO NOTHING""",
        query=query_id,
    )


def add_export_task(connection: Connection, export_id: str) -> None:
    """The task that writes an export."""
    _added(
        connection,
        """
        INSERT INTO tasks (stage, queue, export_id, attempts_allowed) VALUES ('exports', 'exports', :export, :attempts)
        ON CONFLICT DO NOTHING""",
        export=export_id,
    )


def _added(connection: Connection, statement: str, *expanding: str, **values: Any) -> int:
    added = connection.execute(sql(statement, *expanding), {"attempts": ATTEMPTS_ALLOWED, **values}).rowcount
    if added:
        notify_due(connection)
    return added
