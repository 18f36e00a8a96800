"""What a federation keeps of its statements: their results, and figures of how they went."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, inspect
from sqlalchemy.util import greenlet_spawn

from fedorm.cache.memory import MemoryCache
from fedorm.cache.redis import RedisCache
from fedorm.cache.results import ResultCache
from fedorm.catalog import owner_of
from fedorm.config import CacheSettings
from fedorm.entity import is_document
from fedorm.exc import UnknownServiceError, UnknownTableError
from fedorm.stats import Meter, Observer, Statistics
from fedorm.stores.base import DocumentStore, Store
from fedorm.stores.offload import Workers


class ObservedStores:
    """The part of a ``Federation`` that watches its stores."""

    stores: dict[str, Store]

    def _observe_stores(self, settings: CacheSettings) -> None:
        self.cache = _cache(settings)
        """The results of statements that were run with ``cache_ttl``."""
        self.meter = Meter()
        for store in self.stores.values():
            store.cache = self.cache

    def stats(self) -> Statistics:
        """Return figures as of now: of all statements, by service, and of the result cache; nobody is asked for them.

        ``in_doubt`` is as of the last ``recover()`` or ``in_doubt()``, and says when that was.
        """
        return self.meter.statistics({name: store.sent for name, store in self.stores.items()}, self.cache.statistics())

    def observe(self, observer: Observer) -> None:
        """Let ``observer`` watch every statement and its steps from now on; ``fedorm.telemetry`` has one."""
        self.meter.observer = observer
        for store in self.stores.values():
            store.observer = observer

    async def forget(self, *tables: Any) -> None:
        """Drop the cached results that were read from models or tables; all of them when none is named.

        For what changes without fedorm: by other programs, by triggers, or below a view.
        """
        await greenlet_spawn(self.sync_forget, *tables)

    def sync_forget(self, *tables: Any) -> None:
        """Do the same as ``forget()`` in code that is not async."""
        if not tables:
            self.cache.clear()
        for one in tables:
            service, names = self._named(one)
            if service not in self.stores:
                raise UnknownServiceError(service, known=self.stores)
            self.cache.changed(self.stores[service].place.changed(names))

    def _named(self, one: Any) -> tuple[str, set[str]]:
        """Return the service and the names of a model's tables, of a table, or of ``"service.table"``."""
        if isinstance(one, str):
            service, _, name = one.partition(".")
            return service, {name.lower()}
        if isinstance(one, type) and is_document(one):
            model: Any = one
            store = self.stores.get(model.__service__)
            return model.__service__, {store.collection_of(one).lower()} if isinstance(store, DocumentStore) else set()
        tables = [one] if isinstance(one, Table) else inspect(one).tables
        owners = [owner for table in tables if (owner := owner_of(table)) is not None]
        if not owners:
            raise UnknownTableError(str(one), near=[])
        return owners[0], {table.name.lower() for table in tables}


def _cache(settings: CacheSettings) -> ResultCache:
    if settings.url is None:
        memory = MemoryCache(entries=settings.entries, size=settings.bytes)
        return ResultCache(memory, default_ttl=settings.ttl)
    redis = RedisCache(settings.url.get_secret_value(), Workers("cache", 4))
    return ResultCache(redis, default_ttl=settings.ttl)
