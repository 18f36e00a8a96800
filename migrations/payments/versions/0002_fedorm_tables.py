"""Make fedorm's own tables: decisions and events, and what handlers and sagas have done."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
IN_SQL = {
    "mysql": ("(UTC_TIMESTAMP(6))", "crc32(`key`) & 63"),
    "postgresql": ("clock_timestamp()", "hashtext((key)::text) & 63"),
    "sqlite": ("CURRENT_TIMESTAMP", "0"),
}
"""The moment and the partition of an event: the payments may live in SQLite, too."""


def upgrade() -> None:
    """Apply this revision."""
    now, partition = (sa.text(sql) for sql in IN_SQL[op.get_context().dialect.name])
    waiting = sa.text("state = 0")
    op.create_table(
        "fedorm_decisions",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("outcome", sa.String(length=20), nullable=False),
        sa.Column("handed_to", sa.String(length=255), nullable=True),
        sa.Column("services", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "fedorm_inbox",
        sa.Column("handler", sa.String(length=191), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("at", MOMENT, server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("handler", "id"),
    )
    op.create_index("ix_fedorm_inbox_at", "fedorm_inbox", ["at"], unique=False)
    op.create_table(
        "fedorm_outbox",
        sa.Column("position", NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("type", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=255), server_default="", nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.Column("at", MOMENT, server_default=now, nullable=False),
        sa.Column("partition", sa.SmallInteger(), sa.Computed(partition, persisted=True), nullable=True),
        sa.Column("state", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("delivered_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("position"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_fedorm_outbox_waiting",
        "fedorm_outbox",
        ["state", "partition", "position"],
        unique=False,
        postgresql_where=waiting,
        sqlite_where=waiting,
    )
    op.create_table(
        "fedorm_outbox_deliveries",
        sa.Column("target", sa.String(length=191), nullable=False),
        sa.Column("position", NUMBER, autoincrement=False, nullable=False),
        sa.Column("partition", sa.SmallInteger(), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_at", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("failed_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("target", "position"),
    )
    op.create_index(
        "ix_fedorm_outbox_deliveries_due", "fedorm_outbox_deliveries", ["partition", "next_at"], unique=False
    )
    op.create_index("ix_fedorm_outbox_deliveries_position", "fedorm_outbox_deliveries", ["position"], unique=False)
    op.create_table(
        "fedorm_outbox_partitions",
        sa.Column("partition", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=True),
        sa.Column("until", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("partition"),
    )
    op.create_table(
        "fedorm_saga_steps",
        sa.Column("saga", sa.String(length=32), nullable=False),
        sa.Column("step", sa.String(length=100), nullable=False),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("saga", "step"),
    )
    op.create_index("ix_fedorm_saga_steps_at", "fedorm_saga_steps", ["at"], unique=False)
    op.create_table(
        "fedorm_sagas",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("id", sa.String(length=191), nullable=False),
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("steps", sa.JSON(), nullable=False),
        sa.Column("position", sa.Integer(), server_default="0", nullable=False),
        sa.Column("results", sa.JSON(), nullable=False),
        sa.Column("failed_step", sa.String(length=100), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("owner", sa.String(length=32), nullable=True),
        sa.Column("until", sa.Double(), server_default="0", nullable=False),
        sa.Column("begun_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("name", "id"),
        sa.UniqueConstraint("key"),
    )
    op.create_index("ix_fedorm_sagas_state", "fedorm_sagas", ["state", "until"], unique=False)


def downgrade() -> None:
    """Undo this revision."""
    op.drop_index("ix_fedorm_sagas_state", table_name="fedorm_sagas")
    op.drop_table("fedorm_sagas")
    op.drop_index("ix_fedorm_saga_steps_at", table_name="fedorm_saga_steps")
    op.drop_table("fedorm_saga_steps")
    op.drop_table("fedorm_outbox_partitions")
    op.drop_index("ix_fedorm_outbox_deliveries_position", table_name="fedorm_outbox_deliveries")
    op.drop_index("ix_fedorm_outbox_deliveries_due", table_name="fedorm_outbox_deliveries")
    op.drop_table("fedorm_outbox_deliveries")
    op.drop_index("ix_fedorm_outbox_waiting", table_name="fedorm_outbox")
    op.drop_table("fedorm_outbox")
    op.drop_index("ix_fedorm_inbox_at", table_name="fedorm_inbox")
    op.drop_table("fedorm_inbox")
    op.drop_table("fedorm_decisions")
