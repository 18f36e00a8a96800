"""What happened, and the figures of each day: ClickHouse, where rows are only ever appended.

A MergeTree lies on disk in the order of its primary key: that key starts with what a query asks for.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from examples.ecommerce.models.base import Moment, Money, ShopBase, now
from fedorm import Federated, federated_relationship

if TYPE_CHECKING:
    from examples.ecommerce.models.inventory import Product
    from examples.ecommerce.models.orders import Order
    from examples.ecommerce.models.users import User


Kind = Literal["register", "view", "order", "pay"]


class UserEvent(ShopBase):
    """Something that a user did, with a product or an order where it was about one."""

    __service__ = "analytics"
    __tablename__ = "user_events"

    user_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[Moment] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[Kind]
    sku: Mapped[str | None] = mapped_column(String(20))
    order_id: Mapped[int | None]

    user: Federated[User] = federated_relationship(local_key="user_id")
    product: Federated[Product | None] = federated_relationship(local_key="sku", remote_key="sku")
    order: Federated[Order | None] = federated_relationship(local_key="order_id")

    @classmethod
    def happens(cls, kind: Kind, *, user_id: int, sku: str | None = None, order_id: int | None = None) -> UserEvent:
        """Make the event that something of ``kind`` happens now."""
        # The key is made here: ClickHouse gives none back for the rows of a block.
        return cls(kind=kind, user_id=user_id, at=now(), id=uuid4().hex, sku=sku, order_id=order_id)


class OrderAnalytics(ShopBase):
    """What a country bought and paid for on a day; of several revisions the last one counts."""

    __service__ = "analytics"
    __tablename__ = "order_analytics"

    day: Mapped[datetime.date] = mapped_column(primary_key=True)
    country: Mapped[str] = mapped_column(String(2), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    orders: Mapped[int]
    revenue: Mapped[Money]


class ProductAnalytics(ShopBase):
    """How a product did on a day; of several revisions the last one counts."""

    __service__ = "analytics"
    __tablename__ = "product_analytics"

    # First what a product's figures are found by; a day's are few among all.
    sku: Mapped[str] = mapped_column(String(20), primary_key=True)
    day: Mapped[datetime.date] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    views: Mapped[int]
    units: Mapped[int]
    revenue: Mapped[Money]
    product: Federated[Product] = federated_relationship(local_key="sku", remote_key="sku", back_populates="figures")
