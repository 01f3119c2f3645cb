"""Run by alembic, which loads it from its file; `toolscore.tools.migrate` passes connection and tables."""

from __future__ import annotations

from alembic import context

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    target_metadata=attributes["metadata"],
    # SQLite's tables can only be altered by copying them.
    render_as_batch=True,
    # Ours is a real transaction (see `migrate`), so a migration that fails half-way leaves nothing.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
