"""Who buys: PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from examples.ecommerce import models
from examples.ecommerce.models.base import Moment, ShopBase, now
from fedorm import Federated, federated_relationship

if TYPE_CHECKING:
    from examples.ecommerce.models.analytics import UserEvent
    from examples.ecommerce.models.carts import Cart
    from examples.ecommerce.models.inventory import Product
    from examples.ecommerce.models.orders import Order
    from examples.ecommerce.models.payments import Payment


class User(ShopBase):
    """A customer."""

    __service__ = "users"
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    country: Mapped[str] = mapped_column(String(2), index=True)
    registered_at: Mapped[Moment] = mapped_column(default=now)
    invited_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), index=True)

    # In the same database: plain SQLAlchemy.
    profile: Mapped[UserProfile | None] = relationship(back_populates="user")
    preferences: Mapped[UserPreferences | None] = relationship(back_populates="user")
    invited_by: Mapped[User | None] = relationship(back_populates="invited", remote_side=[id])
    invited: Mapped[list[User]] = relationship(back_populates="invited_by", order_by="User.id")

    # In other databases.
    orders: Federated[list[Order]] = federated_relationship(
        remote_key="user_id", order_by=("-placed_at", "-id"), back_populates="user"
    )
    unpaid_orders: Federated[list[Order]] = federated_relationship(
        remote_key="user_id", where=lambda order: order.status == "placed", order_by="id"
    )
    payments: Federated[list[Payment]] = federated_relationship(
        remote_key="user_id", order_by="id", back_populates="user"
    )
    cart: Federated[Cart | None] = federated_relationship(local_key="id")
    events: Federated[list[UserEvent]] = federated_relationship(remote_key="user_id", order_by=("at", "id"))
    # Many-to-many: users in PostgreSQL, products in MongoDB, and what connects them in ClickHouse.
    seen_products: Federated[list[Product]] = federated_relationship(
        secondary=lambda: models.UserEvent,
        secondary_local="user_id",
        secondary_remote="sku",
        remote_key="sku",
        order_by="name",
    )


class UserProfile(ShopBase):
    """What a customer tells about themselves; one each, under the customer's own key."""

    __service__ = "users"
    __tablename__ = "user_profiles"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    phone: Mapped[str | None] = mapped_column(String(30))
    street: Mapped[str] = mapped_column(String(200))
    city: Mapped[str] = mapped_column(String(100))
    postcode: Mapped[str] = mapped_column(String(12))
    user: Mapped[User] = relationship(back_populates="profile")


class UserPreferences(ShopBase):
    """How a customer wants to be served."""

    __service__ = "users"
    __tablename__ = "user_preferences"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    language: Mapped[str] = mapped_column(String(5), default="en")
    newsletter: Mapped[bool] = mapped_column(default=False)
    user: Mapped[User] = relationship(back_populates="preferences")
