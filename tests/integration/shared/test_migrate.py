"""The command that migrates: waits, takes turns, and leaves newer schemas alone."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from sqlalchemy.engine import make_url

from shared.db import Database
from shared.migrate import migrate_when_there
from shared.schema import newest_revision, schema_revision
from shared.startup import EXIT_REFUSED, Unfit


@pytest.fixture
def empty_url(postgres_server) -> Iterator[str]:
    """A database that was never migrated."""
    yield postgres_server.create_database("unmigrated")
    postgres_server.drop_database("unmigrated")


def revision_of(url: str) -> str | None:
    database = Database(url)
    with database.transaction() as connection:
        found = schema_revision(connection)
    database.dispose()
    return found


def test_who_waits_goes_on_when_another_one_has_migrated(start, empty_url):
    waiting = start("shared.migrate", "--wait", database_url=empty_url)
    waiting.wait_for_words("waiting for the database: it has schema none")
    assert revision_of(empty_url) is None, "who waits must change nothing"
    migrating = [start("shared.migrate", database_url=empty_url) for _ in range(3)]
    assert [each.process.wait(30) for each in [*migrating, waiting]] == [0, 0, 0, 0]
    assert revision_of(empty_url) == newest_revision()
    assert sum("it was none" in each.said for each in migrating) >= 1


def test_a_stop_while_it_waits_is_no_success(start):
    waiting = start("shared.migrate", database_url="postgresql+psycopg2://nobody@127.0.0.1:9/nothing")
    waiting.wait_for_words("waiting for the database: ")
    assert waiting.stop(signal.SIGTERM) == 1


def test_the_schema_of_a_newer_version_stays(rows, database):
    rows.do("UPDATE alembic_version SET version_num = 'of the next version'")
    try:
        assert migrate_when_there(database, lambda: False)
        assert rows.one("SELECT version_num FROM alembic_version") == "of the next version"
    finally:
        rows.do(f"UPDATE alembic_version SET version_num = '{newest_revision()}'")


def test_a_database_that_cannot_be_migrated_is_refused_with_the_reason(empty_url):
    database = Database(empty_url)
    with database.transaction() as connection:
        connection.exec_driver_sql("CREATE TABLE jobs (somebody_elses int)")
    with pytest.raises(Unfit, match=r"cannot be used: .*already exists"):
        migrate_when_there(database, lambda: False)
    database.dispose()


@pytest.mark.parametrize("arguments", [[], ["--wait"]])
@pytest.mark.parametrize(
    ("login", "why"),
    [("reelmap/nowhere", 'database "nowhere" does not exist'), ("nobody/reelmap", 'role "nobody" does not exist')],
)
def test_a_login_that_the_server_refuses_is_not_waited_for(start, postgres_server, arguments, login, why):
    user, database = login.split("/")
    url = make_url(postgres_server.url()).set(username=user, database=database)
    refused = start("shared.migrate", *arguments, database_url=url.render_as_string(hide_password=False))
    assert refused.process.wait(30) == EXIT_REFUSED
    assert why in refused.said
    assert "Look at REELMAP_DATABASE_URL and REELMAP_DATABASE_PASSWORD" in refused.said


def test_without_an_address_it_says_which_setting_is_missing():
    ended = subprocess.run([sys.executable, "-m", "shared.migrate"], capture_output=True, text=True, env={})
    assert ended.returncode == EXIT_REFUSED
    assert "REELMAP_DATABASE_URL is not set" in ended.stderr
