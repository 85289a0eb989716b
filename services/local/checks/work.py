"""The work: does somebody send it, does somebody do it, is any of it stuck, and is what it made still there."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import text

from services.local.checks.check import Check, Found, Need, Subject, bad, good, unknown
from shared.blob_stores import open_blobs
from shared.blobs import BlobStore
from shared.celery_app import worker_name
from shared.errors import TransientError
from shared.pipeline import Queue
from shared.settings import SettingError

#: A queue in which nothing was claimed for so long, though something is due, is stuck.
STUCK_AFTER_S = 600.0
#: The dispatcher takes expired leases back within a second or two.
LEASE_GRACE_S = 30.0
#: How many blobs are looked for.
SAMPLE = 200
#: How long a store that says nothing is waited for.
STORE_PATIENCE_S = 5.0


def dispatcher(subject: Subject) -> Found:
    """Whether a dispatcher holds the lock of the one that works."""
    from services.dispatcher.main import LOCK

    with subject.db.transaction() as connection:
        leads = connection.execute(
            text(
                """SELECT 1 FROM pg_locks JOIN pg_database d ON d.oid = database AND d.datname = current_database()
                WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND classid = 0 AND objid = :lock"""
            ),
            {"lock": LOCK},
        ).scalar()
    if not leads:
        return bad("No dispatcher works, so nothing is sent to the workers. Start one, or look at its log.")
    return good("A dispatcher sends what is due.")


def workers(subject: Subject) -> Found:
    """Whether somebody reads every queue in which something is due."""
    names = {client["name"] for client in subject.broker.client_list()}
    connected = [queue for queue in Queue if worker_name(queue) in names]
    with subject.db.transaction() as connection:
        due = connection.execute(
            text("SELECT queue, count(*) AS n FROM tasks WHERE state = 'queued' AND run_at <= now() GROUP BY queue")
        ).all()
    unread = [f"{row.queue} ({row.n} due)" for row in due if row.queue not in connected]
    if unread:
        return bad(f"No worker reads {', '.join(unread)}. Start one (docs/operations.md), or look at its log.")
    absent = [queue.value for queue in Queue if queue not in connected]
    said = f"Connected: {', '.join(connected) or 'none'}"
    return good(f"{said}; not {', '.join(absent)}, where nothing is due." if absent else f"{said}.")


def stuck_tasks(subject: Subject) -> Found:
    """Whether a queue stands still, or tasks are left with workers that are gone."""
    with subject.db.transaction() as connection:
        queues = connection.execute(
            text(
                """SELECT queue, count(run_at) FILTER (WHERE is_due) AS due,
                    extract(epoch FROM now() - min(run_at) FILTER (WHERE is_due)) AS due_s,
                    extract(epoch FROM now() - max(claimed_at)) AS claimed_s,
                    count(*) FILTER (WHERE lease_until >= now()) AS running,
                    count(*) FILTER (WHERE lease_until < now() - make_interval(secs => :grace_s)) AS left_over
                FROM (SELECT *, state = 'queued' AND run_at <= now() AS is_due FROM tasks) t
                GROUP BY queue ORDER BY queue"""
            ),
            {"grace_s": LEASE_GRACE_S},
        ).all()
    problems = [problem for row in queues for problem in _problems(row)]
    if problems:
        return bad(f"{'; '.join(problems)}. Look at the logs of the dispatcher and of these workers.")
    waiting = [f"{row.due} in {row.queue}" for row in queues if row.due]
    return good(f"Due now: {', '.join(waiting)}." if waiting else "Nothing waits.")


def _problems(row: Any) -> list[str]:
    problems = []
    idle_s = min(row.due_s, row.due_s if row.claimed_s is None else row.claimed_s) if row.due else 0
    if idle_s > STUCK_AFTER_S and not row.running:  # a long task is no standstill
        problems.append(
            f"{row.due} tasks wait in {row.queue}, the oldest for {row.due_s / 60:.0f} min, and none was claimed for "
            f"{idle_s / 60:.0f} min"
        )
    if row.left_over:
        problems.append(f"{row.left_over} running tasks of {row.queue} have lost their worker and were not taken back")
    return problems


def messages(subject: Subject) -> Found:
    """Whether for every task that was sent there is a message, or a worker that has it."""
    held = {queue: int(subject.broker.llen(queue.value)) for queue in Queue}
    unacknowledged = int(subject.broker.hlen("unacked"))
    with subject.db.transaction() as connection:
        rows = connection.execute(
            text(
                """SELECT queue, count(*) AS sent,
                    count(*) FILTER (WHERE sent_at < now() - make_interval(secs => :s)) AS old
                FROM tasks WHERE state = 'queued' AND sent_at IS NOT NULL GROUP BY queue"""
            ),
            {"s": 3 * subject.settings.resend_after_s},
        ).all()
    lost = [f"{row.old} in {row.queue}" for row in rows if row.old and not held[Queue(row.queue)]]
    if lost and not unacknowledged:
        return bad(
            f"Tasks were sent and their messages are gone, and they are not sent again: {', '.join(lost)}. Look at the "
            "log of the dispatcher."
        )
    return good(f"{sum(held.values())} messages wait for {sum(row.sent for row in rows)} sent tasks.")


def blobs(subject: Subject) -> Found:
    """Whether some of the pictures and uploads that rows name are there: those after a random id, and the newest."""
    settings = subject.settings
    if not (settings.blobs_folder or settings.blobs_place):
        return unknown("Neither REELMAP_BLOBS_FOLDER nor REELMAP_BLOBS_BUCKET is set.")
    with subject.db.transaction() as connection:
        names = (
            connection.execute(
                text(
                    """(SELECT unnest(array_remove(ARRAY[blob, small_blob, analysis_blob], NULL)) FROM key_frames
                        WHERE id >= gen_random_uuid() ORDER BY id LIMIT :sample)
                    UNION (SELECT unnest(array_remove(ARRAY[k.blob, k.small_blob, k.analysis_blob], NULL))
                        FROM key_frames k WHERE k.extraction_id IN
                        (SELECT id FROM extractions ORDER BY created_at DESC LIMIT 5) LIMIT :sample)
                    UNION (SELECT blob FROM uploads ORDER BY created_at DESC LIMIT :sample)"""
                ),
                {"sample": SAMPLE},
            )
            .scalars()
            .all()
        )
    if not names:
        return good("There are no pictures yet.")
    where = settings.blobs_folder or f"the bucket {settings.blobs_bucket}"
    try:
        gone = _not_there(open_blobs(settings, patience_s=STORE_PATIENCE_S), names)
    except (SettingError, TransientError) as error:
        return bad(f"It could not be looked whether they are there: {error}.")
    if gone:
        return bad(
            f"{len(gone)} of {len(names)} pictures and uploads that were looked for are not in {where}, such as "
            f"{gone[0]}. Bring them back from a backup, or submit their videos again."
        )
    return good(f"All of the {len(names)} pictures and uploads that were looked for are there.")


def _not_there(blobs: BlobStore, names: Collection[str]) -> list[str]:
    """Those of the blobs that the store does not list. A video's pictures are listed at once."""
    folders = {name if name.startswith("uploads/") else f"{name.rpartition('/')[0]}/" for name in names}
    listed = {entry.name for prefix in folders for entry in blobs.entries(prefix)}
    return sorted(set(names) - listed)


CHECKS = (
    Check("dispatcher", dispatcher, (Need.RUNNING, Need.SCHEMA)),
    Check("workers", workers, (Need.RUNNING, Need.REDIS, Need.SCHEMA)),
    Check("stuck tasks", stuck_tasks, (Need.RUNNING, Need.SCHEMA)),
    Check("messages", messages, (Need.RUNNING, Need.REDIS, Need.SCHEMA)),
    Check("pictures", blobs, (Need.SCHEMA,)),
)
