"""The command that brings the database's schema up to date, once before the processes of a new version start.

`python -m shared.migrate` waits for Postgres and migrates it; several at once take turns. `--wait` changes nothing and
ends when the schema is one that this version works with: what an init container waits for.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence

from sqlalchemy.exc import DBAPIError

from shared.db import Database, is_passing, login_refusal, migrate
from shared.errors import one_line
from shared.logs import configure_logging
from shared.schema import LOOK_EVERY_S, SAY_EVERY_S, known_revisions, newest_revision, schema_revision
from shared.settings import load_settings
from shared.startup import explained, note_signals, unfit_database, wait_for_database

logger = logging.getLogger(__name__)


def migrate_when_there(database: Database, stopping: Callable[[], bool]) -> bool:
    """Migrate as soon as Postgres answers. Returns whether the schema is usable; False: asked to stop meanwhile.

    A schema that this version does not know was made by a newer one, which is then being taken back: it is left alone.
    Raises `Unfit` for a database that cannot be migrated.
    """
    say_at = time.monotonic()
    while not stopping():
        try:
            with database.transaction() as connection:
                found = schema_revision(connection)
            if found is not None and found not in known_revisions():
                logger.info("the schema %s is of a newer version; it stays", found, extra={"event": "schema_newer"})
                return True
            migrate(database.url)
            logger.info(
                "the schema is %s, it was %s", newest_revision(), found or "none", extra={"event": "schema_migrated"}
            )
            return True
        except DBAPIError as error:
            if login_refusal(error) or not is_passing(error):
                raise unfit_database(error) from error
            if time.monotonic() >= say_at:
                logger.warning("waiting for the database: %s", one_line(error), extra={"event": "schema_awaited"})
                say_at = time.monotonic() + SAY_EVERY_S
        time.sleep(LOOK_EVERY_S)
    return False


@explained()
def main(arguments: Sequence[str] | None = None) -> None:
    """Exit with 0 when the schema is usable, with 2 and one line when it cannot be, with 1 when asked to stop."""
    parser = argparse.ArgumentParser(prog="python -m shared.migrate", description="Bring the schema up to date.")
    parser.add_argument("--wait", action="store_true", help="change nothing, wait until another one has")
    asked = parser.parse_args(arguments)
    settings = load_settings()
    configure_logging("migrate", settings.log_level)
    settings.require("database_url")
    stop_signals: list[None] = []
    note_signals(lambda: stop_signals.append(None))
    database = Database(settings.database_url, application_name="reelmap-migrate")
    try:
        if asked.wait:
            usable = wait_for_database(database, lambda: bool(stop_signals), lambda: None)
        else:
            usable = migrate_when_there(database, lambda: bool(stop_signals))
    finally:
        database.dispose()
    if not usable:
        sys.exit(1)


if __name__ == "__main__":
    main()
