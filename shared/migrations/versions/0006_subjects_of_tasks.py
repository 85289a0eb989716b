"""What a task is about, in the words of the queues' table: the columns that each queue's tasks must fill.

The condition is the same as before; it is written as `shared/tables.py` now derives it from `shared/pipeline.py`, so that
a test can hold both to each other.
"""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.drop_constraint(op.f("ck_tasks_subject"), "tasks")
    op.create_check_constraint(
        op.f("ck_tasks_subject"),
        "tasks",
        "CASE queue WHEN 'keyframes' THEN num_nonnulls(job_id, source_id) = 2"
        " WHEN 'embedding' THEN num_nonnulls(job_id, video_id, model, chunk) = 4"
        " WHEN 'query' THEN num_nonnulls(query_id, model) = 2"
        " WHEN 'clustering' THEN num_nonnulls(job_id, clustering_id) = 2 END",
    )
