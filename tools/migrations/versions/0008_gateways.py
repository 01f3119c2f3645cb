"""Which gateways share the store, which of them runs which server, and the tickets between them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add them."""
    shared = op.get_bind().dialect.name == "postgresql"
    collation = "C" if shared else None

    def words(name: str) -> sa.Column[str]:
        return sa.Column(name, sa.String(collation=collation), nullable=False)

    op.create_table(
        "gateway",
        words("id"),
        words("name"),
        words("url"),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        words("version"),
        sa.Column("began_at", sa.Float(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        words("state"),
        sa.Column("unable", sa.Text(collation=collation), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_gateway"),
    )
    op.create_table(
        "lease",
        words("server"),
        words("gateway"),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        words("state"),
        sa.PrimaryKeyConstraint("server", name="pk_lease"),
    )
    op.create_table(
        "ticket",
        words("digest"),
        words("receiver"),
        words("sender"),
        words("purpose"),
        sa.Column("until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_ticket"),
    )
    if shared:
        op.execute(sa.text("CREATE SEQUENCE gateway_epoch"))


def downgrade() -> None:
    """Drop them."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(sa.text("DROP SEQUENCE gateway_epoch"))
    for table in ("ticket", "lease", "gateway"):
        op.drop_table(table)
