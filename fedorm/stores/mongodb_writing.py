"""Writes of a session to a collection of MongoDB's, as bulks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pymongo import DeleteOne, ReplaceOne, UpdateOne
from pymongo.errors import BulkWriteError

from fedorm.stores.writes import Writes


async def send(collection: Any, writes: Writes, transaction: Any) -> tuple[int, int] | None:
    """Send everything; how many were to be changed or deleted, and how many were, unless all of them were."""
    if writes.gone or writes.upserts:
        gone = [DeleteOne({"_id": one}) for one in writes.gone]
        upserts = [ReplaceOne({"_id": one["_id"]}, one, upsert=True) for one in writes.upserts]
        await collection.bulk_write([*gone, *upserts], session=transaction)
    if writes.inserts:
        await _insert(collection, writes.inserts, transaction)
    updates = [
        UpdateOne({"_id": one.identity, **one.expected}, _operators(one.changed, one.removed)) for one in writes.updates
    ]
    deletes = [DeleteOne({"_id": one.identity, **one.expected}) for one in writes.deletes]
    if not updates and not deletes:
        return None
    done = await collection.bulk_write([*updates, *deletes], session=transaction)
    if done.matched_count < len(updates) or done.deleted_count < len(deletes):
        return len(updates) + len(deletes), done.matched_count + done.deleted_count
    return None


def _operators(changed: Mapping[str, Any], removed: Collection[str]) -> dict[str, Any]:
    made: dict[str, Any] = {"$set": dict(changed)} if changed else {}
    return made | {"$unset": dict.fromkeys(removed, "")} if removed else made


async def _insert(collection: Any, documents: list[dict[str, Any]], transaction: Any) -> None:
    try:
        await collection.insert_many(documents, session=transaction)
    except BulkWriteError as error:
        kept = (error.details or {}).get("nInserted", 0)
        if transaction is None and kept:  # They were sent in order: those before the one that failed are there.
            await collection.delete_many({"_id": {"$in": [one["_id"] for one in documents[:kept]]}})
        raise
