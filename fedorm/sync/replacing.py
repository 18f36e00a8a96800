"""The columns by which a target whose rows can only be appended says which row counts."""

from __future__ import annotations

from sqlalchemy import BigInteger, SmallInteger
from sqlalchemy.orm import Mapped, declared_attr, mapped_column


class Replacing:
    """A base for models in ClickHouse that are kept in sync: ``class OrderFact(Replacing, FederatedBase)``.

    A changed row is one more row with a greater ``sync_version``, and a deleted one has ``sync_deleted = 1``. Made by
    ``create_all()``, the table is a ``ReplacingMergeTree`` ordered by its primary key, which keeps the greatest alone
    after its merges; until then queries see all, unless they ask for ``FINAL``.
    """

    @declared_attr
    def sync_version(cls) -> Mapped[int]:  # noqa: N805
        """How new the row is."""
        return mapped_column(BigInteger, nullable=False, sort_order=1000)

    @declared_attr
    def sync_deleted(cls) -> Mapped[int]:  # noqa: N805
        """1 in a row that says that it is gone."""
        return mapped_column(SmallInteger, nullable=False, sort_order=1001)
