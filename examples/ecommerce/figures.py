"""The figures of each day, from orders and events into ClickHouse, and the report that is read from them."""

from __future__ import annotations

import datetime
from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from beanie.operators import In
from sqlalchemy import Select, func, select, tuple_

from examples.ecommerce.models import Order, OrderAnalytics, Product, ProductAnalytics, UserEvent
from examples.ecommerce.models.orders import PAID
from fedorm import AsyncFederatedSession, federated_load


@dataclass
class _Sales:
    number: int = 0
    revenue: Decimal = field(default_factory=lambda: Decimal(0))

    def count(self, number: int, revenue: Decimal) -> None:
        self.number += number
        self.revenue += revenue


async def close_day(session: AsyncFederatedSession, day: datetime.date) -> int:
    """Write a day's figures and return their revision.

    Rows in ClickHouse are never changed: a day that is closed again, as an order of it was paid late, gets rows of
    the next revision.
    """
    start = datetime.datetime.combine(day, datetime.time.min, datetime.UTC)
    end = start + datetime.timedelta(days=1)

    countries: dict[str, _Sales] = defaultdict(_Sales)
    products: dict[str, _Sales] = defaultdict(_Sales)
    paid = (
        select(Order)
        .where(Order.placed_at >= start, Order.placed_at < end, Order.status.in_(PAID))
        .options(federated_load(Order.user), federated_load(Order.items))
    )
    # Streamed: the users of 500 orders are looked up at a time, and a day may have any number of orders.
    async for order in await session.stream_scalars(paid, execution_options={"yield_per": 500}):
        countries[order.user.country].count(1, order.total)
        for item in order.items:
            products[item.sku].count(item.quantity, item.quantity * item.unit_price)

    looked_at = (
        select(UserEvent.sku, func.count().label("views"))
        .where(UserEvent.kind == "view", UserEvent.at >= start, UserEvent.at < end)
        .group_by(UserEvent.sku)
    )
    views = {row.sku: row.views async for row in await session.stream(looked_at)}
    before = await session.scalar(select(func.max(ProductAnalytics.revision)).where(ProductAnalytics.day == day))
    revision = (before or 0) + 1

    session.add_all(
        OrderAnalytics(day=day, country=country, revision=revision, orders=sales.number, revenue=sales.revenue)
        for country, sales in countries.items()
    )
    session.add_all(
        ProductAnalytics(
            day=day,
            sku=sku,
            revision=revision,
            views=views.get(sku, 0),
            units=products[sku].number,
            revenue=products[sku].revenue,
        )
        for sku in products.keys() | views.keys()
    )
    await session.commit()
    return revision


@dataclass(frozen=True)
class CountryFigures:
    """What a country has bought in the days of a report."""

    country: str
    orders: int
    revenue: Decimal


@dataclass(frozen=True)
class ProductFigures:
    """How a product did in the days of a report."""

    product: Product
    views: int
    units: int
    revenue: Decimal


@dataclass(frozen=True)
class Report:
    """The figures of some days, the best first."""

    countries: list[CountryFigures]
    products: list[ProductFigures]


async def report(session: AsyncFederatedSession, first: datetime.date, last: datetime.date, *, top: int = 10) -> Report:
    """Return revenue by country and the ``top`` products of the days from ``first`` to ``last``, both included."""
    revisions = _last_revisions(first, last)
    revenue = func.sum(OrderAnalytics.revenue).label("revenue")
    by_country = (
        select(OrderAnalytics.country, func.sum(OrderAnalytics.orders).label("orders"), revenue)
        .where(tuple_(OrderAnalytics.day, OrderAnalytics.revision).in_(revisions))
        .group_by(OrderAnalytics.country)
        .order_by(revenue.desc(), OrderAnalytics.country)
    )
    countries = [CountryFigures(*row) async for row in await session.stream(by_country)]

    revenue = func.sum(ProductAnalytics.revenue).label("revenue")
    views, units = func.sum(ProductAnalytics.views).label("views"), func.sum(ProductAnalytics.units).label("units")
    by_product = (
        select(ProductAnalytics.sku, views, units, revenue)
        .where(tuple_(ProductAnalytics.day, ProductAnalytics.revision).in_(revisions))
        .group_by(ProductAnalytics.sku)
        .order_by(revenue.desc(), ProductAnalytics.sku)
        .limit(top)
    )
    best = await (await session.stream(by_product)).all()
    found = await session.find(Product, In(Product.sku, [row.sku for row in best])).to_list()
    products = {product.sku: product for product in found}
    return Report(countries, [ProductFigures(products[row.sku], row.views, row.units, row.revenue) for row in best])


def _last_revisions(first: datetime.date, last: datetime.date) -> Select[Any]:
    """Select each day with its last revision; every revision has products, though not always orders."""
    return (
        select(ProductAnalytics.day, func.max(ProductAnalytics.revision))
        .where(ProductAnalytics.day.between(first, last))
        .group_by(ProductAnalytics.day)
    )
