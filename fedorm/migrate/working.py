"""Where blocking work on a store of tables is done: under a greenlet over its asynchronous driver, or in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.util import greenlet_spawn

from fedorm.stores.sql import SQLStore

T = TypeVar("T")
_ALEMBIC = threading.Lock()
"""Alembic's ``context`` and ``op`` are the process's: one history at a time."""


async def working(store: SQLStore, work: Callable[[Engine], T], *, sync: bool) -> T:
    """Call ``work`` with the store's engine for greenlets, or with that for threads if ``sync``."""
    if not sync:
        return await greenlet_spawn(work, store.engine)
    was_open = store._sync_engine is not None
    engine = store.sync_engine
    try:
        return await asyncio.to_thread(work, engine)
    finally:
        if not was_open:
            store.close_sync(_NO_BRIDGE)


_NO_BRIDGE: Any = None
"""Stores of tables have engines for threads, which need none."""


@contextmanager
def unpooled(engine: Engine) -> Iterator[Connection]:
    """Give a connection beside the pool, whose only one may be in use."""
    pool = engine.pool.recreate()
    try:
        with Connection(engine, connection=pool.connect()) as connection:
            yield connection
    finally:
        pool.dispose()


async def alone(store: SQLStore, work: Callable[[Engine], T], *, sync: bool) -> T:
    """Do the same, with Alembic for itself in this process."""
    if sync:

        def locked(engine: Engine) -> T:
            # In the thread: a caller that is cancelled leaves it there.
            with _ALEMBIC:
                return work(engine)

        return await working(store, locked, sync=True)
    while not _ALEMBIC.acquire(blocking=False):  # noqa: ASYNC110 - held by threads, too
        await asyncio.sleep(0.02)
    try:
        return await working(store, work, sync=False)
    finally:
        _ALEMBIC.release()
