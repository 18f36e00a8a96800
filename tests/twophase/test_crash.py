"""Processes and servers killed in the middle of commits over several services: nothing is split, lost or left.

``FEDORM_CRASHES`` says about how many kills there are.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from fedorm import Federation
from fedorm.testing.plugin import unavailable
from fedorm.testing.servers import MariaDBServer, PostgreSQLServer, Server, ServerUnavailableError
from tests.children import Child
from tests.twophase.transfers import ACCOUNTS, SERVICES, START, TRANSFER, Order, books, opening, work

CRASHES = int(os.environ.get("FEDORM_CRASHES", "30"))
PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.twophase.transfers", "asyncpg", "aiomysql", "psycopg", "pymysql", "aiosqlite"])

A, B, C, D = SERVICES
SHAPES = {
    "MariaDB decides": (A, B, C),
    "PostgreSQL decides": (B, A),
    "SQLite is last, MariaDB hands on": (A, C, D),
    "SQLite is last": (D, B, A),
}


class Bank:
    """Three servers and a file, with accounts in each, and a check of the books."""

    def __init__(self, folder: Path) -> None:
        self.servers: dict[str, Server] = {A: PostgreSQLServer(), B: PostgreSQLServer(), C: MariaDBServer()}
        self.urls: dict[str, str] = {D: f"sqlite+aiosqlite:///{folder / 'last.db'}"}
        self.sums: dict[str, int] = dict.fromkeys(SERVICES, ACCOUNTS * START)
        self._children = 0

    def start(self) -> None:
        for name, server in self.servers.items():
            server.start()
            server.create_database("bank")
            self.urls[name] = server.url("bank")
        asyncio.run(self._opened())

    async def _opened(self) -> None:
        async with Federation(self.urls) as fed:
            await opening(fed)

    def stop(self) -> None:
        for server in self.servers.values():
            server.stop()

    def child(self, shape: str, seed: int, **more: Any) -> Child:
        self._children += 1
        order = Order(self.urls, f"t{self._children}", SHAPES[shape], seed, **more)
        child = Child.start(PROCESSES, work, order)
        child.listen(60)
        return child

    def check(self, child: Child) -> None:
        """Recover, and hold what every service says against what the child has said."""
        asyncio.run(self._checked(child))

    async def _checked(self, child: Child) -> None:
        async with Federation(self.urls) as fed:
            reports = await asyncio.gather(fed.recover(older_than=0), fed.recover(older_than=0))
            again = await fed.recover(older_than=0)
            assert again.branches == (), f"still in doubt: {again} after {reports}"
            transfers, sums = await books(fed)
            ids = {one for rows in transfers.values() for one in rows}
            for one in ids:
                holders = [service for service in SERVICES if one in transfers[service]]
                assert ",".join(holders) == transfers[holders[0]][one].services, f"{one} is split: only in {holders}"
            assert not child.done - ids, "what was committed is not there"
            for one, why in child.failed.items():
                if why == "committed":
                    assert one in ids, "what was decided is not there"
                elif why != "unknown":
                    assert one not in ids, f"{one} is there and failed: {why}"
            for service in SERVICES:
                self.sums[service] += sum(row.amount for row in transfers[service].values())
            assert sums == self.sums
            assert sum(sums.values()) == len(SERVICES) * ACCOUNTS * START
            async with fed.session() as session:
                for model in TRANSFER.values():
                    await session.execute(model.__table__.delete().where(model.services != ""))
                await session.commit()


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    bank = Bank(tmp_path_factory.mktemp("bank"))
    try:
        bank.start()
    except ServerUnavailableError as error:
        bank.stop()
        unavailable(str(error))
    yield bank
    bank.stop()


def _points(bank: Bank, shape: str, *, fails: bool) -> list[str]:
    """Every point that three transfers of a shape pass by."""
    child = bank.child(shape, 1, transfers=3, fails=fails)
    child.listen(60)
    child.kill()
    assert child.ended
    assert len(child.done) + fails == 3, child.failed
    bank.check(child)
    return child.points


@pytest.mark.parametrize(
    ("shape", "fails"),
    [(shape, False) for shape in SHAPES] + [(shape, True) for shape, services in SHAPES.items() if B in services],
)
def test_a_process_killed_at_every_point(bank: Bank, shape: str, fails: bool) -> None:
    """Before and after each prepare, decision, commit and rollback: all of a transfer holds, or nothing."""
    points = _points(bank, shape, fails=fails)
    if fails:
        points = [point for point in points if "undo" in point]
    assert points
    for number, point in enumerate(points):
        for threads in (False, True) if CRASHES > 100 else (bool(number % 2),):
            child = bank.child(shape, number, dies_at=point, threads=threads, fails=fails)
            child.listen(60)
            assert not child.ended
            child.kill()
            bank.check(child)


def test_a_process_killed_at_random(bank: Bank) -> None:
    """At any moment, not only at those that have a name."""
    chance = random.Random(7)
    for number in range(max(4, CRASHES // 3)):
        shape = chance.choice(list(SHAPES))
        child = bank.child(shape, number, threads=number % 2 == 1, fails=number % 3 == 0 and B in SHAPES[shape])
        child.listen(chance.uniform(0.01, 0.4))
        child.kill()
        assert not child.ended
        bank.check(child)


def test_a_server_killed(bank: Bank) -> None:
    """A database that dies in the middle and comes back: the process goes on, and after a recovery nothing is split."""
    chance = random.Random(11)
    for number in range(max(3, CRASHES // 10)):
        child = bank.child("MariaDB decides", number, threads=number % 2 == 1)
        child.listen(chance.uniform(0.05, 0.4))
        victim = (A, B, C)[number % 3]
        bank.servers[victim].kill()
        child.listen(0.3)
        bank.servers[victim].restart()
        before = len(child.done)
        for _ in range(20):
            child.listen(0.3)
            if len(child.done) > before or number % 2:
                break
        child.kill()
        bank.check(child)
