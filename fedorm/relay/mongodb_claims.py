"""One relay worker's hold on partitions of an outbox in MongoDB: by leases."""

from __future__ import annotations

import datetime
import time
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fedorm.exc import StoreError
from fedorm.outbox.tables import PARTITIONS, State
from fedorm.relay.rows import event_of_document
from fedorm.relay.sources import Batch, ClaimLostError, Settlement, Waiting, keys_of, positions

if TYPE_CHECKING:
    from fedorm.relay.mongodb_source import MongoDBSource

AT_ONCE = PARTITIONS // 4


class MongoDBClaim:
    """Writes its name and a time limit beside its partitions; what it settles counts while they are still its own."""

    def __init__(self, source: MongoDBSource, owner: str) -> None:
        self._source = source
        self._owner = owner
        self._next = 0
        self._taken: list[int] = []
        self._token = 0

    async def take(self, targets: Collection[str], limit: int) -> Batch | None:
        """Make some partitions this worker's and return their next events; None where there are none to be had."""
        async with self._source.store.named():
            self._taken = await self._claimed(targets)
            if not self._taken:
                return None
            try:
                return await self._read(targets, limit)
            except BaseException:
                await self.give_up()
                raise

    async def _claimed(self, targets: Collection[str]) -> list[int]:
        outbox, deliveries = self._collection("fedorm_outbox"), self._collection("fedorm_outbox_deliveries")
        now = time.time()
        wanted = set(await outbox.distinct("partition", {"state": State.WAITING.value}))
        due = {"target": {"$in": list(targets)}, "next_at": {"$lte": now}}
        wanted |= set(await deliveries.distinct("partition", due))
        turn = sorted(wanted, key=lambda number: (number - self._next) % PARTITIONS)[:AT_ONCE]
        if not turn:
            return []
        self._next = (turn[-1] + 1) % PARTITIONS
        leases = self._collection("fedorm_outbox_partitions")
        free = {"_id": {"$in": turn}, "$or": [{"until": {"$lt": now}}, {"owner": self._owner}]}
        # The server's clock, before the lease is written: one that is over was taken before.
        self._token = await self._source.moment()
        until = now + self._source.lease_time
        await leases.update_many(free, {"$set": {"owner": self._owner, "until": until}})
        mine = leases.find({"_id": {"$in": turn}, "owner": self._owner, "until": until}, {"_id": 1})
        return [one["_id"] async for one in mine]

    async def _read(self, targets: Collection[str], limit: int) -> Batch:
        service, share = self._source.service, max(1, limit // len(self._taken))
        outbox, deliveries = self._collection("fedorm_outbox"), self._collection("fedorm_outbox_deliveries")
        fresh: list[Waiting] = []
        for partition in self._taken:
            found = outbox.find({"state": State.WAITING.value, "partition": partition}).sort("position", 1).limit(share)
            fresh += [_waiting(service, one) async for one in found]
        batch = Batch(fresh, token=self._token)
        held = {"partition": {"$in": self._taken}, "key": {"$in": keys_of(fresh)}, "next_at": {"$ne": None}}
        async for one in deliveries.find(held):
            line = (one["target"], one["key"])
            batch.held[line] = max(one["next_at"], batch.held.get(line, 0.0))
        due = {"partition": {"$in": self._taken}, "target": {"$in": list(targets)}, "next_at": {"$lte": time.time()}}
        waiting = await deliveries.find(due).sort("position", 1).limit(limit).to_list(None)
        wanted = list({one["position"] for one in waiting})
        events = {one["position"]: one async for one in outbox.find({"position": {"$in": wanted}})} if wanted else {}
        for one in waiting:
            again = _waiting(service, events[one["position"]], one["attempts"])
            batch.due.setdefault(one["target"], []).append(again)
        return batch

    async def settle(self, done: Settlement) -> None:
        """Write down what has become of the batch, and give the partitions back. Raises where they were lost."""
        taken, self._taken = self._taken, []
        async with self._source.transaction() as transaction:
            mine = {"_id": {"$in": taken}, "owner": self._owner}
            free = {"$set": {"owner": None, "until": 0.0}}
            leases = self._collection("fedorm_outbox_partitions")
            if transaction is None:  # Then what follows is not one with it, and the partitions have to be kept.
                await self.renew_of(taken)
            elif (await leases.update_many(mine, free, session=transaction)).matched_count < len(taken):
                raise ClaimLostError(self._source.service)
            await self._note(done, transaction)
            if transaction is None:
                await leases.update_many(mine, free)

    async def _note(self, done: Settlement, transaction: Any) -> None:
        outbox, deliveries = self._collection("fedorm_outbox"), self._collection("fedorm_outbox_deliveries")
        for target, caught_up in done.caught_up.items():
            got = {"target": target, "position": {"$in": positions(caught_up)}}
            await deliveries.delete_many(got, session=transaction)
        await self._park(done, transaction)
        for failure in done.failures:
            line = {"partition": failure.first.partition, "key": failure.first.event.key, "target": failure.target}
            head = {"position": failure.first.position, "target": failure.target}
            values: dict[str, Any] = {"error": failure.error}
            if failure.next_at is None:
                values |= {"failed_at": time.time(), "next_at": None}
            else:
                later = {"$set": {"next_at": failure.next_at}}
                await deliveries.update_many({**line, "failed_at": None}, later, session=transaction)
            note = {"$inc": {"attempts": 1}, "$set": values}
            await deliveries.update_one(head, note, session=transaction)
        finished = positions(done.delivered)
        caught_up = [one.position for several in done.caught_up.values() for one in several]
        if caught_up:
            finished += await self._source.complete(caught_up, transaction)
        if not finished:
            return
        which = {"position": {"$in": finished}}
        if self._source.keep > 0:
            kept = {"state": State.DELIVERED.value, "delivered_at": datetime.datetime.now(datetime.UTC)}
            await outbox.update_many(which, {"$set": kept}, session=transaction)
        else:
            await outbox.delete_many(which, session=transaction)

    async def _park(self, done: Settlement, transaction: Any) -> None:
        rows = [
            {
                "_id": {"target": target, "position": waiting.position},
                "target": target,
                "position": waiting.position,
                "partition": waiting.partition,
                "key": waiting.event.key,
                "attempts": 0,
                "next_at": moment,
                "error": None,
                "failed_at": None,
            }
            for target, parked in done.parked.items()
            for waiting, moment in parked
        ]
        if not rows:
            return
        await self._collection("fedorm_outbox_deliveries").insert_many(rows, session=transaction)
        held = {"position": {"$in": [row["position"] for row in rows]}}
        await self._collection("fedorm_outbox").update_many(
            held, {"$set": {"state": State.HELD.value}}, session=transaction
        )

    async def renew(self) -> None:
        """Keep the partitions while events are being handed on. Raises ``ClaimLostError``."""
        async with self._source.store.named():
            await self.renew_of(self._taken)

    async def renew_of(self, partitions: list[int]) -> None:
        """Keep these partitions for longer. Raises ``ClaimLostError``."""
        mine = {"_id": {"$in": partitions}, "owner": self._owner}
        until = {"$set": {"until": time.time() + self._source.lease_time}}
        kept = await self._collection("fedorm_outbox_partitions").update_many(mine, until)
        if kept.matched_count < len(partitions):
            raise ClaimLostError(self._source.service)

    async def give_up(self) -> None:
        """Give the partitions back with everything as it was; harmless without any."""
        taken, self._taken = self._taken, []
        if taken:
            with suppress(StoreError):  # Then they come free with the end of the lease.
                async with self._source.store.named():
                    await self._collection("fedorm_outbox_partitions").update_many(
                        {"_id": {"$in": taken}, "owner": self._owner}, {"$set": {"owner": None, "until": 0.0}}
                    )

    async def close(self) -> None:
        """Give up."""
        await self.give_up()

    def _collection(self, name: str) -> Any:
        return self._source.collection(name)


def _waiting(service: str, document: dict[str, Any], attempts: int = 0) -> Waiting:
    return Waiting(document["position"], document["partition"], event_of_document(service, document), attempts)
