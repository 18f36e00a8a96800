"""A recovery that is killed at every one of its steps leaves what the next one settles."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing import get_context

import pytest

from fedorm import Federation, points
from tests.twophase.left import Shop

PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.twophase.test_recovery_killed", "asyncpg", "aiomysql", "psycopg", "pymysql"])


@pytest.fixture
def shop(fresh_database: Callable[[str], str]) -> Iterator[Shop]:
    kinds = {"users": "postgresql", "orders": "postgresql", "payments": "mysql", "inventory": "mongodb"}
    shop = Shop({name: fresh_database(kind) for name, kind in kinds.items()})
    shop.open()
    yield shop
    shop.close()


def recover_up_to(urls: dict[str, str], point: str) -> None:
    """Recover, and die at a point."""

    def reached(there: str) -> None:
        if there == point:
            os.kill(os.getpid(), signal.SIGKILL)

    async def run() -> None:
        async with Federation(urls) as fed:
            await fed.recover(older_than=0)

    points.reached = reached
    asyncio.run(run())


def killed_at(urls: dict[str, str], point: str) -> bool:
    """Say whether a recovery in a process of its own has come to a point, and died there."""
    process = PROCESSES.Process(target=recover_up_to, args=(urls, point))
    process.start()
    process.join()
    return process.exitcode == -signal.SIGKILL


def test_a_recovery_is_killed_at_every_point(shop: Shop) -> None:
    """Of two transactions: one was decided, and of one the decision was handed on to a service that has made none."""
    (inventory,) = shop.located("inventory")
    places = shop.located("payments", "inventory")
    there = [
        *("identify users", "resolve users", "end orders"),
        *("identify payments", "resolve payments", "identify inventory", "resolve inventory", "end payments"),
    ]
    for number, point in enumerate(f"{when} {what}" for what in there for when in ("before", "after")):
        shop.left("orders", decider="users", committed=True, number=number)
        id = shop.left("payments", decider="payments", committed=False, number=number)
        shop.log("payments").delegate(id, inventory, places)
        assert killed_at(shop.urls, point), point
        report = shop.recover("sync", older_than=0)
        assert report.is_complete, (point, report)
        assert shop.marks() == {"users": [], "orders": list(range(number + 1)), "payments": []}, point
        assert not any(shop.prepared().values())
