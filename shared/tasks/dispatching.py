"""What the dispatcher does: finds what is due, notes what was sent, takes back what was lost."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, text

from shared.errors import ErrorKind
from shared.pipeline import Outcome, Queue
from shared.tasks.locks import SHARED_AT_ONCE
from shared.tasks.rounds import advance
from shared.tasks.statements import KEEP_ATTEMPTS, NO_ID, sql
from shared.tasks.states import TaskState

#: How far ahead of the workers messages are sent, and the fewest, so that a first worker finds some.
WINDOW_S, LEAST_WINDOW = 10, 8


def take_back_expired(connection: Connection, *, limit: int = 100) -> list[tuple[str, str]]:
    """Tasks whose lease ran out → queued, or failed once the attempts are used up. Returns (task id, new state)."""
    rows = connection.execute(
        text(
            f"""
            WITH expired AS (
                SELECT t.id, t.owner, t.claimed_at FROM tasks t WHERE t.state = 'running' AND t.lease_until < now()
                  AND (t.job_id IS NULL OR {SHARED_AT_ONCE})
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
                {KEEP_ATTEMPTS}
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
        sql(
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
