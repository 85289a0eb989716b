"""The migrations end at the tables that the code knows, and carry every row over from every revision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, insert, text
from sqlalchemy.exc import IntegrityError

from shared import db
from shared.pipeline import Queue
from shared.schema import known_revisions
from shared.tables import DEFAULT_PROJECT_ID, metadata, tasks

#: `<revision>.sql`: rows as that revision writes them, for tables that it adds and `a_row` cannot fill.
ROWS = Path(__file__).parent / "revisions"
REVISIONS = known_revisions()[::-1]  # the oldest first

#: The conditions that rows are held to.
CHECKS = """SELECT conrelid::regclass::text AS of_table, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE contype = 'c' AND connamespace = 'public'::regnamespace ORDER BY 1, 2"""

#: A value for a column that must have one, by what its type is called.
VALUES: dict[str, Any] = {
    "TEXT": "words",
    "INTEGER": 7,
    "BIGINT": 7_000_000_000,
    "BOOLEAN": True,
    "DOUBLE_PRECISION": 0.1,
    "REAL": 0.5,
    "TIMESTAMP": "2026-01-31T12:00:00Z",
    "DATE": "2026-01-31",
    "JSONB": {"a": [1, "ü"]},
    "UUID": "f0000000-0000-0000-0000-000000000001",
    "BYTEA": b"\0\xff",
    "ARRAY": ["a", "b"],
}


def test_migrations_and_tables_agree(database):
    with database.transaction() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_migrations_and_tables_agree_on_what_a_row_may_hold(engine, database):
    """Which `compare_metadata` does not look at."""
    with engine.begin() as connection:
        metadata.create_all(connection)
        declared = connection.execute(text(CHECKS)).all()
    with database.transaction() as connection:
        assert connection.execute(text(CHECKS)).all() == declared


def test_open_work_lists_every_queue(rows):
    assert [row.queue for row in rows.all("SELECT queue FROM open_work ORDER BY queue")] == sorted(Queue)


@pytest.mark.parametrize(("queue", "column"), [(queue, column) for queue in Queue for column in queue.subject])
def test_a_task_must_say_what_it_is_about(database, queue, column):
    subject = {name: VALUES[type(tasks.c[name].type).__name__.upper()] for name in queue.subject if name != column}
    with pytest.raises(IntegrityError, match="ck_tasks_subject"), database.transaction() as connection:
        connection.execute(insert(tasks).values(stage=queue.stage, queue=queue, **subject))


def test_migrating_twice_changes_nothing(database_url, rows):
    db.migrate(database_url)
    assert rows.one("SELECT id FROM projects") == DEFAULT_PROJECT_ID


@pytest.fixture
def engine(postgres_server) -> Iterator[Engine]:
    """An empty database, not migrated."""
    engine = create_engine(postgres_server.create_database("old"))
    yield engine
    engine.dispose()
    postgres_server.drop_database("old")


@pytest.mark.parametrize("revision", REVISIONS)
def test_every_row_of_a_released_revision_is_there_after_the_update(engine, revision):
    url = engine.url.render_as_string(hide_password=False)
    for step in REVISIONS[: REVISIONS.index(revision) + 1]:
        command.upgrade(db.alembic_config(url), step)
        with engine.begin() as connection:
            if (ROWS / f"{step}.sql").exists():
                connection.exec_driver_sql((ROWS / f"{step}.sql").read_text())
            fill_empty_tables(connection)
    with engine.begin() as connection:
        before = reflected(connection)
        rows = all_rows(connection, before)
    assert [name for name, found in rows.items() if not found] == []

    db.migrate(url)
    with engine.begin() as connection:
        assert all_rows(connection, before) == rows


def reflected(connection: Connection) -> MetaData:
    found = MetaData()
    found.reflect(connection)
    found.remove(found.tables["alembic_version"])
    return found


def all_rows(connection: Connection, tables: MetaData) -> dict[str, Sequence[Any]]:
    """Every row of the tables, in those columns that are known of them, as the database writes it."""
    rows = {}
    for table in tables.sorted_tables:
        columns = ", ".join(f'"{column.name}"' for column in table.columns)
        statement = f'SELECT CAST(ROW({columns}) AS text) FROM "{table.name}" ORDER BY 1'
        rows[table.name] = connection.execute(text(statement)).scalars().all()
    return rows


def fill_empty_tables(connection: Connection) -> None:
    for table in reflected(connection).sorted_tables:
        if connection.execute(table.select().limit(1)).first() is None:
            connection.execute(insert(table).values(a_row(connection, table)))


def a_row(connection: Connection, table: Table) -> dict[str, Any]:
    """Values for those columns that must have one; where they refer to another table, to its first row."""
    row: dict[str, Any] = {}
    for column in table.columns:
        if column.foreign_keys:
            [key, *_] = column.foreign_keys
            row[column.name] = connection.execute(key.column.table.select().limit(1)).one()._mapping[key.column.name]
        elif column.server_default is None and not column.nullable:
            kind = type(column.type).__name__
            assert kind in VALUES, f"write {ROWS.name}/*.sql with a row of {table.name}: {column.name} is a {kind}"
            row[column.name] = VALUES[kind]
    return row
