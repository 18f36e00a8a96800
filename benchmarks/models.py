"""The same tables three ways: for fedorm, for one plain database, and for plain SQLAlchemy over two binds."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import DeclarativeBase, Mapped, foreign, mapped_column, relationship

from fedorm import Federated, FederatedBase, FederatedDocument, federated_relationship


class User(FederatedBase):
    __service__ = "users"
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(100))
    country: Mapped[str] = mapped_column(String(2))
    orders: Federated[list[Order]] = federated_relationship(remote_key="user_id")


class Order(FederatedBase):
    __service__ = "orders"
    __tablename__ = "orders"
    __table_args__ = (Index("ix_orders_user_id", "user_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int]
    status: Mapped[str] = mapped_column(String(20))
    total: Mapped[int]
    user: Federated[User] = federated_relationship(local_key="user_id")
    items: Federated[list[Item]] = federated_relationship(remote_key="order_id")


class Item(FederatedBase):
    __service__ = "items"
    __tablename__ = "items"
    __table_args__ = (Index("ix_items_order_id", "order_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int]
    product_id: Mapped[int]
    product: Federated[Product] = federated_relationship(local_key="product_id")


class Product(FederatedBase):
    __service__ = "products"
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    supplier_id: Mapped[int]
    supplier: Federated[Supplier] = federated_relationship(local_key="supplier_id")


class Supplier(FederatedDocument):
    __service__ = "suppliers"
    id: int  # type: ignore[assignment]
    name: str

    class Settings:
        name = "suppliers"


class Event(FederatedBase):
    __service__ = "analytics"
    __tablename__ = "events"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]


class OneBase(DeclarativeBase):
    """Plain SQLAlchemy with everything in one database."""


class OneUser(OneBase):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(100))
    country: Mapped[str] = mapped_column(String(2))
    orders: Mapped[list[OneOrder]] = relationship(back_populates="user")


class OneOrder(OneBase):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    status: Mapped[str] = mapped_column(String(20))
    total: Mapped[int]
    user: Mapped[OneUser] = relationship(back_populates="orders")


class TwoBase(DeclarativeBase):
    """Plain SQLAlchemy with a ``relationship()`` between two binds."""


class TwoUser(TwoBase):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(100))
    country: Mapped[str] = mapped_column(String(2))
    orders: Mapped[list[TwoOrder]] = relationship(
        primaryjoin=lambda: TwoUser.id == foreign(TwoOrder.user_id), back_populates="user"
    )


class TwoOrder(TwoBase):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int]
    status: Mapped[str] = mapped_column(String(20))
    total: Mapped[int]
    user: Mapped[TwoUser] = relationship(
        primaryjoin=lambda: TwoUser.id == foreign(TwoOrder.user_id), back_populates="orders"
    )
