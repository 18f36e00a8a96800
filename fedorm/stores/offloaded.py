"""SQL stores whose drivers block: both of their engines work in threads."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from sqlalchemy import URL, Engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

from fedorm.stores.sql import SQLStore


class OffloadedStore(SQLStore):
    """A store that makes one kind of engine, for threads and for greenlets."""

    @abstractmethod
    def make_offloaded(self, options: dict[str, Any]) -> Engine:
        """Make an engine that connects through ``offload()``; ``options`` are those of ``create_engine()``."""

    def connect_args(self, url: URL, *, is_async: bool) -> dict[str, Any]:
        """Return nothing: these drivers read the URL alone."""
        return {}

    def make_async_engine(self) -> Engine:
        """Make the engine for greenlets, over threads."""
        engine = self._make_engine(AsyncAdaptedQueuePool)
        # Nothing of it blocks the loop any more, which is what SQLAlchemy's asyncio extension asks.
        engine.dialect.is_async = True
        return engine

    def make_sync_engine(self) -> Engine:
        """Make the engine for threads."""
        return self._make_engine(QueuePool)

    def _make_engine(self, pool: type[QueuePool]) -> Engine:
        pool_class: Any = self._pool_class(pool)
        # The dialect is told that it is async above, after the check that compares the two.
        pool_class._is_asyncio = False
        options = self._engine_options(pool_class, {})
        options.pop("connect_args")
        return self.make_offloaded(options)
