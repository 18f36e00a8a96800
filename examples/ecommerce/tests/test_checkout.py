"""Checkouts over all services and a bank: sold and paid, or nothing of it."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from examples.ecommerce import checkout as steps
from examples.ecommerce import shop
from examples.ecommerce.checkout import Receipt, checkout
from examples.ecommerce.errors import (
    CheckoutExistsError,
    CheckoutFailedError,
    CheckoutUnderWayError,
    EmptyBasketError,
    NotPayableError,
    OutOfStockError,
    PaymentDeclinedError,
    UnknownBankError,
    UnknownProductError,
    UnknownUserError,
)
from examples.ecommerce.events import to_analytics
from examples.ecommerce.models import Order, UserEvent
from examples.ecommerce.tests.checkouts import DECLINED, FULL, NOTHING, REFUNDED, SOLD, Sales, can_be_run, sales
from examples.ecommerce.tests.file_bank import Opens
from examples.ecommerce.tests.people import customer, pays
from fedorm import AsyncFederatedSession, Federation, ServiceUnavailableError, points
from fedorm.sagas import SagaError, State


async def test_a_checkout_sells_and_charges(
    fed: Federation, session: AsyncFederatedSession, goods: None, opens: Opens
) -> None:
    """Less stock, a payment with the bank's reference, a paid order; and a receipt that says the same."""
    bank = opens()
    user = await customer(session)
    receipt = await checkout(fed, user.id, {"OFF-1": 3, "KIT-1": 2}, bank="test", id="basket-1")
    assert receipt == Receipt("basket-1", receipt.order_id, Decimal("70.97"), "ref-1")
    stock = {("KIT-1", "leipzig"): 1, ("KIT-1", "rotterdam"): 3, ("OFF-1", "leipzig"): 0}
    assert await sales(fed, bank) == Sales([["pending", "paid"]], 2, ["captured"], stock, [("70.97", "taken")])
    order = await shop.order_page(session, receipt.order_id)
    assert (order.user.id, order.total) == (user.id, Decimal("70.97"))
    assert [(i.line, i.sku, i.warehouse, i.quantity, i.unit_price) for i in order.items] == [
        (1, "OFF-1", "leipzig", 3, Decimal("9.99")),
        (2, "KIT-1", "rotterdam", 2, Decimal("20.50")),
    ]
    assert [(one.user_id, one.amount, one.reference) for one in order.payments] == [
        (user.id, Decimal("70.97"), "ref-1")
    ]
    assert await fed.sagas.status() == {"orders": {State.DONE: 1}}


async def test_a_declined_card_leaves_the_stock_as_it_was(
    fed: Federation, session: AsyncFederatedSession, goods: None, opens: Opens
) -> None:
    """The order stays as cancelled, with the declined payment, and can be paid in no other way."""
    bank = opens(limit=40)
    user = await customer(session)
    with pytest.raises(PaymentDeclinedError, match="checkout basket-1: no money"):
        await checkout(fed, user.id, {"KIT-1": 2}, bank="test", id="basket-1")
    assert await sales(fed, bank) == DECLINED
    assert (await shop.customer_overview(session, user.id)).user.unpaid_orders == []
    [order] = (await session.scalars(select(Order))).all()
    with pytest.raises(NotPayableError, match="is cancelled"):
        await shop.pay_order(session, order.id, pays)
    assert await shop.best_customers(session) == []


async def test_what_is_sold_out_makes_no_order(
    fed: Federation, session: AsyncFederatedSession, goods: None, opens: Opens
) -> None:
    """Not of the goods that there are enough of, either; the bank is not asked."""
    bank = opens()
    user = await customer(session)
    with pytest.raises(OutOfStockError, match="no warehouse has 6 of KIT-1") as caught:
        await checkout(fed, user.id, {"OFF-1": 1, "KIT-1": 6}, bank="test")
    assert (caught.value.sku, caught.value.wanted) == ("KIT-1", 6)
    assert (await sales(fed, bank), bank.asked) == (NOTHING, [])


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"user_id": 999}, UnknownUserError),
        ({"basket": {}}, EmptyBasketError),
        ({"basket": {"KIT-1": 0}}, EmptyBasketError),
        ({"basket": {"KIT-1": 1, "nothing": 1}}, UnknownProductError),
        ({"bank": "nowhere"}, UnknownBankError),
    ],
)
async def test_what_cannot_be_is_not_begun(
    fed: Federation,
    session: AsyncFederatedSession,
    goods: None,
    opens: Opens,
    changes: dict[str, Any],
    error: type[Exception],
) -> None:
    """There is no saga of it."""
    bank = opens()
    user = await customer(session)
    with pytest.raises(error):
        await checkout(fed, **{"user_id": user.id, "basket": {"KIT-1": 1}, "bank": "test", **changes})
    assert (await sales(fed, bank), await fed.sagas.status()) == (NOTHING, {})


async def test_a_basket_is_checked_out_once(
    fed: Federation, session: AsyncFederatedSession, goods: None, opens: Opens
) -> None:
    """Two clicks at once are one order and one payment."""
    bank = opens()
    user = await customer(session)
    clicks = [checkout(fed, user.id, {"KIT-1": 2}, bank="test", id="basket-1") for _ in range(2)]
    first, second = await asyncio.gather(*clicks, return_exceptions=True)
    receipt, refused = (first, second) if isinstance(first, Receipt) else (second, first)
    assert isinstance(receipt, Receipt)
    assert isinstance(refused, CheckoutExistsError)
    assert refused.checkout == "basket-1"
    assert await sales(fed, bank) == SOLD


async def test_a_bank_that_answers_the_second_time(
    fed: Federation, session: AsyncFederatedSession, goods: None, opens: Opens
) -> None:
    """It is asked again under the same key, and has taken the money once, though the first answer may be lost."""
    user = await customer(session)
    bank = opens(busy=1)
    await checkout(fed, user.id, {"KIT-1": 2}, bank="test")
    assert (len(bank.asked), len(set(bank.asked))) == (2, 1)
    assert await sales(fed, bank) == SOLD
    bank = opens(lost=1)
    receipt = await checkout(fed, user.id, {"KIT-1": 2}, bank="test")
    assert (len(bank.asked), len(set(bank.asked))) == (2, 1)
    assert (receipt.reference, bank.books()) == ("ref-2", [("41.00", "taken")] * 2)


async def test_a_bank_that_goes_on_failing(
    fed: Federation, session: AsyncFederatedSession, goods: None, opens: Opens
) -> None:
    """The goods are back; what the bank has taken without an answer reaching us is given back, too."""
    user = await customer(session)
    bank = opens(busy=1_000)
    with pytest.raises(CheckoutFailedError, match="the line is busy") as caught:
        await checkout(fed, user.id, {"KIT-1": 2}, bank="test")
    assert isinstance(caught.value.__cause__, SagaError)
    assert await sales(fed, bank) == DECLINED
    bank = opens(lost=1_000)
    with pytest.raises(CheckoutFailedError, match="the line is cut"):
        await checkout(fed, user.id, {"KIT-1": 2}, bank="test")
    twice = Sales([["pending", "cancelled"]] * 2, 2, ["declined", "refunded"], FULL, [("41.00", "cancelled")])
    assert await sales(fed, bank) == twice


async def test_a_bank_that_is_closed(
    fed: Federation, session: AsyncFederatedSession, goods: None, opens: Opens
) -> None:
    """It cannot even be asked to take nothing: order and goods wait for that, and a runner takes them back."""
    user = await customer(session)
    bank = opens(closed=True)
    with pytest.raises(CheckoutFailedError, match="it is Sunday"):
        await checkout(fed, user.id, {"KIT-1": 2}, bank="test")
    stock = FULL | {("KIT-1", "rotterdam"): 3}
    assert await sales(fed, bank) == Sales([["pending"]], 1, ["pending"], stock, [])
    bank = opens()
    await can_be_run(fed)
    assert [saga.state for saga in await fed.sagas.run_once()] == [State.COMPENSATED]
    assert await sales(fed, bank) == DECLINED


async def test_money_that_was_taken_is_given_back_when_the_order_cannot_be_confirmed(
    fed: Federation, session: AsyncFederatedSession, goods: None, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the bank pays nothing under that key any more, however late it is asked."""
    bank = opens()
    user = await customer(session)

    async def refuse(session: AsyncFederatedSession, *, order: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(steps.confirm, "function", refuse)
    with pytest.raises(CheckoutFailedError):
        await checkout(fed, user.id, {"KIT-1": 2}, bank="test")
    assert await sales(fed, bank) == REFUNDED
    with pytest.raises(Exception, match="cancelled"):
        await bank.charge(bank.asked[0], Decimal(41))


async def test_two_customers_for_the_last_one(
    fed: Federation, session: AsyncFederatedSession, goods: None, opens: Opens
) -> None:
    """One gets it and pays; the other is told that there is none, and pays nothing."""
    bank = opens()
    users = [await customer(session, f"{number}@example.com") for number in range(2)]
    both = [checkout(fed, user.id, {"OFF-1": 3}, bank="test") for user in users]
    ends = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == ["OutOfStockError", "Receipt"]
    stock = FULL | {("OFF-1", "leipzig"): 0}
    assert await sales(fed, bank) == Sales([["pending", "paid"]], 1, ["captured"], stock, [("29.97", "taken")])
    [order] = (await session.scalars(select(Order))).all()
    assert isinstance(ends[users.index(next(user for user in users if user.id == order.user_id))], Receipt)


async def heard(fed: Federation, number: int) -> list[tuple[str, int, int | None]]:
    """What ClickHouse knows of orders, when the relay has told it ``number`` of events."""
    statement = select(UserEvent.kind, UserEvent.user_id, UserEvent.order_id).where(UserEvent.order_id.is_not(None))
    while True:
        async with fed.session() as session:
            rows = [tuple(row) async for row in await session.stream(statement)]
        if len(rows) >= number:
            return sorted(rows)
        await asyncio.sleep(0.05)


async def test_analytics_hear_of_checkouts_afterwards(
    urls: dict[str, str], fed: Federation, session: AsyncFederatedSession, goods: None, opens: Opens
) -> None:
    """Where ClickHouse is down, goods are sold; what was ordered and what was paid is told when it is back."""
    user = await customer(session)
    without = {service: url for service, url in urls.items() if service != "analytics"}
    async with Federation(without) as other:
        bank = opens()
        paid = await checkout(other, user.id, {"KIT-1": 2}, bank="test")
        assert await sales(other, bank) == SOLD
        opens(limit=1)
        with pytest.raises(PaymentDeclinedError):
            await checkout(other, user.id, {"KIT-1": 2}, bank="test")
    cancelled = await session.scalar(select(Order.id).where(Order.status == "cancelled"))
    fed.outbox.add(to_analytics)
    async with fed.outbox.running():
        assert await heard(fed, 3) == [
            ("order", user.id, paid.order_id),
            ("order", user.id, cancelled),
            ("pay", user.id, paid.order_id),
        ]


async def test_a_checkout_whose_end_is_not_known(
    fed: Federation, session: AsyncFederatedSession, goods: None, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The orders' database is gone in the middle: the customer is told so, and a runner ends it."""
    bank = opens()
    user = await customer(session)

    def reached(point: str) -> None:
        if point == "before note checkout.charge":
            monkeypatch.setattr(points, "reached", lambda point: None)
            raise ServiceUnavailableError("the cable is cut", service="orders")

    monkeypatch.setattr(points, "reached", reached)
    with pytest.raises(CheckoutUnderWayError, match=r"checkout basket-1: .*not known") as caught:
        await checkout(fed, user.id, {"KIT-1": 2}, bank="test", id="basket-1")
    assert caught.value.checkout == "basket-1"
    assert [saga.state for saga in await fed.sagas.run_once()] == [State.DONE]
    assert await sales(fed, bank) == SOLD
