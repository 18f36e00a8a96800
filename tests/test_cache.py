"""Results are given again until they are too old, or a commit has changed what they were read from."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import event, select, text, update

from fedorm import Federation
from tests.models import Order, Product, User

CACHED = {"cache_ttl": 300}


@pytest.fixture
async def shop(fed: Federation) -> Federation:
    """Two users, two orders, two products."""
    async with fed.session() as session:
        session.add_all([User(id=1, email="ada", country="DE"), User(id=2, email="bob", country="FR")])
        session.add_all([Order(id=1, user_id=1, total=Decimal("1.50")), Order(id=2, user_id=2, total=Decimal(2))])
        session.add_all([Product(sku="a", price=1.5), Product(sku="b", price=2.5)])
        await session.commit()
    return fed


@contextmanager
def sent(fed: Federation, *services: str) -> Iterator[list[int]]:
    """Count what is sent to services inside the block."""
    before = {name: fed.stats().services[name].statements for name in services}
    counts: list[int] = []
    yield counts
    counts.extend(fed.stats().services[name].statements - before[name] for name in services)


async def ask(fed: Federation, statement: Any, parameters: Any = None) -> list[tuple[Any, ...]]:
    async with fed.session() as session:
        return [tuple(row) for row in await session.execute(statement, parameters, execution_options=CACHED)]


async def test_nothing_is_kept_unless_it_is_asked_for(shop: Federation) -> None:
    """Each plain statement is sent, and the cache does not hear of it."""
    with sent(shop, "users") as counts:
        for _ in range(2):
            async with shop.session() as session:
                await session.scalars(select(User.email))
    assert counts == [2]
    assert (shop.stats().cache.hits, shop.stats().cache.misses, shop.stats().cache.entries) == (0, 0, 0)


async def test_one_service(shop: Federation) -> None:
    """The option of a call, or of a statement: the rows come again, and nothing is sent."""
    statement = select(User.id, User.email).order_by(User.id)
    with sent(shop, "users") as counts:
        first = await ask(shop, statement)
        again = await ask(shop, statement)
        async with shop.session() as session:
            own = (await session.execute(statement.execution_options(cache_ttl=300))).mappings().all()
    assert first == again == [(1, "ada"), (2, "bob")]
    assert [dict(row) for row in own] == [{"id": 1, "email": "ada"}, {"id": 2, "email": "bob"}]
    assert counts == [1]
    assert (shop.stats().cache.hits, shop.stats().cache.misses, shop.stats().cache.hit_rate) == (2, 1, 2 / 3)


async def test_several_services(shop: Federation) -> None:
    """Rows joined from tables and documents come again without any of them being asked."""
    statement = (
        select(User.email, Order.total, Product.c.price)
        .join(Order, Order.user_id == User.id)
        .join(Product, Product.c.sku == "a")
        .order_by(Order.id)
    )
    with sent(shop, "users", "orders", "inventory") as first:
        expected = await ask(shop, statement)
    assert expected == [("ada", Decimal("1.50"), 1.5), ("bob", Decimal("2.00"), 1.5)]
    assert all(first)
    with sent(shop, "users", "orders", "inventory") as again:
        assert await ask(shop, statement) == expected
    assert again == [0, 0, 0]
