"""Who migrates a service of documents keeps others from doing it, by a document that has to be renewed."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from fedorm.migrate.errors import BusyError
from fedorm.stores.mongodb_schema import HISTORY

LEASE = 30.0
"""After how many seconds without being renewed a lock is another's to take."""
_POLL = 0.2
_ID = "fedorm lock"


@asynccontextmanager
async def leased(store: Any, *, wait: float, sync: bool) -> AsyncIterator[None]:
    """Hold the service's lock as long as the block runs; of a process that has died it ends after ``LEASE`` seconds.

    Raises ``BusyError`` when another process has it for more than ``wait`` seconds.
    """
    collection, owner = store.own_collection(HISTORY, sync=sync), f"{socket.gethostname()} {os.getpid()} {uuid4().hex}"
    until = time.monotonic() + wait
    async with store.named():
        while not await _take(collection, owner):
            if time.monotonic() >= until:
                raise BusyError(
                    f"service {store.service!r} at {store.address} has been migrated by another process for more than "
                    f"{wait:g} s: run it again once that has ended"
                )
            await asyncio.sleep(_POLL)
    renewing = asyncio.create_task(_renew(collection, owner))
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        async with store.named():
            await collection.update_one({"_id": _ID, "owner": owner}, {"$set": {"until": 0.0}})


async def _take(collection: Any, owner: str) -> bool:
    free = {"$setOnInsert": {"owner": None, "until": 0.0}}
    await collection.update_one({"_id": _ID}, free, upsert=True)
    now = time.time()
    mine = {"$set": {"owner": owner, "until": now + LEASE}}
    return bool((await collection.update_one({"_id": _ID, "until": {"$lt": now}}, mine)).matched_count)


async def _renew(collection: Any, owner: str) -> None:
    while True:
        await asyncio.sleep(LEASE / 3)
        await collection.update_one({"_id": _ID, "owner": owner}, {"$set": {"until": time.time() + LEASE}})
