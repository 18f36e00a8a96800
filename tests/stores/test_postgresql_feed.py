"""PostgreSQL's log is read whole, in order, and from where it was left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from sqlalchemy import Column, Integer, Text, select

from fedorm.exc import FeedLostError
from fedorm.stores.base import Capability
from fedorm.stores.pgoutput import parse_lsn
from tests.stores.logged import Logged, changes, chunk, chunks, opened, read, shape_of, table, told

NOTES = table("logged_notes", Column("id", Integer, primary_key=True), Column("title", Text), Column("body", Text))
PAIRS = table("logged_pairs", Column("a", Integer, primary_key=True), Column("b", Text, primary_key=True))
OTHERS = table("logged_others", Column("id", Integer, primary_key=True))


@pytest.fixture
async def logged(postgresql_url: str, no_stray_tasks: None) -> AsyncIterator[Logged]:
    async with opened(postgresql_url) as service:
        await service.make(NOTES, OTHERS)
        yield service
        await service.left()


def upserted(key: int, title: str | None, body: str | None = None) -> tuple[Any, ...]:
    return "upsert", (key,), {"id": key, "title": title, "body": body}, None


# -- what comes


async def test_changes_come_in_order(logged: Logged) -> None:
    """Each kind of change comes with what the log tells, a transaction after the other, with the time of its commit."""
    assert Capability.CHANGE_FEED in logged.store.capabilities
    feed = logged.feed("order", NOTES)
    position = await feed.create()
    before = time.time()
    await logged.run(
        "INSERT INTO logged_notes VALUES (1, 'one', NULL), (2, 'two', 'b')",
        "UPDATE logged_notes SET title = 'uno' WHERE id = 1",
    )
    await logged.run("UPDATE logged_notes SET id = 3 WHERE id = 2", "DELETE FROM logged_notes WHERE id = 1")
    await logged.run("TRUNCATE logged_notes, logged_others")
    found = await read(feed, position, 6)
    assert told([change for one in found for change in one.changes]) == [
        upserted(1, "one"),
        upserted(2, "two", "b"),
        upserted(1, "uno"),
        ("upsert", (3,), {"id": 3, "title": "two", "body": "b"}, {"id": 2}),
        ("delete", (1,), None, {"id": 1}),
        ("truncate", (), None, None),
    ]
    assert {change.shape for one in found for change in one.changes} == set(feed.shapes)
    assert all(one.committed_at and before - 1 <= one.committed_at <= time.time() + 1 for one in found)


async def test_what_is_rolled_back_is_not_told(logged: Logged) -> None:
    """Neither a transaction that was rolled back nor a savepoint."""
    feed = logged.feed("undone", NOTES)
    position = await feed.create()

    def write(connection: Any) -> None:
        connection.exec_driver_sql("INSERT INTO logged_notes VALUES (1, 'kept')")
        with connection.begin_nested() as savepoint:
            connection.exec_driver_sql("INSERT INTO logged_notes VALUES (2, 'undone')")
            savepoint.rollback()
        with connection.begin_nested():
            connection.exec_driver_sql("INSERT INTO logged_notes VALUES (3, 'kept, too')")

    with pytest.raises(ZeroDivisionError):
        await logged.do(lambda connection: (write(connection), 1 / 0))
    await logged.do(write)
    await logged.run("INSERT INTO logged_notes VALUES (4, 'last')")
    found = [change for one in await read(feed, position, 3) for change in one.changes]
    assert told(found) == [upserted(1, "kept"), upserted(3, "kept, too"), upserted(4, "last")]


async def test_transactions_over_several_services(logged: Logged) -> None:
    """What was prepared is told when it is committed, and not when it is rolled back."""
    feed = logged.feed("prepared", NOTES)
    position = await feed.create()
    for number, end in enumerate(["COMMIT", "ROLLBACK", "COMMIT"]):
        prepare = f"PREPARE TRANSACTION 'feed {number}'"
        await logged.alone("BEGIN", f"INSERT INTO logged_notes VALUES ({number})", prepare)
        await logged.run(f"INSERT INTO logged_notes VALUES ({number + 10})")
        await logged.alone(f"{end} PREPARED 'feed {number}'")
    found = [change for one in await read(feed, position, 5) for change in one.changes]
    assert [change.key[0] for change in found] == [10, 0, 11, 12, 2]


async def test_whole_rows_before_a_change(logged: Logged) -> None:
    """With the replica identity that whole_row_findings() asks for, a change tells all of the row as it was."""
    feed = logged.feed("whole", NOTES)
    (finding,) = await feed.whole_row_findings()
    assert finding.problem.startswith("logged.logged_notes: ")
    await logged.run(finding.mend.removeprefix("run  "))
    assert await feed.whole_row_findings() == []
    position = await feed.create()
    await logged.run(
        "INSERT INTO logged_notes VALUES (1, 'a', 'b')",
        "UPDATE logged_notes SET title = NULL",
        "DELETE FROM logged_notes",
    )
    found = [change for one in await read(feed, position, 3) for change in one.changes]
    was, left = {"id": 1, "title": "a", "body": "b"}, {"id": 1, "title": None, "body": "b"}
    assert told(found) == [
        ("upsert", (1,), was, None), ("upsert", (1,), left, was), ("delete", (1,), None, left),
    ]  # fmt: skip


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL"])
async def test_long_values_that_do_not_change(logged: Logged, identity: str) -> None:
    """A value stored apart that an update leaves alone is not among its values, unless the log has the row before."""
    await logged.run(
        "ALTER TABLE logged_notes ALTER body SET STORAGE EXTERNAL",
        f"ALTER TABLE logged_notes REPLICA IDENTITY {identity}",
    )
    feed = logged.feed("long", NOTES)
    position, body = await feed.create(), "x" * 10_000
    await logged.run(f"INSERT INTO logged_notes VALUES (1, 'a', '{body}')")
    await logged.run("UPDATE logged_notes SET title = 'b'")
    first, second = [change for one in await read(feed, position, 2) for change in one.changes]
    assert first.values == {"id": 1, "title": "a", "body": body}
    assert second.values == {"id": 1, "title": "b", **({"body": body} if identity == "FULL" else {})}


async def test_long_keys(logged: Logged) -> None:
    """A key is told with each change, however long it is."""
    long_keys = table("logged_long_keys", Column("id", Text, primary_key=True), Column("n", Integer))
    await logged.make(long_keys)
    await logged.run("ALTER TABLE logged_long_keys ALTER id SET STORAGE EXTERNAL")
    feed = logged.feed("keys", long_keys)
    position, key = await feed.create(), "k" * 2_500
    await logged.run(f"INSERT INTO logged_long_keys VALUES ('{key}', 1)", "UPDATE logged_long_keys SET n = 2")
    found = [change for one in await read(feed, position, 2) for change in one.changes]
    assert [change.key for change in found] == [(key,), (key,)]


async def test_a_table_changes_while_it_is_read(logged: Logged) -> None:
    """A column that no shape has is passed over; one that is gone is missing in the values."""
    feed = logged.feed("altered", NOTES)
    position = await feed.create()
    async with aclosing(feed.stream(position)) as stream:
        await logged.run("INSERT INTO logged_notes VALUES (1, 'a', 'b')")
        first = await changes(stream, 1)
        await logged.run("ALTER TABLE logged_notes ADD extra integer DEFAULT 7")
        await logged.run("INSERT INTO logged_notes VALUES (2, 'c', 'd', 8)")
        second = await changes(stream, 1)
        await logged.run("ALTER TABLE logged_notes DROP body, ALTER title TYPE varchar(10)")
        await logged.run("INSERT INTO logged_notes VALUES (3, 'e', 9)")
        third = await changes(stream, 1)
    assert told(first + second + third) == [
        upserted(1, "a", "b"), upserted(2, "c", "d"), ("upsert", (3,), {"id": 3, "title": "e"}, None),
    ]  # fmt: skip


async def test_several_tables_and_shapes(logged: Logged) -> None:
    """Keys of several columns, two shapes of one table, other schemas, and names that have to be quoted."""
    odd = table(
        'Odd "table" %s', Column('the "Id"', Integer, primary_key=True, key="id"), Column("é:x", Text, key="x"),
        schema="Other schema",
    )  # fmt: skip
    await logged.run('CREATE SCHEMA "Other schema"')
    await logged.make(PAIRS, odd)
    titles = shape_of(NOTES, only=("id", "title"))
    feed = logged.feed('Odd "näme" %s', shape_of(PAIRS, key=("b", "a")), NOTES, titles, odd)
    position = await feed.create()
    await logged.do(lambda connection: connection.execute(odd.insert(), {"id": 1, "x": "y"}))
    await logged.run("INSERT INTO logged_pairs VALUES (1, 'x')", "UPDATE logged_pairs SET a = 2")
    await logged.run("INSERT INTO logged_notes VALUES (1, 'a', 'b')")
    found = [change for one in await read(feed, position, 5) for change in one.changes]
    pairs, notes, _, odds = feed.shapes
    assert [(change.shape, change.key, change.values, change.before) for change in found] == [
        (odds, (1,), {"id": 1, "x": "y"}, None),
        (pairs, ("x", 1), {"a": 1, "b": "x"}, None),
        (pairs, ("x", 2), {"a": 2, "b": "x"}, {"a": 1, "b": "x"}),
        (notes, (1,), {"id": 1, "title": "a", "body": "b"}, None),
        (titles, (1,), {"id": 1, "title": "a"}, None),
    ]
    await feed.drop()


async def test_partitions(logged: Logged) -> None:
    """Changes of a partition are told as its table's."""
    parts = table("logged_parts", Column("id", Integer, primary_key=True), Column("name", Text))
    await logged.run(
        "CREATE TABLE logged_parts (id integer PRIMARY KEY, name text) PARTITION BY RANGE (id)",
        "CREATE TABLE logged_parts_1 PARTITION OF logged_parts FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE logged_parts_2 PARTITION OF logged_parts FOR VALUES FROM (10) TO (20)",
    )
    feed = logged.feed("parts", parts)
    position = await feed.create()
    await logged.run("INSERT INTO logged_parts VALUES (1, 'a'), (11, 'b')", "DELETE FROM logged_parts WHERE id = 11")
    found = [change for one in await read(feed, position, 3) for change in one.changes]
    assert [(change.kind, change.key) for change in found] == [("upsert", (1,)), ("upsert", (11,)), ("delete", (11,))]


# -- chunks


async def test_a_large_transaction_comes_in_parts(logged: Logged) -> None:
    """Parts of 5,000 changes have no position until the last; what was committed before comes for itself."""
    feed = logged.feed("large", NOTES)
    position = await feed.create()
    await logged.run("INSERT INTO logged_notes VALUES (0, 'small')")
    await logged.run("INSERT INTO logged_notes SELECT n, 'large' FROM generate_series(1, 22000) n")
    found = await read(feed, position, 22_001)
    assert [change.key[0] for one in found for change in one.changes] == list(range(22_001))
    assert [len(one.changes) for one in found] == [1, 5_000, 5_000, 5_000, 5_000, 2_000]
    assert [one.position is None for one in found] == [False, True, True, True, True, False]
    assert len({one.committed_at for one in found}) == 2


async def test_the_last_part_of_a_transaction_has_a_position(logged: Logged) -> None:
    """Also when nothing is left for it."""
    feed = logged.feed("exact", NOTES)
    position = await feed.create()
    await logged.run("INSERT INTO logged_notes SELECT n, 'large' FROM generate_series(1, 10000) n")
    async with aclosing(feed.stream(position)) as stream:
        found = [await chunk(stream) for _ in range(3)]
    assert [(len(one.changes), one.position is None) for one in found] == [(5_000, True), (5_000, True), (0, False)]


async def test_large_rows_come_in_parts(logged: Logged) -> None:
    """A chunk is not much larger than 16 MB, however few changes that are."""
    feed = logged.feed("rows", NOTES)
    position = await feed.create()
    await logged.run("INSERT INTO logged_notes SELECT n, repeat('x', 1000000) FROM generate_series(1, 40) n")
    found = await read(feed, position, 40)
    assert [(len(one.changes), one.position is None) for one in found] == [(16, True), (16, True), (8, False)]


async def test_small_transactions_come_together(logged: Logged) -> None:
    """What is there already comes in few chunks, and each ends with a transaction."""
    feed = logged.feed("small", NOTES)
    position = await feed.create()
    for number in range(200):
        await logged.run(f"INSERT INTO logged_notes VALUES ({2 * number}), ({2 * number + 1})")
    found = await read(feed, position, 400)
    assert [change.key[0] for one in found for change in one.changes] == list(range(400))
    assert all(one.position and len(one.changes) % 2 == 0 for one in found)
    assert len(found) < 20


# -- positions


async def test_going_on_from_a_position(logged: Logged) -> None:
    """From each chunk's position comes all that was behind it, and from an older one again the same."""
    feed = logged.feed("again", NOTES)
    position = await feed.create()
    positions = []
    async with aclosing(feed.stream(position)) as stream:
        for number in range(5):
            await logged.run(f"INSERT INTO logged_notes VALUES ({number})")
            (one,) = await chunks(stream, 1)
            positions.append(one.position)
    for number, at in enumerate([position, *positions[:-1]]):
        assert at is not None
        found = [change for one in await read(feed, at, 5 - number) for change in one.changes]
        assert [change.key[0] for change in found] == list(range(number, 5))


async def test_confirmed_positions_are_the_servers(logged: Logged) -> None:
    """What is confirmed during a stream, or before one, moves the slot; a position before that is lost."""
    feed = logged.feed("confirmed", NOTES)
    start = await feed.create()
    await logged.run("INSERT INTO logged_notes VALUES (1)")
    async with aclosing(feed.stream(start)) as stream:
        (one,) = await chunks(stream, 1)
        assert one.position is not None
        await feed.confirm(one.position)
        await confirmed(logged, feed.slot, one.position)
        await logged.run("INSERT INTO logged_notes VALUES (2)")
        (two,) = await chunks(stream, 1)
    assert two.position is not None
    await feed.confirm(two.position)
    async with aclosing(feed.stream(two.position)) as stream:
        await logged.run("INSERT INTO logged_notes VALUES (3)")
        await chunks(stream, 1)
        await confirmed(logged, feed.slot, two.position)
    with pytest.raises(FeedLostError, match=r"'logged'.*was read up to .*, beyond .*fedorm sync backfill"):
        await read(feed, start, 1)
    with pytest.raises(FeedLostError, match="beyond"):
        await feed.backlog(start)


async def confirmed(logged: Logged, slot: str, position: str) -> None:
    query = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = :slot"
    async with asyncio.timeout(20):
        while await logged.ask(query, slot=slot) != [(position,)]:
            await asyncio.sleep(0.02)


async def test_backlog(logged: Logged) -> None:
    """Bytes of the log behind a position, and the age of what was given and is not confirmed."""
    feed = logged.feed("backlog", NOTES)
    start = await feed.create()
    await logged.run("INSERT INTO logged_notes SELECT n, 'x' FROM generate_series(1, 1000) n")
    behind = await feed.backlog(start)
    assert behind.bytes is not None
    assert behind.bytes > 50_000
    assert behind.seconds is None
    async with aclosing(feed.stream(start)) as stream:
        (one,) = await chunks(stream, 1000)
        assert one.position is not None
        given = await feed.backlog(start)
        assert given.seconds is not None
        await feed.confirm(one.position)
        done = await feed.backlog(one.position)
        assert done.bytes is not None
        assert done.bytes < 1_000
    retained = await feed.retained()
    assert (retained.wal_status, retained.safe_bytes) == ("reserved", None)
    assert retained.bytes > 0


async def test_other_tables_changes_bring_the_position_forward(logged: Logged) -> None:
    """Empty chunks let the server forget what it has logged of other tables."""
    feed = logged.feed("idle", NOTES)
    feed.heartbeat = 0.2
    start = await feed.create()
    async with aclosing(feed.stream(start)) as stream:
        for _ in range(2):
            await logged.run("INSERT INTO logged_others SELECT n FROM generate_series(1, 1000) n")
            ((end,),) = await logged.ask("SELECT pg_current_wal_lsn()::text")
            await logged.run("TRUNCATE logged_others")
            reached = start
            while parse_lsn(reached) < parse_lsn(end):
                one = await chunk(stream)
                assert (one.changes, one.committed_at) == ([], None)
                assert one.position is not None
                assert parse_lsn(one.position) > parse_lsn(reached)
                reached = one.position
                await feed.confirm(reached)
            await confirmed(logged, feed.slot, reached)
        await logged.run("INSERT INTO logged_notes VALUES (1)")
        found = [change for one in await chunks(stream, 1) for change in one.changes]
    assert told(found) == [upserted(1, None)]


async def test_from_a_snapshot_to_the_stream(logged: Logged) -> None:
    """Rows read in pages after create(), and then the stream, give what is there, while others write all the time."""
    feed, stop = logged.feed("handover", NOTES), asyncio.Event()
    await logged.run("INSERT INTO logged_notes SELECT n, '0' FROM generate_series(1, 2000) n")

    async def write(number: int) -> None:
        step = number
        while not stop.is_set():
            step += 4
            await logged.run(
                f"INSERT INTO logged_notes VALUES ({step + 10_000}, 'new')",
                f"UPDATE logged_notes SET title = '{step}' WHERE id = {1 + step * 7 % 2000}",
                f"DELETE FROM logged_notes WHERE id = {1 + step * 13 % 2000}",
            )

    writers = [asyncio.create_task(write(number)) for number in range(4)]
    await asyncio.sleep(0.2)
    position, held, after = await feed.create(), {}, 0
    while True:
        page = select(NOTES).where(NOTES.c.id > after).order_by(NOTES.c.id).limit(100)
        rows = await logged.do(lambda connection, page=page: connection.execute(page).mappings().all())
        if not rows:
            break
        held.update({row["id"]: dict(row) for row in rows})
        after = rows[-1]["id"]
    stop.set()
    await asyncio.gather(*writers)
    await logged.run("INSERT INTO logged_notes VALUES (0, 'end')")
    async with aclosing(feed.stream(position)) as stream:
        while 0 not in held:
            for change in (await chunk(stream)).changes:
                if change.kind == "upsert":
                    assert change.values is not None
                    held[change.key[0]] = change.values
                else:
                    held.pop(change.key[0], None)
    there = await logged.do(lambda connection: connection.execute(select(NOTES)).mappings().all())
    assert held == {row["id"]: dict(row) for row in there}
