"""What a worker does: takes tasks, keeps them, and ends its attempt at them one way or another."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, text

from shared.clean_text import one_clean_line
from shared.errors import ErrorKind, TransientError
from shared.pipeline import CHUNK_SIZE, Outcome, Queue
from shared.tasks.channels import notify_due
from shared.tasks.locks import SHARED_AT_ONCE, share_jobs
from shared.tasks.statements import KEEP_ATTEMPTS, NO_ID, sql

#: What a graceful hand-back adds to the attempts.
HAND_BACK_ADDS = 1

#: The longest wait after a transient error; after many hand-backs the fourfold would grow beyond reason.
LONGEST_BACKOFF_S = 900


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


def claim(connection: Connection, task_ids: Collection[str], *, owner: str, lease_s: float) -> list[Claim]:
    """Take those of the tasks that are queued and due: counts the attempt, sets the lease."""
    ids = list(task_ids) or [NO_ID]
    share_jobs(
        connection, connection.execute(sql("SELECT job_id FROM tasks WHERE id IN :ids", "ids"), {"ids": ids}).scalars()
    )
    claims = _claims(
        connection.execute(
            sql(
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
                    SELECT t.id FROM next t WHERE t.job_id IS NULL OR {SHARED_AT_ONCE}
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


def _claims(rows: Iterable[Any]) -> list[Claim]:
    return [Claim(**{**row._mapping, "queue": Queue(row.queue)}) for row in rows]


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
            {KEEP_ATTEMPTS}"""
        ),
        {"id": claim.task_id, "attempt": claim.attempt, "outcome": outcome, **values},
    ).rowcount
    return bool(moved)
