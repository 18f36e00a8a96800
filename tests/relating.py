"""Users, orders and what they have to do with in other services, and the statements that load them."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from beanie import PydanticObjectId
from sqlalchemy import Engine, event, insert, select

from fedorm import AsyncFederatedSession, Federation
from tests.models import (
    Card,
    Employee,
    Event,
    Item,
    Order,
    Parcel,
    Payment,
    Product,
    Profile,
    Review,
    Supplier,
    Tag,
    User,
    user_tags,
    wishes,
)


@pytest.fixture
async def data(fed: Federation) -> None:
    """Three users, four orders (one without a user), products of two suppliers, reviews, events, tags."""
    suppliers = [Supplier(id=PydanticObjectId(f"{n:024x}"), name=f"supplier {n}") for n in (1, 2)]
    async with fed.session() as session:
        session.add_all([User(id=n, email=f"u{n}@example.com", country="DE") for n in (1, 2, 3)])
        session.add(Profile(id=1, user_id=1, bio="first"))
        session.add_all(
            [
                Order(id=1, user_id=1, total=Decimal(50), items=[Item(id=1, sku="a"), Item(id=2, sku="b")]),
                Order(id=2, user_id=1, total=Decimal(150)),
                Order(id=3, user_id=2, total=Decimal(200), items=[Item(id=3, sku="a")]),
                Order(id=4, user_id=None, total=Decimal(1), items=[Item(id=4, sku="gone")]),
            ]
        )
        session.add_all([Card(id=1, user_id=2), Card(id=2, user_id=None)])
        session.add_all(suppliers)
        session.add_all(
            [
                Product(sku="a", price=1.0, supplier_id=suppliers[0].id),
                Product(sku="b", price=2.0, supplier_id=suppliers[1].id),
                Product(sku="c", price=3.0),
            ]
        )
        session.add_all([Review(user_id=1, stars=3), Review(user_id=1, stars=5), Review(user_id=9, stars=1)])
        session.add_all([Event(id=1, user_id=1, kind="click"), Event(id=2, user_id=1, kind="buy")])
        session.add_all([Tag(id=1, name="vip"), Tag(id=2, name="new"), Tag(id=3, name="big")])
        session.add(Parcel(user_id=1, order_id=1, weight=7))
        session.add(Payment(order_id=1, amount=Decimal("9.50")))
        session.add_all([Employee(id=1, boss_id=None), Employee(id=2, boss_id=1), Employee(id=3, boss_id=1)])
        await session.flush()
        pairs = [(1, 1), (1, 2), (2, 1), (2, 3)]
        pairs_of_wishes = [(1, "a"), (1, "b"), (1, "gone"), (2, "b"), (404, "c")]
        await session.execute(insert(wishes), [{"user_id": user, "sku": sku} for user, sku in pairs_of_wishes])
        await session.execute(insert(user_tags), [{"user_id": user, "tag_id": tag} for user, tag in pairs])
        await session.commit()


class Statements(list[tuple[str, str]]):
    """The statements that were sent, each with its database."""

    def of(self, table: str) -> int:
        return sum(f"FROM {table}" in text.replace("`", "").replace('"', "") for _, text in self)


@pytest.fixture
def statements(fed: Federation) -> Iterator[Statements]:
    sent = Statements()

    def note(connection: Any, cursor: Any, text: str, *rest: Any) -> None:
        sent.append((str(connection.engine.url.database), text))

    event.listen(Engine, "before_cursor_execute", note)
    yield sent
    event.remove(Engine, "before_cursor_execute", note)


async def all_of(session: AsyncFederatedSession, model: Any, *paths: Any) -> list[Any]:
    statement = select(model).order_by(*model.__table__.primary_key.columns)
    return list((await session.scalars(statement.options(*paths))).all())
