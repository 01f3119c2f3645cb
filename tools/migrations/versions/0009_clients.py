"""What clients hold at several gateways: sessions over HTTP, long results, and the events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add them."""
    collation = "C" if op.get_bind().dialect.name == "postgresql" else None

    def words(name: str) -> sa.Column[str]:
        return sa.Column(name, sa.String(collation=collation), nullable=False)

    def long(name: str) -> sa.Column[str]:
        return sa.Column(name, sa.Text(collation=collation), nullable=False)

    op.create_table(
        "http_session",
        words("id"),
        words("gateway"),
        words("client"),
        long("state"),
        sa.Column("until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_http_session"),
    )
    op.create_table(
        "result",
        words("id"),
        words("owner"),
        words("mime"),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        long("text"),
        sa.PrimaryKeyConstraint("id", name="pk_result"),
    )
    op.create_index("ix_result_owner", "result", ["owner"])
    op.create_table(
        "event",
        sa.Column("number", sa.BigInteger(), nullable=False),
        long("body"),
        sa.PrimaryKeyConstraint("number", name="pk_event"),
    )


def downgrade() -> None:
    """Drop them."""
    for table in ("event", "result", "http_session"):
        op.drop_table(table)
