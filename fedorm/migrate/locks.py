"""Who migrates a SQL service keeps others from doing it at the same time, by what its database has for that."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import zlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, func, select
from sqlalchemy.pool import Pool
from sqlalchemy.schema import DropTable
from sqlalchemy.util import greenlet_spawn

from fedorm.exc import StoreError
from fedorm.migrate.errors import BusyError
from fedorm.stores.base import Capability, Store
from fedorm.stores.sql import SQLStore

LOCK_TABLE = "fedorm_migrations_lock"
"""The table whose being there is the lock, in a database that has none."""
JOURNAL = "fedorm_migrating"
"""The table of what a revision has done so far, where tables are not made in transactions."""
TRANSIENT = frozenset({LOCK_TABLE, JOURNAL})
"""Tables that are there only while a migration is carried out."""

_NAME = "fedorm migrations"
_POLL = 0.2
_LOCKING = ("postgresql", "mysql", "mariadb", "sqlite")
"""Databases with a lock that goes with the process that holds it."""


def keeper_of(store: SQLStore, stores: Iterable[Store]) -> SQLStore:
    """Return the store that has the lock for another one: itself, or the first of the federation's that can."""
    if _dialect(store) in _LOCKING or store.kind == "chdb":
        return store
    able = (one for one in stores if isinstance(one, SQLStore) and Capability.TRANSACTIONS in one.capabilities)
    return next((one for one in able if _dialect(one) in _LOCKING), store)


@asynccontextmanager
async def locked(store: SQLStore, keeper: SQLStore, *, wait: float, sync: bool) -> AsyncIterator[None]:
    """Hold the lock of a service as long as the block runs; it goes with its connection if the process dies.

    PostgreSQL's advisory lock and MySQL's named lock are of one database; SQLite has a file beside its own; elsewhere
    a table is the lock, which stays if the process dies. Raises ``BusyError`` when another process has it for more
    than ``wait`` seconds.
    """
    name = f"{_NAME} {store.service}" if keeper is not store else _NAME
    dialect = _dialect(keeper)
    if dialect == "sqlite":
        async with _file_locked(store, keeper, wait):
            yield
    elif dialect in _LOCKING:
        async with _connection_locked(store, keeper, name, wait, sync=sync):
            yield
    elif keeper.kind == "chdb":
        yield  # Its engine lets nobody else into the folder.
    else:
        async with _table_locked(store, wait, sync=sync):
            yield


def _dialect(store: SQLStore) -> str:
    return store.url.get_backend_name()


async def _run(work: Any, *arguments: Any, sync: bool) -> Any:
    return await (asyncio.to_thread(work, *arguments) if sync else greenlet_spawn(work, *arguments))


# -- databases with locks


@asynccontextmanager
async def _connection_locked(
    store: SQLStore, keeper: SQLStore, name: str, wait: float, *, sync: bool
) -> AsyncIterator[None]:
    engine = keeper.bind_for(sync=sync)
    # Beside the pool, which may have one connection alone, and closed for good: a pooled one would keep the lock.
    pool = engine.pool.recreate()
    connection: Connection = await _run(_connect, engine, pool, sync=sync)
    try:
        asked: Any = select(func.pg_try_advisory_lock(zlib.crc32(name.encode())))
        if _dialect(keeper) != "postgresql":
            # A lock's name is the server's, and 64 characters long at most.
            asked = select(func.get_lock(func.md5(func.concat(func.database(), f" {name}")), 0))
        until = time.monotonic() + wait
        while not await _run(_asked, connection, asked, sync=sync):
            if time.monotonic() >= until:
                raise _busy(store, wait)
            await asyncio.sleep(_POLL)
        yield
    finally:
        await asyncio.shield(_run(_let_go, connection, pool, sync=sync))


def _asked(connection: Connection, statement: Any) -> bool:
    found = bool(connection.execute(statement).scalar())
    connection.commit()
    return found


def _connect(engine: Engine, pool: Pool) -> Connection:
    return Connection(engine, connection=pool.connect())


def _let_go(connection: Connection, pool: Pool) -> None:
    connection.close()
    pool.dispose()


# -- a file


@asynccontextmanager
async def _file_locked(store: SQLStore, keeper: SQLStore, wait: float) -> AsyncIterator[None]:
    database = keeper.url.database
    if not database or database == ":memory:":
        yield
        return
    suffix = "migrating" if keeper is store else f"{store.service}.migrating"
    with _opened(f"{database}.{suffix}") as file:
        until = time.monotonic() + wait
        while not _flocked(file):
            if time.monotonic() >= until:
                raise _busy(store, wait)
            await asyncio.sleep(_POLL)
        yield


def _opened(path: str) -> TextIO:
    return Path(path).open("a", encoding="utf-8")


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


# -- a table


@asynccontextmanager
async def _table_locked(store: SQLStore, wait: float, *, sync: bool) -> AsyncIterator[None]:
    until = time.monotonic() + wait
    while not await _run(_make, store, sync, sync=sync):
        if time.monotonic() >= until:
            owner = await _run(_owner, store, sync, sync=sync)
            raise _busy(store, wait, f". If no process on {owner} does so, run there:  DROP TABLE {LOCK_TABLE}")
        await asyncio.sleep(_POLL)
    try:
        yield
    finally:
        await asyncio.shield(_run(_drop, store, sync, sync=sync))


def _lock_table() -> Table:
    return Table(LOCK_TABLE, MetaData(), Column("owner", String))


def _make(store: SQLStore, sync: bool) -> bool:
    from fedorm.stores.clickhouse_schema import Made

    with store.bind_for(sync=sync).connect() as connection:
        try:
            table = _lock_table()
            connection.execute(Made.of(table.name, list(table.columns), "Memory", store, connection.dialect))
        except StoreError as error:
            if "already exists" in str(error):
                return False
            raise
        connection.execute(_lock_table().insert(), [{"owner": f"{socket.gethostname()} {os.getpid()}"}])
    return True


def _owner(store: SQLStore, sync: bool) -> str:
    try:
        with store.bind_for(sync=sync).connect() as connection:
            return str(connection.execute(select(_lock_table().c.owner)).scalar() or "another machine")
    except StoreError:
        return "another machine"


def _drop(store: SQLStore, sync: bool) -> None:
    with store.bind_for(sync=sync).connect() as connection:
        connection.execute(DropTable(_lock_table()))


def _busy(store: SQLStore, wait: float, more: str = ": run it again once that has ended") -> BusyError:
    return BusyError(
        f"service {store.service!r} at {store.address} has been migrated by another process for more than "
        f"{wait:g} s{more}"
    )
