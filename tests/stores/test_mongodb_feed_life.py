"""The feed of a MongoDB database lives through its server's end, and leaves nothing at its own."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from contextlib import aclosing
from typing import Any

import pytest
from pymongo.errors import PyMongoError

from fedorm.exc import StoreError
from fedorm.testing.servers import MongoDBServer
from tests.stores.feeding import apply, read_changes, read_chunks
from tests.stores.mongodb_logged import SERVICE, FedThing, Logged, commit, log, logged, own_server

__all__ = ["log", "own_server"]


# -- life


async def test_a_chunk_comes_at_once(log: Logged) -> None:
    """A change that is committed while the stream waits comes by itself, also one of a transaction."""
    feed = log.feed()
    async with aclosing(feed.stream(await feed.create())) as stream:
        for number in range(4):
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0.2)
            if number % 2:
                commit(log, [{"_id": number}])
            else:
                log.things.insert_one({"_id": number})
            chunk = await asyncio.wait_for(waiting, 10)
            while not chunk.changes:
                chunk = await asyncio.wait_for(anext(stream), 10)
            assert [change.key for change in chunk.changes] == [(number,)]


async def test_others_changes_bring_the_position_forward(log: Logged) -> None:
    """Changes of collections that are not read come as a position without changes."""
    feed = log.feed()
    position = await feed.create()
    log.database["fed_others"].insert_one({"_id": 7})
    (chunk,) = await read_chunks(feed, position, lambda chunks: True)
    assert chunk.changes == []
    assert chunk.position not in (None, position)


@pytest.mark.parametrize("ending", ["closed", "cancelled", "at once"])
async def test_an_end_leaves_nothing(own_server: MongoDBServer, no_stray_tasks: None, ending: str) -> None:
    """A stream that is closed or cancelled leaves no connection and no task, and no cursor on the server."""
    async with logged(own_server.url("documents")) as log:
        feed = log.feed()
        position = await feed.create()
        await log.store.ping()

        def connections() -> int:
            return int(log.client.admin.command("serverStatus")["connections"]["current"])

        log.client.admin.command("ping")
        before = connections()
        stream = feed.stream(position)
        if ending == "closed":
            log.things.insert_one({"_id": 1})
            await anext(stream)
            await stream.aclose()
        else:
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0 if ending == "at once" else 0.5)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        for _ in range(100):
            if connections() <= before:
                break
            await asyncio.sleep(0.05)
        assert connections() <= before


async def test_time_limits_are_for_statements(mongodb_url: str) -> None:
    """A stream that has nothing to tell is not cut short by a service's ``timeout``."""
    async with logged(mongodb_url, timeout=0.5) as log:
        feed = log.feed()
        position = await feed.create()
        waiting = asyncio.create_task(read_changes(feed, position, 1))
        await asyncio.sleep(3)
        assert not waiting.done()
        log.things.insert_one({"_id": 1})
        assert [change.key for change in await waiting] == [(1,)]


async def test_a_server_that_goes_away(own_server: MongoDBServer) -> None:
    """A stream says that its server was ended; begun again where it was, it misses nothing."""
    async with logged(own_server.url("documents")) as log:
        feed = log.feed()
        position = await feed.create()
        log.things.insert_one({"_id": 1})
        stream = feed.stream(position)
        chunk = await anext(stream)
        assert [change.key for change in chunk.changes] == [(1,)]
        assert chunk.position is not None
        log.things.insert_one({"_id": 2})
        log.client.admin.command("fsync")
        waiting = asyncio.create_task(read_chunks(feed, chunk.position, lambda chunks: False))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(own_server.restart)
        with pytest.raises(StoreError, match=f"service '{SERVICE}'"):
            await waiting
        with pytest.raises(StoreError, match=f"service '{SERVICE}'"):
            _ = [chunk async for chunk in stream]
        log.things.insert_one({"_id": 3})
        changes = await read_changes(feed, chunk.position, 2)
        assert [change.key for change in changes] == [(2,), (3,)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_server_that_says_nothing(own_server: MongoDBServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hangs is told from one that has nothing to say."""
    monkeypatch.setattr("fedorm.stores.mongodb_stream._SILENCE", 6)
    async with logged(own_server.url("documents")) as log:
        feed = log.feed()
        position = await feed.create()
        waiting = asyncio.create_task(read_chunks(feed, position, lambda chunks: False))
        await asyncio.sleep(7)
        assert not waiting.done()
        own_server.suspend()
        try:
            with pytest.raises(StoreError, match="no answer"):
                await asyncio.wait_for(waiting, 60)
        finally:
            own_server.resume()
    gc.collect()  # PyMongo forgets the sockets of connections that it is just making when it is closed.


# -- a snapshot and the stream


class Writer(threading.Thread):
    """Changes documents at random until it is told to stop, with transactions and without."""

    def __init__(self, log: Logged, seed: int, number: int) -> None:
        super().__init__(name=f"writer {number}")
        self.log, self.random, self.number = log, random.Random(seed * 10 + number), number
        self.stopped = threading.Event()
        self.count = 0

    def run(self) -> None:
        with self.log.client.start_session() as session:
            while not self.stopped.is_set():
                try:
                    if self.random.random() < 0.5:
                        self.write(None)
                    else:
                        session.start_transaction()
                        for _ in range(self.random.randrange(1, 4)):
                            self.write(session)
                        session.abort_transaction() if self.random.random() < 0.1 else session.commit_transaction()
                except PyMongoError:  # Another was faster.
                    if session.in_transaction:
                        session.abort_transaction()

    def write(self, session: Any) -> None:
        self.count += 1
        which, kind = {"_id": self.random.randrange(500)}, self.random.random()
        name = f"{self.number} {self.count}"
        things = self.log.things
        if kind < 0.3:
            things.replace_one(which, {"name": name}, upsert=True, session=session)
        elif kind < 0.6:
            things.delete_one(which, session=session)
        else:
            things.update_one(which, {"$set": {"name": name}}, session=session)


@pytest.mark.parametrize("seed", range(3))
async def test_a_snapshot_and_the_stream_have_no_gap(log: Logged, seed: int) -> None:
    """Documents read page by page after the feed is made, and then its changes, end as the collection does."""
    log.things.insert_many([{"_id": number, "name": "first"} for number in range(300)])
    feed = log.feed()
    writers = [Writer(log, seed, number) for number in range(3)]
    for writer in writers:
        writer.start()
    try:
        await asyncio.sleep(0.3)
        position = await feed.create()
        copy: dict[Any, Any] = {}
        for begin in range(0, 500, 25):
            page = await log.store.find(FedThing, {"_id": {"$gte": begin, "$lt": begin + 25}})
            copy.update({(one["_id"],): dict(log.store.parse(FedThing, one)) for one in page})
            await asyncio.sleep(0.02)
        for _ in range(4):  # Begun again now and then, from the position that was saved last.
            for chunk in await read_chunks(feed, position, lambda chunks: len(chunks) == 5):
                apply(copy, chunk.changes)
                position = chunk.position or position
    finally:
        for writer in writers:
            writer.stopped.set()
        for writer in writers:
            await asyncio.to_thread(writer.join)
    log.things.insert_one({"_id": 9999})
    for chunk in await read_chunks(feed, position, lambda chunks: (9999,) in [one.key for one in chunks[-1].changes]):
        apply(copy, chunk.changes)
    found = await log.store.find(FedThing, {})
    assert {key: values["name"] for key, values in copy.items()} == {
        (one["_id"],): one.get("name", "") for one in found
    }
