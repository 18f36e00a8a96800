"""What the services hold: each model says in ``__service__`` whose table it is."""

from __future__ import annotations

from decimal import Decimal

from fedorm import Federated, FederatedBase, federated_relationship
from sqlalchemy import Numeric, String
from sqlalchemy.orm import Mapped, mapped_column


class User(FederatedBase):
    """Somebody who orders."""

    __service__ = "users"
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(200), unique=True)
    orders: Federated[list[Order]] = federated_relationship(remote_key="user_id", order_by="id", back_populates="user")


class Product(FederatedBase):
    """Something that can be ordered."""

    __service__ = "inventory"
    __tablename__ = "products"

    sku: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    price: Mapped[Decimal] = mapped_column(Numeric(12, 2))


class Order(FederatedBase):
    """So much of a product for a user, both of which are in other databases."""

    __service__ = "orders"
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(index=True)
    sku: Mapped[str] = mapped_column(String(40), index=True)
    quantity: Mapped[int]
    user: Federated[User] = federated_relationship(local_key="user_id", back_populates="orders")
    product: Federated[Product] = federated_relationship(local_key="sku")
