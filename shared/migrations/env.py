"""Runs the migrations: one connection, one transaction, one migrator at a time."""

from alembic import context
from sqlalchemy import create_engine, text

from shared.tables import metadata

#: Any constant will do; every migrator takes the same one.
LOCK = 0x5265656C


def run() -> None:
    engine = create_engine(context.config.attributes["url"], connect_args={"connect_timeout": 5})
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        context.configure(connection=connection, target_metadata=metadata, compare_type=True)
        context.run_migrations()
    engine.dispose()


run()
