"""A product search: an index in Elasticsearch, kept in sync with MongoDB, whose hits lead to all services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

import pytest
from sqlalchemy import select

from examples.ecommerce.models import Order, OrderItem, Product, Stock, Supplier
from examples.ecommerce.models.base import now
from examples.ecommerce.models.search import ProductText
from examples.ecommerce.searching import find_products, to_search
from examples.ecommerce.tests.conftest import SUPPLIER, product
from examples.ecommerce.tests.people import customer
from fedorm import Federation


@pytest.fixture
async def fed(fresh_database: Callable[[str], str], no_stray_tasks: None) -> AsyncIterator[Federation]:
    """The shop's services that a search needs."""
    urls = {
        "users": fresh_database("postgresql"),
        "orders": fresh_database("postgresql"),
        "inventory": fresh_database("mongodb"),
        "search": fresh_database("elasticsearch"),
        "analytics": fresh_database("clickhouse"),
    }
    async with Federation(urls) as federation:
        await federation.create_all()
        federation.sync.add(to_search)
        yield federation


async def become(fed: Federation, names: list[str]) -> None:
    """Wait until the index has these products."""
    async with asyncio.timeout(30):
        while True:
            async with fed.session() as session:
                if sorted(one.name for one in await session.find(ProductText).to_list()) == names:
                    return
            await asyncio.sleep(0.05)


async def test_products_are_found_by_words(fed: Federation, goods: None) -> None:
    """Changed products are found as they are now; hits come ranked, with rows and documents of other services."""
    async with fed.sync.running():
        await become(fed, ["kettle", "lamp", "old lamp"])
        async with fed.session() as session:
            session.add(product("KIT-2", "tea kettles", "7.00", tags=["copper"]))
            old = await session.find(Product, Product.sku == "OFF-0").first_or_none()
            old.name, old.tags = "ceiling light", ["lamp"]
            await session.delete(await session.find(Product, Product.sku == "OFF-1").first_or_none())
            await session.commit()
        await become(fed, ["ceiling light", "kettle", "tea kettles"])
    async with fed.session(expire_on_commit=False) as session:
        user = await customer(session)
        order = Order(user=user, placed_at=now(), total=Decimal("20.50"))
        order.becomes("placed", order.placed_at)
        order.items.append(OrderItem(line=1, sku="KIT-1", warehouse="leipzig", quantity=1, unit_price=Decimal("20.50")))
        session.add(order)
        await session.commit()
        found = await find_products(session, "Kettle")
        assert ([one.sku for one in found.products], found.total, found.categories) == (
            ["KIT-1", "KIT-2"],
            2,
            {"home": 2},
        )
        best = found.products[0]
        assert [(stock.warehouse, stock.on_hand) for stock in best.stock] == [("leipzig", 1), ("rotterdam", 5)]
        assert (best.product.price, best.product.supplier.name) == (Decimal("20.50"), "Northwind")
        assert [(item.order_id, item.quantity) for item in await best.awaitable_attrs.sold] == [(order.id, 1)]
        assert [one.sku for one in (await find_products(session, "kettle", at_most=10)).products] == ["KIT-2"]
        assert [one.sku for one in (await find_products(session, "lamp")).products] == ["OFF-0"]
        assert (await find_products(session, "lamp", category="garden")).products == []


async def test_the_index_is_part_of_a_select(fed: Federation, goods: None) -> None:
    """One statement over Elasticsearch, MongoDB and their columns."""
    async with fed.sync.running():
        await become(fed, ["kettle", "lamp", "old lamp"])
    statement = (
        select(ProductText.c.sku, ProductText.c.price, Stock.c.on_hand, Supplier.c.name)
        .join(Stock, Stock.c.sku == ProductText.c.sku)
        .join(Product, Product.c.sku == ProductText.c.sku)
        .join(Supplier, Supplier.c.id == Product.c.supplier_id)
        .where(ProductText.c.price > 10)
        .order_by(ProductText.c.sku, Stock.c.warehouse)
    )
    async with fed.session() as session:
        rows = [tuple(row) for row in await session.execute(statement)]
    assert rows == [("KIT-1", Decimal("20.50"), 1, "Northwind"), ("KIT-1", Decimal("20.50"), 5, "Northwind")]
    assert str(SUPPLIER) == "0" * 24
