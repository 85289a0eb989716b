"""The dispatcher process: woken by NOTIFY, looks every second, one of several works at a time."""

from __future__ import annotations

import logging
import select
import signal
import threading
import time
from collections.abc import Callable

import psycopg2
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from services.dispatcher.dispatch import Dispatcher
from shared import failpoints, gc
from shared.blob_stores import open_blobs
from shared.blobs import BlobStore
from shared.celery_app import make_celery, send
from shared.db import Database, is_passing
from shared.errors import PermanentError, TransientError, one_line
from shared.liveness import AliveFile
from shared.logs import configure_logging
from shared.settings import Settings, load_settings
from shared.startup import connect_redis, explained, wait_for_servers
from shared.tasks import TASKS_CHANNEL

logger = logging.getLogger(__name__)

#: The advisory lock of the one dispatcher that works. Two working at once would be harmless, only wasteful.
LOCK = 0x5265656D

#: The next look after a turn that sent something: workers may have claimed all of it long before the interval ends.
BUSY_INTERVAL_S = 0.2

GC_EVERY_S = 3600
LOOK_FOR_LEAD_S = 0.2
STOP_CLEANING_S = 2

#: Waits after a turn that failed because a server was away: short, because everything stands still meanwhile.
SHORTEST_WAIT_S, LONGEST_WAIT_S = 1.0, 5.0


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
    settings.require("database_url", "redis_url")
    blobs = open_blobs(settings)
    failpoints.arm(settings.failpoints_folder)
    alive = AliveFile(settings.alive_file)
    if not wait_for_servers(settings, stopping, alive.touch, application_name="reelmap-dispatcher"):
        return
    database = Database(settings.database_url, application_name="reelmap-dispatcher")
    app = make_celery(settings, "reelmap-dispatcher")
    dispatcher = Dispatcher(
        database=database,
        redis=connect_redis(settings.redis_url),
        send=lambda queue, task_id: send(app, queue, task_id),
        sent_window=settings.sent_window,
        fetches_per_host=settings.fetches_per_host,
        resend_after_s=settings.resend_after_s,
    )
    leads = threading.Event()
    cleaner = threading.Thread(target=_collect_hourly, args=(settings, database, blobs, leads, stopping), daemon=True)
    cleaner.start()
    wait_s = SHORTEST_WAIT_S
    while not stopping():
        began_at = time.monotonic()
        try:
            _lead(settings, dispatcher, leads, stopping, alive)
        except (psycopg2.Error, DBAPIError, RedisError, BrokerError, OSError) as error:
            if isinstance(error, DBAPIError) and not is_passing(error):
                raise
            if time.monotonic() - began_at > LONGEST_WAIT_S:
                wait_s = SHORTEST_WAIT_S  # it went well for a while
            logger.warning(
                "a server is away, trying again in %.0f s: %s",
                wait_s,
                one_line(error),
                extra={"event": "server_away"},
            )
            _wait(wait_s, stopping, alive)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)
    cleaner.join(STOP_CLEANING_S)
    alive.remove()


def _lead(
    settings: Settings, dispatcher: Dispatcher, leads: threading.Event, stopping: Callable[[], bool], alive: AliveFile
) -> None:
    """Wait for the lead, then take turns while it lasts; `leads` is set meanwhile."""
    wake = Wake(settings.database_url)
    try:
        while not wake.try_lead():
            if _wait(settings.dispatch_interval_s, stopping, alive):
                return
        leads.set()
        logger.info("dispatching", extra={"event": "leading"})
        while not stopping():
            alive.touch()
            sent = dispatcher.turn()
            wake.wait(min(BUSY_INTERVAL_S, settings.dispatch_interval_s) if sent else settings.dispatch_interval_s)
    finally:
        leads.clear()
        wake.close()


def _collect_hourly(
    settings: Settings, database: Database, blobs: BlobStore, leads: threading.Event, stopping: Callable[[], bool]
) -> None:
    """Collect at once and every hour while we lead, beside the turns: walking over a million blobs takes a while."""
    older_than_s = max(gc.KEPT_S, gc.least_age_s(settings))
    while not stopping():
        if not leads.wait(LOOK_FOR_LEAD_S):
            continue
        try:
            found = gc.collect(database, blobs, older_than_s=older_than_s, delete=True)
        except (DBAPIError, OSError, TransientError) as error:
            logger.warning("gc failed: %s", one_line(error), extra={"event": "gc_failed"})
        except PermanentError as error:
            logger.error("gc removes nothing: %s", error, extra={"event": "not_ours"})
        else:
            if removed := ", ".join(f"{garbage.count} {garbage.kind}" for garbage in found if garbage.count):
                logger.info("removed what nothing uses: %s", removed, extra={"event": "gc"})
        _wait(GC_EVERY_S, stopping, AliveFile(None))


def _wait(seconds: float, stopping: Callable[[], bool], alive: AliveFile) -> bool:
    """Sleep, but not through a request to stop, and not like a dead one. Returns whether there was a request."""
    until = time.monotonic() + seconds
    while not stopping() and time.monotonic() < until:
        alive.touch()
        time.sleep(min(0.2, seconds))
    return stopping()


@explained()
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
