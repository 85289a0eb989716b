"""The process that writes exports."""

from __future__ import annotations

from services.exports.tasks import ExportsHandler
from shared.celery_app import StopSignal, run_worker
from shared.pipeline import Queue
from shared.settings import load_settings
from shared.startup import explained
from shared.worker_context import open_worker_context


@explained()
def main() -> None:
    """Work until SIGTERM."""
    settings = load_settings()
    stop = StopSignal()
    context = open_worker_context(settings, Queue.EXPORTS, stop)
    handler = ExportsHandler(settings, context.database, context.blobs)
    run_worker(
        settings,
        Queue.EXPORTS,
        lambda task_id: context.runner.run_tasks([task_id], handler),
        stop=stop,
        tasks_per_process=20,
    )


if __name__ == "__main__":
    main()
