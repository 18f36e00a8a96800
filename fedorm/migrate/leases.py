"""Who migrates a service of documents keeps others from doing it, by a document that has to be renewed."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol
from uuid import uuid4

from fedorm.migrate.errors import BusyError

LEASE = 30.0
"""After how many seconds without being renewed a lock is another's to take."""
_POLL = 0.2
_ID = "fedorm lock"


class Lease(Protocol):
    """A document that says whose the lock is, and until when."""

    async def take(self, owner: str, now: float, until: float) -> bool:
        """Make it ``owner``'s unless it is another's ``now``; say whether it is."""

    async def renew(self, owner: str, until: float) -> None:
        """Let it be ``owner``'s for longer, if it is."""


@asynccontextmanager
async def leased(store: Any, lease: Lease, *, wait: float) -> AsyncIterator[None]:
    """Hold the service's lock as long as the block runs; of a process that has died it ends after ``LEASE`` seconds.

    Raises ``BusyError`` when another process has it for more than ``wait`` seconds.
    """
    owner = f"{socket.gethostname()} {os.getpid()} {uuid4().hex}"
    until = time.monotonic() + wait
    async with store.named():
        while not await lease.take(owner, time.time(), time.time() + LEASE):
            if time.monotonic() >= until:
                raise BusyError(
                    f"service {store.service!r} at {store.address} has been migrated by another process for more than "
                    f"{wait:g} s: run it again once that has ended"
                )
            await asyncio.sleep(_POLL)
    renewing = asyncio.create_task(_renew(lease, owner))
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        async with store.named():
            await lease.renew(owner, 0.0)


async def _renew(lease: Lease, owner: str) -> None:
    while True:
        await asyncio.sleep(LEASE / 3)
        await lease.renew(owner, time.time() + LEASE)


class MongoDBLease:
    """A document in a collection of MongoDB's."""

    def __init__(self, collection: Any) -> None:
        self._collection = collection

    async def take(self, owner: str, now: float, until: float) -> bool:
        """Change it if its time is over."""
        free = {"$setOnInsert": {"owner": None, "until": 0.0}}
        await self._collection.update_one({"_id": _ID}, free, upsert=True)
        mine = {"$set": {"owner": owner, "until": until}}
        return bool((await self._collection.update_one({"_id": _ID, "until": {"$lt": now}}, mine)).matched_count)

    async def renew(self, owner: str, until: float) -> None:
        """Change it if it is still the owner's."""
        await self._collection.update_one({"_id": _ID, "owner": owner}, {"$set": {"until": until}})
