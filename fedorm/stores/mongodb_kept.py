"""The documents of a MongoDB service as they were before a test, put back after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedorm.stores.mongodb import MongoDBStore


class MongoDBKept:
    """What is in the database, and how to come back to that."""

    def __init__(self, store: MongoDBStore, *, sync: bool) -> None:
        self._store, self._sync = store, sync
        self._before: dict[str, dict[Any, Any]] = {}

    async def remember(self) -> None:
        """Read all collections."""
        self._before = await self._all()

    async def restore(self) -> None:
        """Write what differs."""
        database, now = self._store.own_database(sync=self._sync), await self._all()
        for name in now.keys() | self._before.keys():
            before, after = self._before.get(name), now.get(name, {})
            if before is None:
                await database[name].drop()
                continue
            changed = [key for key in after if key not in before or after[key] != before[key]]
            if changed:
                await database[name].delete_many({"_id": {"$in": [after[key]["_id"] for key in changed]}})
            missing = [one for key, one in before.items() if key in changed or key not in after]
            if missing:
                await database[name].insert_many(missing)

    async def _all(self) -> dict[str, dict[Any, Any]]:
        database, found = self._store.own_database(sync=self._sync), {}
        async with self._store.named():
            for name in await database.list_collection_names():
                if not name.startswith("system."):
                    # An id may be a document, which no dict takes as a key.
                    found[name] = {repr(one["_id"]): one async for one in database[name].find({})}
        return found
