"""The process that clusters."""

from __future__ import annotations

from services.clustering.tasks import ClusteringHandler
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
    context = open_worker_context(settings, Queue.CLUSTERING, stop)
    handler = ClusteringHandler(settings)
    run_worker(
        settings,
        Queue.CLUSTERING,
        lambda task_id: context.runner.run_tasks([task_id], handler),
        stop=stop,
        tasks_per_process=20,
    )


if __name__ == "__main__":
    main()
