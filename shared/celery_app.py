"""Celery on Redis as transport only: messages that name a task, and the worker processes that read them.

Why each setting is what it is: docs/queues.md. No result backend, chord, group, chain, countdown or priority.
"""

from __future__ import annotations

import logging
import mmap
import os
import warnings
from collections.abc import Callable
from typing import NoReturn

from celery import Celery, signals
from celery.exceptions import SecurityWarning
from kombu.entity import Exchange
from kombu.entity import Queue as KombuQueue

from shared import failpoints
from shared.errors import ProcessSpoiled
from shared.liveness import AliveFile
from shared.logs import configure_logging
from shared.pipeline import Queue, UnreadableMessage, message, task_id_of
from shared.settings import Settings
from shared.startup import note_signals, wait_for_servers
from shared.worker_health import EXIT_SPOILED, Watchdog, liveness_step, patient_consumer

logger = logging.getLogger(__name__)

#: Seconds that Celery's hard limit lies above a stage's deadline: the worker itself gives up first, with a reason.
HARD_LIMIT_MARGIN_S = 60


def hard_limit_s(settings: Settings, queue: Queue) -> float:
    """Seconds after which Celery kills the process that runs a task of the queue."""
    return settings.deadline_s(queue.stage) + HARD_LIMIT_MARGIN_S


def visibility_timeout_s(settings: Settings) -> int:
    """Seconds after which Redis' messages are delivered again: above twice the longest task, so never to a live one."""
    return int(2 * max(hard_limit_s(settings, queue) for queue in Queue) + 60)


def make_celery(settings: Settings, client_name: str = "reelmap") -> Celery:
    """The Celery application of one process. client_name: what `CLIENT LIST` of Redis shows."""
    settings.require("redis_url")
    app = Celery("reelmap", broker=settings.redis_url, amqp="shared.broker:Amqp", set_as_current=False)
    app.conf.update(
        # Delivery: acknowledged after the end, one message per process, and no second chance by Celery itself: the
        # lease in Postgres brings lost work back, and counts it.
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        task_reject_on_worker_lost=False,
        task_retry_on_worker_lost=False,
        task_acks_on_failure=True,
        task_acks_on_timeout=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # State lives in Postgres.
        result_backend=None,
        task_ignore_result=True,
        task_track_started=False,
        task_store_errors_even_if_ignored=False,
        worker_send_task_events=False,
        # A typing mistake must not make a queue that nobody reads.
        task_create_missing_queues=False,
        task_queues=[_wire_queue(queue) for queue in Queue],
        task_default_queue=Queue.KEYFRAMES.value,
        worker_eta_task_limit=10,
        task_serializer="json",
        accept_content=["json"],
        timezone="UTC",
        worker_hijack_root_logger=False,
        # Connections: every wait bounded, lost ones noticed within seconds.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": visibility_timeout_s(settings),
            "unacked_restore_interval": 30,
            "unacked_restore_throttle": 1,
            "socket_timeout": 5,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 5,
            "retry_on_timeout": False,
            "max_retries": 3,
            "interval_start": 0,
            "interval_step": 0.2,
            "interval_max": 1,
            "client_name": client_name,
        },
        visibility_timeout=visibility_timeout_s(settings),
        # Processes: loading a model on first use must not look like a dead child.
        worker_pool="prefork",
        worker_pool_start_method="fork",
        worker_proc_alive_timeout=300,
    )
    return app


def _wire_queue(queue: Queue) -> KombuQueue:
    # An exchange of its own: queues that share one by default would share its messages.
    name = queue.value
    return KombuQueue(name, Exchange(name), routing_key=name)  # type: ignore[no-untyped-call]


def send(app: Celery, queue: Queue, task_id: str) -> None:
    """Publish the message that names a task. Raises kombu's or redis' errors when the broker does not take it."""
    app.send_task(
        queue.task_name, kwargs=message(task_id), queue=queue.value, retry=False, ignore_result=True, task_id=task_id
    )


class StopSignal:
    """Whether the worker was asked to stop: set in the main process, seen in the children that it forked.

    A byte of shared memory and no lock, which a child that is killed could take with it.
    """

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 1)

    def set(self) -> None:
        """Tell the children."""
        self._byte[0] = 1

    def __call__(self) -> bool:
        return bool(self._byte[0])


class SpoiledChildren:
    """How many children in a row could do no further task, counted in memory that the main process shares with them."""

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 1)

    def note_end(self) -> NoReturn:
        """End this child. Celery takes its message for done, and starts another child."""
        self._byte[0] = min(self._byte[0] + 1, 255)
        os._exit(EXIT_SPOILED)

    def note_success(self) -> None:
        """A child did a task: whatever was lost is back."""
        self._byte[0] = 0

    def __call__(self) -> int:
        return self._byte[0]


def worker_name(queue: Queue) -> str:
    """What Redis and Postgres show as the name of a worker's connections."""
    return f"reelmap-{queue.value}"


def run_worker(
    settings: Settings,
    queue: Queue,
    run: Callable[[str], None],
    *,
    stop: StopSignal,
    processes: int = 1,
    tasks_per_process: int,
) -> None:
    """Read the queue until the process is asked to stop; `run(task_id)` does one task in a forked child.

    processes: how many tasks at a time; tasks_per_process: after how many a child is replaced.
    Raises `shared.startup.Unfit` for packages or servers that cannot work.
    """
    configure_logging(queue.value, settings.log_level)
    name = worker_name(queue)
    alive = AliveFile(settings.alive_file)
    note_signals(stop.set)  # until Celery takes over
    if not wait_for_servers(settings, stop, alive.touch, application_name=name):
        return
    app = make_celery(settings, name)
    app.conf.worker_consumer = patient_consumer(alive)
    spoiled = SpoiledChildren()
    watchdog = Watchdog(
        redis_url=settings.redis_url,
        queue=queue,
        stall_after_s=settings.stall_after_s,
        spoiled=spoiled,
        stopping=stop,
        alive=alive,
    )
    app.steps["worker"].add(liveness_step(alive, watchdog, stop))

    @app.task(name=queue.task_name, time_limit=hard_limit_s(settings, queue))  # type: ignore[untyped-decorator]
    def run_message(**body: object) -> None:
        try:
            task_id = task_id_of(body)
        except UnreadableMessage as error:
            # Taken off the queue all the same: its row stays unclaimed and is sent again, to a worker that reads it.
            logger.warning("dropping a %s", error, extra={"event": "unreadable_message", "queue": queue.value})
            return
        try:
            run(task_id)
        except ProcessSpoiled:
            spoiled.note_end()
        spoiled.note_success()
        failpoints.reach(f"{queue.value}.before_acknowledgement")

    # Connected receivers are kept by weak reference, so these names must outlive the call below.
    def keep_our_logging(**_: object) -> None:
        """Celery configures logging unless somebody listens."""

    def note_stop(**_: object) -> None:
        stop.set()

    signals.setup_logging.connect(keep_our_logging)
    signals.worker_shutting_down.connect(note_stop)
    # Celery warns root because pickled messages could run code; ours are JSON, and embedded Reelmaps do run as root.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    logger.info("reading the queue %s", queue.value, extra={"event": "worker_started", "processes": processes})
    try:
        app.worker_main(
            [
                "--quiet",
                "worker",
                f"--queues={queue.value}",
                f"--hostname={queue.value}-{os.getpid()}@%h",
                f"--concurrency={processes}",
                f"--max-tasks-per-child={tasks_per_process}",
                "--without-gossip",
                "--without-mingle",
                "--without-heartbeat",
                f"--loglevel={settings.log_level}",
            ]
        )
    finally:
        alive.remove()
