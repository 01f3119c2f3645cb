"""Which servers that are part of ToolScore a home is to be without."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "dismissed",
        sa.Column("name", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_dismissed"),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("dismissed")
