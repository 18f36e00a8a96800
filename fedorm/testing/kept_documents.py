"""The documents of a service as they were before a test, put back after it."""

from __future__ import annotations

from typing import Any

from fedorm.stores.base import DocumentStore


class KeptDocuments:
    """What is in a MongoDB database before the first write, and how to come back to that.

    A session's rollback has to undo what it has written and nothing else, which MongoDB has no savepoints for. So
    transactions are left as they are, and what they have changed is put right in the end.
    """

    def __init__(self, store: DocumentStore, *, sync: bool) -> None:
        self.store: Any = store
        self._sync = sync
        self._begin = store.begin
        self._before: dict[str, dict[Any, Any]] | None = None

    async def begin(self, *, sync: bool) -> Any:
        """Read all collections at the first call; begin a transaction, as the store does before each write."""
        if sync == self._sync and self._before is None:
            self._before = await self._all()
        return await self._begin(sync=sync)

    async def restore(self) -> None:
        """Write what differs."""
        if self._before is None:
            return
        database, now = self._database(), await self._all()
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

    def _database(self) -> Any:
        return self.store.own_collection("fedorm", sync=self._sync).database

    async def _all(self) -> dict[str, dict[Any, Any]]:
        database, found = self._database(), {}
        async with self.store.named():
            for name in await database.list_collection_names():
                if not name.startswith("system."):
                    # An id may be a document, which no dict takes as a key.
                    found[name] = {repr(one["_id"]): one async for one in database[name].find({})}
        return found
