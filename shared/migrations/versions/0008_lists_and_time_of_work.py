"""Lists that become their videos, and how long a job was worked on.

`worked_s` counts each round by itself; of a job of before, only its whole span is known.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("sources", sa.Column("list_levels", sa.Integer(), server_default="0", nullable=False))
    op.add_column("sources", sa.Column("expanded_into", sa.Integer(), nullable=True))
    op.add_column("sources", sa.Column("parent_id", sa.Uuid(as_uuid=False), nullable=True))
    op.create_foreign_key(
        op.f("fk_sources_parent_id_sources"), "sources", "sources", ["parent_id"], ["id"], ondelete="SET NULL"
    )
    op.create_index("ix_sources_parent_id", "sources", ["parent_id"], postgresql_where=sa.text("parent_id IS NOT NULL"))
    op.add_column("jobs", sa.Column("worked_s", sa.Double(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("resumed_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(
        """UPDATE jobs SET resumed_at = CASE WHEN finished_at IS NULL THEN started_at END,
        worked_s = coalesce(extract(epoch FROM finished_at - started_at), 0)"""
    )
