"""What a process makes sure of before it starts: servers that are away are waited for, unfit ones are refused."""

from __future__ import annotations

import logging
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.exceptions import ConnectionError as RedisAway
from redis.exceptions import TimeoutError as RedisSilent
from redis.retry import Retry
from sqlalchemy.exc import DBAPIError

from shared.db import Database, login_refusal
from shared.errors import one_line
from shared.schema import SAY_EVERY_S, wait_for_schema
from shared.settings import SettingError, Settings

logger = logging.getLogger(__name__)

#: Exit code of a process that cannot start as it was installed or configured, as of a wrong command.
EXIT_REFUSED = 2

#: Package -> its oldest version that we work with.
LEAST_VERSIONS = {"celery": (5, 7), "kombu": (5, 7)}
LEAST_REDIS = (6, 2)

LOOK_EVERY_S = 0.5


class Unfit(Exception):
    """The installation cannot work as it is; the message says what to change."""


@contextmanager
def explained() -> Iterator[None]:
    """Around an entry point: what a person has to change becomes one line and exit code 2, with no traceback."""
    try:
        yield
    except (Unfit, SettingError) as error:
        logger.critical("%s", error, extra={"event": "refused"})
        sys.exit(EXIT_REFUSED)


def connect_redis(url: str) -> Redis:
    """A client whose every wait is bounded and that tries once: whoever calls has a patience of its own."""
    once = Retry(NoBackoff(), retries=0)
    return Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5, retry=once)


def check_versions(installed: Callable[[str], str] = version) -> None:
    """Raise `Unfit` for packages that are known to lose or strand messages."""
    for package, least in LEAST_VERSIONS.items():
        found = installed(package)
        if _numbers(found) < least:
            raise Unfit(
                f"{package} {found} is installed; older than {_dotted(least)} it stops reading its queue for good "
                "after a silent network cut. Install what requirements/lock.txt names."
            )


def check_redis(info: Mapping[str, Any]) -> None:
    """Raise `Unfit` for a Redis that is too old, or that throws messages away when its memory is full.

    info: what `INFO` answers; managed servers, which forbid `CONFIG GET`, answer it too.
    """
    found = str(info.get("redis_version", ""))
    if found and _numbers(found) < LEAST_REDIS:
        raise Unfit(f"Redis is of version {found}; Reelmap needs {_dotted(LEAST_REDIS)} or newer.")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise Unfit(
            f"Redis has maxmemory-policy {policy}, so that a full memory would throw waiting messages away. Set it to "
            "noeviction (`CONFIG SET maxmemory-policy noeviction`, and in its configuration)."
        )


def wait_for_redis(client: Redis, stopping: Callable[[], bool], alive: Callable[[], None]) -> bool:
    """Wait until Redis answers, saying so. Returns whether it did; False: asked to stop. Raises `Unfit`."""
    say_at = time.monotonic()
    while not stopping():
        try:
            info = client.info()
        except ResponseError as error:
            if not isinstance(error, NoPermissionError) and "unknown command" not in str(error):
                raise Unfit(f"Redis cannot be used: {error}") from error
            logger.warning("Redis does not let us look at its settings: %s", error, extra={"event": "redis_unseen"})
            return True
        except AuthenticationError as error:
            said = str(error).rstrip(".")
            raise Unfit(
                f"Redis does not let us in: {said}. Look at REELMAP_REDIS_URL and REELMAP_REDIS_PASSWORD, or the file "
                "that holds it."
            ) from error
        except (RedisAway, RedisSilent) as error:
            if time.monotonic() >= say_at:
                logger.warning("waiting for Redis: %s", error, extra={"event": "redis_awaited"})
                say_at = time.monotonic() + SAY_EVERY_S
            alive()
            time.sleep(LOOK_EVERY_S)
            continue
        check_redis(info)
        return True
    return False


def wait_for_database(database: Database, stopping: Callable[[], bool], alive: Callable[[], None]) -> bool:
    """Wait until Postgres answers and is migrated. Returns whether; False: asked to stop. Raises `Unfit`."""
    try:
        return wait_for_schema(database, stopping, alive)
    except DBAPIError as error:
        raise unfit_database(error) from error


def unfit_database(error: DBAPIError) -> Unfit:
    """What to tell a person of a database that waiting does not mend."""
    if refusal := login_refusal(error):
        return Unfit(
            f"Postgres does not let us in: {refusal}. Look at REELMAP_DATABASE_URL and REELMAP_DATABASE_PASSWORD, or "
            "the file that holds it."
        )
    return Unfit(f"The database cannot be used: {one_line(error)}")


def wait_for_servers(
    settings: Settings, stopping: Callable[[], bool], alive: Callable[[], None], *, application_name: str
) -> bool:
    """Wait for Redis, Postgres and the migration. Returns whether all are there; False: asked to stop meanwhile.

    Raises `Unfit` for what waiting does not mend.
    """
    check_versions()
    with connect_redis(settings.redis_url) as client:
        if not wait_for_redis(client, stopping, alive):
            return False
    database = Database(settings.database_url, application_name=application_name)
    try:
        return wait_for_database(database, stopping, alive)
    finally:
        database.dispose()


def note_signals(note: Callable[[], None]) -> None:
    """From now on SIGTERM and SIGINT call `note` and nothing else, so that whoever waits ends in good order."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: note())


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
