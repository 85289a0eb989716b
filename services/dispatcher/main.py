"""The dispatcher process: woken by NOTIFY, looks every second, one of several works at a time."""

from __future__ import annotations

import logging
import select
import signal
import time
from collections.abc import Callable

import psycopg2
from kombu.exceptions import OperationalError as BrokerError
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from services.dispatcher import housekeeping
from services.dispatcher.dispatch import Dispatcher
from shared.blobs import FolderBlobs
from shared.celery_app import make_celery, send
from shared.db import Database, is_unavailable
from shared.logs import configure_logging
from shared.settings import Settings, load_settings
from shared.tasks import TASKS_CHANNEL

logger = logging.getLogger(__name__)

#: The advisory lock of the one dispatcher that works. Two working at once would be harmless, only wasteful.
LOCK = 0x5265656D

HOUSEKEEPING_EVERY_S = 3600

#: Waits after a turn that failed because a server was away.
SHORTEST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0


class Wake:
    """A connection of its own that holds the advisory lock and hears the notifications."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg2.connect(
            url.replace("postgresql+psycopg2://", "postgresql://", 1),
            connect_timeout=5,
            tcp_user_timeout=20000,
            application_name="reelmap-dispatcher-wake",
        )
        self._connection.autocommit = True

    def try_lead(self) -> bool:
        """Whether this is the dispatcher that works; it stays so until the connection ends."""
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,))
            leads = bool(cursor.fetchone()[0])
            if leads:
                cursor.execute(f"LISTEN {TASKS_CHANNEL}")
            return leads

    def wait(self, timeout_s: float) -> None:
        """Return at the next notification, or after the timeout."""
        if select.select([self._connection], [], [], timeout_s)[0]:
            self._connection.poll()
            self._connection.notifies.clear()

    def close(self) -> None:
        """Give the lead to another dispatcher."""
        self._connection.close()


def run(settings: Settings, stopping: Callable[[], bool]) -> None:
    """Dispatch until `stopping()`; servers that are away are waited for."""
    settings.require("database_url", "redis_url", "blobs_folder")
    assert settings.blobs_folder is not None
    database = Database(settings.database_url, application_name="reelmap-dispatcher")
    app = make_celery(settings)
    dispatcher = Dispatcher(
        database=database,
        redis=Redis.from_url(settings.redis_url, socket_timeout=5, socket_connect_timeout=5),
        send=lambda queue, task_id: send(app, queue, task_id),
        sent_window=settings.sent_window,
        fetches_per_host=settings.fetches_per_host,
        resend_after_s=settings.resend_after_s,
    )
    blobs = FolderBlobs(settings.blobs_folder)
    wait_s = SHORTEST_WAIT_S
    while not stopping():
        try:
            _lead(settings, dispatcher, database, blobs, stopping)
            wait_s = SHORTEST_WAIT_S
        except (psycopg2.Error, DBAPIError, RedisError, BrokerError, OSError) as error:
            if isinstance(error, DBAPIError) and not is_unavailable(error):
                raise
            logger.warning(
                "a server is away, trying again in %.0f s: %s",
                wait_s,
                " ".join(str(error).split())[:200],
                extra={"event": "server_away"},
            )
            _wait(wait_s, stopping)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)


def _lead(
    settings: Settings,
    dispatcher: Dispatcher,
    database: Database,
    blobs: FolderBlobs,
    stopping: Callable[[], bool],
) -> None:
    """Wait for the lead, then take turns while it lasts."""
    wake = Wake(settings.database_url)
    try:
        while not wake.try_lead():
            if _wait(settings.dispatch_interval_s, stopping):
                return
        logger.info("dispatching", extra={"event": "leading"})
        cleaned_at = float("-inf")
        while not stopping():
            dispatcher.turn()
            if time.monotonic() - cleaned_at >= HOUSEKEEPING_EVERY_S:
                housekeeping.forget_old_rows(database)
                housekeeping.remove_orphans(database, blobs)
                cleaned_at = time.monotonic()
            wake.wait(settings.dispatch_interval_s)
    finally:
        wake.close()


def _wait(seconds: float, stopping: Callable[[], bool]) -> bool:
    """Sleep, but not through a request to stop. Returns whether there was one."""
    until = time.monotonic() + seconds
    while not stopping() and time.monotonic() < until:
        time.sleep(min(0.2, seconds))
    return stopping()


def main() -> None:
    """Run the dispatcher until SIGTERM or SIGINT."""
    settings = load_settings()
    configure_logging("dispatcher", settings.log_level)
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number))
    run(settings, lambda: bool(asked))
    logger.info("stopped", extra={"event": "stopped"})


if __name__ == "__main__":
    main()
