"""The states of tasks and jobs, and the moves between them."""

from __future__ import annotations

from enum import StrEnum


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

#: The moves that exist. The statements of this package make exactly these; a test holds them to it.
MOVES: dict[TaskState, frozenset[TaskState]] = {
    TaskState.QUEUED: frozenset({TaskState.RUNNING, TaskState.CANCELLED}),
    TaskState.RUNNING: frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.QUEUED, TaskState.CANCELLED}),
    TaskState.SUCCEEDED: frozenset(),
    TaskState.FAILED: frozenset({TaskState.QUEUED}),
    TaskState.CANCELLED: frozenset({TaskState.QUEUED}),
}


def job_state(failed_tasks: int, produced_clusterings: int) -> JobState:
    """What a job's tasks make of it once none is open: its own tasks, and the clusterings that this round produced."""
    if not produced_clusterings:
        return JobState.FAILED
    return JobState.PARTLY_FAILED if failed_tasks else JobState.SUCCEEDED
