"""What several gateways need that share a store: versions, common texts, the journals of all."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | None = None
depends_on: str | None = None

_TEXTS = {
    "server": ("name", "origin", "era", "instructions"),
    "tool": ("server", "name", "digest"),
    "dismissed": ("name",),
    "score": ("server", "tool", "version", "record"),
    "function": ("name", "source"),
    "approval": ("server", "tool", "digest", "by", "how", "held", "why"),
}
_LONG = ("instructions", "record", "source")


def upgrade() -> None:
    """Add them; texts of a database that has an order of its own get the one of code points."""
    if op.get_bind().dialect.name == "postgresql":
        for table, columns in _TEXTS.items():
            for column in columns:
                kind = "TEXT" if column in _LONG else "VARCHAR"
                op.execute(sa.text(f'ALTER TABLE {table} ALTER COLUMN "{column}" TYPE {kind} COLLATE "C"'))
    collation = "C" if op.get_bind().dialect.name == "postgresql" else None
    op.add_column("server", sa.Column("version", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "common",
        sa.Column("kind", sa.String(collation=collation), nullable=False),
        sa.Column("name", sa.String(collation=collation), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(collation=collation), nullable=False),
        sa.Column("by", sa.String(collation=collation), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name="pk_common"),
    )
    op.create_table(
        "journal",
        sa.Column("gateway", sa.String(collation=collation), nullable=False),
        sa.Column("segment", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("line", sa.Text(collation=collation), nullable=False),
        sa.PrimaryKeyConstraint("gateway", "segment", "position", name="pk_journal"),
    )
    op.create_index("ix_journal_at", "journal", ["at"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("journal")
    op.drop_table("common")
    with op.batch_alter_table("server") as table:
        table.drop_column("version")
