"""The outbox of a MongoDB service, as the relay reads it."""

from __future__ import annotations

import datetime
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fedorm.exc import DuplicateKeyError
from fedorm.outbox.tables import PARTITIONS, State
from fedorm.relay.mongodb_claims import MongoDBClaim
from fedorm.relay.sources import Backlog, Claim, Held
from fedorm.relay.waking import Bell

if TYPE_CHECKING:
    from fedorm.stores.mongodb import MongoDBStore

_POLL = 0.05
_PART = 1000


class MongoDBSource:
    """The collections ``fedorm_outbox``, ``fedorm_outbox_partitions`` and ``fedorm_outbox_deliveries``."""

    def __init__(self, store: MongoDBStore, *, keep: float = 0.0, lease: float = 10.0) -> None:
        self.store = store
        self.service = store.service
        self.keep = keep
        self.lease: float | None = lease
        self.lease_time = lease
        self.listens = False
        self.poll = _POLL

    def collection(self, name: str) -> Any:
        """Return one of the collections."""
        return self.store.own_collection(name, sync=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """Give a transaction, None where the server has none; committed at the end of the block."""
        transaction = await self.store.begin(sync=False)
        try:
            async with self.store.named():
                yield transaction
        except BaseException:
            if transaction is not None:
                await self.store.abort(transaction)
            raise
        if transaction is not None:
            await self.store.commit(transaction)

    async def moment(self) -> int:
        """Return the server's time, in milliseconds since 1970."""
        hello = await self.store.own_database().command("hello")
        return round(_seconds(hello["localTime"]) * 1000)

    def claim(self, owner: str) -> Claim:
        """Return a new worker's claim; ``owner`` is like no other's in the world."""
        return MongoDBClaim(self, owner)

    async def listen(self, bell: Bell) -> None:
        """Do nothing: whoever writes in this federation rings, and for others there is the poll."""

    async def exists(self) -> bool:
        """Say whether the service has an outbox."""
        async with self.store.named():
            names = await self.store.own_database().list_collection_names(filter={"name": "fedorm_outbox"})
        return bool(names)

    async def prepare(self) -> None:
        """Make the indexes that the outbox has not come with, and the partitions' leases."""
        async with self.store.named():
            deliveries = self.collection("fedorm_outbox_deliveries")
            await deliveries.create_index([("target", 1), ("next_at", 1)])
            await deliveries.create_index([("partition", 1), ("key", 1)])
            await deliveries.create_index([("position", 1)])
            await self.collection("fedorm_inbox").create_index([("at", 1)])
            partitions = self.collection("fedorm_outbox_partitions")
            there = {one["_id"] for one in await partitions.find({}, {"_id": 1}).to_list(None)}
        missing = [{"_id": number, "owner": None, "until": 0.0} for number in range(PARTITIONS) if number not in there]
        if missing:
            try:
                async with self.store.named():
                    await partitions.insert_many(missing, ordered=False)
            except DuplicateKeyError:
                pass  # Another relay was there first.

    # -- figures

    async def backlog(self) -> Backlog:
        """Count what is there."""
        outbox = self.collection("fedorm_outbox")
        async with self.store.named():
            counts = {
                state: await outbox.count_documents({"state": state.value})
                for state in (State.WAITING, State.HELD, State.DELIVERED)
            }
            held = await self._by_target({"failed_at": None})
            failed = await self._by_target({"failed_at": {"$ne": None}})
        oldest = await self._oldest({"state": {"$ne": State.DELIVERED.value}})
        return Backlog(
            waiting=counts[State.WAITING] + counts[State.HELD],
            oldest=None if oldest is None else max(0.0, time.time() - oldest),
            kept=counts[State.DELIVERED],
            held=held,
            failed=failed,
        )

    async def _by_target(self, which: dict[str, Any]) -> dict[str, int]:
        deliveries = self.collection("fedorm_outbox_deliveries")
        return {
            target: await deliveries.count_documents({**which, "target": target})
            for target in await deliveries.distinct("target", which)
        }

    async def _oldest(self, which: dict[str, Any]) -> float | None:
        async with self.store.named():
            first = await self.collection("fedorm_outbox").find(which, {"at": 1}).sort("at", 1).limit(1).to_list(None)
        return _seconds(first[0]["at"]) if first else None

    async def oldest(self) -> float:
        """Return when the oldest event was written that may be handed on again, in seconds since 1970: now if none."""
        async with self.store.named():
            pending = await self.collection("fedorm_outbox_deliveries").distinct("position", {"failed_at": None})
        which = [{"state": State.WAITING.value}, {"state": State.HELD.value, "position": {"$in": pending}}]
        oldest = await self._oldest({"$or": which})
        return time.time() if oldest is None else oldest

    # -- what was put aside

    async def troubles(self, *, target: str | None, failed: bool) -> list[Held]:
        """Return what was put aside, or for ``failed=False`` what is being tried again, oldest first."""
        which: dict[str, Any] = {"failed_at": {"$ne": None}} if failed else {"failed_at": None, "attempts": {"$gt": 0}}
        if target is not None:
            which["target"] = target
        async with self.store.named():
            found = await self.collection("fedorm_outbox_deliveries").find(which).sort("position", 1).to_list(None)
            positions = [one["position"] for one in found]
            outbox = self.collection("fedorm_outbox")
            events = {one["position"]: one async for one in outbox.find({"position": {"$in": positions}})}
        return [self._held(one, events[one["position"]]) for one in found if one["position"] in events]

    def _held(self, delivery: dict[str, Any], event: dict[str, Any]) -> Held:
        return Held(
            self.service,
            delivery["target"],
            delivery["position"],
            event["id"],
            event["type"],
            event["key"],
            delivery["attempts"],
            delivery["error"],
            delivery["next_at"],
            delivery["failed_at"],
        )

    async def _put_aside(self, target: str | None, ids: Collection[str] | None) -> list[dict[str, Any]]:
        which: dict[str, Any] = {"failed_at": {"$ne": None}}
        if target is not None:
            which["target"] = target
        async with self.store.named():
            if ids is not None:
                found = self.collection("fedorm_outbox").find({"id": {"$in": list(ids)}}, {"position": 1})
                which["position"] = {"$in": [one["position"] async for one in found]}
            found = await self.collection("fedorm_outbox_deliveries").find(which).to_list(None)
            return list(found)

    async def retry(self, *, target: str | None, ids: Collection[str] | None) -> int:
        """Hand on anew what was put aside, of these ids or all; return how many."""
        which = await self._put_aside(target, ids)
        change = {"$set": {"failed_at": None, "attempts": 0, "next_at": 0.0}}
        async with self.store.named():
            await self.collection("fedorm_outbox_deliveries").update_many({"_id": {"$in": _ids(which)}}, change)
        return len(which)

    async def drop(self, *, target: str | None, ids: Collection[str] | None) -> int:
        """Never hand on what was put aside, of these ids or all; return how many."""
        which = await self._put_aside(target, ids)
        async with self.transaction() as transaction:
            deliveries = self.collection("fedorm_outbox_deliveries")
            await deliveries.delete_many({"_id": {"$in": _ids(which)}}, session=transaction)
            gone = await self.complete([one["position"] for one in which], transaction)
            await self.collection("fedorm_outbox").delete_many({"position": {"$in": gone}}, session=transaction)
        return len(which)

    async def complete(self, positions: Sequence[Any], transaction: Any) -> list[Any]:
        """Return those of events that no target waits for any more."""
        deliveries = self.collection("fedorm_outbox_deliveries")
        missing = set(
            await deliveries.distinct("position", {"position": {"$in": list(positions)}}, session=transaction)
        )
        return [one for one in dict.fromkeys(positions) if one not in missing]

    # -- what is kept for a time

    async def forget_delivered(self, keep: float) -> int:
        """Remove events that were delivered before ``keep`` seconds; return how many."""
        before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=keep)
        which = {"state": State.DELIVERED.value, "delivered_at": {"$lt": before}}
        async with self.store.named():
            return int((await self.collection("fedorm_outbox").delete_many(which)).deleted_count)

    async def forget_inbox(self, before: float) -> int:
        """Remove what the service's inbox wrote down before a moment, in seconds since 1970; return how many."""
        moment = datetime.datetime.fromtimestamp(before, datetime.UTC)
        async with self.store.named():
            return int((await self.collection("fedorm_inbox").delete_many({"at": {"$lt": moment}})).deleted_count)


def _ids(documents: Sequence[dict[str, Any]]) -> list[Any]:
    return [one["_id"] for one in documents]


def _seconds(moment: datetime.datetime) -> float:
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)).timestamp()
