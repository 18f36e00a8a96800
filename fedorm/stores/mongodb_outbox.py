"""The outbox of a MongoDB database: a collection of events, and a counter that gives them their order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

OUTBOX = "fedorm_outbox"
COUNTERS = "fedorm_outbox_counters"
_POSITION = "position"


async def make_outbox(database: Any) -> None:
    """Make the collection, its indexes and the counter, unless they are there."""
    from pymongo import ASCENDING, IndexModel
    from pymongo.errors import CollectionInvalid, DuplicateKeyError

    with suppress(CollectionInvalid):
        await database.create_collection(OUTBOX)
    waiting = IndexModel([("state", ASCENDING), ("partition", ASCENDING), (_POSITION, ASCENDING)], name="waiting")
    await database[OUTBOX].create_indexes([waiting, IndexModel([("id", ASCENDING)], name="id", unique=True)])
    with suppress(DuplicateKeyError):  # Another process was faster.
        await database[COUNTERS].update_one({"_id": _POSITION}, {"$setOnInsert": {"last": 0}}, upsert=True)


async def insert_events(database: Any, events: Sequence[dict[str, Any]], transaction: Any) -> None:
    """Number ``events`` and insert them.

    The counter is raised outside of the transaction, once the documents that the events tell of were written in it:
    another transaction could write to one of those only after this one's end, and takes its numbers later still. So
    the events of a document are in the order of its changes, whatever the clocks say. (Within the transaction the
    counter would make all transactions of the service wait for each other.) A majority has to know the new number: it
    is not given once more after another member of a replica set has taken over. Numbers of a transaction that is
    undone are missing.
    """
    from pymongo import ReturnDocument, WriteConcern

    counters = database[COUNTERS].with_options(write_concern=WriteConcern("majority"))
    raised = await counters.find_one_and_update(
        {"_id": _POSITION}, {"$inc": {"last": len(events)}}, upsert=True, return_document=ReturnDocument.AFTER
    )
    first = raised["last"] - len(events) + 1
    numbered = [{_POSITION: first + at, **event} for at, event in enumerate(events)]
    await database[OUTBOX].insert_many(numbered, session=transaction)
