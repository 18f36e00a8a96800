"""The feed of a MariaDB database lives through its server's end, and leaves nothing at its own."""

from __future__ import annotations

import asyncio
import random
import threading
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pymysql
import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select
from sqlalchemy.util import greenlet_spawn

from fedorm.config import ServiceSettings
from fedorm.exc import StoreError
from fedorm.stores.mysql import MySQLStore
from fedorm.testing.servers import MariaDBServer
from fedorm.testing.tls import make_certificates
from tests.stores.feeding import apply, read_changes, read_chunks, shape_of
from tests.stores.mysql_logged import Logged, log, logged, own_server, pairs, row

__all__ = ["log", "own_server"]


async def test_a_chunk_comes_at_once(log: Logged) -> None:
    """A change that is committed while the stream waits comes by itself, and not with the next."""
    feed = await log.make(pairs())
    position = await feed.create()
    async with aclosing(feed.stream(position)) as stream:
        for number in range(3):
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0.2)
            log.run(f"INSERT INTO feed_pairs VALUES ({number}, 'a')")
            chunk = await asyncio.wait_for(waiting, 10)
            while not chunk.changes:
                chunk = await asyncio.wait_for(anext(stream), 10)
            assert [change.key for change in chunk.changes] == [(number,)]


async def test_others_changes_bring_the_position_forward(log: Logged) -> None:
    """Changes of tables that are not read come as a position without changes, so that the log may be removed."""
    feed = await log.make(pairs())
    log.run("CREATE TABLE feed_other (id INT)")
    position = await feed.create()
    log.run("INSERT INTO feed_other VALUES (1)", "FLUSH LOGS", "INSERT INTO feed_other VALUES (2)")
    chunks = await read_chunks(feed, position, lambda chunks: ".000001" not in str(chunks[-1].position))
    assert [change for chunk in chunks for change in chunk.changes] == []
    assert chunks[-1].position is not None
    behind = (await feed.backlog(chunks[-1].position)).bytes
    before = (await feed.backlog(position)).bytes
    assert behind is not None
    assert before is not None
    assert behind < before


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("fedorm-")]


@pytest.mark.parametrize("ending", ["closed", "cancelled", "at once", "full"])
async def test_an_end_leaves_nothing(log: Logged, ending: str) -> None:
    """A stream that is closed or cancelled, waiting or with more than it can hand over, leaves no thread or link."""
    feed = await log.make(pairs())
    position = await feed.create()
    if ending == "full":
        log.run("INSERT INTO feed_pairs SELECT seq, 'a' FROM seq_1_to_60000")
    stream = feed.stream(position)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0 if ending == "at once" else 0.5)
    if ending == "full":
        assert len((await waiting).changes) >= 5_000
        await stream.aclose()
    else:
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        if ending == "closed":
            await stream.aclose()
    assert threads() == []
    with log.outside.cursor() as cursor:
        for _ in range(50):
            cursor.execute(
                "SELECT command FROM information_schema.processlist WHERE db = database() AND id <> connection_id()"
                " AND command <> 'Sleep'"
            )
            left = cursor.fetchall()
            if not left:
                break
            await asyncio.sleep(0.02)
    assert left == ()


async def test_a_slow_reader_is_waited_for(own_server: MariaDBServer) -> None:
    """The server does not hang up on a stream whose reader is slow, and the reader's memory stays bounded."""
    async with logged(own_server.url("logs")) as log:
        feed = await log.make(pairs())
        log.run("SET GLOBAL net_write_timeout = 1")
        position = await feed.create()
        log.run("INSERT INTO feed_pairs SELECT seq, repeat('x', 50) FROM seq_1_to_200000")
        number = 0
        async with aclosing(feed.stream(position)) as stream:
            async for chunk in stream:
                if not number:
                    await asyncio.sleep(3)
                number += len(chunk.changes)
                if number >= 200_000:
                    break
        assert number == 200_000


async def test_a_server_that_goes_away(own_server: MariaDBServer) -> None:
    """A stream says that its server has crashed; begun again where it was, it misses nothing and repeats little."""
    async with logged(own_server.url("logs")) as log:
        feed = await log.make(pairs())
        position = await feed.create()
        log.run("INSERT INTO feed_pairs VALUES (1, 'a')")
        stream = feed.stream(position)
        chunk = await anext(stream)
        while not chunk.changes:
            chunk = await anext(stream)
        assert chunk.position is not None
        waiting = asyncio.ensure_future(anext(stream))
        log.run("INSERT INTO feed_pairs VALUES (2, 'a')")
        assert [change.key for change in (await waiting).changes] == [(2,)]
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.to_thread(own_server.kill)
        with pytest.raises(StoreError, match="service 'feeds'"):
            await waiting
        assert threads() == []
        with pytest.raises(StoreError):
            await anext(feed.stream(chunk.position))
        await asyncio.to_thread(own_server.restart)
        await greenlet_spawn(log.store.engine.dispose)
        log.outside = log.connect()
        log.run("INSERT INTO feed_pairs VALUES (3, 'a')")
        changes = await read_changes(feed, chunk.position, 2)
        assert [change.key for change in changes] == [(2,), (3,)]


async def test_tables_numbers_are_a_runs_of_the_server(own_server: MariaDBServer) -> None:
    """A server that has crashed gives its tables' numbers anew: rows of one table are not read as another's."""
    url = own_server.url("logs")
    other = Table("feed_numbers", MetaData(), Column("a", String(20)), Column("id", Integer, primary_key=True))
    async with logged(url) as log:
        feed = await log.make(pairs(), other)
        position = await feed.create()
        log.run("INSERT INTO feed_pairs VALUES (1, 'a')", "INSERT INTO feed_numbers VALUES ('b', 2)")
        await asyncio.to_thread(own_server.kill)
        await asyncio.to_thread(own_server.restart)
    async with logged(url) as log:
        log.run("INSERT INTO feed_numbers VALUES ('c', 3)", "INSERT INTO feed_pairs VALUES (4, 'd')")
        changes = await read_changes(log.feed(pairs(), other), position, 4)
        assert [(change.shape.label, change.values) for change in changes] == [
            ("feed_pairs", row(1, "a")),
            ("feed_numbers", {"a": "b", "id": 2}),
            ("feed_numbers", {"a": "c", "id": 3}),
            ("feed_pairs", row(4, "d")),
        ]


async def test_a_server_that_says_nothing(own_server: MariaDBServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hangs is told from one that has nothing to say, by its heartbeats."""
    monkeypatch.setattr("fedorm.stores.mysql_log._SILENCE", 6)
    async with logged(own_server.url("logs")) as log:
        feed = await log.make(pairs())
        stream = feed.stream(await feed.create())
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(7)
        assert not waiting.done()
        own_server.suspend()
        try:
            with pytest.raises(StoreError, match="timed out"):
                await asyncio.wait_for(waiting, 60)
        finally:
            own_server.resume()
        assert threads() == []


@pytest.mark.parametrize("ending", ["read", "cancelled"])
async def test_over_tls(tmp_path: Path, ending: str) -> None:
    """The log is read over an encrypted connection where the service has one, which is broken from outside, too."""
    certificates = make_certificates(tmp_path)
    with MariaDBServer(tls=certificates) as server:
        server.create_database("logs")
        settings = ServiceSettings.model_validate({"url": server.url("logs"), "tls": {"ca": str(certificates.ca)}})
        store = MySQLStore("feeds", settings)
        await store.open()
        try:
            table = pairs()
            await store.create_all(table.metadata, [])
            feed = store.change_feed("test", [shape_of(table)])
            position = await feed.create()
            reading = asyncio.create_task(read_changes(feed, position, 1))
            await asyncio.sleep(0.5)
            if ending == "cancelled":
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
            else:

                def write() -> None:
                    with store.engine.begin() as connection:
                        connection.execute(insert(table), [row(1, "a")])

                await greenlet_spawn(write)
                assert [change.values for change in await reading] == [row(1, "a")]
            assert threads() == []
        finally:
            await store.close()


# -- a snapshot and the stream


class Writer(threading.Thread):
    """Changes rows at random until it is told to stop; some by transactions of two phases."""

    def __init__(self, log: Logged, seed: int) -> None:
        super().__init__(name=f"writer {seed}")
        self.random, self.connection = random.Random(seed), log.connect(autocommit=True)
        self.stopped = threading.Event()
        self.number = 0
        self.seed = seed

    def run(self) -> None:
        with self.connection.cursor() as cursor:
            while not self.stopped.is_set():
                try:
                    self.write(cursor)
                except pymysql.OperationalError as error:
                    if error.args[0] not in (1213, 1205):  # A deadlock.
                        raise
                    cursor.execute("ROLLBACK")
                except pymysql.IntegrityError:
                    cursor.execute("ROLLBACK")
        self.connection.close()

    def write(self, cursor: Any) -> None:
        key, other = self.random.randrange(2_000), self.random.randrange(2_000)
        self.number += 1
        name = f"{self.seed} {self.number}"
        kind = self.random.random()
        if kind < 0.1 and self.seed == 0:
            self.in_two_phases(cursor, key, name)
            return
        cursor.execute("BEGIN")
        if kind < 0.5:
            cursor.execute("REPLACE INTO feed_pairs VALUES (%s, %s)", (key, name))
        elif kind < 0.7:
            cursor.execute("DELETE FROM feed_pairs WHERE id = %s", (key,))
        elif kind < 0.8:
            cursor.execute("UPDATE feed_pairs SET id = %s WHERE id = %s", (other, key))
        else:
            cursor.execute("UPDATE feed_pairs SET name = %s WHERE id BETWEEN %s AND %s", (name, key, key + 3))
        cursor.execute("ROLLBACK" if kind > 0.95 else "COMMIT")

    def in_two_phases(self, cursor: Any, key: int, name: str) -> None:
        branch = f"'{name}', 'b', 7"
        cursor.execute(f"XA START {branch}")
        try:
            cursor.execute("UPDATE feed_pairs SET name = %s WHERE id = %s", (name, key))
        except pymysql.OperationalError:
            cursor.execute(f"XA END {branch}")
            cursor.execute(f"XA ROLLBACK {branch}")
            return
        cursor.execute(f"XA END {branch}")
        cursor.execute(f"XA PREPARE {branch}")
        cursor.execute(f"XA {self.random.choice(['COMMIT', 'COMMIT', 'ROLLBACK'])} {branch}")


@pytest.mark.parametrize("seed", range(3))
async def test_a_snapshot_and_the_stream_have_no_gap(log: Logged, seed: int) -> None:
    """Rows read page by page after the feed is made, and then its changes, end as the table does, whoever writes."""
    table = pairs()
    feed = await log.make(table)
    log.run("INSERT INTO feed_pairs SELECT seq, 'first' FROM seq_1_to_1000")
    writers = [Writer(log, number) for number in range(3)]
    for writer in writers:
        writer.random.seed((seed, writer.seed).__hash__())
        writer.start()
    try:
        await asyncio.sleep(0.2)
        position = await feed.create()
        copy: dict[Any, Any] = {}
        for begin in range(0, 2_000, 100):
            page = select(table).where(table.c.id.between(begin, begin + 99))

            def read(page: Any = page) -> list[dict[str, Any]]:
                with log.store.engine.connect() as connection:
                    return [dict(one) for one in connection.execute(page).mappings()]

            copy.update({(one["id"],): one for one in await greenlet_spawn(read)})
            await asyncio.sleep(0.01)
        # Begun again now and then, as after a crash: from the position that was saved last.
        for _ in range(4):
            chunks = await read_chunks(feed, position, lambda chunks: len(chunks) == 5)
            for chunk in chunks:
                apply(copy, chunk.changes)
                position = chunk.position or position
    finally:
        for writer in writers:
            writer.stopped.set()
        for writer in writers:
            await asyncio.to_thread(writer.join)
    log.run("INSERT INTO feed_pairs VALUES (9999, 'last')")
    for chunk in await read_chunks(feed, position, lambda chunks: (9999,) in [one.key for one in chunks[-1].changes]):
        apply(copy, chunk.changes)
    assert copy == await log.rows(table)
