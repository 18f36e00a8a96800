"""The plan of a statement can be read: who is asked what, and why; and how it went."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from sqlalchemy import func, insert, select, text

from fedorm import AsyncFederatedSession, Federation
from tests.models import Item, Order, Payment, Product, User


@pytest.fixture
async def filled(fed: Federation) -> Federation:
    """Many orders of many users, so that a few keys are worth sending."""
    async with fed.session() as session:
        countries = ("DE", "FR", "US", "IT", "ES")
        await session.execute(
            insert(User), [{"id": n, "email": f"u{n}", "country": countries[n % 5]} for n in range(1, 2001)]
        )
        await session.execute(
            insert(Order), [{"id": n, "user_id": n % 2000 + 1, "total": Decimal(n % 10)} for n in range(1, 20_001)]
        )
        await session.execute(insert(Payment), [{"order_id": n, "amount": Decimal(1)} for n in range(1, 51)])
        session.add(Product(sku="a", price=1.0))
        await session.commit()
        for service in ("users", "orders"):
            await session.execute(text(f"ANALYZE {service}"), bind_arguments={"service": service})
        await session.commit()
    return fed


async def test_the_small_side_narrows_the_big_one(filled: Federation) -> None:
    """The keys of a few users travel to the orders; rows, bytes and milliseconds are there for analyze."""
    statement = (
        select(User.email, func.sum(Order.total))
        .join(Order, Order.user_id == User.id)
        .where(User.id.in_([1, 2, 3]))
        .group_by(User.email)
    )
    async with filled.session() as session:
        planned = str(await session.explain(statement))
        assert planned.startswith("finish in DuckDB\n")
        assert 'FROM "users" WHERE "id" IN' in planned
        assert re.search(r"lookup: only keys of s\d.id \(users\)", planned)
        assert " ms" not in planned
        measured = str(await session.explain(statement, analyze=True))
        assert re.search(
            r"(read|ask) orders \(postgresql\)  \[~[\d,]+ rows; \d+ rows, [\d,]+ bytes, [\d.]+ ms\]", measured
        )
        assert sorted(await session.execute(statement)) == [
            (f"u{n}", sum(Decimal(m % 10) for m in range(1, 20_001) if m % 2000 + 1 == n)) for n in (1, 2, 3)
        ]


async def test_many_keys_travel_as_a_range_or_not_at_all(filled: Federation) -> None:
    """Both sides whole: the answer is the same however the keys travel."""
    statement = select(func.count()).select_from(User).join(Order, Order.user_id == User.id)
    async with filled.session() as session:
        assert await session.scalar(statement) == 20_000
        assert await session.scalar(statement.where(User.country == "DE")) == 4_000


async def test_one_services_text_is_sent_whole(filled: Federation) -> None:
    """A query whose tables are all in one PostgreSQL database needs no finish."""
    statement = text("select count(*) from orders.orders o join orders.items i on i.order_id = o.id where o.total > :t")
    async with filled.session() as session:
        explained = str(await session.explain(statement, {"t": 1}))
        assert "DuckDB" not in explained
        assert explained.splitlines()[1].strip() == (
            'SELECT COUNT(*) AS "_col_0" FROM "orders" AS "o" JOIN "items" AS "i" ON "i"."order_id" = "o"."id" '
            'WHERE "o"."total" > %(t)s'
        )
        assert "because: all its tables are there" in explained
        measured = (await session.explain(statement, {"t": 1}, analyze=True)).root.measured
        assert measured is not None
        assert measured.rows == 1
        assert (await session.execute(statement, {"t": 1})).scalar_one() == 0


async def test_co_located_joins_are_one_piece(filled: Federation) -> None:
    """Orders and items are joined in their own database, users elsewhere."""
    statement = (
        select(User.email, Item.sku, Product.c.price)
        .join(Order, Order.user_id == User.id)
        .join(Item, Item.order_id == Order.id)
        .join(Product, Product.c.sku == Item.sku)
    )
    async with filled.session() as session:
        session.add(Item(id=1, order_id=7, sku="a"))
        explained = await session.explain(statement)
        assert "because: its tables are joined where they are" in str(explained)
        assert 'products.find({}, {"price": 1, "sku": 1, "_id": 0})' in str(explained)
        drawn = explained.to_mermaid().splitlines()
        assert drawn[0] == "flowchart BT"
        assert sum("-->" in line for line in drawn) == 3
        assert [tuple(row) for row in await session.execute(statement)] == [("u8", "a", 1.0)]


async def test_a_plan_is_made_once_for_a_shape(filled: Federation, session: AsyncFederatedSession) -> None:
    """Other values and longer lists have the plan of the first."""
    queries = session.sync_session.queries
    assert queries is not None
    for wanted in ([1], [2, 3], [4, 5, 6]):
        await session.execute(
            select(User.email, Order.id).join(Order, Order.user_id == User.id).where(User.id.in_(wanted))
        )
    assert queries.planned == 1
