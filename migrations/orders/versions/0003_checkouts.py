"""Let an order be pending or cancelled."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BEFORE = sa.Enum("placed", "paid", "shipped", native_enum=False)
AFTER = sa.Enum("placed", "pending", "paid", "shipped", "cancelled", native_enum=False)
TABLES = ("orders", "order_status")


def upgrade() -> None:
    """Apply this revision."""
    for table in TABLES:
        op.alter_column(table, "status", existing_type=BEFORE, type_=AFTER, existing_nullable=False)


def downgrade() -> None:
    """Undo this revision; it is refused while there is a cancelled order."""
    for table in TABLES:
        op.alter_column(table, "status", existing_type=AFTER, type_=BEFORE, existing_nullable=False)
