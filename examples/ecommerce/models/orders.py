"""What was bought: PostgreSQL, in a database of its own."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Literal

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from examples.ecommerce.models.base import Moment, Money, ShopBase
from fedorm import Federated, federated_relationship

if TYPE_CHECKING:
    from examples.ecommerce.models.inventory import Product, Stock
    from examples.ecommerce.models.payments import Payment
    from examples.ecommerce.models.users import User

Status = Literal["placed", "pending", "paid", "shipped", "cancelled"]
"""``placed`` waits for the customer to pay; ``pending`` is being checked out, and becomes ``paid`` or ``cancelled``."""

PAID: tuple[Status, ...] = ("paid", "shipped")
"""What has brought in money."""


class Order(ShopBase):
    """A basket that somebody has bought."""

    __service__ = "orders"
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(index=True)
    status: Mapped[Status]
    total: Mapped[Money]
    placed_at: Mapped[Moment] = mapped_column(index=True)

    # In the same database: plain SQLAlchemy.
    items: Mapped[list[OrderItem]] = relationship(
        back_populates="order", order_by="OrderItem.line", cascade="all, delete-orphan"
    )
    history: Mapped[list[OrderStatus]] = relationship(
        back_populates="order", order_by="OrderStatus.id", cascade="all, delete-orphan"
    )

    # In other databases.
    user: Federated[User] = federated_relationship(local_key="user_id", back_populates="orders")
    payments: Federated[list[Payment]] = federated_relationship(
        remote_key="order_id", order_by="id", back_populates="order"
    )
    # Many-to-many: orders here, products in MongoDB, connected by this service's own table.
    products: Federated[list[Product]] = federated_relationship(
        secondary=lambda: OrderItem,
        secondary_local="order_id",
        secondary_remote="sku",
        remote_key="sku",
        order_by="sku",
    )

    def becomes(self, status: Status, at: datetime.datetime) -> None:
        """Change the status, and keep when that was."""
        self.status = status
        self.history.append(OrderStatus(status=status, at=at))


class OrderItem(ShopBase):
    """A line of an order, at the price of that day."""

    __service__ = "orders"
    __tablename__ = "order_items"

    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sku: Mapped[str] = mapped_column(String(20), index=True)
    warehouse: Mapped[str] = mapped_column(String(20))
    quantity: Mapped[int]
    unit_price: Mapped[Money]

    order: Mapped[Order] = relationship(back_populates="items")
    product: Federated[Product] = federated_relationship(local_key="sku", remote_key="sku")
    # A key of two fields: the shelf that the goods were taken from.
    stock: Federated[Stock] = federated_relationship(local_key=("sku", "warehouse"), remote_key=("sku", "warehouse"))


class OrderStatus(ShopBase):
    """What became of an order, and when."""

    __service__ = "orders"
    __tablename__ = "order_status"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"), index=True)
    status: Mapped[Status]
    at: Mapped[Moment]
    order: Mapped[Order] = relationship(back_populates="history")
