"""The feed of a MongoDB database tells what was committed, as documents of the models."""

from __future__ import annotations

import asyncio
import datetime
import gc
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from bson import Decimal128
from pydantic import BaseModel, SecretStr
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from fedorm import FederatedDocument, Federation
from fedorm.config import ServiceSettings
from fedorm.exc import ConfigurationError, FeedLostError, StoreError
from fedorm.stores.base import Capability
from fedorm.stores.feeds import ChangeFeed, Chunk
from fedorm.stores.mongodb import MongoDBStore
from fedorm.stores.rows import RowShape
from fedorm.testing.servers import MongoDBServer
from tests.stores.feeding import apply, read_changes, read_chunks, told

SERVICE = "documents_fed"


class FedPart(BaseModel):
    name: str
    number: int = 0


class FedThing(FederatedDocument):
    __service__ = SERVICE
    id: int  # type: ignore[assignment]
    name: str = ""
    price: Decimal | None = None
    parts: list[FedPart] = []
    owner: UUID | None = None
    made: datetime.datetime | None = None
    extra: dict[str, Any] | None = None

    class Settings:
        name = "fed_things"


class FedAnimal(FederatedDocument):
    __service__ = SERVICE
    id: str  # type: ignore[assignment]
    legs: int = 4

    class Settings:
        name = "fed_animals"
        is_root = True


class FedDog(FedAnimal):
    barks: bool = True


class FedCat(FedAnimal):
    purrs: bool = True


class FedKeyed(FederatedDocument):
    __service__ = SERVICE
    sku: str

    class Settings:
        name = "fed_keyed"


def shape(model: type[FederatedDocument], *fields: str, key: tuple[str, ...] = ("id",)) -> RowShape:
    return RowShape(SERVICE, model.__name__, key, fields or tuple(model.model_fields), document=model)


class Logged:
    """A service whose log is read, and a client of its own that changes it from outside."""

    def __init__(self, fed: Federation, url: str) -> None:
        store = fed.stores[SERVICE]
        assert isinstance(store, MongoDBStore)
        self.store, self.url = store, url
        self.client: MongoClient[Any] = MongoClient(url, uuidRepresentation="standard", tz_aware=True)
        self.database = self.client.get_default_database()
        self.things = self.database["fed_things"]

    def feed(self, *shapes: RowShape) -> ChangeFeed:
        return self.store.change_feed("test", shapes or [shape(FedThing)])


@asynccontextmanager
async def logged(url: str, **settings: Any) -> AsyncIterator[Logged]:
    async with Federation({SERVICE: {"url": url, "connect_timeout": 2, **settings}}) as fed:
        made = Logged(fed, url)
        try:
            yield made
        finally:
            made.client.close()


@pytest.fixture
async def log(mongodb_url: str, no_stray_tasks: None) -> AsyncIterator[Logged]:
    async with logged(mongodb_url) as made:
        yield made


@pytest.fixture
def own_server() -> Iterator[MongoDBServer]:
    with MongoDBServer() as server:
        yield server


def thing(key: int, name: str = "", **more: Any) -> dict[str, Any]:
    """Return a thing as its model has it."""
    none = {"revision_id": None, "price": None, "parts": [], "owner": None, "made": None, "extra": None}
    return {"id": key, "name": name, **none, **more}


# -- what was done


async def test_changes_come_in_their_order(log: Logged) -> None:
    """Inserts, updates and replacements come as upserts of the whole document, and deletes by their key."""
    feed = log.feed()
    position = await feed.create()
    log.things.insert_many([{"_id": 1, "name": "a"}, {"_id": 2}])
    log.things.update_one({"_id": 1}, {"$set": {"name": "b"}})
    log.database["fed_others"].insert_one({"_id": 7})
    changes = await read_changes(feed, position, 3)
    # An update comes with the document as it is when it is read.
    assert [told(change) for change in changes[1:]] == [
        ("upsert", (2,), thing(2), None),
        ("upsert", (1,), thing(1, "b"), None),
    ]
    position = await feed.create()
    log.things.replace_one({"_id": 2}, {"name": "c", "price": Decimal128("1.50")})
    log.things.delete_one({"_id": 1})
    changes = await read_changes(feed, position, 2)
    assert [told(change) for change in changes] == [
        ("upsert", (2,), thing(2, "c", price=Decimal("1.50")), None),
        ("delete", (1,), None, None),
    ]


async def test_values_are_the_fields_of_documents(log: Logged) -> None:
    """Values are what a document that is loaded has in its fields, of those that are wanted."""
    feed = log.feed(shape(FedThing), shape(FedThing, "id", "parts"))
    position = await feed.create()
    made = datetime.datetime(2024, 2, 29, 23, 59, 59, 999000, tzinfo=datetime.UTC)
    document = FedThing(
        id=5,
        name="ü",
        price=Decimal("1.10"),
        parts=[FedPart(name="a", number=2**40)],
        owner=UUID(int=7),
        made=made,
        extra={"a": [1, 2**40, 1.5, None], "b": {"c": "d"}},
    )
    log.things.insert_one(log.store.encode(document))
    whole, part = await read_changes(feed, position, 2)
    (raw,) = await log.store.find(FedThing, {})
    loaded = log.store.parse(FedThing, raw)
    assert whole.values == {name: getattr(loaded, name) for name in FedThing.model_fields}
    assert whole.values == {name: getattr(document, name) for name in FedThing.model_fields}
    assert isinstance(whole.values["parts"][0], FedPart)
    assert part.values == {"id": 5, "parts": [FedPart(name="a", number=2**40)]}
    assert (part.shape.fields, part.key) == (("id", "parts"), (5,))


async def test_a_document_that_is_gone_does_not_come(log: Logged) -> None:
    """Of an update whose document was deleted before it is read only the deletion comes."""
    feed = log.feed()
    log.things.insert_one({"_id": 1})
    position = await feed.create()
    log.things.update_one({"_id": 1}, {"$set": {"name": "b"}})
    log.things.delete_one({"_id": 1})
    changes = await read_changes(feed, position, 1)
    assert [told(change) for change in changes] == [("delete", (1,), None, None)]


async def test_a_document_that_does_not_fit(log: Logged) -> None:
    """A document that its model does not take comes without values; one whose id cannot be the model's does not."""
    feed = log.feed()
    position = await feed.create()
    log.things.insert_many([{"_id": 1, "price": "much"}, {"_id": "none"}, {"_id": 2}])
    log.things.delete_one({"_id": "none"})
    log.things.delete_one({"_id": 1})
    changes = await read_changes(feed, position, 3)
    assert [told(change) for change in changes] == [
        ("upsert", (1,), {}, None),
        ("upsert", (2,), thing(2), None),
        ("delete", (1,), None, None),
    ]


async def test_several_classes_in_a_collection(log: Logged) -> None:
    """Each class gets its own documents and those of classes below; one that becomes another class is deleted."""
    feed = log.feed(shape(FedAnimal, "id", "legs"), shape(FedDog), shape(FedCat))
    position = await feed.create()
    animals = log.database["fed_animals"]
    for document in (FedDog(id="rex"), FedCat(id="tom", legs=3), FedAnimal(id="ant", legs=6)):
        animals.insert_one(log.store.encode(document))
    changes = await read_changes(feed, position, 5)
    assert [(change.shape.label, *told(change)) for change in changes] == [
        ("FedAnimal", "upsert", ("rex",), {"id": "rex", "legs": 4}, None),
        ("FedDog", "upsert", ("rex",), {"id": "rex", "legs": 4, "barks": True, "revision_id": None}, None),
        ("FedAnimal", "upsert", ("tom",), {"id": "tom", "legs": 3}, None),
        ("FedCat", "upsert", ("tom",), {"id": "tom", "legs": 3, "purrs": True, "revision_id": None}, None),
        ("FedAnimal", "upsert", ("ant",), {"id": "ant", "legs": 6}, None),
    ]
    position = await feed.create()
    cat = log.store.encode(FedCat(id="rex"))
    animals.replace_one({"_id": "rex"}, cat)
    animals.delete_one({"_id": "tom"})
    changes = await read_changes(feed, position, 6)
    assert [(change.shape.label, change.kind, change.key) for change in changes] == [
        ("FedAnimal", "upsert", ("rex",)),
        ("FedDog", "delete", ("rex",)),
        ("FedCat", "upsert", ("rex",)),
        ("FedAnimal", "delete", ("tom",)),
        ("FedDog", "delete", ("tom",)),
        ("FedCat", "delete", ("tom",)),
    ]


@pytest.mark.parametrize("how", ["drop", "rename", "database"])
async def test_a_collection_that_goes(log: Logged, how: str) -> None:
    """A collection that is dropped, renamed or goes with its database comes as a truncation; the stream goes on."""
    feed = log.feed()
    position = await feed.create()
    log.things.insert_one({"_id": 1})
    if how == "drop":
        log.things.drop()
    elif how == "rename":
        log.things.rename("fed_renamed")
    else:
        log.client.drop_database(log.database)
    log.things.insert_one({"_id": 2})

    def enough(chunks: list[Chunk]) -> bool:
        return any(change.key == (2,) for chunk in chunks for change in chunk.changes)

    chunks = await read_chunks(feed, position, enough)
    changes = [(change.kind, change.key) for chunk in chunks for change in chunk.changes]
    assert changes[0] == ("upsert", (1,))
    assert changes[-1] == ("upsert", (2,))
    assert set(changes[1:-1]) == {("truncate", ())}
    # From any position on the way the rest comes, also from behind the end of the database.
    for chunk in chunks:
        assert chunk.position is not None
        if chunk is not chunks[-1]:
            rest = await read_chunks(feed, chunk.position, enough)
            assert rest[-1].changes[-1].key == (2,)


async def test_a_collection_that_takes_the_name(log: Logged) -> None:
    """What another collection's documents are, which gets the name, the log does not tell: a new snapshot is due."""
    feed = log.feed()
    position = await feed.create()
    log.database["fed_others"].insert_one({"_id": 1})
    log.database["fed_others"].rename("fed_things")
    with pytest.raises(FeedLostError, match="'fed_things'"):
        await read_changes(feed, position, 1)


# -- transactions


def commit(log: Logged, documents: list[dict[str, Any]], *, undo: bool = False) -> None:
    with log.client.start_session() as session:
        session.start_transaction()
        log.things.insert_many(documents, session=session)
        session.abort_transaction() if undo else session.commit_transaction()


async def test_transactions_are_whole(log: Logged) -> None:
    """A transaction comes in one chunk, however the server cuts it, and not at all if it is undone."""
    feed = log.feed()
    position = await feed.create()
    commit(log, [{"_id": number} for number in range(450)])
    commit(log, [{"_id": 9_000}], undo=True)
    commit(log, [{"_id": 1_000}, {"_id": 1_001}])
    before = time.time()
    chunks = await read_chunks(feed, position, lambda chunks: sum(len(one.changes) for one in chunks) == 452)
    chunks = [chunk for chunk in chunks if chunk.changes]
    keys = [[change.key[0] for change in chunk.changes] for chunk in chunks]
    assert [key for chunk in keys for key in chunk] == [*range(450), 1_000, 1_001]
    for chunk, several in zip(chunks, keys, strict=True):
        assert chunk.position is not None
        assert chunk.committed_at is not None
        assert before - 60 < chunk.committed_at < before + 60
        assert (0 in several) == (449 in several)
        assert (1_000 in several) == (1_001 in several)


async def test_a_large_transaction_comes_in_parts(log: Logged) -> None:
    """Parts of a large transaction have no position but the last."""
    feed = log.feed()
    position = await feed.create()
    commit(log, [{"_id": number} for number in range(12_000)])
    chunks = await read_chunks(feed, position, lambda chunks: sum(len(one.changes) for one in chunks) == 12_000)
    assert [change.key[0] for chunk in chunks for change in chunk.changes] == [*range(12_000)]
    parts = [chunk for chunk in chunks if chunk.position is None]
    assert len(parts) == 2
    assert all(len(chunk.changes) == 5_000 and chunk.committed_at is None for chunk in parts)
    position = chunks[-1].position or ""
    log.things.insert_one({"_id": -1})
    assert [change.key for change in await read_changes(feed, position, 1)] == [(-1,)]


async def test_each_position_is_where_to_go_on(log: Logged) -> None:
    """From the position of any chunk a stream yields what comes behind that chunk."""
    feed = log.feed()
    positions = [await feed.create()]
    for number in range(3):
        log.things.insert_many([{"_id": 2 * number}, {"_id": 2 * number + 1}])
        chunks = await read_chunks(feed, positions[-1], lambda chunks: sum(len(one.changes) for one in chunks) == 2)
        positions.append(chunks[-1].position or "")
    for number, position in enumerate(positions[:-1]):
        changes = await read_changes(feed, position, 6 - 2 * number)
        assert [change.key for change in changes] == [(key,) for key in range(2 * number, 6)]


# -- what stands against it


async def test_a_server_that_can(log: Logged) -> None:
    """A replica set has nothing against it; a feed needs ids as keys, as those alone are told of deleted documents."""
    assert Capability.CHANGE_FEED in log.store.capabilities
    feed = log.feed()
    assert await feed.problems() == []
    keyed = log.feed(shape(FedKeyed, key=("sku",)))
    (problem,) = await keyed.problems()
    assert "use  id  as the key" in problem
    with pytest.raises(ConfigurationError, match="FedKeyed"):
        await keyed.create()


class ShortLog(MongoDBServer):
    """A server that keeps a thousand entries of its log."""

    def _command(self) -> list[str]:
        command = super()._command()
        if not command[0].endswith("secantusd-py"):
            pytest.skip("mongod keeps 990 MB of its log at least")
        return [*command, "--oplog-max-entries", "1000"]


async def test_a_log_that_is_too_short() -> None:
    """A position that the server's log does not reach back to is lost, and so is one that it does not know."""
    with ShortLog() as server:
        async with logged(server.url("documents")) as log:
            feed = log.feed()
            position = await feed.create()
            broken = position.replace('"_data": "', '"_data": "00')
            assert broken != position
            with pytest.raises(FeedLostError, match="resume token"):
                await read_changes(feed, broken, 1)
            for number in range(4):
                log.things.insert_many([{"_id": number * 1_000 + one} for one in range(1_000)])
            with pytest.raises(FeedLostError, match="no longer be in the oplog"):
                await read_changes(feed, position, 1)


async def test_a_user_who_may_not(no_stray_tasks: None) -> None:
    """A user who may not read changes is told what to run, and who may reads them."""
    with MongoDBServer(auth=True) as server, server.admin.client() as client:
        database = client["documents"]
        place = f"mongodb://{{}}:secret@127.0.0.1:{server.port}/documents?authSource=documents"
        database.command("createUser", "reader", pwd="secret", roles=[{"role": "read", "db": "documents"}])
        store = MongoDBStore(SERVICE, ServiceSettings(url=SecretStr(place.format("reader"))))
        await store.open()
        try:
            feed = store.change_feed("test", [shape(FedThing)])
            assert await feed.problems() == []
            position = await feed.create()
            database["fed_things"].insert_one({"_id": 1})
            assert [change.key for change in await read_changes(feed, position, 1)] == [(1,)]
            database.command("revokeRolesFromUser", "reader", roles=[{"role": "read", "db": "documents"}])
            (problem,) = await feed.problems()
            assert "db.grantRolesToUser(<user>, [{role: 'read', db: 'documents'}])" in problem
            assert "secret" not in problem
            with pytest.raises(ConfigurationError, match="grantRolesToUser"):
                await read_changes(feed, position, 1)
        finally:
            await store.close()


async def test_backlog(log: Logged) -> None:
    """The backlog is the seconds between a position and the log's end."""
    feed = log.feed()
    position = await feed.create()
    behind = await feed.backlog(position)
    assert behind.seconds is not None
    assert behind.seconds <= 2
    await asyncio.sleep(2.1)
    log.things.insert_one({"_id": 1})
    later = await feed.backlog(position)
    assert later.seconds is not None
    assert later.seconds >= 2
    await feed.confirm(position)
    await feed.drop()


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
