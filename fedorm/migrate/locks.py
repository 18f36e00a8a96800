"""Who migrates a SQL service keeps others from doing it at the same time, by what its database has for that."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import Connection, text
from sqlalchemy.util import greenlet_spawn

from fedorm.migrate.errors import BusyError
from fedorm.stores.sql import SQLStore

_KEY = zlib.crc32(b"fedorm migrations")
_NAME = "fedorm_migrations"
_POLL = 0.2


@asynccontextmanager
async def locked(store: SQLStore, *, wait: float) -> AsyncIterator[None]:
    """Hold the service's lock as long as the block runs; it goes with its connection if the process dies.

    PostgreSQL's advisory lock and MySQL's named lock are of one database; SQLite has a file beside its own.
    Raises ``BusyError`` when another process has it for more than ``wait`` seconds.
    """
    name = store.engine.dialect.name
    if name == "sqlite":
        async with _file_locked(store, wait):
            yield
        return
    if name not in ("postgresql", "mysql", "mariadb"):
        yield
        return
    connection: Connection = await greenlet_spawn(store.engine.connect)
    try:
        await _take(store, connection, name, wait)
        yield
    finally:
        # Closed for good: a pooled connection would keep the lock.
        await asyncio.shield(greenlet_spawn(_let_go, connection, name))


async def _take(store: SQLStore, connection: Connection, name: str, wait: float) -> None:
    asked = (
        text("SELECT pg_try_advisory_lock(:key)").bindparams(key=_KEY)
        if name == "postgresql"
        else text("SELECT GET_LOCK(CONCAT(DATABASE(), :name), 0)").bindparams(name=f".{_NAME}")
    )
    until = time.monotonic() + wait
    while not await greenlet_spawn(_asked, connection, asked):
        if time.monotonic() >= until:
            raise _busy(store, wait)
        await asyncio.sleep(_POLL)


def _asked(connection: Connection, statement: Any) -> bool:
    found = bool(connection.execute(statement).scalar())
    connection.commit()
    return found


def _let_go(connection: Connection, name: str) -> None:
    connection.invalidate()
    connection.close()


@asynccontextmanager
async def _file_locked(store: SQLStore, wait: float) -> AsyncIterator[None]:
    database = store.url.database
    if not database or database == ":memory:":
        yield
        return
    with Path(f"{database}.migrating").open("a", encoding="utf-8") as file:
        until = time.monotonic() + wait
        while not _flocked(file):
            if time.monotonic() >= until:
                raise _busy(store, wait)
            await asyncio.sleep(_POLL)
        yield


def _flocked(file: TextIO) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows has none: SQLite is there for one developer alone.
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _busy(store: SQLStore, wait: float) -> BusyError:
    return BusyError(
        f"service {store.service!r} at {store.address} has been migrated by another process for more than {wait:g} s: "
        f"run it again once that has ended"
    )
