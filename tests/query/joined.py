"""Rows and documents that federated relationships join."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import (
    AsyncFederatedSession,
    Federated,
    FederatedBase,
    FederatedDocument,
    Federation,
    federated_relationship,
)
from tests.models import Card, Employee, Event, Item, Order, Parcel, Product, Review, Supplier, Tag, User, user_tags
from tests.models import wishes as wish_rows


@pytest.fixture
async def db(fed: Federation) -> Any:
    async with fed.session() as session:
        session.add_all([User(id=n, email=f"u{n}", country="FR" if n == 2 else "DE") for n in (1, 2, 3)])
        session.add_all(
            [
                Order(id=1, user_id=1, total=Decimal("10.50"), items=[Item(id=1, sku="a"), Item(id=2, sku="b")]),
                Order(id=2, user_id=1, total=Decimal("0.10"), items=[Item(id=3, sku="a")]),
                Order(id=3, user_id=2, total=Decimal("199.99"), items=[Item(id=4, sku="gone")]),
                Order(id=4, user_id=None, total=Decimal(7)),
                Order(id=5, user_id=404, total=Decimal(800)),
            ]
        )
        supplier = Supplier(name="acme")
        session.add_all([supplier, Supplier(name="idle")])
        session.add_all([Product(sku="a", price=1.5, supplier_id=supplier.id), Product(sku="b", price=2.5)])
        session.add_all([Review(user_id=1, stars=5), Review(user_id=2, stars=1), Card(id=1, user_id=2)])
        session.add_all([Tag(id=1, name="new"), Tag(id=2, name="loyal")])
        session.add_all([Parcel(user_id=1, order_id=1, weight=3), Parcel(user_id=2, order_id=1, weight=9)])
        session.add_all([Employee(id=1), Employee(id=2, boss_id=1), Employee(id=3, boss_id=2), Employee(id=4)])
        session.add_all([Event(id=1, user_id=1, kind="in"), Event(id=2, user_id=3, kind="out")])
        await session.flush()
        await session.execute(user_tags.insert(), [{"user_id": u, "tag_id": t} for u, t in ((1, 1), (1, 2), (3, 2))])
        await session.execute(wish_rows.insert(), [{"user_id": u, "sku": s} for u, s in ((2, "a"), (2, "b"), (3, "a"))])
        await session.commit()
        yield session


async def rows(session: AsyncFederatedSession, statement: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await session.execute(statement)]


async def ids(session: AsyncFederatedSession, statement: Any) -> list[Any]:
    """The primary keys of entities, in order."""
    return sorted([one.id for one in (await session.scalars(statement)).unique()])


class Good(FederatedDocument):
    __service__ = "inventory"
    code: int
    price: float

    class Settings:
        name = "goods"


class Shelf(FederatedBase):
    """Keys that meet their text: numbers here, texts there."""

    __service__ = "users"
    __tablename__ = "shelves"
    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]
    good_code: Mapped[str | None]
    notes: Federated[list[Note]] = federated_relationship(remote_key="shelf")
    good: Federated[Good] = federated_relationship(local_key="good_code", remote_key="code")
    dear: Federated[list[Good]] = federated_relationship(
        local_key="good_code", remote_key="code", where=lambda good: good.price > 5
    )
    cheap: Federated[list[Good]] = federated_relationship(
        local_key="good_code", remote_key="code", where=lambda good: {"price": {"$lt": 5}}
    )


class Note(FederatedBase):
    __service__ = "orders"
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf: Mapped[str]
    of: Federated[Shelf] = federated_relationship(local_key="shelf")
