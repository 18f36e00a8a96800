"""Positions of sync rules in MongoDB: a collection of the target's own database."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fedorm.stores.positions import SavedPosition

if TYPE_CHECKING:
    from fedorm.stores.mongodb import MongoDBStore


class MongoDBPositions:
    """One document a rule, changed in the transaction of the rows where the server has them."""

    def __init__(self, store: MongoDBStore) -> None:
        self._store = store

    @property
    def _collection(self) -> Any:
        return self._store.own_collection("fedorm_sync_positions", sync=False)

    async def claim(self, rule: str, epoch: int) -> SavedPosition | None:
        """Mark the document, if there is one."""
        async with self._store.named():
            await self._collection.update_one({"_id": rule, "epoch": {"$lte": epoch}}, {"$set": {"epoch": epoch}})
        return await self.peek(rule)

    async def peek(self, rule: str) -> SavedPosition | None:
        """Read the document."""
        async with self._store.named():
            found = await self._collection.find_one({"_id": rule})
        if found is None:
            return None
        return SavedPosition(found["position"], found["version"], found["epoch"], found["saved_at"])

    async def save(self, handle: Any, rule: str, saved: SavedPosition) -> bool:
        """Change the document, or insert it."""
        values = asdict(saved)
        async with self._store.named():
            done = await self._collection.update_one(
                {"_id": rule, "epoch": {"$lte": saved.epoch}}, {"$set": values}, session=handle
            )
            if done.matched_count:
                return True
            if await self._collection.find_one({"_id": rule}, session=handle) is not None:
                return False
            await self._collection.insert_one({"_id": rule, **values}, session=handle)
        return True

    async def forget(self, rule: str) -> None:
        """Delete the document."""
        async with self._store.named():
            await self._collection.delete_one({"_id": rule})
