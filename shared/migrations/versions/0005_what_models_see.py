"""What models see, apart from the pictures that people keep.

Until now both were the same picture of 960 pixels, so every row of before stays as it is: no blob of its own, and no
recipe of what models see beside the recipe. So their vectors serve extractions with other pictures of the same frames.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("key_frames", sa.Column("analysis_blob", sa.Text(), nullable=True))
    op.add_column("extractions", sa.Column("analysis_recipe", sa.Text(), nullable=True))
