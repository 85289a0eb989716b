"""Which schemas this version works with, and how it waits for them."""

from __future__ import annotations

from pathlib import Path

from shared.db import MIGRATIONS, Database
from shared.schema import is_usable, known_revisions, newest_revision, schema_revision, wait_for_schema


def test_the_newest_revision_is_the_last_file():
    files = sorted(path.name.split("_")[0] for path in Path(MIGRATIONS, "versions").glob("*.py"))
    assert newest_revision() == files[-1]
    assert sorted(known_revisions()) == files


def test_a_database_of_this_version_or_a_newer_one_is_usable():
    assert is_usable(newest_revision())
    assert is_usable("one that only the next version has")


def test_an_older_or_empty_database_is_not(monkeypatch):
    monkeypatch.setattr("shared.schema.known_revisions", lambda: ("0003", "0002", "0001"))
    assert is_usable("0003")
    assert not is_usable("0002")
    assert not is_usable(None)


def test_the_revision_of_a_database(database, postgres_server):
    with database.transaction() as connection:
        assert schema_revision(connection) == newest_revision()
    empty = Database(postgres_server.create_database("empty"))
    with empty.transaction() as connection:
        assert schema_revision(connection) is None
    empty.dispose()
    postgres_server.drop_database("empty")


def test_waiting_ends_when_the_process_is_asked_to_stop(rows, database, monkeypatch, caplog):
    monkeypatch.setattr("shared.schema.LOOK_EVERY_S", 0)
    rows.do("UPDATE alembic_version SET version_num = 'older'")
    monkeypatch.setattr("shared.schema.known_revisions", lambda: ("newest", "older"))
    lived: list[None] = []
    assert not wait_for_schema(database, lambda: len(lived) == 3, lambda: lived.append(None))
    assert "it has schema older, and this version needs newest" in caplog.text
    rows.do("UPDATE alembic_version SET version_num = 'newest'")
    assert wait_for_schema(database, lambda: False, lambda: None)


def test_a_database_that_is_away_is_waited_for(monkeypatch, caplog):
    monkeypatch.setattr("shared.schema.LOOK_EVERY_S", 0)
    away = Database("postgresql+psycopg2://reelmap@127.0.0.1:9/reelmap")
    lived: list[None] = []
    assert not wait_for_schema(away, lambda: len(lived) == 2, lambda: lived.append(None))
    assert caplog.text.count("waiting for the database: ") == 1
