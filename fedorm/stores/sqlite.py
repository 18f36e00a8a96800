"""SQLite: aiosqlite under greenlets, the standard library's driver under threads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Executable, Table, TextClause, event, text, types
from sqlalchemy.dialects import sqlite

from fedorm.exc import ServiceTimeoutError, ServiceUnavailableError
from fedorm.stores.base import Capability
from fedorm.stores.exact import FiniteFloat, FloatBackedNumeric, Zoned, use
from fedorm.stores.findings import Finding, Needs
from fedorm.stores.rows import RowAccess, RowShape
from fedorm.stores.sql import WRITES, SQLStore
from fedorm.stores.sqlite_rows import SQLiteRowAccess
from fedorm.stores.upserting import upsert_on_conflict


class _DateTime(Zoned, sqlite.DATETIME):
    """Text; of a column with a zone, in UTC."""

    stores_utc = True


async def _connect(*arguments: Any, **options: Any) -> Any:
    """Connect by aiosqlite; if it cannot, wait until its thread has ended, which would call a loop that is closed."""
    import aiosqlite

    connection = aiosqlite.connect(*arguments, **options)
    thread: Any = getattr(connection, "_thread", connection)  # Before version 0.22 it is the connection itself.
    thread.daemon = True  # As SQLAlchemy makes it.
    try:
        return await connection
    except BaseException:
        await asyncio.to_thread(thread.join)
        raise


class SQLiteStore(SQLStore):
    """A SQLite file; the embedded stand-in for a server."""

    kind = "sqlite"
    oldest = (3, 35)
    answers_while_streaming = True
    sql_dialect = "sqlite"
    extra = "sqlite"
    async_driver = "aiosqlite"
    sync_driver = "pysqlite"
    packages = ("aiosqlite",)
    batch_size = 500
    capabilities = frozenset(
        {
            Capability.SQL,
            Capability.TRANSACTIONS,
            Capability.SAVEPOINTS,
            Capability.DDL_IN_TRANSACTIONS,
            Capability.STREAMING,
            Capability.JOINS,
            Capability.UPDATES,
        }
    )

    def connect_args(self, url: URL, *, is_async: bool) -> dict[str, Any]:
        """Return how long to wait for another writer."""
        waiting: dict[str, Any] = {"timeout": self.settings.timeout or 5.0}
        return waiting | {"async_creator_fn": _connect} if is_async else waiting

    def adapt(self, dialect: Any) -> None:
        """Keep zones, and refuse decimals and floats that would come back as others."""
        use(dialect, {types.DateTime: _DateTime, types.Numeric: FloatBackedNumeric, types.Float: FiniteFloat})

    def _watched(self, engine: Engine) -> Engine:
        super()._watched(engine)

        @event.listens_for(engine, "connect")
        def configure(connection: Any, record: Any) -> None:
            """Hand transactions to SQLAlchemy (savepoints need it) and let readers and a writer coexist."""
            connection.isolation_level = None
            cursor = connection.cursor()
            cursor.execute("PRAGMA foreign_keys = ON")
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.close()

        @event.listens_for(engine, "begin")
        def begin(connection: Any) -> None:
            # Of two that read and then write, a deferred one would fail at once, instead of waiting for the other.
            writes = connection.get_execution_options().get(WRITES)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

        return engine

    def asks_version(self) -> TextClause:
        """Ask the library."""
        return text("SELECT sqlite_version()")

    def examine_rights(self, connection: Connection, needs: Needs, there: Sequence[Table]) -> Iterator[Finding]:
        """Look at the file, and at its folder: others are made beside it."""
        file = connection.scalar(text("SELECT file FROM pragma_database_list WHERE name = 'main'"))
        for path in [Path(file), Path(file).parent] if file else []:
            if not os.access(path, os.W_OK):
                yield Finding(f"this process may not write to {path}", f"run  chmod u+w {path}", "privilege")

    def row_access(self, shape: RowShape) -> RowAccess:
        """Return what reads and writes whole rows of one table."""
        return SQLiteRowAccess(self, shape)

    def upsert(
        self, table: Table, names: Sequence[str], rows: Sequence[dict[str, Any]]
    ) -> list[tuple[Executable, list[dict[str, Any]]]]:
        """Use ``ON CONFLICT`` of the primary key."""
        return upsert_on_conflict(sqlite.insert(table), table, names, rows)

    def classify(self, error: BaseException) -> type[ServiceUnavailableError | ServiceTimeoutError] | None:
        """Tell by the library's words; it has no codes on older Pythons."""
        text = str(error)
        if "database is locked" in text:
            return ServiceTimeoutError
        if "unable to open database file" in text or "file is not a database" in text or "disk I/O" in text:
            return ServiceUnavailableError
        return None
