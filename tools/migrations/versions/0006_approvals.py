"""What was approved of each server's tools."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make the table; what is known of servers by now counts as approved."""
    op.create_table(
        "approval",
        sa.Column("server", sa.String(), nullable=False),
        sa.Column("tool", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("how", sa.String(), nullable=False),
        sa.Column("findings", sa.JSON(), nullable=True),
        sa.Column("held", sa.String(), nullable=False),
        sa.Column("held_definition", sa.JSON(), nullable=True),
        sa.Column("held_at", sa.Float(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("held_findings", sa.JSON(), nullable=True),
        sa.Column("rejected", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["server"], ["server.name"], name="fk_approval_server_server", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("server", "tool", name="pk_approval"),
    )
    now = time.time()
    for statement in (
        "INSERT INTO approval SELECT server, name, digest, definition, :now, 'owner', 'migration', NULL, '', NULL, "
        "0, '', NULL, false FROM tool",
        "INSERT INTO approval SELECT name, '', '', NULL, :now, 'owner', 'migration', NULL, '', NULL, 0, '', NULL, "
        "false FROM server WHERE era IS NOT NULL",
    ):
        op.execute(sa.text(statement).bindparams(now=now))


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("approval")
