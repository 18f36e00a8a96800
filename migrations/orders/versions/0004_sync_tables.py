"""Make fedorm's tables for rules of sync: how far each has come, and what it could not sync."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this revision."""
    op.create_table(
        "fedorm_sync_dead_letters",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("rule", sa.String(length=191), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("row", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="1", nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_fedorm_sync_dead_letters_rule", "fedorm_sync_dead_letters", ["rule"], unique=False)
    op.create_table(
        "fedorm_sync_positions",
        sa.Column("rule", sa.String(length=191), nullable=False),
        sa.Column("position", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("saved_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("rule"),
    )
    op.create_table(
        "fedorm_sync_rules",
        sa.Column("rule", sa.String(length=191), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=True),
        sa.Column("until", sa.Double(), server_default="0", nullable=False),
        sa.Column("epoch", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("paused", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("state", sa.String(length=20), server_default="new", nullable=False),
        sa.Column("position", sa.Text(), nullable=True),
        sa.Column("synced", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("deleted", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("errors", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_sync_at", sa.Double(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("lag_seconds", sa.Double(), nullable=True),
        sa.Column("lag_rows", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("rule"),
    )


def downgrade() -> None:
    """Undo this revision."""
    op.drop_table("fedorm_sync_rules")
    op.drop_table("fedorm_sync_positions")
    op.drop_index("ix_fedorm_sync_dead_letters_rule", table_name="fedorm_sync_dead_letters")
    op.drop_table("fedorm_sync_dead_letters")
