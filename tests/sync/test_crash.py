"""Rules whose processes are killed, whose servers go down and whose connections break: no row is lost or twice.

``FEDORM_CRASHES`` says about how many kills there are: ``make crash``.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest

from fedorm import Federation
from fedorm.testing.plugin import FreshDatabase
from fedorm.testing.servers import MariaDBServer, PostgreSQLServer
from tests.children import Child, release
from tests.sync.histories import History
from tests.sync.ledgers import FIELDS, HAS_CLICKHOUSE
from tests.sync.proxy import Proxy
from tests.sync.sync_child import LEASE, Order, work
from tests.sync.watching import PATIENCE, Rows, as_kept_by, rows_of, until, until_equal

CRASHES = int(os.environ.get("FEDORM_CRASHES", "10"))
ROWS = 6_000
"""Enough for a first snapshot to take longer than a process lives."""
PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.sync.sync_child", "asyncpg", "psycopg", "aiomysql", "pymongo"])
CASES = [
    case
    for case in (
        ("postgresql", "postgresql", "cdc"),
        ("postgresql", "clickhouse", "cdc"),
        ("mysql", "postgresql", "cdc"),
        ("mongodb", "mysql", "cdc"),
        ("postgresql", "mongodb", "cdc"),
        ("postgresql", "mysql", "real-time"),
        ("sqlite", "clickhouse", "batch"),
        ("postgresql", "postgresql", "event-driven"),
        ("mysql", "clickhouse", "event-driven"),
        ("mongodb", "postgresql", "event-driven"),
    )
    if HAS_CLICKHOUSE or "clickhouse" not in case
]


def _chance() -> random.Random:
    seed = os.environ.get("FEDORM_SEED") or secrets.token_hex(4)
    print(f"FEDORM_SEED={seed}")
    return random.Random(seed)


def _reader(fed: Federation, order: Order) -> tuple[Callable[..., object], Callable[..., object]]:
    """What reads the rows of the source, and those of the target, so that they can be compared."""
    kinds = order.source, order.target
    fields = [name for name in FIELDS if "clickhouse" not in kinds or name != "extra"]

    async def read(model: type) -> Rows:
        return as_kept_by(kinds, await rows_of(fed, model), fields)

    return functools.partial(read, order.near), functools.partial(read, order.far)


async def _settled(fed: Federation, order: Order, *, patience: float = PATIENCE) -> None:
    """Wait until the target is equal, and hold it against the engine's own comparison, too."""
    near, far = _reader(fed, order)
    rows = await until_equal(near, far, patience=patience)
    verified = await fed.sync.verify("ledger")
    assert (verified.equal, verified.rows, verified.differences) == (True, len(rows), [])
    assert await fed.sync.dead_letters("ledger") == []


class Carriers:
    """Processes that carry the rule out, of which some are always killed."""

    def __init__(self, order: Order, chance: random.Random) -> None:
        self._order, self._chance = order, chance
        self._running: list[Child] = []

    def start(self) -> None:
        self._running.append(Child.start(PROCESSES, work, self._order))

    async def opened(self) -> None:
        for child in self._running:
            if not child.is_open:
                await asyncio.to_thread(child.listen, 60)
                assert child.is_open

    async def kill_one(self) -> None:
        child = self._running.pop(self._chance.randrange(len(self._running)))
        await asyncio.to_thread(child.kill)
        await asyncio.to_thread(release, self._order.urls.values())

    async def stop(self) -> None:
        while self._running:
            await self.kill_one()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("source", "target", "strategy"), CASES, ids=["-".join(case) for case in CASES])
async def test_killed_processes_lose_nothing_and_double_nothing(
    source: str, target: str, strategy: str, fresh_database: FreshDatabase, tmp_path: Path
) -> None:
    """Killed in the snapshot and in what follows it, while another process waits for the lease to run out."""
    chance = _chance()
    crashes = CRASHES if (source, target, strategy) == CASES[0] else max(3, CRASHES // 3)

    def url(kind: str) -> str:
        return f"sqlite+aiosqlite:///{tmp_path / 'near.db'}" if kind == "sqlite" else fresh_database(kind)

    order = Order({}, source, target, strategy)
    order.urls.update({order.near.__service__: url(source), order.far.__service__: url(target)})
    async with order.opened() as fed:
        await fed.create_all()
        few = "mongodb" in (source, target)
        history = History(fed, order.near, source, chance, big=200 if few else 2_000)
        await history.fill(ROWS // 20 if few else ROWS)
        carriers = Carriers(order, chance)
        try:
            for _ in range(2):
                carriers.start()
            await carriers.opened()
            for crash in range(crashes):
                async with asyncio.TaskGroup() as group:
                    group.create_task(history.write(writers=2, transactions=4 if crash % 4 == 0 else 3))
                    # Within the snapshot first, then at any moment of what follows, or just after a lease has run out.
                    await asyncio.sleep(chance.choice([chance.uniform(0.0, 0.4), chance.uniform(0.0, 1.5 * LEASE)]))
                    await carriers.kill_one()
                    carriers.start()
                if chance.random() < 0.7:
                    await carriers.opened()
            print(f"committed {history.committed}, rolled back {history.rolled_back}, refused {history.refused}")
            # SecantusDB writes a few hundred documents a second, fewer still where others are at work.
            await _settled(fed, order, patience=4 * PATIENCE if order.target == "mongodb" else PATIENCE)
        finally:
            await carriers.stop()


# -- servers and connections


@asynccontextmanager
async def _carried_out(order: Order, chance: random.Random) -> AsyncIterator[tuple[Federation, History]]:
    """Give a federation of the test's own, and one history; beside them another federation carries the rule out."""
    async with order.opened() as fed:
        await fed.create_all()
        history = History(fed, order.near, order.source, chance, big=2_000)
        await history.fill(ROWS)
        async with order.opened() as carrier, carrier.sync.running(["ledger"]):
            yield fed, history


@pytest.mark.timeout(600)
@pytest.mark.parametrize("strategy", ["cdc", "real-time", "event-driven"])
@pytest.mark.parametrize("down", ["source", "target"])
async def test_a_server_that_goes_down_comes_to_be_followed_again(strategy: str, down: str) -> None:
    """Either server crashes in the middle, and comes back with what was committed."""
    chance = _chance()
    with PostgreSQLServer() as postgresql, MariaDBServer() as mariadb:
        postgresql.create_database("ledger")
        mariadb.create_database("ledger")
        order = Order({}, "postgresql", "mysql", strategy)
        order.urls.update(
            {order.near.__service__: postgresql.url("ledger"), order.far.__service__: mariadb.url("ledger")}
        )
        server = postgresql if down == "source" else mariadb
        async with _carried_out(order, chance) as (fed, history):
            for _ in range(2):
                async with asyncio.TaskGroup() as group:
                    group.create_task(_written(history))
                    await asyncio.sleep(chance.uniform(0.1, 0.6))
                    await asyncio.to_thread(server.kill)
                    await asyncio.sleep(chance.uniform(0.0, 1.0))
                    await asyncio.to_thread(server.restart)
            await _written(history)
            await _settled(fed, order)


async def _written(history: History) -> None:
    """Write for a while, whatever servers do."""
    before = history.committed
    for _ in range(200):
        await history._transaction(1, history._some)
        await asyncio.sleep(0.02)
        if history.committed >= before + 20:
            return


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("source", "target", "strategy"),
    [
        ("postgresql", "mysql", "cdc"),
        ("mysql", "postgresql", "cdc"),
        ("mongodb", "postgresql", "cdc"),
        ("postgresql", "mongodb", "real-time"),
        pytest.param("postgresql", "clickhouse", "cdc", marks=pytest.mark.skipif(not HAS_CLICKHOUSE, reason="driver")),
    ],
)
async def test_connections_that_break_and_are_slow(
    source: str, target: str, strategy: str, fresh_database: FreshDatabase
) -> None:
    """Cut in the snapshot and in the stream, refused for a moment, each packet held back for a while."""
    chance = _chance()
    order = Order({}, source, target, strategy)
    near, far = order.near.__service__, order.far.__service__
    order.urls.update({near: fresh_database(source), far: fresh_database(target)})
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy(order.urls[service])) for service in (near, far)]
        through = Order(dict(zip((near, far), [one.url for one in proxies], strict=True)), source, target, strategy)
        fed = await stack.enter_async_context(order.opened())
        await fed.create_all()
        few = "mongodb" in (source, target)
        history = History(fed, order.near, source, chance, big=200 if few else 2_000)
        await history.fill(ROWS // 20 if few else ROWS)
        carrier = await stack.enter_async_context(through.opened())
        async with carrier.sync.running(["ledger"]):
            for _ in range(5):
                proxy = chance.choice(proxies)
                async with asyncio.TaskGroup() as group:
                    group.create_task(history.write(writers=2, transactions=2))
                    await asyncio.sleep(chance.uniform(0.0, 0.5))
                    proxy.delay = chance.choice([0.0, 0.01])
                    proxy.refuses = chance.random() < 0.3
                    proxy.cut()
                    await asyncio.to_thread(release, order.urls.values())
                    await asyncio.sleep(chance.uniform(0.0, 0.3))
                    proxy.refuses = False
                proxy.delay = 0.0
            # SecantusDB takes its time for a pass over all documents, by connections that wait at each packet.
            await _settled(fed, order, patience=4 * PATIENCE if target == "mongodb" else PATIENCE)
            assert any(proxy.connections > 1 for proxy in proxies)


@pytest.mark.timeout(600)
async def test_a_dead_owner_is_followed_by_another(fresh_database: FreshDatabase) -> None:
    """Of two processes one carries the rule out; when it is killed the other does so within the lease, and no third."""
    chance = _chance()
    order = Order({}, "postgresql", "postgresql", "cdc")
    order.urls.update(
        {order.near.__service__: fresh_database("postgresql"), order.far.__service__: fresh_database("postgresql")}
    )
    async with order.opened() as fed:
        await fed.create_all()
        history = History(fed, order.near, "postgresql", chance, big=100)
        await history.fill(50)

        async def owner() -> str | None:
            (status,) = [one for one in await fed.sync.status() if one.name == "ledger"]
            return status.owner if status.state == "streaming" else None

        first, second = Carriers(order, chance), Carriers(order, chance)
        try:
            first.start()
            await first.opened()
            was = await until(owner, what="an owner")
            second.start()
            await second.opened()
            await history.write(writers=1, transactions=3)
            assert await owner() == was
            await first.kill_one()

            async def another() -> bool:
                return await owner() not in (None, was)

            await until(another, what="another owner")
            await history.write(writers=1, transactions=3)
            await _settled(fed, order)
        finally:
            await first.stop()
            await second.stop()
