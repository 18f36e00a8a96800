"""Tables that no model declares: read from a service, and made known to one federation."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Engine, MetaData, Table
from sqlalchemy.util import greenlet_spawn

from fedorm.bridge import ThreadBridge
from fedorm.catalog import SERVICE
from fedorm.query.tables import Tables
from fedorm.stores.base import DocumentStore, Store
from fedorm.stores.reflecting import point_to
from fedorm.stores.sql import SQLStore


class Reflection:
    """One reading of a service's tables: ``only`` those named, or all."""

    def __init__(self, tables: Tables, store: Store, only: Collection[str] | None) -> None:
        self._tables, self._store = tables, store
        self._only = None if only is None else set(only)
        self._declared = tables.declared(store.service)
        self._seen: set[str] = set()
        self._metadata = MetaData(info={SERVICE: store.service})

    async def read(self) -> dict[str, Table]:
        """Read in a task; return the tables found. Raises ``UnknownTableError`` for a name that is not there."""
        store = self._store
        if isinstance(store, SQLStore):
            await greenlet_spawn(self._read_rows, store, store.engine)
        elif isinstance(store, DocumentStore):
            await store.reflect_tables(self._metadata, self._wants, sync=False)
        return self._found()

    def read_sync(self, bridge: ThreadBridge) -> dict[str, Table]:
        """Read in a thread."""
        store = self._store
        if isinstance(store, SQLStore):
            self._read_rows(store, store.sync_engine)
        elif isinstance(store, DocumentStore):
            bridge.run(store.reflect_tables(self._metadata, self._wants, sync=True))
        return self._found()

    def _read_rows(self, store: SQLStore, engine: Engine) -> None:
        with engine.connect() as connection:
            store.reflect_tables(connection, self._metadata, self._wants)

    def _wants(self, name: str) -> bool:
        self._seen.add(name)
        return name not in self._declared and (self._only is None or name in self._only)

    def _found(self) -> dict[str, Table]:
        service, found = self._store.service, dict(self._metadata.tables)
        for name in sorted((self._only or set()) - found.keys() - self._declared.keys()):
            raise self._tables.unknown(f"{service}.{name}", [f"{service}.{one}" for one in self._seen])
        known = self._tables.of(service)
        for table in found.values():
            point_to(known, table)
        self._tables.add(service, found, complete=self._only is None)
        return found
