"""Fill an empty shop with data: the same numbers give the same shop, on every machine."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from random import Random
from typing import Any

from sqlalchemy import insert

from examples.ecommerce import invented
from examples.ecommerce.models import (
    Order,
    OrderItem,
    OrderStatus,
    Payment,
    User,
    UserEvent,
    UserPreferences,
    UserProfile,
)
from fedorm import AsyncFederatedSession, Federation


@dataclass(frozen=True)
class Seeded:
    """How much of each there is now."""

    users: int
    products: int
    orders: int
    payments: int
    events: int


async def seed(
    fed: Federation,
    customers: int = 200,
    *,
    days: int = 30,
    until: datetime.date = datetime.date(2026, 6, 30),
    number: int = 1,
) -> Seeded:
    """Load ``customers``, about three orders each in the ``days`` that end with ``until``, and what goes with them.

    Shops of another ``number`` are of the same kind, with other people in them. For an empty shop: what is loaded
    before something fails stays.
    """
    random = Random(number)
    async with fed.session() as session:
        # Documents in blocks of the unit of work, rows by bulk inserts: no object is made for a row.
        suppliers = invented.suppliers(random, max(3, customers // 40))
        products = invented.products(random, max(12, customers // 4), suppliers)
        session.add_all([*suppliers, *products, *invented.stock(random, products)])
        # On their own: MongoDB gives up a transaction that is open for a minute.
        await session.commit()

        # The keys are the database's to give, so that those of later customers follow on.
        first = invented.users(random, 0, (customers + 1) // 2, until, days)
        inviting = await _insert(session, User, first)
        second = invented.users(random, len(first), customers - len(first), until, days, invited_by=inviting)
        users = inviting + await _insert(session, User, second)
        countries = [row["country"] for row in first + second]
        people = list(zip(users, countries, strict=True))
        await _insert_all(session, UserProfile, [invented.profile(random, *one) for one in people])
        await _insert_all(session, UserPreferences, [invented.preferences(random, *one) for one in people])

        baskets = [basket for user in users for basket in invented.baskets(random, user, products, until, days)]
        baskets.sort(key=lambda basket: basket.placed_at)
        orders = await _insert(session, Order, [basket.order for basket in baskets])
        numbered = list(zip(orders, baskets, strict=True))
        payments = [row for order, basket in numbered for row in basket.payments(random, order)]
        events = [row for order, basket in numbered for row in basket.events(random, order)]
        await _insert_all(session, OrderItem, [row for order, basket in numbered for row in basket.items(order)])
        await _insert_all(session, OrderStatus, [row for order, basket in numbered for row in basket.history(order)])
        await _insert_all(session, Payment, payments)
        await session.commit()
        # Last: what ClickHouse has been sent it keeps, whatever becomes of the other services.
        await _insert_all(session, UserEvent, events)
    return Seeded(len(users), len(products), len(orders), len(payments), len(events))


# Without this a row that leaves other columns empty than the row before it begins a new block.
ONE_BLOCK = {"render_nulls": True}


async def _insert(session: AsyncFederatedSession, model: type[Any], rows: list[dict[str, Any]]) -> list[int]:
    """Insert rows and return the keys they got, in their order."""
    if not rows:
        return []
    statement = insert(model).returning(model.id, sort_by_parameter_order=True)
    return list((await session.scalars(statement, rows, execution_options=ONE_BLOCK)).all())


async def _insert_all(session: AsyncFederatedSession, model: type[Any], rows: list[dict[str, Any]]) -> None:
    if rows:
        await session.execute(insert(model), rows, execution_options=ONE_BLOCK)
