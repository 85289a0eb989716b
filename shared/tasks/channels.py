"""What is announced through Postgres, to the dispatcher and to who waits for a query picture."""

from __future__ import annotations

from sqlalchemy import Connection, text

#: Postgres channels: "something is due", and "this query picture has its vector" (payload: the query's id).
TASKS_CHANNEL = "reelmap_tasks"
QUERIES_CHANNEL = "reelmap_queries"


def notify_due(connection: Connection) -> None:
    """Wake the dispatcher when this transaction commits."""
    connection.execute(text(f"NOTIFY {TASKS_CHANNEL}"))
