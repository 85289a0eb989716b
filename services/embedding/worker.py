"""The process that turns pictures into vectors; a second, small one does query pictures."""

from __future__ import annotations

import argparse

from services.embedding.tasks import make_stage
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
    place = open_worker_context(settings, queue, stop)
    stage = make_stage(settings, queue, place.database, place.blobs, place.runner)
    run_worker(
        settings,
        queue,
        lambda task_id: place.runner.run_tasks([task_id], stage),
        stop=stop,
        tasks_per_process=500,
    )


if __name__ == "__main__":
    main()
