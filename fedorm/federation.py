"""``Federation``: the services of an application, opened and closed together."""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sqlalchemy import Table
from sqlalchemy.orm import configure_mappers

from fedorm.async_session import AsyncFederatedSession
from fedorm.bridge import AsyncBridge, Bridge, ThreadBridge, Turns
from fedorm.catalog import catalog
from fedorm.config import FederationSettings, find_settings_file, settings_from_file, with_options
from fedorm.exc import (
    FederationOpenError,
    FedormError,
    MissingDriverError,
    StoreError,
    UnknownServiceError,
)
from fedorm.health import Health, WithHealth
from fedorm.migrate.migrations import WithMigrations
from fedorm.observed import ObservedStores
from fedorm.orphans import Orphans, find_orphans
from fedorm.outbox.services import checked, make_outboxes
from fedorm.query.tables import Tables
from fedorm.recovery import RecoveringStores
from fedorm.reflection import Reflection
from fedorm.sagas.sagas import WithSagas
from fedorm.session import FederatedSession
from fedorm.stats import Observer
from fedorm.stores.base import DocumentStore, Store, store_for
from fedorm.stores.offload import Workers
from fedorm.sync.sync import WithSync
from fedorm.telemetry import trace_if_set

if TYPE_CHECKING:
    from fedorm.query.runner import QueryRunner
    from fedorm.relationship import FederatedAttribute


T = TypeVar("T")

__all__ = ["Federation", "Health"]


class Federation(ObservedStores, RecoveringStores, WithHealth, WithSync, WithSagas, WithMigrations):
    """The services of an application by name; use it with ``async with``, or with ``with`` in code that is not async.

    ``services`` maps each name to a URL or to a table of settings: ``{"url": ..., "pool_size": 10, "timeout": 30}``.
    Raises ``ConfigurationError`` for settings that are not valid and ``MissingDriverError`` for a driver that is not
    installed; nothing is connected before the federation is entered.

    With ``cache_ttl`` the rows of every statement are kept for so many seconds, else those of statements with
    ``execution_options(cache_ttl=...)``: in memory, up to ``cache_entries`` and about ``cache_bytes``, or in the Redis
    at ``cache_url``. A select over several services keeps within ``memory_limit``, as "512MB", and lays what does not
    fit into ``spill_directory``. With ``recover_on_start`` it is opened as ``recover()`` leaves it.
    """

    def __init__(
        self,
        services: Mapping[str, Any] | FederationSettings,
        *,
        memory_limit: str | None = None,
        spill_directory: str | os.PathLike[str] | None = None,
        cache_ttl: float | None = None,
        cache_url: str | None = None,
        cache_entries: int | None = None,
        cache_bytes: int | None = None,
        recover_on_start: bool | None = None,
    ) -> None:
        cache = {"ttl": cache_ttl, "url": cache_url, "entries": cache_entries, "bytes": cache_bytes}
        query = {"memory_limit": memory_limit, "spill_directory": spill_directory}
        transactions = {"recover_on_start": recover_on_start}
        settings = with_options(services, {"cache": cache, "query": query, "transactions": transactions})
        self.settings: FederationSettings = settings
        self.stores: dict[str, Store] = {name: store_for(name, one) for name, one in settings.services.items()}
        self._observe_stores(settings.cache)
        self._async_bridge = AsyncBridge()
        self._thread_bridge: ThreadBridge | None = None
        self._open = False
        self._lifetime = Turns()
        """Who opens or closes goes one after the other, in tasks and in threads."""
        self._tasks_inside = self._threads_inside = 0
        self._threads_lifetime = threading.Lock()
        documents = {
            name: store.document_tables for name, store in self.stores.items() if isinstance(store, DocumentStore)
        }
        self._tables = Tables(self.stores, documents)
        self._queries: QueryRunner | None = None
        self._query_settings = settings.query
        self._recover_on_start = settings.transactions.recover_on_start
        self.migrations_directory = settings.migrations.directory
        self.migrations_order = settings.migrations.order

    @classmethod
    def from_file(cls, path: str | os.PathLike[str] | None = None) -> Self:
        """Make a federation from a TOML file with a table ``[services.<name>]`` for each service.

        Without ``path`` it is the file that FEDORM_CONFIG names, else the nearest ``fedorm.toml`` in the working
        directory or a folder above it. Raises ``ConfigurationError``.
        """
        return cls(settings_from_file(find_settings_file() if path is None else path))

    # -- lifetime

    async def open(self) -> None:
        """Ask every service to answer, all at once. Raises ``FederationOpenError`` with all that did not."""
        async with self._lifetime:
            await self._open_stores()

    async def _open_stores(self) -> None:
        if self._open:
            return
        try:
            opened = await asyncio.gather(*(store.open() for store in self.stores.values()), return_exceptions=True)
            self._refuse_failures(checked(dict(zip(self.stores, opened, strict=True)), self.stores))
            await self.sync.check()
            await self._recover_at_start()
        except BaseException:
            await self._close_stores()
            raise
        self._open = True
        trace_if_set(self)

    async def close(self) -> None:
        """Close every connection; sessions that are still in use lose theirs."""
        async with self._lifetime:
            await self._close_stores()

    async def _close_stores(self) -> None:
        self._open = False
        await self._stop_recovering()
        closed = await asyncio.gather(*(store.close() for store in self.stores.values()), return_exceptions=True)
        if self._thread_bridge is None:
            self._close_queries()
        _raise_first(closed)

    async def __aenter__(self) -> Self:
        """Open; tasks that enter it together share it, and the last one to leave closes it."""
        async with self._lifetime:
            await self._open_stores()
            self._tasks_inside += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tasks_inside -= 1
        async with self._lifetime:
            if self._tasks_inside == 0:
                await self._close_stores()

    def __enter__(self) -> Self:
        """Open for threads, which share it as tasks do; ``session()`` is for ``async with``, and stays closed."""
        with self._threads_lifetime:
            if self._thread_bridge is None:
                self._open_for_threads()
            self._threads_inside += 1
        return self

    def _open_for_threads(self) -> None:
        bridge = self._thread_bridge = ThreadBridge()
        failures: dict[str, Any] = {}

        def open_one(store: Store) -> None:
            try:
                store.open_sync(bridge)
            except BaseException as error:
                failures[store.service] = error

        try:
            with ThreadPoolExecutor(max_workers=max(1, len(self.stores))) as pool:
                list(pool.map(open_one, self.stores.values()))
            self._refuse_failures(checked(failures, self.stores))
            _ = self.sync.rules  # Raises for one that cannot be.
            self._sync_recover_at_start(bridge)
        except BaseException:
            self._close_for_threads()
            raise
        trace_if_set(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._threads_lifetime:
            self._threads_inside -= 1
            if self._threads_inside == 0:
                self._close_for_threads()

    def _close_for_threads(self) -> None:
        bridge, self._thread_bridge = self._thread_bridge, None
        if bridge is not None:
            self._sync_stop_recovering()
            for store in self.stores.values():
                store.close_sync(bridge)
            bridge.close()
            if not self._open:
                self._close_queries()

    @staticmethod
    def _refuse_failures(results: Mapping[str, Any]) -> None:
        errors: dict[str, StoreError] = {}
        for name, result in results.items():
            if isinstance(result, StoreError):
                errors[name] = result
            elif isinstance(result, BaseException):
                raise result
        if errors:
            raise FederationOpenError(errors)

    @property
    def is_open(self) -> bool:
        """Whether it is open for code that is async."""
        return self._open

    def run_for_threads(self, work: Coroutine[Any, Any, T], name: str) -> T:
        """Run asynchronous ``work`` for code that is not; ``name`` is what that has called."""
        if self._thread_bridge is None:
            work.close()
            raise FedormError(f"the federation is not open for threads: write  with federation:  around {name}")
        return self._thread_bridge.run(work)

    # -- sessions

    def session(self, **options: Any) -> AsyncFederatedSession:
        """Return a new session; ``options`` are those of SQLAlchemy's ``AsyncSession``, and its own ``cache_ttl``."""
        self._require_open()
        return AsyncFederatedSession(**self._session_options(self._async_bridge) | options, uses_threads=False)

    def sync_session(self, **options: Any) -> FederatedSession:
        """Return a new session for code that is not async; ``options`` are those of SQLAlchemy's ``Session``.

        In a federation that was entered with ``async with`` it must be used in a thread other than the event loop's.
        """
        if self._thread_bridge is None:
            raise FedormError("the federation is not open for threads: write  with federation:  around sync_session()")
        return FederatedSession(**self._session_options(self._thread_bridge) | options, uses_threads=True)

    def _session_options(self, bridge: Bridge) -> dict[str, Any]:
        queries, default = self._query_runner, self.cache.default_ttl
        return {"stores": self.stores, "bridge": bridge, "queries": queries, "meter": self.meter, "cache_ttl": default}

    def _query_runner(self) -> QueryRunner:
        if self._queries is None:
            runner = _imported("fedorm.query.runner")
        if self._queries is None:  # Nor has another task come first.
            self._queries = runner.QueryRunner(self.stores, self._tables, self._query_settings)
            self._queries.cache, self._queries.observer = self.cache, self.meter.observer
        return self._queries

    def _close_queries(self) -> None:
        """Close DuckDB and the result cache once neither side of the federation is open."""
        queries, self._queries = self._queries, None
        if queries is not None:
            queries.close()
        self.cache.close()

    # -- tables

    @property
    def tables(self) -> Mapping[str, Table]:
        """The tables that statements can name, by ``service.name``: those of models, and those reflected."""
        return self._tables

    async def reflect(self, service: str, *, only: Collection[str] | None = None) -> Mapping[str, Table]:
        """Read tables and views that no model declares from a service, and return them by name.

        They can then be named in ``text()`` and taken from ``tables``, in this federation alone. ``only`` names those
        to be read; without it, all are. Of a collection, the fields are those of its validator, or of a sample of its
        documents. A table that a model declares stays the model's. Raises ``UnknownServiceError``, and
        ``UnknownTableError`` for a name that is not there.
        """
        self._require_open()
        return await Reflection(self._tables, self._store(service), only).read()

    def sync_reflect(self, service: str, *, only: Collection[str] | None = None) -> Mapping[str, Table]:
        """Do the same as ``reflect()`` in code that is not async."""
        if self._thread_bridge is None:
            raise FedormError("the federation is not open for threads: write  with federation:  around sync_reflect()")
        return Reflection(self._tables, self._store(service), only).read_sync(self._thread_bridge)

    def _store(self, service: str) -> Store:
        store = self.stores.get(service)
        if store is None:
            raise UnknownServiceError(service, known=self.stores)
        return store

    def observe(self, observer: Observer) -> None:
        """Let ``observer`` watch every statement and its steps from now on; ``fedorm.telemetry`` has one."""
        super().observe(observer)
        if self._queries is not None:
            self._queries.observer = observer

    # -- looking after the services

    async def create_all(self) -> None:
        """Make the tables, collections and indexes that are not there, in every service."""
        await self._everywhere(lambda store: store.create_all)
        await make_outboxes(self.stores.values())

    async def drop_all(self) -> None:
        """Drop the tables and collections of all models, with what is in them, in every service."""
        await self._everywhere(lambda store: store.drop_all)

    def _require_open(self) -> None:
        if not self._open:
            raise FedormError("the federation is not open: write  async with federation:  around its use")

    async def _everywhere(self, method: Callable[[Store], Callable[..., Awaitable[None]]]) -> None:
        self._require_open()
        configure_mappers()
        done = await asyncio.gather(
            *(
                method(store)(catalog.metadata(name), store.models() if isinstance(store, DocumentStore) else [])
                for name, store in self.stores.items()
            ),
            return_exceptions=True,
        )
        _raise_first(done)

    async def orphans(self, attribute: FederatedAttribute, *, sample: int = 10) -> Orphans:
        """Count the keys of a relationship that point to nothing, and return some of them.

        For ``Order.user``: orders whose user is not there. For ``User.orders``: orders that no user has. The keys are
        read as a stream and checked in batches. Raises ``RelationshipError`` for a relationship through a table.
        """
        async with self.session() as session:
            return await find_orphans(session, attribute, sample)

    def __repr__(self) -> str:
        return f"<Federation {', '.join(f'{name}={store.address}' for name, store in self.stores.items())}>"


def _imported(module: str) -> Any:
    """Import a module in a thread: for the most of a second that it takes, an event loop must not stand still."""
    importing = Workers("import", 1)
    try:
        return importing.run(importlib.import_module, module)
    except ModuleNotFoundError as error:
        if error.name not in ("sqlglot", "duckdb", "pyarrow"):
            raise
        raise MissingDriverError(user="a select over several services", package=error.name, extra="query") from error
    finally:
        importing.close()


def _raise_first(results: list[Any]) -> None:
    for result in results:
        if isinstance(result, BaseException):
            raise result
