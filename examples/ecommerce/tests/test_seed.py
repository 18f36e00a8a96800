"""The invented shop: of the size asked for, the same each time, and with no key that points nowhere."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, select

from examples.ecommerce import shop
from examples.ecommerce.models import (
    Order,
    OrderItem,
    Payment,
    Product,
    Stock,
    Supplier,
    User,
    UserEvent,
    UserPreferences,
    UserProfile,
)
from examples.ecommerce.seed import Seeded, seed
from fedorm import Federation, Orphans, federated_load

DAY = datetime.date(2026, 6, 30)


async def fingerprint(fed: Federation) -> dict[str, Any]:
    """All rows of some tables, and all documents of some collections."""
    async with fed.session() as session:
        users = await session.execute(select(User.id, User.email, User.invited_by_id).order_by(User.id))
        orders = await session.execute(select(Order.id, Order.user_id, Order.total, Order.placed_at).order_by(Order.id))
        events = await session.stream(select(UserEvent.id, UserEvent.at, UserEvent.kind).order_by(UserEvent.id))
        return {
            "users": users.all(),
            "orders": orders.all(),
            "events": await events.all(),
            "stock": [(s.id, s.sku, s.on_hand) for s in await session.find(Stock).sort("_id").to_list()],
        }


async def test_the_size_is_as_asked(fed: Federation) -> None:
    """What seed() says is what the services hold."""
    seeded = await seed(fed, customers=41)
    async with fed.session() as session:
        counts = {
            model: await session.scalar(select(func.count()).select_from(model))
            for model in (User, UserProfile, UserPreferences, Order, Payment, UserEvent)
        }
        documents = {model: await session.find(model).count() for model in (Product, Stock, Supplier)}
    assert counts == {
        User: 41,
        UserProfile: 41,
        UserPreferences: 41,
        Order: seeded.orders,
        Payment: seeded.payments,
        UserEvent: seeded.events,
    }
    assert documents == {Product: seeded.products, Stock: 2 * seeded.products, Supplier: 3}
    assert 41 <= seeded.orders <= 41 * 6


async def test_no_customers_is_a_shop_with_goods(fed: Federation) -> None:
    """The smallest size."""
    assert await seed(fed, customers=0) == Seeded(users=0, products=12, orders=0, payments=0, events=0)


async def test_the_same_numbers_give_the_same_shop(
    fed: Federation, urls: dict[str, str], fresh_database: Callable[[str], str]
) -> None:
    """Down to the keys and the seconds; another number gives another one."""
    await seed(fed, customers=10)
    first = await fingerprint(fed)
    kinds = {"payments": "mysql", "inventory": "mongodb", "analytics": "clickhouse"}
    for number, same in ((1, True), (2, False)):
        again = {service: fresh_database(kinds.get(service, "postgresql")) for service in urls}
        async with Federation(again) as other:
            await other.create_all()
            await seed(other, customers=10, number=number)
            assert (await fingerprint(other) == first) is same


@pytest.fixture
async def seeded(fed: Federation) -> Federation:
    await seed(fed, customers=30, until=DAY, days=10)
    return fed


async def test_every_key_points_somewhere(seeded: Federation) -> None:
    """No orphan in any relationship between services."""
    relationships = (
        Order.user, OrderItem.product, OrderItem.stock, Payment.order, Payment.user, Product.supplier,
        Product.replaced_by, Stock.product, UserEvent.user, UserEvent.product, UserEvent.order,
    )  # fmt: skip
    nothing = Orphans(rows=0, keys=0, sample=[])
    assert {str(one): await seeded.orphans(one) for one in relationships} == {
        str(one): nothing for one in relationships
    }


async def test_the_books_are_right(seeded: Federation) -> None:
    """Totals are the sums of the items, what is paid was captured, and the last status is the order's."""
    statement = select(Order).options(
        federated_load(Order.items), federated_load(Order.history), federated_load(Order.payments)
    )
    async with seeded.session() as session:
        orders = (await session.scalars(statement)).all()
    assert len(orders) > 30
    for order in orders:
        assert order.total == sum(item.quantity * item.unit_price for item in order.items)
        captured = [payment.amount for payment in order.payments if payment.state == "captured"]
        assert captured == ([] if order.status == "placed" else [order.total])
        assert order.status == order.history[-1].status
        assert DAY - datetime.timedelta(days=10) < order.placed_at.date() <= DAY


async def test_the_shop_goes_on_after_it(seeded: Federation) -> None:
    """New rows get keys of their own: the databases have counted on."""
    async with seeded.session(expire_on_commit=False) as session:
        shelf = await session.find(Stock, Stock.on_hand > 0).first_or_none()
        user = await shop.register_user(session, email="new@example.com", name="New", country="FR")
        order = await shop.place_order(session, user.id, {shelf.sku: 1})

        async def charge(order_id: int, amount: Decimal) -> str:
            return "new"

        payment = await shop.pay_order(session, order.id, charge)
        assert (await shop.order_page(session, order.id)).payments == [payment]
