"""Small content in the database."""
# ruff: noqa: INP001 - a script that Alembic loads by path; no package

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table of small content; files that are stored elsewhere stay where they are."""
    op.create_table(
        "packed_content",
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_packed_content"),
        if_not_exists=True,  # `create_schema` of this version may have met the older tables
    )
