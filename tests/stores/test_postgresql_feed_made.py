"""What PostgreSQL's feed makes at the server, and what is left there of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Column, Integer, Text
from sqlalchemy.ext.asyncio import AsyncEngine

from fedorm.exc import ConfigurationError, FeedLostError, ServiceTimeoutError
from fedorm.stores.pgoutput import parse_lsn
from tests.stores.logged import SERVICE, Logged, opened, read, table, told

PLANS = table("logged_plans", Column("id", Integer, primary_key=True), Column("title", Text))
ASIDE = table("logged_aside", Column("id", Integer, primary_key=True))


@pytest.fixture
async def logged(postgresql_url: str, no_stray_tasks: None) -> AsyncIterator[Logged]:
    async with opened(postgresql_url) as service:
        await service.make(PLANS, ASIDE)
        yield service
        await service.left()


async def test_a_slot_waits_for_who_is_writing(logged: Logged) -> None:
    """What is committed while create() runs is seen by who reads rows after it, or is in the stream."""
    feed, writing, end = logged.feed("waits", PLANS), asyncio.Event(), asyncio.Event()

    async def write() -> None:
        async with AsyncEngine(logged.store.engine).begin() as connection:
            await connection.exec_driver_sql("INSERT INTO logged_plans VALUES (1, 'early')")
            writing.set()
            await end.wait()

    early = asyncio.create_task(write())
    await writing.wait()
    creating = asyncio.create_task(feed.create())
    await asyncio.sleep(0.3)
    assert not creating.done()
    end.set()
    position = await creating
    await early
    await logged.run("INSERT INTO logged_plans VALUES (2, 'late')")
    seen = {key for (key,) in await logged.ask("SELECT id FROM logged_plans")}
    found = [change for one in await read(feed, position, 1) for change in one.changes]
    assert seen == {1, 2}
    assert found[-1].key == (2,)


@pytest.mark.parametrize("limit", [None, 0.5], ids=["cancelled", "too late"])
async def test_a_slot_that_was_not_made(postgresql_url: str, limit: float | None) -> None:
    """Whoever gives up waiting for it, we or the limit for statements, leaves nothing that keeps the log."""
    async with opened(postgresql_url, timeout=limit) as logged:
        await logged.make(PLANS)
        feed = logged.feed("half_made", PLANS)
        async with AsyncEngine(logged.store.engine).begin() as connection:
            await connection.exec_driver_sql("INSERT INTO logged_plans VALUES (1)")
            if limit is None:
                creating = asyncio.create_task(feed.create())
                await asyncio.sleep(0.3)
                creating.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await creating
            else:
                with pytest.raises(ServiceTimeoutError, match=r"'logged'.*transactions that are writing"):
                    await feed.create()
            async with asyncio.timeout(20):
                while await logged.ask("SELECT 1 FROM pg_replication_slots WHERE slot_name = :slot", slot=feed.slot):
                    await asyncio.sleep(0.02)
        await feed.create()
        await feed.drop()


async def test_what_is_made_again_begins_anew(logged: Logged) -> None:
    """create() sets the publication's tables right and forgets what the slot had; drop() leaves nothing."""
    feed = logged.feed("made", PLANS)
    first = await feed.create()
    await logged.run("INSERT INTO logged_plans VALUES (1)", "INSERT INTO logged_aside VALUES (1)")
    with pytest.raises(FeedLostError, match="does not tell of logged_aside"):
        await read(logged.feed("made", PLANS, ASIDE), first, 1)
    both = logged.feed("made", PLANS, ASIDE)
    second = await both.create()
    assert parse_lsn(second) > parse_lsn(first)
    await logged.run("INSERT INTO logged_aside VALUES (2)")
    found = [change for one in await read(both, second, 1) for change in one.changes]
    assert [(change.shape.table, change.key) for change in found] == [(ASIDE, (2,))]
    query = "SELECT tablename FROM pg_publication_tables WHERE pubname = 'fedorm_made' ORDER BY 1"
    assert await logged.ask(query) == [("logged_aside",), ("logged_plans",)]
    await feed.create()
    assert await logged.ask(query) == [("logged_plans",)]
    for _ in range(2):
        await feed.drop()
        assert await logged.ask("SELECT pubname FROM pg_publication") == []
        slots = "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()"
        assert await logged.ask(slots) == []


async def test_names_are_each_feeds_own(logged: Logged, second_postgresql_url: str) -> None:
    """Long names stay different, and so do those of two databases of one server."""
    long = [logged.feed("x" * 80 + end, PLANS) for end in "ab"]
    assert len({feed.slot for feed in long}) == len({feed.publication for feed in long}) == 2
    assert {len(feed.slot) for feed in long} == {len(feed.publication) for feed in long} == {63}
    async with opened(second_postgresql_url) as other:
        await other.make(PLANS)
        feeds = [logged.feed("same", PLANS), other.feed("same", PLANS)]
        positions = [await feed.create() for feed in feeds]
        await other.run("INSERT INTO logged_plans VALUES (1, 'other')")
        await logged.run("INSERT INTO logged_plans VALUES (1, 'one')")
        for feed, position, title in zip(feeds, positions, ["one", "other"], strict=True):
            (found,) = await read(feed, position, 1)
            assert told(found.changes) == [("upsert", (1,), {"id": 1, "title": title}, None)]
        await other.left()


async def test_a_missing_table_is_no_feed(logged: Logged) -> None:
    """create() says what is missing, and makes nothing."""
    feed = logged.feed("missing", PLANS, table("logged_nowhere", Column("id", Integer, primary_key=True)))
    with pytest.raises(ConfigurationError, match=rf"'{SERVICE}'.*there is no table logged_nowhere"):
        await feed.create()
    assert await logged.ask("SELECT pubname FROM pg_publication") == []
    await feed.drop()
