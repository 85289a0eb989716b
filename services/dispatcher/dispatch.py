"""One turn of the dispatcher: take back what was lost, send what is due.

The task row is its own outbox: a task is sent when its row says that it is due and not sent, and `sent_at` is stamped
after the broker took the message. A message may be sent twice, which is harmless, and is never forgotten.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from redis import Redis

from shared import failpoints, tasks
from shared.db import Database
from shared.pipeline import Queue

logger = logging.getLogger(__name__)

#: A key that only we write. When it is gone, Redis was emptied and every message with it.
EPOCH_KEY = "reelmap:epoch"

#: Messages sent between two stamps: what may be sent twice when the dispatcher dies in between.
SEND_BATCH = 50


@dataclass
class Dispatcher:
    """Sends and takes back; holds nothing that a restart would miss.

    redis: a client of the broker's database; send: publishes one task's message or raises.
    """

    database: Database
    redis: Redis
    send: Callable[[Queue, str], None]
    sent_window: int
    fetches_per_host: int
    resend_after_s: float
    _empty_since: dict[Queue, float] = field(default_factory=dict)

    def turn(self) -> int:
        """Everything that is due now. Returns how many messages were sent.

        Raises the database's or the broker's errors when one of them is away; the next turn starts over.
        """
        self.take_back()
        self._notice_emptied_broker()
        sent = 0
        for queue in Queue:
            self._forget_lost(queue)
            sent += self._send_due(queue)
        return sent

    def take_back(self) -> None:
        """Queue tasks again whose worker stopped answering."""
        with self.database.transaction() as connection:
            for task_id, state in tasks.take_back_expired(connection):
                logger.warning("lease expired, task is %s", state, extra={"event": "taken_back", "task_id": task_id})

    def _notice_emptied_broker(self) -> None:
        if self.redis.exists(EPOCH_KEY):
            return
        with self.database.transaction() as connection:
            forgotten = sum(tasks.forget_sent(connection, queue) for queue in Queue)
        # After the rows know, in case the database is away too; before anything is sent, so that the key is gone when
        # a message is.
        self.redis.set(EPOCH_KEY, uuid.uuid4().hex)
        if forgotten:
            logger.warning("the broker was emptied, sending %d tasks again", forgotten, extra={"event": "emptied"})

    def _forget_lost(self, queue: Queue) -> None:
        """Forget `sent_at` where the message must be lost: overtaken, or the queue has been empty for long enough."""
        now = time.monotonic()
        if self.redis.llen(queue.value):
            self._empty_since[queue] = now
        empty_for_s = now - self._empty_since.setdefault(queue, now)
        with self.database.transaction() as connection:
            lost = tasks.forget_overtaken(connection, queue, after_s=self.resend_after_s)
            if empty_for_s >= self.resend_after_s:
                lost += tasks.forget_sent(connection, queue, older_than_s=self.resend_after_s)
        if lost:
            logger.warning(
                "%d messages were lost, sending them again", lost, extra={"event": "resent", "queue": queue.value}
            )

    def _send_due(self, queue: Queue) -> int:
        with self.database.transaction() as connection:
            due = tasks.due(connection, queue, window=self.sent_window, per_host=self.fetches_per_host)
        for start in range(0, len(due), SEND_BATCH):
            batch = due[start : start + SEND_BATCH]
            for task_id in batch:
                self.send(queue, task_id)
            failpoints.reach("dispatcher.after_publish")
            with self.database.transaction() as connection:
                tasks.mark_sent(connection, batch)
        return len(due)
