"""The states of tasks and jobs, and every change of them: the only writer of state.

Each change is one UPDATE that names the states it may start from and, where a worker makes it, the attempt that the
worker holds. Zero rows mean that somebody else got there first. The attempt is the fence: a worker that lost its lease
changes nothing. Times are the database's, so that no worker's clock matters.

Every function takes a connection inside a transaction and leaves the commit to its caller.

Locks are taken in one order, so that nobody waits in a circle:

1. The jobs themselves, by an advisory lock: together with others by whoever changes single tasks (`share_jobs`), alone
   by whoever changes a whole job (`lock_whole_job`: cancel, retry, delete, more sources, more models).
2. Tasks by their ids, then results: videos by their ids, then uploads. A row that refers to a video holds it too.
3. The rows of jobs by their ids (`lock_job`), last, because all tasks of a job that end meet there.

The dispatcher stamps tasks without any of it: it skips what somebody holds, and holds nothing while it waits.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, TextClause, bindparam, text

from shared import catalog
from shared.clean_text import one_clean_line
from shared.errors import ErrorKind, TransientError
from shared.pipeline import CHUNK_SIZE, Outcome, Queue


class TaskState(StrEnum):
    """Where a task stands. `queued` and `running` are open, the others final."""

    QUEUED = "queued"  # may be claimed from `run_at` on
    RUNNING = "running"  # claimed; ours until `lease_until`
    SUCCEEDED = "succeeded"  # its results are saved
    FAILED = "failed"  # given up, with a reason
    CANCELLED = "cancelled"  # a person took the job back


class JobState(StrEnum):
    """Where a job stands: what `advance` makes of its tasks."""

    QUEUED = "queued"  # nothing has been claimed yet
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTLY_FAILED = "partly_failed"  # clusterings were made, and something failed
    FAILED = "failed"  # the round produced no clustering
    CANCELLED = "cancelled"


#: Jobs that only a new round, or a person who tries again, sets going once more.
FINAL_JOB_STATES = frozenset(JobState) - {JobState.QUEUED, JobState.RUNNING}

#: Tasks that are still to end.
OPEN_TASK_STATES = frozenset({TaskState.QUEUED, TaskState.RUNNING})

#: The moves that exist. The statements below make exactly these; a test holds them to it.
MOVES: dict[TaskState, frozenset[TaskState]] = {
    TaskState.QUEUED: frozenset({TaskState.RUNNING, TaskState.CANCELLED}),
    TaskState.RUNNING: frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.QUEUED, TaskState.CANCELLED}),
    TaskState.SUCCEEDED: frozenset(),
    TaskState.FAILED: frozenset({TaskState.QUEUED}),
    TaskState.CANCELLED: frozenset({TaskState.QUEUED}),
}

#: Postgres channels: "something is due", and "this query picture has its vector" (payload: the query's id).
TASKS_CHANNEL = "reelmap_tasks"
QUERIES_CHANNEL = "reelmap_queries"

#: What a person's `retry` adds to the attempts, and what a graceful hand-back adds.
RETRY_ADDS, HAND_BACK_ADDS = 3, 1

#: The longest wait after a transient error; after many hand-backs the fourfold would grow beyond reason.
LONGEST_BACKOFF_S = 900

#: An id that no row has, for an empty IN list.
NO_ID = "00000000-0000-0000-0000-000000000000"

#: Tasks that are not final, in the words of the partial index on them.
_OPEN = "t.state IN ('queued', 'running')"

#: The number of the lock that stands for a job as a whole, and to share it now or to leave the task alone.
_NUMBER_OF_JOB = "hashtextextended('job ' || t.job_id, 0)"
_SHARED_AT_ONCE = f"pg_try_advisory_xact_lock_shared({_NUMBER_OF_JOB})"

#: Jobs' own work; clusterings that a person asked for never change the job's state.
_OF_THE_JOB = "NOT EXISTS (SELECT FROM clusterings c WHERE c.id = t.clustering_id AND c.asked)"


#: Of tasks `t` of a job `j`, with their clusterings `c` where they have one: what counts for the job now.
#: That is all but clusterings of earlier rounds and those that a person asked for.
COUNTS_NOW = "(t.clustering_id IS NULL OR (NOT c.asked AND c.round = j.round))"


@dataclass(frozen=True)
class Claim:
    """A task that is ours, under the attempt that fences it."""

    task_id: str
    attempt: int
    attempts_allowed: int
    queue: Queue
    job_id: str | None
    source_id: str | None
    video_id: str | None
    model: str | None
    chunk: int | None
    clustering_id: str | None
    query_id: str | None
    export_id: str | None


#: What a claim holds, by the columns of `tasks t`.
_CLAIMED_COLUMNS = ", ".join(["t.id AS task_id", *(f"t.{each.name}" for each in fields(Claim)[1:])])


def _claims(rows: Iterable[Any]) -> list[Claim]:
    return [Claim(**{**row._mapping, "queue": Queue(row.queue)}) for row in rows]


def _sql(statement: str, *expanding: str) -> TextClause:
    return text(statement).bindparams(*(bindparam(name, expanding=True) for name in expanding))


# --- Making tasks -----------------------------------------------------------------------------------------------


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


def lock_export_tasks(connection: Connection, *, job_id: str | None = None, export_id: str | None = None) -> None:
    """Hold the tasks of one export, or of all of a job's, whose rows the caller is about to delete.

    First of all, because a worker that is saving has locked the task before the export.
    """
    connection.execute(
        text(
            """SELECT t.id FROM tasks t JOIN exports x ON x.id = t.export_id
            WHERE x.job_id = CAST(:job AS uuid) OR x.id = CAST(:export AS uuid) ORDER BY t.id FOR UPDATE OF t"""
        ),
        {"job": job_id, "export": export_id},
    )


#: How often a new task may be tried.
ATTEMPTS_ALLOWED = 3


def _added(connection: Connection, statement: str, *expanding: str, **values: Any) -> int:
    added = connection.execute(_sql(statement, *expanding), {"attempts": ATTEMPTS_ALLOWED, **values}).rowcount
    if added:
        notify_due(connection)
    return added


def notify_due(connection: Connection) -> None:
    """Wake the dispatcher when this transaction commits."""
    connection.execute(text(f"NOTIFY {TASKS_CHANNEL}"))


# --- What a worker does ---------------------------------------------------------------------------------------------


def claim(connection: Connection, task_ids: Collection[str], *, owner: str, lease_s: float) -> list[Claim]:
    """Take those of the tasks that are queued and due: counts the attempt, sets the lease."""
    ids = list(task_ids) or [NO_ID]
    share_jobs(
        connection, connection.execute(_sql("SELECT job_id FROM tasks WHERE id IN :ids", "ids"), {"ids": ids}).scalars()
    )
    claims = _claims(
        connection.execute(
            _sql(
                f"""
                WITH due AS (
                    SELECT id FROM tasks WHERE id IN :ids AND state = 'queued' AND run_at <= now()
                    ORDER BY id FOR UPDATE
                )
                UPDATE tasks t
                SET state = 'running', attempt = attempt + 1, owner = :owner, claimed_at = now(),
                    lease_until = now() + make_interval(secs => :lease_s), error_kind = NULL, error = NULL
                FROM due WHERE t.id = due.id
                RETURNING {_CLAIMED_COLUMNS}""",
                "ids",
            ),
            {"ids": ids, "owner": owner, "lease_s": lease_s},
        )
    )
    _start_jobs(connection, claims)
    return claims


def claim_more(connection: Connection, like: Claim, *, key_frames: int, owner: str, lease_s: float) -> list[Claim]:
    """Take further due embedding tasks of the same queue and model, holding at most `key_frames` key frames together.

    Fills the GPU where videos have few key frames; each task keeps its own fence. `sent_at` is forgotten, because a
    claim without a message says nothing about the order in which messages arrive (`forget_overtaken`).
    """
    if key_frames < 1:
        return []
    claims = _claims(
        connection.execute(
            text(
                f"""
                WITH next AS MATERIALIZED (
                    SELECT t.id, t.job_id FROM tasks t
                    WHERE t.queue = :queue AND t.model = :model AND t.state = 'queued' AND t.run_at <= now()
                    ORDER BY t.run_at, t.id LIMIT 64
                ), free AS MATERIALIZED (
                    SELECT t.id FROM next t WHERE t.job_id IS NULL OR {_SHARED_AT_ONCE}
                ), due AS (
                    SELECT t.id, t.run_at FROM tasks t
                    WHERE t.id IN (SELECT id FROM free) AND t.state = 'queued' AND t.run_at <= now()
                    FOR UPDATE SKIP LOCKED
                ), sized AS (
                    SELECT due.id, due.run_at, CASE WHEN t.query_id IS NOT NULL THEN 1 ELSE (
                        SELECT least({CHUNK_SIZE}, max(x.key_frame_count) - t.chunk * {CHUNK_SIZE})
                        FROM sources s JOIN extractions x ON x.id = s.extraction_id
                        WHERE s.job_id = t.job_id AND s.video_id = t.video_id) END AS size
                    FROM due JOIN tasks t ON t.id = due.id
                ), fitting AS (
                    SELECT id, sum(size) OVER (ORDER BY run_at, id) AS total FROM sized
                )
                UPDATE tasks t
                SET state = 'running', attempt = attempt + 1, owner = :owner, claimed_at = now(), sent_at = NULL,
                    lease_until = now() + make_interval(secs => :lease_s), error_kind = NULL, error = NULL
                FROM fitting WHERE t.id = fitting.id AND fitting.total <= :key_frames AND t.state = 'queued'
                RETURNING {_CLAIMED_COLUMNS}"""
            ),
            {"queue": like.queue, "model": like.model, "key_frames": key_frames, "owner": owner, "lease_s": lease_s},
        )
    )
    _start_jobs(connection, claims)
    return claims


def _start_jobs(connection: Connection, claims: Sequence[Claim]) -> None:
    # Not for clusterings: a job that is still queued can only have such as a person asked for.
    for job_id in sorted({claim.job_id for claim in claims if claim.job_id and claim.queue != Queue.CLUSTERING}):
        connection.execute(
            text("""UPDATE jobs SET state = 'running', started_at = now(), resumed_at = now()
                WHERE id = :job AND state = 'queued'"""),
            {"job": job_id},
        )


def renew(connection: Connection, claims: Sequence[Claim], *, lease_s: float) -> set[str]:
    """Prolong the leases. Returns the ids of the tasks that are still ours."""
    share_jobs(connection, (claim.job_id for claim in claims))
    return {
        row.id
        for claim in sorted(claims, key=lambda claim: claim.task_id)
        for row in connection.execute(
            text(
                """UPDATE tasks SET lease_until = now() + make_interval(secs => :lease_s)
                WHERE id = :id AND state = 'running' AND attempt = :attempt RETURNING id"""
            ),
            {"id": claim.task_id, "attempt": claim.attempt, "lease_s": lease_s},
        )
    }


#: Of `moved`, tasks that a statement takes out of `running`, with what its rows held before: each attempt is kept.
_KEEP_ATTEMPTS = """INSERT INTO task_attempts (task_id, attempt, owner, started_at, outcome, error_kind, error)
    SELECT id, attempt, owner, claimed_at, :outcome, error_kind, error FROM moved"""


def _leave_running(connection: Connection, claim: Claim, outcome: Outcome, assignments: str, **values: Any) -> bool:
    """The fenced move out of `running`. False: the attempt is no longer ours, nothing was changed."""
    share_jobs(connection, [claim.job_id])
    moved = connection.execute(
        text(
            f"""
            WITH held AS (
                SELECT id, attempt, owner, claimed_at FROM tasks
                WHERE id = :id AND state = 'running' AND attempt = :attempt FOR NO KEY UPDATE
            ), moved AS (
                UPDATE tasks t SET {assignments}, lease_until = NULL, owner = NULL FROM held WHERE t.id = held.id
                RETURNING t.id, t.attempt, held.owner, held.claimed_at, t.error_kind, t.error
            )
            {_KEEP_ATTEMPTS}"""
        ),
        {"id": claim.task_id, "attempt": claim.attempt, "outcome": outcome, **values},
    ).rowcount
    return bool(moved)


def succeed(connection: Connection, claim: Claim) -> bool:
    """running → succeeded. False: not ours any more; the caller rolls its results back."""
    return _leave_running(connection, claim, Outcome.SUCCEEDED, "state = 'succeeded', finished_at = now()")


def fail(connection: Connection, claim: Claim, kind: ErrorKind, reason: str) -> bool:
    """running → failed, for good."""
    return _leave_running(
        connection,
        claim,
        Outcome.FAILED,
        "state = 'failed', finished_at = now(), error_kind = :kind, error = :reason",
        kind=kind,
        reason=one_clean_line(reason),
    )


def try_later(connection: Connection, claim: Claim, error: TransientError, *, backoff_s: float) -> bool:
    """running → queued after a wait, or failed with this reason once the attempts are used up."""
    if claim.attempt >= claim.attempts_allowed:
        times = f" (tried {claim.attempt} times)"
        return fail(connection, claim, error.kind, error.message + times)
    # The jitter keeps tasks that failed together from coming back together.
    wait_s = min(backoff_s * 4 ** (claim.attempt - 1), LONGEST_BACKOFF_S) * random.uniform(0.8, 1.2)
    moved = _leave_running(
        connection,
        claim,
        Outcome.PUT_OFF,
        """state = 'queued', run_at = now() + make_interval(secs => :wait_s), sent_at = NULL, claimed_at = NULL,
        error_kind = :kind, error = :reason""",
        wait_s=max(wait_s, error.retry_after_s or 0),
        kind=error.kind,
        reason=one_clean_line(error.message),
    )
    if moved:
        notify_due(connection)
    return moved


def hand_back(connection: Connection, claim: Claim) -> bool:
    """running → queued at once: the worker was asked to stop. Costs the task no attempt."""
    moved = _leave_running(
        connection,
        claim,
        Outcome.HANDED_BACK,
        f"""state = 'queued', run_at = now(), sent_at = NULL, claimed_at = NULL,
        attempts_allowed = attempts_allowed + {HAND_BACK_ADDS}""",
    )
    if moved:
        notify_due(connection)
    return moved


# --- What a person does ----------------------------------------------------------------------------------------------


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
            {_KEEP_ATTEMPTS} WHERE before = 'running'"""
        ),
        {"job": job_id, "outcome": Outcome.CANCELLED},
    )
    moved = connection.execute(
        text(
            f"""UPDATE jobs SET state = 'cancelled', {_ENDED}
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
    connection.execute(_sql("DELETE FROM tasks WHERE source_id IN :ids", "ids"), {"ids": list(source_ids) or [NO_ID]})


def forget_videos(connection: Connection, job_id: str, video_ids: Collection[str]) -> None:
    """Videos leave a job: the tasks that embed them for it go."""
    connection.execute(
        _sql("DELETE FROM tasks WHERE job_id = :job AND video_id IN :ids", "ids"),
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


def share_jobs(connection: Connection, job_ids: Iterable[str | None]) -> None:
    """Until the end of the transaction nobody changes one of these jobs as a whole. Before any of their rows is held.

    Waits for whoever does so now. None stands for a task of no job.
    """
    if ids := sorted({job_id for job_id in job_ids if job_id}):
        connection.execute(
            # By the locks' numbers: two jobs may have the same one.
            text(
                f"""SELECT pg_advisory_xact_lock_shared(number) FROM (
                    SELECT DISTINCT {_NUMBER_OF_JOB} AS number FROM unnest(CAST(:ids AS uuid[])) AS t (job_id)
                    ORDER BY number) AS jobs"""
            ),
            {"ids": ids},
        )


def lock_whole_job(connection: Connection, job_id: str) -> JobState | None:
    """Have the job with all its tasks to ourselves until the end of the transaction. None: there is no such job.

    Waits for whoever ends one of its tasks now; who wants to take or end one later waits for us.
    """
    connection.execute(
        text(f"SELECT pg_advisory_xact_lock({_NUMBER_OF_JOB}) FROM (SELECT CAST(:job AS uuid) AS job_id) AS t"),
        {"job": job_id},
    )
    return lock_job(connection, job_id)


def lock_job(connection: Connection, job_id: str) -> JobState | None:
    """Hold the job's row until the end of the transaction. None: there is no such job."""
    # NO KEY: inserting rows that refer to the job takes a KEY SHARE lock, which this must not wait for.
    state = connection.execute(
        text("SELECT state FROM jobs WHERE id = :job FOR NO KEY UPDATE"), {"job": job_id}
    ).scalar()
    return JobState(state) if state else None


def next_round(connection: Connection, job_id: str) -> None:
    """The job's content grew, or will: one more round, and the job is running again."""
    connection.execute(
        text(
            """UPDATE jobs SET round = round + 1, state = 'running', finished_at = NULL,
            started_at = coalesce(started_at, now()), resumed_at = coalesce(resumed_at, now()) WHERE id = :job"""
        ),
        {"job": job_id},
    )


# --- What follows from what ended ---------------------------------------------------------------------------------


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
        text(f"UPDATE jobs SET state = :state, {_ENDED} WHERE id = :job"), {"job": job_id, "state": state}
    )


#: What ends with a job's work. The time in which nothing is to do, until somebody makes it grow, is not counted.
_ENDED = """finished_at = now(), resumed_at = NULL,
    worked_s = worked_s + coalesce(extract(epoch FROM now() - resumed_at), 0)"""


def job_state(failed_tasks: int, produced_clusterings: int) -> JobState:
    """What a job's tasks make of it once none is open: its own tasks, and the clusterings that this round produced."""
    if not produced_clusterings:
        return JobState.FAILED
    return JobState.PARTLY_FAILED if failed_tasks else JobState.SUCCEEDED


# --- What the dispatcher does ---------------------------------------------------------------------------------------


def take_back_expired(connection: Connection, *, limit: int = 100) -> list[tuple[str, str]]:
    """Tasks whose lease ran out → queued, or failed once the attempts are used up. Returns (task id, new state)."""
    rows = connection.execute(
        text(
            f"""
            WITH expired AS (
                SELECT t.id, t.owner, t.claimed_at FROM tasks t WHERE t.state = 'running' AND t.lease_until < now()
                  AND (t.job_id IS NULL OR {_SHARED_AT_ONCE})
                ORDER BY t.lease_until LIMIT :limit FOR UPDATE SKIP LOCKED
            ), moved AS (
                UPDATE tasks t
                SET state = CASE WHEN attempt >= attempts_allowed THEN 'failed' ELSE 'queued' END,
                    finished_at = CASE WHEN attempt >= attempts_allowed THEN now() END,
                    run_at = now(), sent_at = NULL, claimed_at = NULL, lease_until = NULL, owner = NULL,
                    error_kind = :kind,
                    error = 'the worker stopped answering while it worked on this, ' || attempt
                        || CASE attempt WHEN 1 THEN ' time' ELSE ' times' END
                        || CASE WHEN attempt >= attempts_allowed THEN '; it was given up' ELSE '; it is tried again' END
                FROM expired WHERE t.id = expired.id
                RETURNING t.id, t.state, t.job_id, t.attempt, expired.owner, expired.claimed_at, t.error_kind, t.error
            ), kept AS (
                {_KEEP_ATTEMPTS}
            )
            SELECT id, state, job_id FROM moved"""
        ),
        {"limit": limit, "kind": ErrorKind.WORKER_LOST, "outcome": Outcome.LOST},
    ).all()
    for job_id in sorted({row.job_id for row in rows if row.state == TaskState.FAILED and row.job_id}):
        advance(connection, job_id)
    return [(row.id, row.state) for row in rows]


def due(connection: Connection, queue: Queue, *, window: int, per_host: int) -> list[str]:
    """Ids of tasks to send now.

    A message waits behind all that were sent before it, so no more are sent ahead than about `WINDOW_S` of work: as
    many as were sent and claimed within that time, at least `LEAST_WINDOW` and at most `window`.

    The turns go round-robin over jobs, counting what a job has sent or running already, so that a small job never
    waits behind a huge one. At most `per_host` fetches of one host are sent or running at a time.
    """
    room = connection.execute(
        text(
            """
            SELECT least(:window, greatest(:least, (
                SELECT count(*) FROM tasks WHERE queue = :queue AND claimed_at IS NOT NULL
                AND sent_at > now() - make_interval(secs => :window_s)
            ))) - (SELECT count(*) FROM tasks WHERE queue = :queue AND state = 'queued' AND sent_at IS NOT NULL)"""
        ),
        {"queue": queue, "window": window, "least": LEAST_WINDOW, "window_s": WINDOW_S},
    ).scalar_one()
    if room < 1:
        return []
    return list(
        connection.execute(text(_DUE), {"queue": queue, "per_host": per_host, "room": room, "no_job": NO_ID}).scalars()
    )


#: How far ahead of the workers messages are sent, and the fewest, so that a first worker finds some.
WINDOW_S, LEAST_WINDOW = 10, 8

#: `with_work` hops over the index from job to job, and of each only as many tasks as there is room for are looked at:
#: a long queue costs no more than a short one.
_DUE = """
    WITH RECURSIVE in_flight AS (
        SELECT job_id, host FROM tasks WHERE queue = :queue AND state = 'running'
        UNION ALL
        SELECT job_id, host FROM tasks WHERE queue = :queue AND state = 'queued' AND sent_at IS NOT NULL
    ), shares AS (
        SELECT job_id, count(*) AS n FROM in_flight GROUP BY job_id
    ), hosts AS (
        SELECT host, count(*) AS n FROM in_flight WHERE host IS NOT NULL GROUP BY host
    ), with_work AS (
        SELECT CAST(:no_job AS uuid) AS job_id
        UNION ALL
        SELECT (SELECT t.job_id FROM tasks t
                WHERE t.queue = :queue AND t.state = 'queued' AND t.sent_at IS NULL AND t.job_id > w.job_id
                ORDER BY t.job_id LIMIT 1)
        FROM with_work w WHERE w.job_id IS NOT NULL
    ), waiting AS (
        SELECT t.id, t.job_id, t.host, t.run_at
        FROM with_work w CROSS JOIN LATERAL (
            SELECT * FROM tasks t
            WHERE t.queue = :queue AND t.state = 'queued' AND t.sent_at IS NULL AND t.job_id = w.job_id
              AND t.run_at <= now()
              AND (t.host IS NULL OR t.host <> ALL (ARRAY(SELECT host FROM hosts WHERE n >= :per_host)))
            ORDER BY t.run_at, t.id LIMIT :room) t
        UNION ALL
        (SELECT t.id, t.job_id, t.host, t.run_at FROM tasks t
         WHERE t.queue = :queue AND t.state = 'queued' AND t.sent_at IS NULL AND t.job_id IS NULL AND t.run_at <= now()
         ORDER BY t.run_at, t.id LIMIT :room)
    ), turns AS (
        SELECT w.id, w.host, w.run_at, coalesce(shares.n, 0)
               + row_number() OVER (PARTITION BY w.job_id ORDER BY w.run_at, w.id) AS turn
        FROM waiting w LEFT JOIN shares ON shares.job_id = w.job_id
    ), at_hosts AS (
        SELECT t.id, t.run_at, t.turn, t.host, coalesce(hosts.n, 0)
               + row_number() OVER (PARTITION BY t.host ORDER BY t.turn, t.run_at, t.id) AS at_host
        FROM turns t LEFT JOIN hosts ON hosts.host = t.host
    )
    SELECT id FROM at_hosts WHERE host IS NULL OR at_host <= :per_host
    ORDER BY turn, run_at, id LIMIT :room"""


def mark_sent(connection: Connection, task_ids: Collection[str]) -> None:
    """Stamp `sent_at` on tasks whose message is in the broker.

    Waits for nobody: a task that is being claimed or cancelled right now needs no stamp, and any other is sent twice.
    One that was claimed and put off already is not due any more, and its message is gone.
    """
    connection.execute(
        _sql(
            """UPDATE tasks SET sent_at = now() WHERE id IN (
                SELECT id FROM tasks WHERE id IN :ids AND state = 'queued' AND run_at <= now()
                FOR UPDATE SKIP LOCKED)""",
            "ids",
        ),
        {"ids": list(task_ids) or [NO_ID]},
    )


def forget_overtaken(connection: Connection, queue: Queue, *, after_s: float) -> int:
    """Forget `sent_at` of tasks when one that was sent `after_s` later has been claimed: the queue is first in,
    first out, so their message is lost."""
    return connection.execute(
        text(
            """
            UPDATE tasks SET sent_at = NULL WHERE id IN (
                SELECT id FROM tasks
                WHERE queue = :queue AND state = 'queued' AND sent_at IS NOT NULL
                  AND sent_at < (SELECT max(sent_at) FROM tasks WHERE queue = :queue AND claimed_at >= sent_at)
                                - make_interval(secs => :after_s)
                FOR UPDATE SKIP LOCKED)"""
        ),
        {"queue": queue, "after_s": after_s},
    ).rowcount


def forget_sent(connection: Connection, queue: Queue, *, older_than_s: float = 0) -> int:
    """Forget `sent_at` of the queue's unclaimed tasks: their messages are known to be gone."""
    return connection.execute(
        text(
            """
            UPDATE tasks SET sent_at = NULL WHERE id IN (
                SELECT id FROM tasks WHERE queue = :queue AND state = 'queued'
                AND sent_at <= now() - make_interval(secs => :older_than_s)
                FOR UPDATE SKIP LOCKED)"""
        ),
        {"queue": queue, "older_than_s": older_than_s},
    ).rowcount
