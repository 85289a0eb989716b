"""Which schema the database has, and whether this version of the code can work with it.

Every migration leaves the version before it working (expand first, contract a release later). So a process works with
the schema that it knows as the newest, and with one that it does not know, which a newer version has made; it waits
while the schema is older. The test is by name: a revision that is no ancestor of ours is newer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import cache

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from shared.db import Database, alembic_config, is_passing, login_refusal
from shared.errors import one_line

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
#: How often a process that waits says so.
SAY_EVERY_S = 60.0


@cache
def known_revisions() -> tuple[str, ...]:
    """The revisions that this version of the code has, the newest first."""
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(alembic_config(""))
    return tuple(revision.revision for revision in script.walk_revisions())


def newest_revision() -> str:
    """The schema revision that this version of the code was written for."""
    return known_revisions()[0]


def schema_revision(connection: Connection) -> str | None:
    """The database's schema revision; None when it has never been migrated."""
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar() is None:
        return None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if revision is None else str(revision)


def is_usable(revision: str | None) -> bool:
    """Whether this version of the code can work with a database of that revision: it is not older."""
    return revision is not None and revision not in known_revisions()[1:]


def wait_for_schema(database: Database, stopping: Callable[[], bool], alive: Callable[[], None]) -> bool:
    """Wait until somebody has migrated the database, saying so. Returns whether it is usable; False: asked to stop.

    A database that is away is waited for too; the error of one that does not let us in is raised. alive: called about
    twice a second meanwhile.
    """
    say_at = time.monotonic()
    while not stopping():
        try:
            with database.transaction() as connection:
                revision = schema_revision(connection)
            if is_usable(revision):
                return True
            why = f"it has schema {revision or 'none'}, and this version needs {newest_revision()}"
        except DBAPIError as error:
            if login_refusal(error) or not is_passing(error):
                raise
            why = one_line(error)
        if time.monotonic() >= say_at:
            logger.warning("waiting for the database: %s", why, extra={"event": "schema_awaited"})
            say_at = time.monotonic() + SAY_EVERY_S
        alive()
        time.sleep(LOOK_EVERY_S)
    return False
