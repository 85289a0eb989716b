"""Rounds of jobs: what follows from tasks that ended, and how a job goes on once it grew."""

from __future__ import annotations

from sqlalchemy import Connection, text

from shared import catalog
from shared.tasks.locks import lock_job
from shared.tasks.making import add_clustering_task
from shared.tasks.states import FINAL_JOB_STATES, JobState, job_state

#: Tasks that are not final, in the words of the partial index on them.
_OPEN = "t.state IN ('queued', 'running')"

#: Jobs' own work; clusterings that a person asked for never change the job's state.
_OF_THE_JOB = "NOT EXISTS (SELECT FROM clusterings c WHERE c.id = t.clustering_id AND c.asked)"

#: Of tasks `t` of a job `j`, with their clusterings `c` where they have one: what counts for the job now.
#: That is all but clusterings of earlier rounds and those that a person asked for.
COUNTS_NOW = "(t.clustering_id IS NULL OR (NOT c.asked AND c.round = j.round))"

#: What ends with a job's work. The time in which nothing is to do, until somebody makes it grow, is not counted.
JOB_ENDED = """finished_at = now(), resumed_at = NULL,
    worked_s = worked_s + coalesce(extract(epoch FROM now() - resumed_at), 0)"""


def next_round(connection: Connection, job_id: str) -> None:
    """The job's content grew, or will: one more round, and the job is running again."""
    connection.execute(
        text(
            """UPDATE jobs SET round = round + 1, state = 'running', finished_at = NULL,
            started_at = coalesce(started_at, now()), resumed_at = coalesce(resumed_at, now()) WHERE id = :job"""
        ),
        {"job": job_id},
    )


def advance(connection: Connection, job_id: str) -> JobState | None:
    """Make the clusterings that are due and set the job's state: the last act of every transaction that ends a task.

    Locks the job's row after the results were written, so that of several tasks that end at the same instant the last
    one to get the lock sees all of them (READ COMMITTED takes a new snapshot for every statement).
    """
    state = lock_job(connection, job_id)
    if state is None or state in FINAL_JOB_STATES:
        return state
    if not _is_open(connection, job_id, "t.queue = 'keyframes'"):
        _make_due_clusterings(connection, job_id)
    if _is_open(connection, job_id, _OF_THE_JOB):
        return state
    # Counting reads every task of the job, so it waits for the end.
    state = job_state(*_counts(connection, job_id))
    _end_job(connection, job_id, state)
    return state


def _is_open(connection: Connection, job_id: str, which: str) -> bool:
    # Ordered, so that the index on open tasks is read: the planner would rather read the whole table, in the hope of
    # an early hit, when much is open in other jobs.
    statement = f"""
        SELECT t.id FROM tasks t WHERE t.job_id = :job AND {_OPEN} AND {which}
        ORDER BY t.job_id, t.queue, t.model LIMIT 1"""
    return connection.execute(text(statement), {"job": job_id}).scalar() is not None


def _make_due_clusterings(connection: Connection, job_id: str) -> None:
    """This round's clustering of every model that has vectors and nothing open before it.

    One of an earlier round that is still open is waited for: it may come out as this round's.
    """
    due = connection.execute(
        text(
            f"""
            SELECT m.name AS model, j.round, j.clustering
            FROM jobs j CROSS JOIN LATERAL unnest(j.models) AS m (name)
            WHERE j.id = :job
              AND NOT EXISTS (
                SELECT FROM clusterings c
                WHERE c.job_id = j.id AND c.round = j.round AND c.model = m.name AND NOT c.asked)
              AND NOT EXISTS (
                SELECT FROM tasks t WHERE t.job_id = j.id AND {_OPEN} AND t.model = m.name
                AND (t.queue = 'embedding' OR t.queue = 'clustering' AND {_OF_THE_JOB}))
              AND EXISTS (
                SELECT FROM sources s JOIN key_frames k ON k.extraction_id = s.extraction_id
                JOIN embeddings e ON e.key_frame_id = k.id AND e.model = m.name WHERE s.job_id = j.id)"""
        ),
        {"job": job_id},
    ).all()
    for model, round_, settings in due:
        key = catalog.canonical_sha256(settings)
        if _take_over_clustering(connection, job_id, round_, model, key):
            continue
        made = connection.execute(
            text(
                """
                INSERT INTO clusterings (job_id, round, model, settings, settings_key, asked)
                VALUES (:job, :round, :model, (SELECT clustering FROM jobs WHERE id = :job), :key, false)
                ON CONFLICT DO NOTHING RETURNING id"""
            ),
            {"job": job_id, "round": round_, "model": model, "key": key},
        ).scalar()
        if made:
            add_clustering_task(connection, job_id, made)


def _take_over_clustering(connection: Connection, job_id: str, round_: int, model: str, settings_key: str) -> bool:
    """Let a clustering that an earlier round made of what there is now be this round's too. False: there is none."""
    found = find_clustering(connection, job_id, model, settings_key)
    taken = connection.execute(
        text("UPDATE clusterings SET round = :round WHERE id = :id"), {"round": round_, "id": found}
    )
    return taken.rowcount > 0  # it may have been deleted since


def find_clustering(
    connection: Connection, job_id: str, model: str, settings_key: str, *, also_asked: bool = False
) -> str | None:
    """The job's clustering by these settings of the same moments that it has now, or that is still to load them.

    The same moments: as many as it clustered, and each of them among those that it clustered.
    also_asked: such as a person asked for count too.
    """
    found: str | None = connection.execute(
        text(
            f"""
            WITH content AS MATERIALIZED (
                SELECT DISTINCT e.key_frame_id FROM sources s
                JOIN key_frames k ON k.extraction_id = s.extraction_id
                JOIN embeddings e ON e.key_frame_id = k.id AND e.model = :model WHERE s.job_id = :job
            )
            SELECT c.id FROM clusterings c JOIN tasks t ON t.clustering_id = c.id
            WHERE c.job_id = :job AND c.model = :model AND c.settings_key = :key
              AND (t.state = 'queued' OR (
                t.state = 'succeeded' AND c.key_frame_count = (SELECT count(*) FROM content)
                AND NOT EXISTS (
                    SELECT FROM content WHERE NOT EXISTS (
                        SELECT FROM assignments a
                        WHERE a.clustering_id = c.id AND a.key_frame_id = content.key_frame_id))))
              {"" if also_asked else "AND NOT c.asked"}
            ORDER BY c.round DESC, c.created_at DESC LIMIT 1"""
        ),
        {"job": job_id, "model": model, "key": settings_key},
    ).scalar()
    return found


def _counts(connection: Connection, job_id: str) -> tuple[int, int]:
    """How many of the job's own tasks failed, and how many clusterings its round produced."""
    counts = connection.execute(
        text(
            f"""
            SELECT count(*) FILTER (WHERE t.state IN ('failed', 'cancelled') AND {COUNTS_NOW}) AS failed,
                   count(*) FILTER (WHERE t.state = 'succeeded' AND c.round = j.round) AS produced
            FROM jobs j
            LEFT JOIN tasks t ON t.job_id = j.id AND {_OF_THE_JOB}
            LEFT JOIN clusterings c ON c.id = t.clustering_id
            WHERE j.id = :job"""
        ),
        {"job": job_id},
    ).one()
    return counts.failed, counts.produced


def _end_job(connection: Connection, job_id: str, state: JobState) -> None:
    connection.execute(
        text(f"UPDATE jobs SET state = :state, {JOB_ENDED} WHERE id = :job"), {"job": job_id, "state": state}
    )
