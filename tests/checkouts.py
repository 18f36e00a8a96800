"""A small shop whose checkout is a saga: what its tests run, and what the child of its crash test runs until killed."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

from sqlalchemy import String, select
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import AsyncFederatedSession, FederatedBase, FederatedDocument, Federation, points
from fedorm.sagas import Saga, SagaError, State, current_step, saga_step
from tests.children import watched

SKUS, START = ("kettle", "lamp"), 1_000_000


class Shelf(FederatedDocument):
    __service__ = "saga_stock"
    sku: str
    on_hand: int

    class Settings:
        name = "shelves"


class Charge(FederatedBase):
    __service__, __tablename__ = "saga_bank", "charges"
    key: Mapped[str] = mapped_column(String(150), primary_key=True)
    checkout: Mapped[str] = mapped_column(String(40))
    amount: Mapped[int]
    refunded: Mapped[bool] = mapped_column(default=False)


class Sale(FederatedBase):
    __service__, __tablename__ = "saga_orders", "sales"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    sku: Mapped[str] = mapped_column(String(40))
    quantity: Mapped[int]
    charge: Mapped[str] = mapped_column(String(150))


class RefusedError(Exception):
    """The step does not want to."""


@saga_step(service="saga_stock", name="test.reserve")
async def reserve(session: AsyncFederatedSession, *, sku: str, quantity: int) -> int:
    shelf = await session.find(Shelf, Shelf.sku == sku).first_or_none()
    if shelf.on_hand < quantity:
        raise RefusedError(f"there are {shelf.on_hand} of {sku}")
    shelf.on_hand -= quantity
    left: int = shelf.on_hand
    return left


@reserve.compensation
async def put_back(session: AsyncFederatedSession, *, sku: str, quantity: int) -> None:
    shelf = await session.find(Shelf, Shelf.sku == sku).first_or_none()
    shelf.on_hand += quantity


@saga_step(service="saga_bank", name="test.charge")
async def charge(session: AsyncFederatedSession, *, checkout: str, amount: int) -> str:
    key = current_step(session).key
    session.add(Charge(key=key, checkout=checkout, amount=amount))
    return key


@charge.compensation
async def refund(session: AsyncFederatedSession, *, checkout: str, amount: int) -> None:
    made = await session.get_one(Charge, current_step(session).result)
    made.refunded = True


@saga_step(service="saga_orders", name="test.confirm")
async def confirm(
    session: AsyncFederatedSession, *, checkout: str, sku: str, quantity: int, charged: str, refuse: bool = False
) -> None:
    session.add(Sale(id=checkout, sku=sku, quantity=quantity, charge=charged))
    if refuse:
        await session.flush()
        raise RefusedError("the order is not wanted any more")


def fill(saga: Saga, checkout: str, *, sku: str = "lamp", quantity: int = 1, refuse: bool = False) -> None:
    """Add the three steps of a checkout."""
    saga.step(reserve, sku=sku, quantity=quantity)
    charged = saga.step(charge, checkout=checkout, amount=quantity * 10)
    saga.step(confirm, checkout=checkout, sku=sku, quantity=quantity, charged=charged, refuse=refuse)


async def opening(fed: Federation, stock: int = START) -> None:
    """Make the tables, and fill the shelves."""
    await fed.create_all()
    async with fed.session() as session:
        session.add_all([Shelf(sku=sku, on_hand=stock) for sku in SKUS])
        await session.commit()


@dataclass
class Books:
    """What the three services hold."""

    stock: dict[str, int]
    charges: dict[str, int]
    """The amounts that were charged and not given back, by checkout."""
    refunds: dict[str, int]
    sales: dict[str, tuple[str, int]]


async def books(fed: Federation) -> Books:
    async with fed.session() as session:
        charges = (await session.scalars(select(Charge))).all()
        return Books(
            {shelf.sku: shelf.on_hand for shelf in await session.find(Shelf).to_list()},
            {one.checkout: one.amount for one in charges if not one.refunded},
            {one.checkout: one.amount for one in charges if one.refunded},
            {one.id: (one.sku, one.quantity) for one in await session.scalars(select(Sale))},
        )


# -- the child of the crash test


@dataclass(frozen=True)
class Order:
    """What a child is to do."""

    urls: dict[str, str]
    name: str
    seed: int
    dies_at: str | None = None
    runs: bool = False
    """Whether it is a runner, and begins no checkout of its own."""


def work(order: Order, pipe: Any) -> None:
    """Check out, or run what others have left, until killed; over ``pipe`` go the outcomes, and the points."""
    points.reached = watched(pipe, order.dies_at)
    asyncio.run(_run(order, pipe) if order.runs else _check_out(order, pipe))


async def _run(order: Order, pipe: Any) -> None:
    async with Federation(order.urls) as fed:
        pipe.send(("open", ""))
        await fed.sagas.run(every=0.02, lease=1.0)


async def _check_out(order: Order, pipe: Any) -> None:
    dice = random.Random(order.seed)
    async with Federation(order.urls) as fed:
        pipe.send(("open", ""))

        async def customer(number: int) -> None:
            for turn in range(1_000_000):
                checkout = f"{order.name}-{number}-{turn}"
                try:
                    async with fed.saga("checkout", service="saga_orders", id=checkout, lease=1.0) as saga:
                        sku, quantity = dice.choice(SKUS), dice.randint(1, 3)
                        fill(saga, checkout, sku=sku, quantity=quantity, refuse=dice.random() < 0.3)
                except SagaError as error:
                    pipe.send(("failed", (checkout, error.state)))
                else:
                    assert saga.state is State.DONE
                    pipe.send(("done", checkout))

        async with asyncio.TaskGroup() as group:
            for number in range(2):
                group.create_task(customer(number))
