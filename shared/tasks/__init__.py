"""The states of tasks and jobs, and every change of them: the only writer of state.

Each change is one UPDATE that names the states it may start from and, where a worker makes it, the attempt that the
worker holds. Zero rows mean that somebody else got there first. The attempt is the fence: a worker that lost its lease
changes nothing. Times are the database's, so that no worker's clock matters.

Every function takes a connection inside a transaction and leaves the commit to its caller. `locks` says in which order
rows are held; `states` which moves there are; the others are named after who moves what.
"""

from __future__ import annotations

from shared.tasks.channels import QUERIES_CHANNEL, TASKS_CHANNEL, notify_due
from shared.tasks.claims import (
    Claim,
    claim,
    claim_more,
    fail,
    hand_back,
    renew,
    succeed,
    try_later,
)
from shared.tasks.dispatching import (
    LEAST_WINDOW,
    due,
    forget_overtaken,
    forget_sent,
    mark_sent,
    take_back_expired,
)
from shared.tasks.jobs import cancel_job, cluster_again, forget_sources, forget_videos, retry_job
from shared.tasks.locks import lock_export_tasks, lock_job, lock_whole_job, share_jobs
from shared.tasks.making import (
    add_clustering_task,
    add_embedding_tasks,
    add_export_task,
    add_keyframes_tasks,
    add_query_task,
)
from shared.tasks.rounds import COUNTS_NOW, advance, find_clustering, next_round
from shared.tasks.states import FINAL_JOB_STATES, MOVES, OPEN_TASK_STATES, JobState, TaskState, job_state

__all__ = [
    "COUNTS_NOW",
    "FINAL_JOB_STATES",
    "LEAST_WINDOW",
    "MOVES",
    "OPEN_TASK_STATES",
    "QUERIES_CHANNEL",
    "TASKS_CHANNEL",
    "Claim",
    "JobState",
    "TaskState",
    "add_clustering_task",
    "add_embedding_tasks",
    "add_export_task",
    "add_keyframes_tasks",
    "add_query_task",
    "advance",
    "cancel_job",
    "claim",
    "claim_more",
    "cluster_again",
    "due",
    "fail",
    "find_clustering",
    "forget_overtaken",
    "forget_sent",
    "forget_sources",
    "forget_videos",
    "hand_back",
    "job_state",
    "lock_export_tasks",
    "lock_job",
    "lock_whole_job",
    "mark_sent",
    "next_round",
    "notify_due",
    "renew",
    "retry_job",
    "share_jobs",
    "succeed",
    "take_back_expired",
    "try_later",
]
