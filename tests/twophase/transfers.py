"""The child of the crash test: moves money between services until it is killed, and says which transfers hold."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, String, select, text
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, Federation, InDoubtError, points
from tests.children import watched

ACCOUNTS, START = 5, 1000
SERVICES = ("crash_a", "crash_b", "crash_c", "crash_d")
"""Two PostgreSQL servers, MariaDB, and SQLite, which cannot prepare."""


class _Account:
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    balance: Mapped[int] = mapped_column(BigInteger)


class _Transfer:
    __tablename__ = "transfers"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    services: Mapped[str] = mapped_column(String(40))
    account: Mapped[int]
    amount: Mapped[int]


def _everywhere(columns: type[Any]) -> Mapping[str, Any]:
    """The same table in every service."""
    return {
        name: type(f"{columns.__name__.strip('_')}_{name}", (columns, FederatedBase), {"__service__": name})
        for name in SERVICES
    }


ACCOUNT, TRANSFER = _everywhere(_Account), _everywhere(_Transfer)

# Checked when a transaction is prepared, or commits, and not before: what fails there fails late.
LATE = "ALTER TABLE transfers ADD CONSTRAINT once UNIQUE (account, amount) DEFERRABLE INITIALLY DEFERRED"
DOUBLE = 7_777_777


@dataclass(frozen=True)
class Order:
    """What a child is to do: ``services`` in the order in which it uses them, and where it is to end."""

    urls: dict[str, str]
    name: str
    services: tuple[str, ...]
    seed: int
    dies_at: str | None = None
    threads: bool = False
    fails: bool = False
    """Whether some transfers break a constraint of the second PostgreSQL's at the end."""
    transfers: int = 1_000_000


def work(order: Order, pipe: Any) -> None:
    """Transfer until killed; over ``pipe`` go the ids of transfers that hold, and the points that were reached."""
    points.reached = watched(pipe, order.dies_at)
    if order.threads:
        _in_threads(order, pipe)
    else:
        asyncio.run(_async(order, pipe))
    pipe.send(("end", ""))


async def _async(order: Order, pipe: Any) -> None:
    async with Federation(order.urls) as fed:
        pipe.send(("open", ""))
        for number in range(order.transfers):
            plan = _Plan(order, number)
            try:
                async with fed.session(twophase=True) as session:
                    for service, account, amount in plan.moves:
                        row = await session.get(ACCOUNT[service], account, with_for_update=True)
                        row.balance += amount
                        session.add(plan.entry(service, account, amount))
                        await session.flush()
                    if order.fails and number % 3 == 2:
                        session.add(TRANSFER["crash_b"](id=f"{plan.id}!", services="", account=0, amount=DOUBLE))
                    await session.commit()
            except Exception as error:
                pipe.send(("failed", (plan.id, _said(error))))
                await asyncio.sleep(0.02)
                continue
            pipe.send(("done", plan.id))


def _in_threads(order: Order, pipe: Any) -> None:
    with Federation(order.urls) as fed:
        pipe.send(("open", ""))
        for number in range(order.transfers):
            plan = _Plan(order, number)
            try:
                with fed.sync_session(twophase=True) as session:
                    for service, account, amount in plan.moves:
                        row = session.get(ACCOUNT[service], account, with_for_update=True)
                        row.balance += amount
                        session.add(plan.entry(service, account, amount))
                        session.flush()
                    if order.fails and number % 3 == 2:
                        session.add(TRANSFER["crash_b"](id=f"{plan.id}!", services="", account=0, amount=DOUBLE))
                    session.commit()
            except Exception as error:
                pipe.send(("failed", (plan.id, _said(error))))
                continue
            pipe.send(("done", plan.id))


class _Plan:
    """One transfer: some money from the first service's account to the others'."""

    def __init__(self, order: Order, number: int) -> None:
        chance = random.Random(f"{order.seed} {number}")
        self.id = f"{order.name}-{number}"
        self._services = ",".join(sorted(order.services))
        amounts = [chance.randint(1, 1000) for _ in order.services[1:]]
        self.moves = [
            (service, chance.randrange(ACCOUNTS), amount)
            for service, amount in zip(order.services, [-sum(amounts), *amounts], strict=True)
        ]

    def entry(self, service: str, account: int, amount: int) -> Any:
        return TRANSFER[service](id=self.id, services=self._services, account=account, amount=amount)


def _said(error: BaseException) -> str:
    """What a failed commit means for its transfer: nothing of it holds, or it is decided, or nobody knows."""
    return error.outcome if isinstance(error, InDoubtError) else f"{type(error).__name__}: {error}"


async def opening(fed: Federation) -> None:
    """Make the tables and the accounts."""
    await fed.create_all()
    async with fed.session() as session:
        for model in ACCOUNT.values():
            session.add_all([model(id=number, balance=START) for number in range(ACCOUNTS)])
        await session.execute(text(LATE), bind_arguments={"service": "crash_b"})
        session.add(TRANSFER["crash_b"](id="first", services="", account=0, amount=DOUBLE))
        await session.commit()


async def books(fed: Federation) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    """What every service holds: its transfers by id, and the sum of its accounts."""
    transfers: dict[str, dict[str, Any]] = {}
    sums: dict[str, int] = {}
    async with fed.session() as session:
        for service in SERVICES:
            rows = (await session.scalars(select(TRANSFER[service]))).all()
            transfers[service] = {row.id: row for row in rows if row.services}
            sums[service] = sum((await session.scalars(select(ACCOUNT[service].balance))).all())
    return transfers, sums
