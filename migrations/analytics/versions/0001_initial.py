"""Make the tables.

Moments and days are SQLAlchemy's types: what they become depends on the server's age, as in ``create_all()``.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from fedorm.migrate.clickhouse import Native

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Apply this revision."""
    op.create_clickhouse_table(  # type: ignore[attr-defined]
        "order_analytics",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("country", Native("String"), nullable=False),
        sa.Column("revision", Native("Int32"), nullable=False),
        sa.Column("orders", Native("Int32"), nullable=False),
        sa.Column("revenue", Native("Decimal(12, 2)"), nullable=False),
        engine="MergeTree() ORDER BY (day, country, revision)",
    )
    op.create_clickhouse_table(  # type: ignore[attr-defined]
        "product_analytics",
        sa.Column("sku", Native("String"), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("revision", Native("Int32"), nullable=False),
        sa.Column("views", Native("Int32"), nullable=False),
        sa.Column("units", Native("Int32"), nullable=False),
        sa.Column("revenue", Native("Decimal(12, 2)"), nullable=False),
        engine="MergeTree() ORDER BY (sku, day, revision)",
    )
    op.create_clickhouse_table(  # type: ignore[attr-defined]
        "user_events",
        sa.Column("user_id", Native("Int32"), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("id", Native("String"), nullable=False),
        sa.Column("kind", Native("String"), nullable=False),
        sa.Column("sku", Native("Nullable(String)"), nullable=False),
        sa.Column("order_id", Native("Nullable(Int32)"), nullable=False),
        engine="MergeTree() ORDER BY (user_id, at, id)",
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table("user_events")
    op.drop_table("product_analytics")
    op.drop_table("order_analytics")
