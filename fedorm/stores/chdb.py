"""chDB: ClickHouse's engine inside this process, over the dialect chdb-sqlalchemy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from sqlalchemy import URL, Engine, Table, create_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

from fedorm.bridge import ThreadBridge
from fedorm.config import ServiceSettings
from fedorm.exc import ServiceTimeoutError, ServiceUnavailableError, StoreError
from fedorm.stores.base import Capability
from fedorm.stores.offload import Workers, offload
from fedorm.stores.sql import SQLStore


class ChDBStore(SQLStore):
    """A folder, or memory, that the engine of ClickHouse works in; a process can have one at a time."""

    kind = "chdb"
    extra = "chdb"
    async_driver = "dbapi"
    sync_driver = "dbapi"
    packages: ClassVar[Sequence[str]] = ("chdb", "chdb_sqlalchemy")
    batch_size = 2_000
    capabilities = frozenset({Capability.SQL})

    def __init__(self, service: str, settings: ServiceSettings) -> None:
        super().__init__(service, settings)
        # One thread: the engine is one for the process and is not made for several at once.
        self._workers = Workers(service, 1)

    def connect_args(self, url: URL, *, is_async: bool) -> dict[str, Any]:
        """Return nothing: the URL says it all."""
        return {}

    def make_async_engine(self) -> Engine:
        """Make the engine for greenlets, over a thread."""
        engine = self._make_engine(AsyncAdaptedQueuePool)
        engine.dialect.is_async = True
        return engine

    def make_sync_engine(self) -> Engine:
        """Make the engine for threads."""
        return self._make_engine(QueuePool)

    def _make_engine(self, pool: type[QueuePool]) -> Engine:
        pool_class: Any = self._pool_class(pool)
        # The dialect is told that it is async below, after the check that compares the two.
        pool_class._is_asyncio = False
        options = self._engine_options(pool_class, {})
        options |= {"pool_size": 1, "max_overflow": 0}
        options.pop("connect_args")
        engine = create_engine(self.url.set(drivername="chdb"), **options)
        return offload(engine, self._workers, lambda connection: connection.close())

    async def close(self) -> None:
        """Close the connection and end its thread."""
        await super().close()
        if self._sync_engine is None:
            self._workers.close()

    def close_sync(self, bridge: ThreadBridge) -> None:
        """Close the connection for threads."""
        super().close_sync(bridge)
        if self._engine is None:
            self._workers.close()

    def classify(self, error: BaseException) -> type[ServiceUnavailableError | ServiceTimeoutError] | None:
        """Tell by the engine's words: there is no server to be gone."""
        text = str(error)
        if "TIMEOUT_EXCEEDED" in text:
            return ServiceTimeoutError
        return ServiceUnavailableError if "CANNOT_OPEN_FILE" in text or "already initialized" in text else None

    def _name_service(self, context: Any) -> None:
        super()._name_service(context)
        if context.sqlalchemy_exception is None and isinstance(context.original_exception, Exception):
            raise self.error(StoreError, context.original_exception) from context.original_exception

    def prepare_table(self, table: Table) -> None:
        """Leave the table: the dialect's default is a MergeTree ordered by the primary key."""
