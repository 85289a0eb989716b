"""What every worker process needs, made once by its entry point: database, blobs, runner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shared import failpoints
from shared.blob_stores import open_blobs
from shared.blobs import BlobStore
from shared.db import Database
from shared.pipeline import Queue
from shared.runner import Runner
from shared.settings import Settings
from shared.work_folders import gc


@dataclass(frozen=True)
class WorkerContext:
    """Opened connections are made on first use, in the process that uses them."""

    database: Database
    blobs: BlobStore
    runner: Runner


def open_worker_context(settings: Settings, queue: Queue, stopping: Callable[[], bool]) -> WorkerContext:
    """The context of a worker that reads `queue`. Raises `SettingError` for what it cannot do without."""
    settings.require("database_url", "redis_url")
    blobs = open_blobs(settings)
    failpoints.arm(settings.failpoints_folder)
    folder = settings.scratch_folder / queue.value
    gc(folder)
    database = Database(settings.database_url, application_name=f"reelmap-{queue.value}")
    runner = Runner(
        database=database,
        work_folder=folder,
        lease_s=settings.lease_s,
        heartbeat_s=settings.heartbeat_s,
        backoff_s=settings.backoff_s,
        stop_grace_s=settings.stop_grace_s,
        stopping=stopping,
    )
    return WorkerContext(database, blobs, runner)
