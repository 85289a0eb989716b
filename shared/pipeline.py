"""Stages, queues, messages and chunks: which work there is and how it is called on the wire.

The two enums are the tables that everything else reads: settings, the checks of `tasks`, routing, processes, progress,
pages. docs/queues.md says what else a further line needs. Pure: no database, no queue, no settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Self


class Stage(StrEnum):
    """What is done to a video, in this order.

    A line: the name, and what people call it.
    """

    label: str

    def __new__(cls, name: str, label: str = "") -> Self:  # the default is for mypy, which checks `Stage(name)` by it
        member = str.__new__(cls, name)
        member._value_ = name
        member.label = label
        return member

    KEYFRAMES = "keyframes", "Key frames"
    EMBEDDING = "embedding", "Embedding"
    CLUSTERING = "clustering", "Clustering"
    EXPORTS = "exports", "Exports"  # beside the stages of a job

    @property
    def deadline_setting(self) -> str:
        """The setting that says how many seconds one task may take."""
        return f"{self.value}_deadline_s"

    @property
    def worker(self) -> str:
        """The module whose process does its tasks; it takes `--queue` where there are several to choose from."""
        return f"services.{self.value}.worker"


class Queue(StrEnum):
    """Where a task waits. `query` holds embedding tasks of query pictures, so that bulk work never delays them.

    A line: the name, the stage, and the subject: which columns of `tasks` say what a task of the queue is about.
    A task that has a job counts for that job's state and progress.
    """

    stage: Stage
    subject: tuple[str, ...]

    def __new__(cls, name: str, stage: Stage = Stage.KEYFRAMES, subject: tuple[str, ...] = ()) -> Self:
        member = str.__new__(cls, name)
        member._value_ = name
        member.stage = stage
        member.subject = subject
        return member

    KEYFRAMES = "keyframes", Stage.KEYFRAMES, ("job_id", "source_id")
    EMBEDDING = "embedding", Stage.EMBEDDING, ("job_id", "video_id", "model", "chunk")
    QUERY = "query", Stage.EMBEDDING, ("query_id", "model")
    CLUSTERING = "clustering", Stage.CLUSTERING, ("job_id", "clustering_id")
    EXPORTS = "exports", Stage.EXPORTS, ("export_id",)

    @property
    def task_name(self) -> str:
        """The task's name on the wire: not that of a function, so that moving one strands no message."""
        return f"reelmap.{self.value}"

    @property
    def worker_arguments(self) -> tuple[str, ...]:
        """What `python -m` runs to have a worker of the queue."""
        siblings = [queue for queue in Queue if queue.stage is self.stage]
        return self.stage.worker, *(("--queue", self.value) if len(siblings) > 1 else ())


#: The stages that a job goes through.
JOB_STAGES = tuple(stage for stage in Stage if any(q.stage is stage and "job_id" in q.subject for q in Queue))


class Outcome(StrEnum):
    """How one attempt at a task ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # for good
    PUT_OFF = "put_off"  # to be tried again later
    HANDED_BACK = "handed_back"  # the worker was asked to stop
    LOST = "lost"  # the worker stopped answering
    CANCELLED = "cancelled"


#: Version of the message body `{"v": 1, "task_id": "..."}`.
MESSAGE_VERSION = 1

#: Key frames of one embedding task: chunk i is [256 i, 256 i + 256) of an extraction, ordered by frame index.
CHUNK_SIZE = 256


def chunk_bounds(chunk: int) -> tuple[int, int]:
    """Positions `[first, end)` of the chunk's key frames within their extraction."""
    return chunk * CHUNK_SIZE, (chunk + 1) * CHUNK_SIZE


def message(task_id: str) -> dict[str, object]:
    """The body of the message that names a task."""
    return {"v": MESSAGE_VERSION, "task_id": task_id}


class UnreadableMessage(ValueError):
    """A message that this version does not understand. The row that it names is sent again, so nothing is lost."""


def task_id_of(body: Mapping[str, object]) -> str:
    """The task that a message names; fields that we do not know are left alone.

    Raises `UnreadableMessage` for another version of the format: the sender is newer or older than we are.
    """
    if body.get("v") != MESSAGE_VERSION:
        raise UnreadableMessage(f"message of version {body.get('v')!r}; this worker reads version {MESSAGE_VERSION}")
    if "task_id" not in body:
        raise UnreadableMessage("message that names no task")
    return str(body["task_id"])
