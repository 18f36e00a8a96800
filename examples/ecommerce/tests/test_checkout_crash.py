"""Processes that die in the middle of a checkout: another one sells wholly, or takes back, and the bank agrees."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import pymongo
import pytest

from examples.ecommerce.bank import BANKS
from examples.ecommerce.checkout import checkout
from examples.ecommerce.errors import CheckoutExistsError
from examples.ecommerce.tests.checkouts import DECLINED, REFUNDED, SOLD, Sales, can_be_run, sales
from examples.ecommerce.tests.file_bank import FileBank, Opens
from examples.ecommerce.tests.people import customer
from fedorm import AsyncFederatedSession, Federation, points
from fedorm.sagas import State

PROCESSES = get_context("forkserver")


@dataclass(frozen=True)
class Customer:
    """What a process of its own does until it dies."""

    urls: dict[str, str]
    user_id: int
    bank: Path
    limit: int
    dies_at: str


def shops(order: Customer) -> None:
    """Check out in this process, and die at a named point of the saga."""

    def reached(point: str) -> None:
        if point == order.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    async def work() -> None:
        BANKS["test"] = FileBank(order.bank, limit=order.limit)
        async with Federation(order.urls) as fed:
            await checkout(fed, order.user_id, {"KIT-1": 2}, bank="test", id="basket-1")

    points.reached = reached
    asyncio.run(work())


def dies(order: Customer) -> None:
    """Let a process shop until it dies; then nobody waits for what it has held."""
    process = PROCESSES.Process(target=shops, args=(order,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    # MongoDB would keep the locks of its transaction for a minute.
    with pymongo.MongoClient(order.urls["inventory"]) as client:  # type: ignore[var-annotated]
        client.admin.command({"killAllSessions": []})


@pytest.mark.parametrize(
    ("dies_at", "limit", "later", "ends_as", "left"),
    [
        # The runner goes on: from the start, after a step, and where the bank has paid and nobody has written it down.
        ("within do checkout.reserve", 1_000, {}, State.DONE, SOLD),
        ("after do checkout.place", 1_000, {}, State.DONE, SOLD),
        ("within do checkout.charge", 1_000, {}, State.DONE, SOLD),
        # It takes back what was done: half of that was taken back already, or the bank is not to be had afterwards.
        ("before undo checkout.place", 40, {}, State.COMPENSATED, DECLINED),
        ("within undo checkout.reserve", 40, {}, State.COMPENSATED, DECLINED),
        ("within do checkout.charge", 1_000, {"busy": 1_000}, State.COMPENSATED, REFUNDED),
    ],
)
async def test_another_process_ends_what_a_dead_one_has_begun(
    urls: Mapping[str, str],
    fed: Federation,
    session: AsyncFederatedSession,
    goods: None,
    opens: Opens,
    tmp_path: Path,
    dies_at: str,
    limit: int,
    later: dict[str, int],
    ends_as: State,
    left: Sales,
) -> None:
    """Wherever it has died, all is sold or nothing is, and the bank says the same."""
    user = await customer(session)
    order = Customer(dict(urls), user.id, tmp_path / "bank.db", limit, dies_at)
    await asyncio.to_thread(dies, order)
    bank = opens(limit=limit, **later)
    async with Federation(dict(urls)) as other:
        assert await other.sagas.run_once() == []  # The dead one's lease has to run out.
        await can_be_run(other)
        assert [saga.state for saga in await other.sagas.run_once()] == [ends_as]
        assert await other.sagas.run_once() == []
    assert await sales(fed, bank) == left
    with pytest.raises(CheckoutExistsError, match=ends_as.value):
        await checkout(fed, user.id, {"KIT-1": 2}, bank="test", id="basket-1")
