"""The decision log of a MongoDB service: a collection whose key is the transactions' id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

from pymongo import timeout
from pymongo.errors import CollectionInvalid, DuplicateKeyError, OperationFailure, PyMongoError

from fedorm.stores.decisions import COLLECTION, LOG_TOKEN, DocumentDecisions, Entry

_WRITE_CONFLICT = 112


class MongoDBDecisions(DocumentDecisions):
    """The log in one database; ``named`` turns the driver's errors into fedorm's."""

    def __init__(self, database: Any, named: Callable[[], AbstractAsyncContextManager[None]]) -> None:
        self._database, self._named = database, named
        self._collection = database[COLLECTION]
        self._token: str | None = None

    async def token(self, proposed: str | None) -> str | None:
        """Make the collection first: not every server does so inside of a transaction. Asked until there is one."""
        if self._token is None:
            self._token = await self._asked(proposed)
        return self._token

    async def _asked(self, proposed: str | None) -> str | None:
        async with self._named():
            known = await self._known()
            if known is not None or proposed is None:
                return known
            with suppress(CollectionInvalid):  # It is there.
                await self._database.create_collection(COLLECTION)
            try:
                await self._collection.insert_one({"_id": LOG_TOKEN, "outcome": proposed})
            except DuplicateKeyError:
                return await self._known()
            return proposed

    async def _known(self) -> str | None:
        found = await self._entry(LOG_TOKEN)
        return None if found is None else str(found["outcome"])

    async def _entry(self, id: str) -> Entry | None:
        found: Entry | None = await self._collection.find_one({"_id": id})
        return found

    async def insert(self, entry: Entry, transaction: Any) -> bool:
        """Insert the entry."""
        async with self._named():
            try:
                await self._collection.insert_one(entry, session=transaction)
            except DuplicateKeyError:
                return False
            return True

    async def settle(self, entry: Entry, seconds: float) -> Entry | None:
        """Insert the entry; a server lets that wait for a transaction that has inserted one with the same id."""
        async with self._named():
            found = await self._entry(entry["_id"])
            if found is not None:
                return found
            try:
                with timeout(seconds):
                    await self._collection.insert_one(entry)
            except DuplicateKeyError:
                return await self._entry(entry["_id"])
            except PyMongoError as error:
                if error.timeout or (isinstance(error, OperationFailure) and error.code == _WRITE_CONFLICT):
                    return None
                raise
            return entry

    async def find(self, wanted: Entry, limit: int) -> list[Entry]:
        """Read by ``find``, oldest first."""
        async with self._named():
            found: list[Entry] = await self._collection.find(wanted).sort("_id", 1).limit(limit).to_list(None)
            return found

    async def forget(self, ids: Sequence[str], transaction: Any) -> None:
        """Delete by ``$in``."""
        async with self._named():
            await self._collection.delete_many({"_id": {"$in": list(ids)}}, session=transaction)
