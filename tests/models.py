"""The models the tests share: people and their orders, products as documents, events in a column store."""

from __future__ import annotations

import datetime
from decimal import Decimal
from uuid import UUID, uuid4

from beanie import PydanticObjectId
from sqlalchemy import Column, ForeignKey, Integer, String, Table
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fedorm import Federated, FederatedBase, FederatedDocument, federated_relationship


class User(FederatedBase):
    __service__ = "users"
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    country: Mapped[str] = mapped_column(default="DE")
    profile: Mapped[Profile | None] = relationship(back_populates="user")
    orders: Federated[list[Order]] = federated_relationship(remote_key="user_id", order_by="id", back_populates="user")
    large_orders: Federated[list[Order]] = federated_relationship(
        remote_key="user_id", order_by="-total", where=lambda order: order.total > 100
    )
    tags: Federated[list[Tag]] = federated_relationship(
        secondary=lambda: user_tags, secondary_local="user_id", secondary_remote="tag_id", order_by="name"
    )
    wishes: Federated[list[Product]] = federated_relationship(
        secondary=lambda: wishes,
        secondary_local="user_id",
        secondary_remote="sku",
        remote_key="sku",
        order_by="-price",
    )
    events: Federated[list[Event]] = federated_relationship(remote_key="user_id", order_by="id")
    reviews: Federated[list[Review]] = federated_relationship(remote_key="user_id", order_by="-stars")
    card: Federated[Card] = federated_relationship(remote_key="user_id", back_populates="user")


class Profile(FederatedBase):
    __service__ = "users"
    __tablename__ = "profiles"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    bio: Mapped[str]
    user: Mapped[User] = relationship(back_populates="profile")


class Card(FederatedBase):
    """One-to-one from users, in another service."""

    __service__ = "orders"
    __tablename__ = "cards"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int | None]
    user: Federated[User] = federated_relationship(local_key="user_id", back_populates="card")


class Order(FederatedBase):
    __service__ = "orders"
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int | None]
    total: Mapped[Decimal] = mapped_column(default=Decimal(0))
    items: Mapped[list[Item]] = relationship(back_populates="order", order_by="Item.id")
    user: Federated[User] = federated_relationship(local_key="user_id", back_populates="orders")
    owner: Federated[User] = federated_relationship(local_key="user_id", missing="raise")
    parcel: Federated[Parcel] = federated_relationship(local_key=("user_id", "id"), remote_key=("user_id", "order_id"))


class Item(FederatedBase):
    __service__ = "orders"
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    sku: Mapped[str]
    order: Mapped[Order] = relationship(back_populates="items")
    product: Federated[Product] = federated_relationship(local_key="sku", remote_key="sku")


class Tag(FederatedBase):
    """Many-to-many with users; the association table lives with the orders."""

    __service__ = "payments"
    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    users: Federated[list[User]] = federated_relationship(
        secondary=lambda: user_tags, secondary_local="tag_id", secondary_remote="user_id", order_by="id"
    )


user_tags = Table(
    "user_tags",
    FederatedBase.metadata_of("orders"),
    Column("user_id", Integer, primary_key=True),
    Column("tag_id", Integer, primary_key=True),
)


wishes = Table(
    "wishes",
    FederatedBase.metadata_of("users"),
    Column("user_id", Integer, primary_key=True),
    Column("sku", String(50), primary_key=True),
)


class Parcel(FederatedBase):
    """A key of two columns."""

    __service__ = "payments"
    __tablename__ = "parcels"
    user_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    order_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    weight: Mapped[int]


class Payment(FederatedBase):
    __service__ = "payments"
    __tablename__ = "payments"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    order_id: Mapped[int]
    amount: Mapped[Decimal]
    order: Federated[Order] = federated_relationship(local_key="order_id")


class Employee(FederatedBase):
    """A relationship to itself."""

    __service__ = "users"
    __tablename__ = "employees"
    id: Mapped[int] = mapped_column(primary_key=True)
    boss_id: Mapped[int | None]
    boss: Federated[Employee] = federated_relationship(local_key="boss_id", back_populates="reports")
    reports: Federated[list[Employee]] = federated_relationship(
        remote_key="boss_id", order_by="id", back_populates="boss"
    )


class Product(FederatedDocument):
    __service__ = "inventory"
    sku: str
    price: float
    labels: list[str] = []
    supplier_id: PydanticObjectId | None = None
    supplier: Federated[Supplier] = federated_relationship(local_key="supplier_id")
    items: Federated[list[Item]] = federated_relationship(local_key="sku", remote_key="sku", order_by="id")
    wanted_by: Federated[list[User]] = federated_relationship(
        secondary=lambda: wishes, secondary_local="sku", secondary_remote="user_id", local_key="sku", order_by="id"
    )

    class Settings:
        name = "products"


class Supplier(FederatedDocument):
    """Documents of a second Mongo service."""

    __service__ = "suppliers"
    name: str
    products: Federated[list[Product]] = federated_relationship(remote_key="supplier_id", order_by="sku")

    class Settings:
        name = "suppliers"


class Review(FederatedDocument):
    __service__ = "inventory"
    user_id: int
    stars: int
    user: Federated[User] = federated_relationship(local_key="user_id")

    class Settings:
        name = "reviews"


class Event(FederatedBase):
    __service__ = "analytics"
    __tablename__ = "events"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int]
    kind: Mapped[str]
    at: Mapped[datetime.datetime | None]
    user: Federated[User] = federated_relationship(local_key="user_id")


__all__ = [name for name in dir() if not name.startswith("_")]
