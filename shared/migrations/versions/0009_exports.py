"""Exports: what a person takes along, and the task that writes it, beside the stages of a job."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "exports",
        sa.Column("id", sa.Uuid(as_uuid=False), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("project_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("job_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("subject", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key_frame_count", sa.Integer(), nullable=True),
        sa.Column("written_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("blob", sa.Text(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_exports_project_id_projects"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_exports_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exports")),
    )
    op.create_index(
        "ix_exports_page",
        "exports",
        ["project_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
    )
    op.create_index("ix_exports_job_id", "exports", ["job_id"])
    op.create_index("ix_exports_expires_at", "exports", ["expires_at"])
    op.add_column("tasks", sa.Column("export_id", sa.Uuid(as_uuid=False), nullable=True))
    op.create_foreign_key(
        op.f("fk_tasks_export_id_exports"), "tasks", "exports", ["export_id"], ["id"], ondelete="CASCADE"
    )
    op.create_index(
        "uq_tasks_exports", "tasks", ["export_id"], unique=True, postgresql_where=sa.text("export_id IS NOT NULL")
    )
    for name, condition in (
        ("ck_tasks_stage", "stage IN ('keyframes', 'embedding', 'clustering', 'exports')"),
        ("ck_tasks_queue", "queue IN ('keyframes', 'embedding', 'query', 'clustering', 'exports')"),
        (
            "ck_tasks_subject",
            "CASE queue WHEN 'keyframes' THEN num_nonnulls(job_id, source_id) = 2"
            " WHEN 'embedding' THEN num_nonnulls(job_id, video_id, model, chunk) = 4"
            " WHEN 'query' THEN num_nonnulls(query_id, model) = 2"
            " WHEN 'clustering' THEN num_nonnulls(job_id, clustering_id) = 2"
            " WHEN 'exports' THEN num_nonnulls(export_id) = 1 END",
        ),
    ):
        op.drop_constraint(op.f(name), "tasks")
        op.create_check_constraint(op.f(name), "tasks", condition)
    op.execute(
        """
        CREATE OR REPLACE VIEW open_work (queue, tasks, hosts) AS
        SELECT q.queue, count(t.id), count(DISTINCT t.host) + count(t.id) FILTER (WHERE t.host IS NULL)
        FROM (VALUES ('keyframes'), ('embedding'), ('query'), ('clustering'), ('exports')) AS q (queue)
        LEFT JOIN tasks t ON t.queue = q.queue AND (t.state = 'running' OR (t.state = 'queued' AND t.run_at <= now()))
        GROUP BY q.queue
        """
    )
