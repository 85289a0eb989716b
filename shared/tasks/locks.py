"""The locks that changes of tasks and jobs take, and the one order in which they are taken.

So that nobody waits in a circle:

1. The jobs themselves, by an advisory lock: together with others by whoever changes single tasks (`share_jobs`), alone
   by whoever changes a whole job (`lock_whole_job`: cancel, retry, delete, more sources, more models).
2. Tasks by their ids, then results: videos by their ids, then uploads. A row that refers to a video holds it too.
3. The rows of jobs by their ids (`lock_job`), last, because all tasks of a job that end meet there.

The dispatcher stamps tasks without any of it: it skips what somebody holds, and holds nothing while it waits.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, text

from shared.tasks.states import JobState

#: Of a task `t`: the number of the lock that stands for its job as a whole.
_NUMBER_OF_JOB = "hashtextextended('job ' || t.job_id, 0)"

#: Whether that lock could be shared now: else the task is left alone, and nobody waited for.
SHARED_AT_ONCE = f"pg_try_advisory_xact_lock_shared({_NUMBER_OF_JOB})"


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
