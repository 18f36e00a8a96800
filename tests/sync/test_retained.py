"""The log that PostgreSQL keeps for a rule: looked at, limited, and made up for when it was given up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.util import greenlet_spawn

from fedorm import Federation
from fedorm.sync import CDC
from fedorm.sync.status import RuleStatus
from fedorm.testing.plugin import FreshDatabase
from fedorm.testing.servers.postgresql import PostgreSQLServer
from tests.sync.parts import Deal, add, become, change, facts, federation, remove, rule, run_sql
from tests.sync.watching import until

MUCH = "INSERT INTO purchases (id, total, body) SELECT n, 1, repeat('x', 600) FROM generate_series(1000, 3999) n"
MOST = 1_000_000
BEFORE = {1: Decimal(1), 2: Decimal(1), 3: Decimal(1)}
AFTER = {2: Decimal(22), 3: Decimal(1), 4: Decimal(1)}


@pytest.fixture
def urls(fresh_database: FreshDatabase) -> dict[str, str]:
    return {"parts_near": fresh_database("postgresql"), "parts_far": fresh_database("postgresql")}


async def begun(fed: Federation) -> None:
    """Three rows, and their copies."""
    await add(fed, Deal(id=1), Deal(id=2), Deal(id=3))
    await become(fed, BEFORE)


async def changed(fed: Federation) -> None:
    """A change of each kind, and so much more that comes and goes that the log grows beyond what may be kept."""
    await remove(fed, Deal, 1)
    await change(fed, Deal, 2, total=Decimal(22))
    await add(fed, Deal(id=4))
    await run_sql(fed, "parts_near", MUCH, "DELETE FROM purchases WHERE id >= 1000")


async def slots(fed: Federation) -> list[Any]:
    async with fed.session() as session:
        statement = text("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
        return list((await session.scalars(statement, bind_arguments={"service": "parts_near"})).all())


async def failed(fed: Federation) -> RuleStatus:
    async def is_failed() -> RuleStatus | None:
        (status,) = await fed.sync.status()
        return status if status.state == "failed" else None

    found: RuleStatus = await until(is_failed)
    return found


async def goes_on(fed: Federation) -> None:
    """Changes are followed again, the rule is well, and nothing differs."""
    await change(fed, Deal, 3, total=Decimal(33))
    await become(fed, AFTER | {3: Decimal(33)})
    await until(lambda: _streams(fed))
    assert (await fed.sync.verify("facts")).equal


async def _streams(fed: Federation) -> bool:
    (status,) = await fed.sync.status()
    return status.state == "streaming"


async def test_a_rule_that_hangs_has_its_slot_dropped_and_begins_anew(urls: dict[str, str]) -> None:
    """Although it reads the slot: while it hangs it is told of as failed, and then it makes up for all it missed."""
    cdc = CDC(resnapshot=True, most_retained=MOST)
    async with federation(urls, rule(cdc)) as fed, fed.sync.running():
        await begun(fed)
        (slot,) = await slots(fed)
        async with fed.session() as session:
            lock = text("LOCK TABLE purchase_facts IN ACCESS EXCLUSIVE MODE")
            await session.execute(lock, bind_arguments={"service": "parts_far"})
            await changed(fed)
            status = await failed(fed)
            start, _, rest = (status.last_error or "").partition(" kept ")
            size, _, rest = rest.partition(" bytes of the log, more than most_retained: ")
            assert start == f"the replication slot {slot}"
            assert int(size.replace(",", "")) > MOST
            assert rest == "a new snapshot is made as soon as the rule is carried out"
            await until(lambda: _has_none(fed))
            await session.rollback()
        await become(fed, AFTER)
        await goes_on(fed)


async def _has_none(fed: Federation) -> bool:
    return not await slots(fed)


async def test_a_rule_that_rests_fails_until_it_is_filled_anew(urls: dict[str, str]) -> None:
    """Another process than that which has made the slot drops it; going on is refused, and says what to do."""
    cdc = CDC(most_retained=MOST)
    async with federation(urls, rule(cdc)) as fed:
        async with fed.sync.running():
            await begun(fed)
            await fed.sync.pause("facts")
        await changed(fed)
        async with federation(urls, rule(cdc)) as other, other.sync.running():
            status = await failed(fed)
            assert (status.paused, status.last_error) == (True, (await failed(other)).last_error)
            assert "more than most_retained: make a new snapshot, by  fedorm sync backfill facts" in status.last_error
            await until(lambda: _has_none(fed))
            await fed.sync.resume("facts")

            async def has_tried() -> bool:
                return other.sync.status()[0].last_error == f"FeedLostError: service 'parts_near' at {near}: {told}"

            near, told = fed.stores["parts_near"].address, status.last_error
            await until(has_tried)
            assert await facts(fed) == BEFORE
            await fed.sync.backfill("facts")
            assert await facts(fed) == AFTER
            await goes_on(other)


# -- what the server gives up by itself


@pytest.fixture(scope="module")
def sparing() -> Iterator[PostgreSQLServer]:
    """A server that keeps next to nothing of its log for slots."""
    with PostgreSQLServer() as server:
        server.create_database("near")
        server.create_database("far")
        yield server


@pytest.fixture(params=[True, False], ids=["resnapshot", "backfill"])
async def spared(sparing: PostgreSQLServer, request: pytest.FixtureRequest) -> AsyncIterator[tuple[Federation, bool]]:
    urls = {"parts_near": sparing.url("near"), "parts_far": sparing.url("far")}
    async with federation(urls, rule(CDC(resnapshot=request.param))) as fed:
        yield fed, request.param
        await fed.sync.reset("facts")
        await fed.drop_all()


async def test_a_slot_that_the_server_gives_up(spared: tuple[Federation, bool]) -> None:
    """``max_slot_wal_keep_size`` ends the same way as a rule's own limit does."""
    fed, resnapshot = spared
    store: Any = fed.stores["parts_near"]

    async def alone(*statements: str) -> None:
        def run() -> None:
            with store.engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                for statement in statements:
                    connection.execute(text(statement))

        await greenlet_spawn(run)

    async with fed.sync.running():
        await begun(fed)
    await alone("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()")
    await changed(fed)
    for _ in range(3):
        await run_sql(fed, "parts_near", MUCH, "DELETE FROM purchases WHERE id >= 1000")
        await alone("SELECT pg_switch_wal()", "CHECKPOINT")
    await alone("ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")
    async with fed.sync.running():
        if not resnapshot:
            told = (await failed(fed)).last_error or ""
            assert "the server has given up the replication slot fedorm_near_sync_facts_" in told
            assert "fedorm sync backfill" in told
            assert await facts(fed) == BEFORE
            await fed.sync.backfill("facts")
        await become(fed, AFTER)
        await goes_on(fed)
