"""The process that turns videos into key frames."""

from __future__ import annotations

from services.keyframes.cell.decoder import Decoder
from services.keyframes.tasks import KeyFramesHandler
from shared.celery_app import StopSignal, run_worker
from shared.pipeline import Queue
from shared.settings import load_settings
from shared.startup import explained
from shared.worker_context import open_worker_context

# A child takes its decoder's helper with it, and a helper costs about a second of CPU to start.
VIDEOS_PER_PROCESS = 200


@explained()
def main() -> None:
    """Work until SIGTERM."""
    settings = load_settings()
    stop = StopSignal()
    context = open_worker_context(settings, Queue.KEYFRAMES, stop)
    handler = KeyFramesHandler(settings, context.database, context.blobs, Decoder())
    run_worker(
        settings,
        Queue.KEYFRAMES,
        lambda task_id: context.runner.run_tasks([task_id], handler),
        stop=stop,
        processes=settings.keyframes_processes,
        tasks_per_process=VIDEOS_PER_PROCESS,
    )


if __name__ == "__main__":
    main()
