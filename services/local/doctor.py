"""`reelmap doctor`: what is wrong with an installation, in words that say what to do."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from services.local.checks import machine, servers, store, work
from services.local.checks.check import Check, Finding, Need, Subject, Verdict
from services.local.installation import REDIS, WORK, blobs_folder_of, open_installation
from services.local.redis import running_url
from shared.db import Database
from shared.errors import PermanentError, one_line
from shared.schema import is_usable, schema_revision
from shared.settings import SettingError, Settings, load_settings
from shared.startup import connect_redis

CHECKS: tuple[Check, ...] = (*machine.CHECKS, *servers.CHECKS, *work.CHECKS, *store.CHECKS)

#: Why a check that needs something cannot be made.
Missing = dict[Need, str]


def examine(environ: Mapping[str, str] | None, folder: Path | None, *, thorough: bool = False) -> Iterator[Finding]:
    """What each check finds, one after the other.

    environ: the settings to look at, the process's own when left out. folder: the data folder of an embedded Reelmap,
    running or not; None looks at the servers that the settings name. thorough: look at what takes longer the more
    there is, too.
    """
    missing: Missing = {}
    settings = yield from _read_settings(environ, missing)
    with ExitStack() as stack:
        if folder is not None:
            settings = yield from _open_folder(folder, settings, missing, stack)
        database = yield from _reach_postgres(settings, missing, stack)
        redis = yield from _reach_redis(settings, missing, stack)
        subject = Subject(settings, folder, database, redis, missing)
        for check in (*CHECKS, *(store.THOROUGH_CHECKS if thorough else ())):
            yield _look(check, subject)


def names_servers() -> bool:
    """Whether the process's settings name a database, so that no data folder is meant. A wrong setting counts too."""
    try:
        return bool(load_settings().database_url)
    except SettingError:
        return True


def _look(check: Check, subject: Subject) -> Finding:
    for need in check.needs:
        if need in subject.missing:
            return Finding(check.name, Verdict.UNKNOWN, subject.missing[need])
    try:
        verdict, says = check.look(subject)
    except (SQLAlchemyError, RedisError, OSError) as error:
        return Finding(check.name, Verdict.BAD, f"It could not be looked at: {one_line(error).rstrip('.?')}")
    return Finding(check.name, verdict, says)


def _read_settings(environ: Mapping[str, str] | None, missing: Missing) -> Generator[Finding, None, Settings]:
    try:
        settings = load_settings(environ)
    except SettingError as error:
        missing[Need.SETTINGS] = "The settings cannot be read."
        yield Finding("settings", Verdict.BAD, f"{error}.")
        return Settings(own_models={})
    yield Finding("settings", Verdict.GOOD, "Every setting can be used.")
    return settings


def _open_folder(
    folder: Path, settings: Settings, missing: Missing, stack: ExitStack
) -> Generator[Finding, None, Settings]:
    """The settings under which the Reelmap of a data folder runs, or would."""
    folder = folder.absolute()
    named = settings
    # Until it is clear that the bucket is ours: the store's check writes into it.
    settings = replace(named, redis_url="", blobs_folder=None, blobs_bucket="", work_folder=folder / WORK)
    try:
        blobs_folder = blobs_folder_of(named, folder)
        settings = replace(settings, blobs_folder=blobs_folder, blobs_bucket=named.blobs_bucket)
        installation = stack.enter_context(open_installation(folder))
    except PermanentError as error:
        missing |= dict.fromkeys((Need.DATABASE, Need.SCHEMA, Need.REDIS), "The data folder cannot be opened.")
        yield Finding("data folder", Verdict.BAD, error.message)
        return settings if folder.is_dir() else replace(settings, blobs_folder=None, work_folder=None)
    if not installation.is_running:
        missing[Need.RUNNING] = missing[Need.REDIS] = "It does not run now; `reelmap up` starts it."
        yield Finding("data folder", Verdict.GOOD, f"{folder} holds a Reelmap, which does not run now.")
        return replace(settings, database_url=installation.database_url)
    yield Finding("data folder", Verdict.GOOD, f"{folder} holds a Reelmap, which runs.")
    redis_url = running_url(folder / REDIS) or ""
    return replace(settings, database_url=installation.database_url, redis_url=redis_url)


def _reach_postgres(
    settings: Settings, missing: Missing, stack: ExitStack
) -> Generator[Finding, None, Database | None]:
    if Need.DATABASE in missing:
        return None
    if not settings.database_url:
        missing[Need.DATABASE] = missing[Need.SCHEMA] = "There is no database to look at (REELMAP_DATABASE_URL)."
        return None
    database = Database(settings.database_url, application_name="reelmap-doctor")
    stack.callback(database.dispose)
    try:
        with database.transaction() as connection:
            revision = schema_revision(connection)
    except SQLAlchemyError as error:
        missing[Need.DATABASE] = missing[Need.SCHEMA] = "Postgres does not answer."
        says = f"It does not answer: {one_line(error).rstrip('.?')}. Start it, or correct REELMAP_DATABASE_URL."
        yield Finding("reaching Postgres", Verdict.BAD, says)
        return None
    if not is_usable(revision):
        missing[Need.SCHEMA] = "The database has another schema."
    return database


def _reach_redis(settings: Settings, missing: Missing, stack: ExitStack) -> Generator[Finding, None, Redis | None]:
    if Need.REDIS in missing:
        return None
    if not settings.redis_url:
        missing[Need.REDIS] = "There is no Redis to look at (REELMAP_REDIS_URL)."
        return None
    redis: Redis = stack.enter_context(connect_redis(settings.redis_url))
    try:
        redis.ping()
    except RedisError as error:
        missing[Need.REDIS] = "Redis does not answer."
        says = (
            f"It does not answer: {one_line(error).rstrip('.?')}. Jobs are taken and wait meanwhile. "
            "Start it, or correct REELMAP_REDIS_URL."
        )
        yield Finding("reaching Redis", Verdict.BAD, says)
        return None
    return redis
