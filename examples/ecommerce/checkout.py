"""Checking out: stock, order and money in one saga, as the bank takes part in no commit.

Each step is a transaction of one service. When one fails, or the process dies and the runner of another one cannot go
on, what was done is taken back: the money, the order, the stock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from beanie.operators import In
from sqlalchemy.orm import selectinload

from examples.ecommerce import events, shop
from examples.ecommerce.bank import BANKS, Bank
from examples.ecommerce.errors import (
    CardDeclinedError,
    CheckoutExistsError,
    CheckoutFailedError,
    CheckoutUnderWayError,
    OutOfStockError,
    PaymentDeclinedError,
    ShopError,
    UnknownBankError,
)
from examples.ecommerce.models import Order, OrderItem, Payment, Stock
from examples.ecommerce.models.base import now
from fedorm import AsyncFederatedSession, Federation
from fedorm.sagas import SagaError, SagaExistsError, current_step, saga_step

Json = dict[str, Any]


@dataclass(frozen=True)
class Receipt:
    """What a customer has bought."""

    checkout: str
    order_id: int
    total: Decimal
    reference: str
    """The bank's."""


async def checkout(
    fed: Federation, user_id: int, basket: Mapping[str, int], *, bank: str, id: str | None = None
) -> Receipt:
    """Sell a basket of SKUs and quantities: less stock in MongoDB, a payment in MySQL, a paid order in PostgreSQL.

    Raises ``OutOfStockError`` when there is no order, ``PaymentDeclinedError`` when there is a cancelled one, and
    ``CheckoutFailedError`` for any other reason; after each of them stock and money are back where they were, or on
    their way. After ``CheckoutUnderWayError`` a runner, ``fed.sagas.run()``, ends it either way. An ``id``, of the
    customer's basket for example, is checked out once: ``CheckoutExistsError``.
    """
    _bank(bank)
    async with fed.session() as session:
        # A saga that could not succeed is not begun.
        await shop.known_user(session, user_id)
        await shop.products_in(session, basket)
    saga = fed.saga("checkout", service="orders", id=id)
    try:
        async with saga:
            lines = saga.step(reserve, basket=dict(basket))
            order = saga.step(place, user_id=user_id, lines=lines)
            payment = saga.step(open_payment, bank=bank, user_id=user_id, order=order)
            reference = saga.step(charge, bank=bank, payment=payment)
            saga.step(confirm, order=order)
    except SagaError as error:
        raise _in_the_shops_words(error) from error
    return Receipt(saga.id, order.value["id"], Decimal(order.value["total"]), reference.value)


def _in_the_shops_words(error: SagaError) -> ShopError:
    if isinstance(error, SagaExistsError):
        return CheckoutExistsError(error.id, f"was begun before, and is {error.state}")
    if error.state in ("running", "unknown"):
        return CheckoutUnderWayError(error.id, "is not known to be done; await fed.sagas.get('checkout', id) tells")
    match error.__cause__:
        case OutOfStockError() as cause:
            return OutOfStockError(cause.sku, cause.wanted)
        case CardDeclinedError() as cause:
            return PaymentDeclinedError(f"checkout {error.id}: {cause}")
        case cause:
            return CheckoutFailedError(error.id, f"nothing is sold: {cause}")


def _bank(name: str) -> Bank:
    if name not in BANKS:
        raise UnknownBankError(f"there is no bank {name!r} here, only {', '.join(sorted(BANKS)) or 'none'}")
    return BANKS[name]


# -- the steps, in their order, and what takes each of them back


@saga_step(service="inventory", name="checkout.reserve")
async def reserve(session: AsyncFederatedSession, *, basket: dict[str, int]) -> list[Json]:
    """Take the goods from the shelves; return the lines of the order to be, at the prices of this moment."""
    products = await shop.products_in(session, basket)
    lines = []
    for sku, quantity in basket.items():
        shelf = shop.shelf_with(products[sku], quantity)
        shelf.on_hand -= quantity
        price = str(products[sku].price)
        lines.append({"sku": sku, "warehouse": shelf.warehouse, "quantity": quantity, "unit_price": price})
    return lines


@reserve.compensation
async def put_back(session: AsyncFederatedSession, *, basket: dict[str, int]) -> None:
    """Put the goods on the shelves they came from."""
    found = await session.find(Stock, In(Stock.sku, list(basket))).to_list()
    shelves = {(shelf.sku, shelf.warehouse): shelf for shelf in found}
    for line in current_step(session).result:
        shelves[line["sku"], line["warehouse"]].on_hand += line["quantity"]


@saga_step(service="orders", name="checkout.place")
async def place(session: AsyncFederatedSession, *, user_id: int, lines: list[Json]) -> Json:
    """Make the order, whose number the payment needs; nobody can pay for it in another way."""
    items = [
        OrderItem(line=number, **{**line, "unit_price": Decimal(line["unit_price"])})
        for number, line in enumerate(lines, start=1)
    ]
    total = sum((item.quantity * item.unit_price for item in items), Decimal(0))
    order = Order(user_id=user_id, placed_at=now(), total=total, items=items)
    order.becomes("pending", order.placed_at)
    session.add(order)
    await session.flush()
    events.emit(session, "order", order)
    return {"id": order.id, "total": str(total)}


@place.compensation
async def cancel(session: AsyncFederatedSession, *, user_id: int, lines: list[Json]) -> None:
    """Keep the order, as cancelled: the customer may ask for it, and its payment stays, too."""
    made = await _made(session, current_step(session).result)
    made.becomes("cancelled", now())


@saga_step(service="payments", name="checkout.open_payment")
async def open_payment(session: AsyncFederatedSession, *, bank: str, user_id: int, order: Json) -> Json:
    """Write down that the bank is about to be asked for money, and under which key.

    It is a step of its own, as what was not done is not compensated: where the bank has paid and its answer, or our
    commit, is lost, the charge is not done, and its money is to be given back all the same.
    """
    payment = Payment(order_id=order["id"], user_id=user_id, amount=Decimal(order["total"]), state="pending")
    session.add(payment)
    await session.flush()
    return {"id": payment.id, "key": current_step(session).key}


@open_payment.compensation
async def give_back(session: AsyncFederatedSession, *, bank: str, user_id: int, order: Json) -> None:
    """Let the bank give back what it has taken, if it has."""
    made = current_step(session).result
    payment = await session.get_one(Payment, made["id"])
    payment.state = "refunded" if await _bank(bank).cancel(made["key"]) else "declined"


@saga_step(service="payments", name="checkout.charge")
async def charge(session: AsyncFederatedSession, *, bank: str, payment: Json) -> str:
    """Let the bank pay, under the same key at every try."""
    made = await session.get_one(Payment, payment["id"])
    made.reference = await _bank(bank).charge(payment["key"], made.amount)
    made.state = "captured"
    return made.reference


@saga_step(service="orders", name="checkout.confirm")
async def confirm(session: AsyncFederatedSession, *, order: Json) -> None:
    """Let the order be sent."""
    made = await _made(session, order)
    made.becomes("paid", now())
    events.emit(session, "pay", made)


async def _made(session: AsyncFederatedSession, order: Json) -> Order:
    return await session.get_one(Order, order["id"], options=[selectinload(Order.history)])
