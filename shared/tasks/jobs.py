"""What a person does with a job as a whole: cancels it, tries it again, takes something out of it."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, text

from shared.pipeline import Outcome
from shared.tasks.channels import notify_due
from shared.tasks.locks import lock_whole_job
from shared.tasks.making import add_clustering_task
from shared.tasks.rounds import JOB_ENDED, next_round
from shared.tasks.statements import KEEP_ATTEMPTS, NO_ID, sql

#: What a person's `retry` adds to the attempts.
RETRY_ADDS = 3


def cancel_job(connection: Connection, job_id: str) -> bool:
    """Every open task of the job → cancelled, and the job with them. False: the job was final already, or is gone."""
    if lock_whole_job(connection, job_id) is None:
        return False
    connection.execute(
        text(
            f"""
            WITH held AS (
                SELECT id, state, owner, claimed_at FROM tasks
                WHERE job_id = :job AND state IN ('queued', 'running') FOR NO KEY UPDATE
            ), moved AS (
                UPDATE tasks t SET state = 'cancelled', finished_at = now(), lease_until = NULL, owner = NULL
                FROM held WHERE t.id = held.id
                RETURNING t.id, t.attempt, held.owner, held.claimed_at, held.state AS before,
                    NULL AS error_kind, NULL AS error
            )
            {KEEP_ATTEMPTS} WHERE before = 'running'"""
        ),
        {"job": job_id, "outcome": Outcome.CANCELLED},
    )
    moved = connection.execute(
        text(
            f"""UPDATE jobs SET state = 'cancelled', {JOB_ENDED}
            WHERE id = :job AND state IN ('queued', 'running')"""
        ),
        {"job": job_id},
    ).rowcount
    return bool(moved)


def retry_job(connection: Connection, job_id: str) -> int:
    """Failed and cancelled keyframes and embedding tasks → queued, in a new round. Returns how many.

    Clusterings are not among them: the new round makes those that it lacks. A job whose only trouble was a clustering
    gets a new round too; then 0 tasks are requeued and `advance` runs that clustering again.
    """
    lock_whole_job(connection, job_id)
    requeued = connection.execute(
        text(
            f"""
            UPDATE tasks SET state = 'queued', run_at = now(), sent_at = NULL, claimed_at = NULL, finished_at = NULL,
                   error_kind = NULL, error = NULL, attempts_allowed = attempts_allowed + {RETRY_ADDS}
            WHERE job_id = :job AND state IN ('failed', 'cancelled') AND queue IN ('keyframes', 'embedding')"""
        ),
        {"job": job_id},
    ).rowcount
    if requeued:
        notify_due(connection)
    next_round(connection, job_id)
    return requeued


def forget_sources(connection: Connection, source_ids: Collection[str]) -> None:
    """Sources leave a job, or are going to be others: their tasks go in whatever state they are.

    The caller has the job to itself (`lock_whole_job`), here and below; whoever works on such a task is fenced.
    """
    connection.execute(sql("DELETE FROM tasks WHERE source_id IN :ids", "ids"), {"ids": list(source_ids) or [NO_ID]})


def forget_videos(connection: Connection, job_id: str, video_ids: Collection[str]) -> None:
    """Videos leave a job: the tasks that embed them for it go."""
    connection.execute(
        sql("DELETE FROM tasks WHERE job_id = :job AND video_id IN :ids", "ids"),
        {"job": job_id, "ids": list(video_ids) or [NO_ID]},
    )


def cluster_again(connection: Connection, job_id: str, clustering_id: str) -> None:
    """Forget the result of a clustering and run it again, on what the job holds now."""
    values = {"clustering": clustering_id}
    for table in ("tasks", "assignments", "clusters"):
        connection.execute(text(f"DELETE FROM {table} WHERE clustering_id = :clustering"), values)
    connection.execute(
        text(
            """UPDATE clusterings SET key_frame_count = NULL, complete = NULL, n_clusters_asked = NULL,
            n_clusters_used = NULL, seed = NULL, inertia = NULL, silhouette = NULL, noise_count = NULL,
            evidence = NULL, notes = NULL WHERE id = :clustering"""
        ),
        values,
    )
    add_clustering_task(connection, job_id, clustering_id)
