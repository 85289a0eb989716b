"""What a worker saw when it last looked for a model's weights: when, and why they cannot be had (NULL: they are there)."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("models", sa.Column("looked_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("models", sa.Column("missing", sa.Text(), nullable=True))
