"""How a worker's main process waits for its broker, shows that it lives, and notices that it hears nothing."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from celery import bootsteps
from celery.worker import state
from celery.worker.consumer import Consumer
from redis.exceptions import RedisError

from shared.liveness import TOUCH_EVERY_S, AliveFile
from shared.pipeline import Queue
from shared.startup import connect_redis

logger = logging.getLogger(__name__)

#: Exit codes of a worker that ended itself: because messages waited and it received none; because its children end one
#: after the other, each unable to do a task, as without a GPU; also that of such a child.
EXIT_STALLED, EXIT_SPOILED = 3, 70

#: So many children in a row: a worker that fails at once would win every task from those that work.
MOST_SPOILED = 3

#: A longer gap between two looks means that the process itself stood still, which says nothing about its consumer.
LONGEST_GAP_S = 30.0

#: Between two looks at the count, which costs nothing: the queue must not be emptied meanwhile.
LOOK_FOR_SPOILED_S = 0.1

#: Between two tries to reach a broker that is away.
LONGEST_WAIT_S = 5


@dataclass
class StallJudge:
    """Decides whether a worker is deaf: all the time messages wait, it is idle, and it receives none of them.

    A worker that listens gets a waiting message within a second, because Redis serves first who waited longest. So
    other workers that are slow do not make this one look deaf.
    """

    stall_after_s: float
    _since: float | None = None  # on the monotonic clock, as is _looked_at
    _looked_at: float = float("-inf")
    _received: int = -1

    def look(self, now: float, *, waiting: int | None, busy: bool, received: int) -> bool:
        """Whether it is deaf. waiting: messages in the queue, None when Redis did not say; received: so far."""
        looks_deaf = bool(waiting) and not busy and received == self._received
        stood_still = now - self._looked_at > LONGEST_GAP_S
        self._looked_at, self._received = now, received
        if not looks_deaf or stood_still or self._since is None:
            self._since = now
            return False
        return now - self._since >= self.stall_after_s


class Watchdog(threading.Thread):
    """Looks beside the event loop whether the worker is of use; ends it when it is deaf or its children are spoiled.

    It looks at the queue over a connection of its own. The process ends at once: it has no task, and a loop that does
    not hear messages may not hear a request either.

    spoiled: how many children in a row could do no further task.
    """

    def __init__(
        self,
        *,
        redis_url: str,
        queue: Queue,
        stall_after_s: float,
        spoiled: Callable[[], int],
        stopping: Callable[[], bool],
        alive: AliveFile,
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._redis_url = redis_url
        self._queue = queue
        self._judge = StallJudge(stall_after_s)
        self._every_s = min(5.0, stall_after_s / 4)
        self._spoiled = spoiled
        self._stopping = stopping
        self._alive = alive

    def run(self) -> None:
        with connect_redis(self._redis_url) as client:
            while not self._stopping():
                try:
                    waiting: int | None = int(client.llen(self._queue.value))
                except RedisError:
                    waiting = None
                if self._judge.look(
                    time.monotonic(),
                    waiting=waiting,
                    busy=len(state.reserved_requests) > 0,
                    received=state.all_total_count[0],
                ):
                    logger.error(
                        "%d messages wait and none was received for %g s; ending, so that a fresh worker reads them",
                        waiting,
                        self._judge.stall_after_s,
                        extra={"event": "stalled", "queue": self._queue.value},
                    )
                    self._end(EXIT_STALLED)
                self._sleep()

    def _sleep(self) -> None:
        until = time.monotonic() + self._every_s
        while time.monotonic() < until:
            if self._spoiled() >= MOST_SPOILED:
                logger.error(
                    "%d processes in a row could do no task; ending, for whoever watches to look at this machine",
                    MOST_SPOILED,
                    extra={"event": "spoiled", "queue": self._queue.value},
                )
                self._end(EXIT_SPOILED)
            time.sleep(LOOK_FOR_SPOILED_S)

    def _end(self, code: int) -> None:
        self._alive.remove()
        os._exit(code)


def liveness_step(alive: AliveFile, watchdog: Watchdog, stopping: Callable[[], bool]) -> type[bootsteps.StartStopStep]:
    """The part of a Celery worker that touches the alive file from the event loop, and starts the watchdog.

    stopping: whether the process was asked to stop before Celery listened to signals.
    """

    class Liveness(bootsteps.StartStopStep):  # type: ignore[misc]
        requires: ClassVar = ("celery.worker.components:Timer",)

        def start(self, worker: Any) -> None:
            alive.touch()
            worker.timer.call_repeatedly(TOUCH_EVERY_S, alive.touch)
            watchdog.start()
            if stopping():
                state.should_stop = os.EX_OK

    return Liveness


def patient_consumer(alive: AliveFile) -> type[Consumer]:
    """Celery's consumer, whose waiting for a broker that is away is a sign of life and ends soon after it is back.

    Celery waits outside of its event loop, so no timer runs meanwhile, and up to half a minute between two tries.
    """

    class PatientConsumer(Consumer):  # type: ignore[misc]
        def ensure_connected(self, conn: Any) -> Any:
            def say(error: Exception, wait_s: float) -> None:
                logger.warning(
                    "the broker is away, trying again in %.0f s: %s", wait_s, error, extra={"event": "server_away"}
                )

            def live() -> None:
                state.maybe_shutdown()
                alive.touch()

            connected = conn.ensure_connection(
                say, interval_start=1, interval_step=1, interval_max=LONGEST_WAIT_S, callback=live
            )
            self.first_connection_attempt = False
            return connected

    return PatientConsumer
