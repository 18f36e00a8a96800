"""What the services and the bank hold of checkouts."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from examples.ecommerce.models import Order, OrderItem, Payment, Stock
from examples.ecommerce.models.orders import Status
from examples.ecommerce.tests.file_bank import FileBank
from fedorm import Federation
from fedorm.sagas.tables import fedorm_sagas

FULL = {("KIT-1", "leipzig"): 1, ("KIT-1", "rotterdam"): 5, ("OFF-1", "leipzig"): 3}


@dataclass
class Sales:
    """What all services hold of sales, and what the bank has taken."""

    orders: list[list[Status]]
    """The history of each; its last word is the order's status, too."""
    items: int
    payments: list[str]
    stock: dict[tuple[str, str], int]
    bank: list[tuple[str, str]]


NOTHING = Sales([], 0, [], FULL, [])
SOLD = Sales([["pending", "paid"]], 1, ["captured"], FULL | {("KIT-1", "rotterdam"): 3}, [("41.00", "taken")])
DECLINED = Sales([["pending", "cancelled"]], 1, ["declined"], FULL, [])
REFUNDED = Sales([["pending", "cancelled"]], 1, ["refunded"], FULL, [("41.00", "cancelled")])


async def sales(fed: Federation, bank: FileBank) -> Sales:
    async with fed.session() as session:
        orders = (await session.scalars(select(Order).order_by(Order.id))).all()
        await session.load(orders, Order.history)
        histories = [[step.status for step in order.history] for order in orders]
        assert [history[-1] for history in histories] == [order.status for order in orders]
        return Sales(
            histories,
            await session.scalar(select(func.count()).select_from(OrderItem)) or 0,
            list((await session.scalars(select(Payment.state).order_by(Payment.id))).all()),
            {(shelf.sku, shelf.warehouse): shelf.on_hand for shelf in await session.find(Stock).to_list()},
            bank.books(),
        )


async def can_be_run(fed: Federation) -> None:
    """Let leases and pauses be over."""
    async with fed.session() as session:
        await session.execute(fedorm_sagas("orders").update().values(until=0.0, next_at=0.0))
        await session.commit()
