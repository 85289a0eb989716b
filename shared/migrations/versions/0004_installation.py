"""The installation's id, one row.

The store of blobs bears it too (shared/ownership.py), so that no database's clean-up takes the blobs of another. It is
a row, and not the cluster's own id, because it must go with a dump.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "installation",
        sa.Column("is_only", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.CheckConstraint("is_only", name=op.f("ck_installation_is_only")),
        sa.PrimaryKeyConstraint("is_only", name=op.f("pk_installation")),
    )
    op.execute("INSERT INTO installation DEFAULT VALUES")
