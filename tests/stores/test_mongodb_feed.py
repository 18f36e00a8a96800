"""The feed of a MongoDB database tells what was committed, as documents of the models."""

from __future__ import annotations

import datetime
import time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from bson import Decimal128

from fedorm import FederatedDocument
from fedorm.exc import FeedLostError
from fedorm.stores.feeds import Chunk
from tests.stores.feeding import read_changes, read_chunks, told
from tests.stores.mongodb_logged import SERVICE, FedPart, FedThing, Logged, commit, log, shape

__all__ = ["log"]


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
