"""Orders and payments over all services: whole values, and nothing written on failure."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, select

from examples.ecommerce import shop
from examples.ecommerce.errors import (
    EmptyBasketError,
    NotPayableError,
    OutOfStockError,
    PaymentDeclinedError,
    UnknownOrderError,
    UnknownProductError,
)
from examples.ecommerce.models import (
    Order,
    OrderItem,
    OrderStatus,
    Payment,
    Stock,
    UserEvent,
)
from examples.ecommerce.tests.people import customer, declines, pays
from fedorm import AsyncFederatedSession, Federation, StaleDocumentError, federated_load


async def written(fed: Federation) -> dict[str, Any]:
    """What all services hold of sales, read by a session of its own."""
    async with fed.session() as session:
        return {
            "orders": (await session.scalars(select(Order.status).order_by(Order.id))).all(),
            "items": await session.scalar(select(func.count()).select_from(OrderItem)),
            "history": (await session.scalars(select(OrderStatus.status).order_by(OrderStatus.id))).all(),
            "payments": (await session.scalars(select(Payment.state).order_by(Payment.id))).all(),
            "stock": {(s.sku, s.warehouse): s.on_hand for s in await session.find(Stock).to_list()},
            "events": sorted([kind async for kind in await session.stream_scalars(select(UserEvent.kind))]),
        }


FULL = {("KIT-1", "leipzig"): 1, ("KIT-1", "rotterdam"): 5, ("OFF-1", "leipzig"): 3}
NOTHING_SOLD = {"orders": [], "items": 0, "history": [], "payments": [], "stock": FULL, "events": ["register"]}


async def test_placing_an_order_writes_to_three_services(
    session: AsyncFederatedSession, fed: Federation, goods: None
) -> None:
    """An order with its items, less stock on the first shelf that has enough, and an event."""
    user = await customer(session)
    order = await shop.place_order(session, user.id, {"KIT-1": 2, "OFF-1": 3})
    assert await written(fed) == {
        "orders": ["placed"],
        "items": 2,
        "history": ["placed"],
        "payments": [],
        "stock": {("KIT-1", "leipzig"): 1, ("KIT-1", "rotterdam"): 3, ("OFF-1", "leipzig"): 0},
        "events": ["order", "register"],
    }
    async with fed.session() as fresh:
        found = (
            await fresh.scalars(select(Order).options(federated_load(Order.items), federated_load(Order.user)))
        ).one()
        assert (found.id, found.user.email, found.total) == (order.id, "ada@example.com", Decimal("70.97"))
        assert found.placed_at == order.placed_at
        assert [(i.line, i.sku, i.warehouse, i.quantity, i.unit_price) for i in found.items] == [
            (1, "KIT-1", "rotterdam", 2, Decimal("20.50")),
            (2, "OFF-1", "leipzig", 3, Decimal("9.99")),
        ]
        event = (await fresh.scalars(select(UserEvent).where(UserEvent.kind == "order"))).one()
        assert (event.user_id, event.order_id, event.sku) == (user.id, order.id, None)


@pytest.mark.parametrize(
    ("basket", "error", "words"),
    [
        ({"OFF-1": 1, "KIT-1": 6}, OutOfStockError, "no warehouse has 6 of KIT-1"),
        ({"OFF-1": 1, "OFF-0": 1}, OutOfStockError, "no warehouse has 1 of OFF-0"),
        ({"OFF-1": 1, "Z": 1, "A": 1}, UnknownProductError, "no product has the SKU A, Z"),
        ({}, EmptyBasketError, "nothing in the basket"),
        ({"OFF-1": 0}, EmptyBasketError, "nothing in the basket"),
    ],
)
async def test_an_order_that_cannot_be_is_written_nowhere(
    session: AsyncFederatedSession,
    fed: Federation,
    goods: None,
    basket: dict[str, int],
    error: type[Exception],
    words: str,
) -> None:
    """No order, no item, no event, and all goods still there; not even when the session goes on and commits."""
    user = await customer(session)
    with pytest.raises(error, match=words):
        await shop.place_order(session, user.id, basket)
    await session.commit()
    assert await written(fed) == NOTHING_SOLD


async def test_the_last_one_is_sold_once(fed: Federation, session: AsyncFederatedSession, goods: None) -> None:
    """Of two sessions that have seen the same shelf the second writes nothing, in no service."""
    user = await customer(session)
    async with fed.session(expire_on_commit=False) as slow:
        # What a page has shown a while ago is what this session goes by.
        await slow.find(Stock).to_list()
        await shop.place_order(session, user.id, {"OFF-1": 3})
        with pytest.raises(StaleDocumentError, match="inventory"):
            await shop.place_order(slow, user.id, {"OFF-1": 1})
    sold = await written(fed)
    assert (sold["orders"], sold["items"], sold["events"]) == (["placed"], 1, ["order", "register"])
    assert sold["stock"] == FULL | {("OFF-1", "leipzig"): 0}


async def test_paying(session: AsyncFederatedSession, fed: Federation, goods: None) -> None:
    """A payment in MySQL, a new status in PostgreSQL, an event in ClickHouse."""
    user = await customer(session)
    order = await shop.place_order(session, user.id, {"KIT-1": 1})
    payment = await shop.pay_order(session, order.id, pays)
    assert await written(fed) == {
        "orders": ["paid"],
        "items": 1,
        "history": ["placed", "paid"],
        "payments": ["captured"],
        "stock": FULL | {("KIT-1", "leipzig"): 0},
        "events": ["order", "pay", "register"],
    }
    async with fed.session() as fresh:
        found = (await fresh.scalars(select(Payment).options(federated_load(Payment.order, Order.user)))).one()
        assert (found.amount, found.reference) == (Decimal("20.50"), f"ref-{order.id}-20.50")
        assert (found.id, found.created_at) == (payment.id, payment.created_at)
        assert found.order.user.id == found.user_id == user.id


async def test_a_declined_payment_is_kept_and_may_be_tried_again(
    session: AsyncFederatedSession, fed: Federation, goods: None
) -> None:
    """The order stays unpaid until another attempt succeeds."""
    user = await customer(session)
    order = await shop.place_order(session, user.id, {"KIT-1": 1})
    with pytest.raises(PaymentDeclinedError, match="no money"):
        await shop.pay_order(session, order.id, declines)
    declined = await written(fed)
    assert (declined["orders"], declined["history"]) == (["placed"], ["placed"])
    assert (declined["payments"], declined["events"]) == (["declined"], ["order", "register"])
    await shop.pay_order(session, order.id, pays)
    settled = await written(fed)
    assert (settled["orders"], settled["payments"]) == (["paid"], ["declined", "captured"])


async def test_an_order_is_paid_once(session: AsyncFederatedSession, fed: Federation, goods: None) -> None:
    """The second payment is refused before anything is charged; so is one for no order."""
    user = await customer(session)
    order = await shop.place_order(session, user.id, {"KIT-1": 1})
    await shop.pay_order(session, order.id, pays)
    with pytest.raises(NotPayableError, match="is paid"):
        await shop.pay_order(session, order.id, pays)
    with pytest.raises(UnknownOrderError, match="999"):
        await shop.pay_order(session, 999, pays)
    await session.commit()
    assert (await written(fed))["payments"] == ["captured"]


async def test_two_payments_at_once_are_one(fed: Federation, session: AsyncFederatedSession, goods: None) -> None:
    """The order's row is locked while the bank is asked: the second click finds it paid and charges nothing."""
    user = await customer(session)
    order = await shop.place_order(session, user.id, {"KIT-1": 1})
    charged: list[Decimal] = []

    async def slowly(order_id: int, amount: Decimal) -> str:
        charged.append(amount)
        await asyncio.sleep(0.2)
        return "ref"

    async def click() -> str:
        async with fed.session(expire_on_commit=False) as own:
            try:
                return (await shop.pay_order(own, order.id, slowly)).state
            except NotPayableError:
                return "refused"

    assert sorted(await asyncio.gather(click(), click())) == ["captured", "refused"]
    assert charged == [Decimal("20.50")]
    assert (await written(fed))["payments"] == ["captured"]


def what_an_order_page_shows(order: Order) -> dict[str, Any]:
    return {
        "user": (order.user.name, order.user.profile),
        "items": [(i.quantity, i.product.name, i.product.supplier.name, i.stock.on_hand) for i in order.items],
        "payments": [(payment.state, payment.amount) for payment in order.payments],
        "history": [step.status for step in order.history],
        "ways back": [payment.order is order for payment in order.payments],
    }


PAGE = {
    "user": ("Ada", None),
    "items": [(1, "lamp", "Northwind", 2), (2, "kettle", "Northwind", 3)],
    "payments": [("declined", Decimal("50.99")), ("captured", Decimal("50.99"))],
    "history": ["placed", "paid"],
    "ways back": [True, True],
}


@pytest.fixture
async def sold(session: AsyncFederatedSession, goods: None) -> int:
    """The number of an order that was paid at the second attempt."""
    user = await customer(session)
    order = await shop.place_order(session, user.id, {"OFF-1": 1, "KIT-1": 2})
    with pytest.raises(PaymentDeclinedError):
        await shop.pay_order(session, order.id, declines)
    await shop.pay_order(session, order.id, pays)
    return order.id


async def test_an_orders_page(fed: Federation, sold: int) -> None:
    """User, items with product, supplier and shelf, payments and history."""
    async with fed.session() as session:
        assert what_an_order_page_shows(await shop.order_page(session, sold)) == PAGE
        with pytest.raises(UnknownOrderError, match="999"):
            await shop.order_page(session, 999)


async def test_an_orders_page_in_code_that_is_not_async(urls: dict[str, str], sold: int) -> None:
    """The same page through the drivers for threads."""

    def view() -> dict[str, Any]:
        with Federation(urls) as fed, fed.sync_session() as session:
            page = what_an_order_page_shows(shop.order_page_sync(session, sold))
            with pytest.raises(UnknownOrderError, match="999"):
                shop.order_page_sync(session, 999)
            return page

    assert await asyncio.to_thread(view) == PAGE
