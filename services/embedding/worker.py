"""The process that turns pictures into vectors; a second, small one does query pictures."""

from __future__ import annotations

import argparse

from services.embedding.availability import Looking
from services.embedding.tasks import EmbeddingHandler
from shared.celery_app import StopSignal, run_worker
from shared.pipeline import Queue, Stage
from shared.settings import load_settings
from shared.startup import explained
from shared.worker_context import open_worker_context


@explained()
def main() -> None:
    """Work until SIGTERM. One process per GPU: memory is the limit, so scale by starting more workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--queue",
        choices=[queue.value for queue in Queue if queue.stage is Stage.EMBEDDING],
        default=Queue.EMBEDDING.value,
    )
    queue = Queue(parser.parse_args().queue)
    settings = load_settings()
    stop = StopSignal()
    context = open_worker_context(settings, queue, stop)
    if queue is Queue.EMBEDDING:
        Looking(settings, stop).start()
    handler = EmbeddingHandler(settings, context.database, context.blobs)
    run_worker(
        settings,
        queue,
        lambda task_id: context.runner.run_tasks([task_id], handler),
        stop=stop,
        tasks_per_process=500,
    )


if __name__ == "__main__":
    main()
