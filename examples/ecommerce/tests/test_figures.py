"""A day's figures in ClickHouse, out of orders, users and events, and the report made of them."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest
from beanie import PydanticObjectId
from sqlalchemy import insert, select

from examples.ecommerce.figures import CountryFigures, close_day, report
from examples.ecommerce.models import Order, OrderAnalytics, OrderItem, Product, ProductAnalytics, User, UserEvent
from fedorm import AsyncFederatedSession, Federation, federated_load

MONDAY = datetime.date(2026, 6, 1)
TUESDAY = MONDAY + datetime.timedelta(days=1)


def at(day: datetime.date, hour: int, minute: int = 0, second: int = 0) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time(hour, minute, second), datetime.UTC)


def order(number: int, user: int, placed_at: datetime.datetime, status: str, **quantities: int) -> Order:
    """An order of goods at ten each."""
    items = [
        OrderItem(line=line, sku=sku, warehouse="leipzig", quantity=quantity, unit_price=Decimal(10))
        for line, (sku, quantity) in enumerate(quantities.items(), start=1)
    ]
    total = Decimal(10 * sum(quantities.values()))
    return Order(id=number, user_id=user, placed_at=placed_at, status=status, total=total, items=items)


@pytest.fixture
async def days(fed: Federation) -> None:
    """Three users, orders around two midnights, three of them not paid, and some views."""
    countries = ("DE", "FR", "DE")
    views = [("a", at(MONDAY, 0)), ("a", at(MONDAY, 23, 59, 59)), ("c", at(MONDAY, 12)), ("a", at(TUESDAY, 0))]
    async with fed.session() as session:
        session.add_all(
            User(id=number, email=str(number), name="x", country=country, registered_at=at(MONDAY, 0))
            for number, country in enumerate(countries, start=1)
        )
        session.add_all(
            [
                order(1, 1, at(MONDAY, 0), "paid", a=1, b=2),
                order(2, 2, at(MONDAY, 12), "shipped", a=5),
                order(3, 3, at(MONDAY, 23, 59, 59), "paid", b=1),
                order(4, 3, at(MONDAY, 13), "placed", c=7),
                order(5, 2, at(TUESDAY, 0), "paid", b=1),
                order(6, 1, at(MONDAY, 14), "pending", c=8),
                order(7, 2, at(MONDAY, 15), "cancelled", c=9),
            ]
        )
        supplier = PydanticObjectId("0" * 24)
        session.add_all(
            Product(sku=sku, name=sku.upper(), category="x", price=Decimal(10), supplier_id=supplier) for sku in "abc"
        )
        rows = [
            {"user_id": 1, "at": when, "id": str(number), "kind": "view", "sku": sku}
            for number, (sku, when) in enumerate(views)
        ]
        await session.execute(insert(UserEvent), rows)
        await session.commit()


async def test_a_days_figures(session: AsyncFederatedSession, days: None) -> None:
    """From midnight to midnight: what was paid for by country, what was sold and looked at by product."""
    assert await close_day(session, MONDAY) == 1
    countries = (await session.scalars(select(OrderAnalytics).order_by(OrderAnalytics.country))).all()
    assert [(one.day, one.country, one.revision, one.orders, one.revenue) for one in countries] == [
        (MONDAY, "DE", 1, 2, Decimal(40)),
        (MONDAY, "FR", 1, 1, Decimal(50)),
    ]
    products = (await session.scalars(select(ProductAnalytics).order_by(ProductAnalytics.sku))).all()
    assert [(one.day, one.sku, one.revision, one.views, one.units, one.revenue) for one in products] == [
        (MONDAY, "a", 1, 2, 6, Decimal(60)),
        (MONDAY, "b", 1, 0, 3, Decimal(30)),
        (MONDAY, "c", 1, 1, 0, Decimal(0)),
    ]


async def test_a_product_knows_its_figures(session: AsyncFederatedSession, days: None) -> None:
    """From a document to rows of ClickHouse, by day, and back."""
    for day in (TUESDAY, MONDAY):
        await close_day(session, day)
    product = await session.find(Product, Product.sku == "b").options(federated_load(Product.figures)).first_or_none()
    assert [(one.day, one.units, one.product) for one in product.figures] == [
        (MONDAY, 3, product),
        (TUESDAY, 1, product),
    ]


async def test_a_report_takes_the_last_revision(session: AsyncFederatedSession, fed: Federation, days: None) -> None:
    """An order that is paid late counts once its day is closed again, and nothing counts twice."""
    for day in (MONDAY, TUESDAY):
        await close_day(session, day)
    async with fed.session() as late:
        (await late.get_one(Order, 4)).status = "paid"
        await late.commit()
    session.expire_all()
    assert await close_day(session, MONDAY) == 2

    found = await report(session, MONDAY, TUESDAY)
    assert found.countries == [CountryFigures("DE", 3, Decimal(110)), CountryFigures("FR", 2, Decimal(60))]
    assert [(one.product.name, one.views, one.units, one.revenue) for one in found.products] == [
        ("C", 1, 7, Decimal(70)),
        ("A", 3, 6, Decimal(60)),
        ("B", 0, 4, Decimal(40)),
    ]
    assert [one.product.name for one in (await report(session, MONDAY, TUESDAY, top=1)).products] == ["C"]


async def test_a_report_keeps_to_its_days(session: AsyncFederatedSession, days: None) -> None:
    """One day alone, and days that nobody has closed."""
    for day in (MONDAY, TUESDAY):
        await close_day(session, day)
    tuesday = await report(session, TUESDAY, TUESDAY)
    assert tuesday.countries == [CountryFigures("FR", 1, Decimal(10))]
    assert [(one.product.sku, one.views, one.units) for one in tuesday.products] == [("b", 0, 1), ("a", 1, 0)]
    nothing = await report(session, MONDAY - datetime.timedelta(days=9), MONDAY - datetime.timedelta(days=1))
    assert (nothing.countries, nothing.products) == ([], [])
