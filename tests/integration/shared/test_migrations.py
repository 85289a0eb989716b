"""The migrations end at the tables that the code knows."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from shared import db
from shared.tables import DEFAULT_PROJECT_ID, metadata


def test_migrations_and_tables_agree(database):
    with database.transaction() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_migrating_twice_changes_nothing(database_url, rows):
    db.migrate(database_url)
    assert rows.one("SELECT id FROM projects") == DEFAULT_PROJECT_ID
