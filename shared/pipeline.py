"""Stages, queues, task names and chunks: which work there is and how it is called on the wire.

Pure: no database, no queue, no settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Stage(StrEnum):
    """What is done to a video, in this order."""

    KEYFRAMES = "keyframes"
    EMBEDDING = "embedding"
    CLUSTERING = "clustering"


class Queue(StrEnum):
    """Where a task waits. `query` holds embedding tasks of query pictures, so that bulk work never delays them."""

    KEYFRAMES = "keyframes"
    EMBEDDING = "embedding"
    QUERY = "query"
    CLUSTERING = "clustering"


STAGE_OF_QUEUE = {
    Queue.KEYFRAMES: Stage.KEYFRAMES,
    Queue.EMBEDDING: Stage.EMBEDDING,
    Queue.QUERY: Stage.EMBEDDING,
    Queue.CLUSTERING: Stage.CLUSTERING,
}

#: Names on the wire: constants, so that moving a function strands no message.
TASK_NAME = {queue: f"reelmap.{queue.value}" for queue in Queue}

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
