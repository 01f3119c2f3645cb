"""What a server offers besides its tools: resources, resource templates and prompts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add the column; it is filled when the server comes up next."""
    op.add_column("server", sa.Column("offers", sa.JSON()))


def downgrade() -> None:
    """Drop the column."""
    with op.batch_alter_table("server") as table:
        table.drop_column("offers")
