"""What was paid: MySQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from examples.ecommerce.models.base import Moment, Money, ShopBase, now
from fedorm import Federated, federated_relationship

if TYPE_CHECKING:
    from examples.ecommerce.models.orders import Order
    from examples.ecommerce.models.users import User

PaymentState = Literal["pending", "captured", "declined", "refunded"]
"""``pending`` may have been charged at the bank, ``declined`` was not, and ``refunded`` was given back."""


class Payment(ShopBase):
    """An attempt to pay for an order; declined ones stay."""

    __service__ = "payments"
    __tablename__ = "payments"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(index=True)
    user_id: Mapped[int] = mapped_column(index=True)
    amount: Mapped[Money]
    state: Mapped[PaymentState]
    reference: Mapped[str | None] = mapped_column(String(64), unique=True)
    created_at: Mapped[Moment] = mapped_column(default=now)

    # A payment without its order is an error in the books, not a None.
    order: Federated[Order] = federated_relationship(local_key="order_id", back_populates="payments", missing="raise")
    user: Federated[User] = federated_relationship(local_key="user_id", back_populates="payments")
