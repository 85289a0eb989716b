"""Open work by queue, for what starts and stops workers.

A view and not the table, because who scales workers needs four numbers and may see no URL, error or vector: a role of its
own reads it (shared/scaler_role.py). The view is also the promise: tables may change, these columns stay. Running tasks
count, or a worker would be stopped because it has just taken the last message. Every queue is there, also without work,
because no row is an error to whoever expects a number.
"""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute(
        """
        CREATE VIEW open_work (queue, tasks, hosts) AS
        SELECT q.queue, count(t.id), count(DISTINCT t.host) + count(t.id) FILTER (WHERE t.host IS NULL)
        FROM (VALUES ('keyframes'), ('embedding'), ('query'), ('clustering')) AS q (queue)
        LEFT JOIN tasks t ON t.queue = q.queue AND (t.state = 'running' OR (t.state = 'queued' AND t.run_at <= now()))
        GROUP BY q.queue
        """
    )
    op.execute(
        "COMMENT ON VIEW open_work IS 'By queue: tasks that run or are due, and hosts that they fetch from; "
        "a task that fetches from nobody counts as a host of its own'"
    )
