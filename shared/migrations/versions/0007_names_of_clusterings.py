"""What a person calls a clustering; empty for no name."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("clusterings", sa.Column("name", sa.Text(), server_default="", nullable=False))
