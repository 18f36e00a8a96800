"""What the SQL stores share: engines, their errors in fedorm's words, and look-ups by keys."""

from __future__ import annotations

import asyncio
import importlib
import ssl
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    Executable,
    MetaData,
    Table,
    bindparam,
    create_engine,
    event,
    make_url,
)
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import Dialect, ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry, Pool, QueuePool
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine
from sqlalchemy.util import await_only, greenlet_spawn

from fedorm.bridge import ThreadBridge, waiting
from fedorm.catalog import SERVICE, services_of
from fedorm.config import ServiceSettings, TLSSettings
from fedorm.exc import (
    ConfigurationError,
    CrossServiceStatementError,
    PoolExhaustedError,
    ServiceTimeoutError,
    ServiceUnavailableError,
    StoreError,
    TLSError,
    UnsupportedOperationError,
)
from fedorm.stores.exact import RefusedValueError
from fedorm.stores.reflecting import Wanted, generic, reflect_tables
from fedorm.stores.replicating import Replicating
from fedorm.stores.sql_examining import SQLExamining
from fedorm.stores.tls import client_context, split_tls
from fedorm.stores.touched import TouchedTables
from fedorm.stores.watching import watch

WRITES = "fedorm_writes"
"""The execution option of a transaction that writes after it has read; SQLite has to know that before it reads."""


class SQLStore(Replicating, SQLExamining):
    """A service behind two SQLAlchemy engines: one for greenlets, one for threads."""

    sql_dialect: ClassVar[str]
    """What sqlglot calls the database's SQL."""
    async_driver: ClassVar[str]
    sync_driver: ClassVar[str]
    packages: ClassVar[Sequence[str]]
    """The import names of the drivers, async first; a missing one is reported with the store's extra."""
    answers_while_streaming: ClassVar[bool] = False
    """Whether a connection takes another statement while the rows of a stream are still coming."""

    def __init__(self, service: str, settings: ServiceSettings) -> None:
        super().__init__(service, settings)
        try:
            url = make_url(settings.url.get_secret_value())
        except (sa_exc.ArgumentError, ValueError):
            # Not chained: it may repeat a part of the password.
            raise ConfigurationError(
                f"service {service!r}: {settings.address} is not a URL: is the port a number, and are @ / ? # [ ] in a "
                f"password percent-encoded, or the password in the environment?"
            ) from None
        self.url, self.tls = split_tls(service, url, settings)
        self._check_drivers()
        self._engine: Engine | None = None
        self._sync_engine: Engine | None = None

    def _check_drivers(self) -> None:
        for package in self.packages:
            try:
                importlib.import_module(package)
            except ModuleNotFoundError as error:
                # A driver may itself lack one.
                raise self.missing_driver((error.name or package).partition(".")[0]) from error

    # -- engines

    @property
    def engine(self) -> Engine:
        """The engine for code under a greenlet; its driver never blocks the event loop."""
        if self._engine is None:
            self._engine = self._watched(self._made(self.make_async_engine))
        return self._engine

    @property
    def sync_engine(self) -> Engine:
        """The engine for threads."""
        if self._sync_engine is None:
            self._sync_engine = self._watched(self._made(self.make_sync_engine))
            for moment in ("do_execute", "do_executemany"):
                event.listen(self._sync_engine, moment, partial(_execute_waiting, moment))
        return self._sync_engine

    def _made(self, make: Callable[[], Engine]) -> Engine:
        try:
            return make()
        except (TypeError, sa_exc.ArgumentError) as error:
            problem = self.settings.scrub(str(error))
            raise ConfigurationError(f"service {self.service!r}: its options are not usable: {problem}") from None

    def make_async_engine(self) -> Engine:
        """Make the engine for greenlets."""
        url = self.url.set(drivername=f"{self.url.get_backend_name()}+{self.async_driver}")
        engine: AsyncEngine = create_async_engine(
            url, **self._engine_options(self._pool_class(AsyncAdaptedQueuePool), self.connect_args(url, is_async=True))
        )
        return engine.sync_engine

    def make_sync_engine(self) -> Engine:
        """Make the engine for threads."""
        url = self.url.set(drivername=f"{self.url.get_backend_name()}+{self.sync_driver}")
        return create_engine(
            url, **self._engine_options(self._pool_class(QueuePool), self.connect_args(url, is_async=False))
        )

    @abstractmethod
    def connect_args(self, url: URL, *, is_async: bool) -> dict[str, Any]:
        """Return the driver's own arguments for timeouts and TLS."""

    def tls_context(self, tls: TLSSettings) -> ssl.SSLContext:
        """Make the context of an encrypted connection."""
        return client_context(self.service, tls)

    def _engine_options(self, pool: type[Pool], connect_args: dict[str, Any]) -> dict[str, Any]:
        settings = self.settings
        options: dict[str, Any] = {
            "poolclass": pool,
            "pool_size": settings.pool_size,
            "max_overflow": settings.max_overflow,
            "pool_timeout": settings.pool_timeout,
            "hide_parameters": True,
        }
        if settings.options.keys() & {"poolclass", "pool"}:
            options = {"hide_parameters": True}  # NullPool, for one, has no size.
        options |= settings.options
        options["connect_args"] = {**connect_args, **settings.options.get("connect_args", {})}
        options["execution_options"] = {**settings.options.get("execution_options", {}), SERVICE: self.service}
        return options

    def _pool_class(self, base: type[QueuePool]) -> type[Pool]:
        store = self

        class ServicePool(base):  # type: ignore[misc, valid-type]
            """A pool that says whose connections are all in use."""

            def _do_get(self) -> ConnectionPoolEntry:
                try:
                    entry: ConnectionPoolEntry = super()._do_get()
                except sa_exc.TimeoutError as error:
                    settings = store.settings
                    raise PoolExhaustedError(
                        f"all {settings.pool_size}+{settings.max_overflow} connections stayed in use for "
                        f"{settings.pool_timeout:g} s; close sessions sooner, or raise pool_size or max_overflow",
                        service=store.service,
                        address=store.address,
                    ) from error
                return entry

        return ServicePool

    def _watched(self, engine: Engine) -> Engine:
        self.adapt(engine.dialect)
        event.listen(engine, "handle_error", self._name_service)
        event.listen(engine, "do_connect", self._connect_by_name)
        engine.dialect.statement_compiler = _guarded(engine.dialect.statement_compiler, self)
        watch(engine, self)
        return engine

    def adapt(self, dialect: Dialect) -> None:
        """Give the dialect types that keep every value or refuse it, where its own would not."""

    # -- errors

    @abstractmethod
    def classify(self, error: BaseException) -> type[ServiceUnavailableError | ServiceTimeoutError] | None:
        """Return the error class for a driver's ``error`` that is about the service, None for one about the data."""

    def _connect_by_name(self, dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
        try:
            return dialect.connect(*arguments, **options)
        except dialect.loaded_dbapi.Error:
            raise  # SQLAlchemy passes it on to _name_service; of what is no DB-API error nobody hears.
        except Exception as error:
            raise self.wrap(error) from error

    def _name_service(self, context: ExceptionContext) -> None:
        original = context.original_exception
        if isinstance(original, StoreError) or not isinstance(original, Exception):
            return  # Named already, or a cancellation, which is not the service's doing.
        if isinstance(original, RefusedValueError):
            raise self.error(UnsupportedOperationError, str(original)) from original
        kind: type[StoreError] | None = self._kind_of(original)
        if kind is None and context.is_disconnect:
            kind = ServiceUnavailableError
        if kind is None:
            # A driver's checks of values raise what they like: an OverflowError is none of SQLAlchemy's errors.
            (context.sqlalchemy_exception or original).add_note(f"service: {self.service}")
            return
        dbapi = context.sqlalchemy_exception
        raise self.error(
            kind, original, dbapi_error=dbapi if isinstance(dbapi, sa_exc.DBAPIError) else None
        ) from original

    def _kind_of(self, error: BaseException) -> type[ServiceUnavailableError | ServiceTimeoutError] | None:
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLError):
                return TLSError
        for cause in _causes(error):
            if isinstance(cause, TimeoutError | asyncio.TimeoutError):
                return ServiceTimeoutError
            kind = self.classify(cause)
            if kind is not None:
                return kind
        return ServiceUnavailableError if isinstance(error, OSError) else None

    def wrap(self, error: BaseException) -> StoreError:
        """Return ``error`` in fedorm's words; any failure of this service becomes a ``StoreError``."""
        if isinstance(error, StoreError):
            return error
        original = getattr(error, "orig", None) or error
        return self.error(self._kind_of(original) or ServiceUnavailableError, original)

    # -- lifetime

    async def open(self) -> None:
        """Connect and get an answer within ``connect_timeout``; leave nothing open if there is none."""
        try:
            await self.ping()
        except BaseException:
            await self.close()
            raise

    async def ping(self) -> None:
        """Run ``SELECT 1`` over a pooled connection."""
        limit, engine = self.settings.connect_timeout, self.engine
        try:
            async with asyncio.timeout(limit):
                await greenlet_spawn(self._select_one, engine)
        except TimeoutError as error:
            raise self.error(ServiceTimeoutError, f"no answer within {limit:g} s") from error
        except Exception as error:
            wrapped = self.wrap(error)
            raise wrapped from (None if wrapped is error else error)

    def ping_sync(self, bridge: ThreadBridge) -> None:
        """Run ``SELECT 1`` over a pooled connection for threads; how long that may take is the driver's to say."""
        try:
            self._select_one(self.sync_engine)
        except Exception as error:
            wrapped = self.wrap(error)
            raise wrapped from (None if wrapped is error else error)

    @staticmethod
    def _select_one(engine: Engine) -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")

    async def close(self) -> None:
        """Dispose of the pool."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await greenlet_spawn(engine.dispose)

    def open_sync(self, bridge: ThreadBridge) -> None:
        """Connect the engine for threads."""
        try:
            self.ping_sync(bridge)
        except Exception:
            self.close_sync(bridge)
            raise

    def close_sync(self, bridge: ThreadBridge) -> None:
        """Dispose of the engine for threads."""
        engine, self._sync_engine = self._sync_engine, None
        if engine is not None:
            engine.dispose()

    # -- schema

    async def create_all(self, metadata: MetaData, documents: Sequence[type[Any]]) -> None:
        """Run ``CREATE TABLE`` and ``CREATE INDEX`` for what is not there."""

        def create() -> None:
            with self.engine.begin() as connection:
                for table in metadata.tables.values():
                    self.prepare_table(table)
                metadata.create_all(connection)

        await greenlet_spawn(create)

    async def drop_all(self, metadata: MetaData, documents: Sequence[type[Any]]) -> None:
        """Run ``DROP TABLE`` for what is there."""

        def drop() -> None:
            with self.engine.begin() as connection:
                metadata.drop_all(connection)

        await greenlet_spawn(drop)

    def prepare_table(self, table: Table) -> None:
        """Add to a table's definition what its database cannot do without."""

    def reflect_tables(self, connection: Connection, metadata: MetaData, wanted: Wanted) -> None:
        """Put the tables and views that the server has, and that are ``wanted`` by name, into ``metadata``."""
        reflect_tables(connection, metadata, wanted, self.reflected_type)

    def reflected_type(self, kind: TypeEngine[Any]) -> TypeEngine[Any]:
        """Return the type of a reflected column: SQLAlchemy's own, which every database understands."""
        return generic(kind)

    def upsert(
        self, table: Table, names: Sequence[str], rows: Sequence[dict[str, Any]]
    ) -> list[tuple[Executable, list[dict[str, Any]]]]:
        """Return statements, with parameters, that insert rows, or change those with the same primary keys.

        ``names`` are the keys of every row. A store with ``Capability.UPDATES`` has to.
        """
        raise self.error(UnsupportedOperationError, "cannot insert or change rows in one statement")

    async def listen(self, channel: str, wake: Callable[[], None]) -> None:
        """Call ``wake`` once the channel is listened to and at each notification, until the connection is lost.

        A store with ``Capability.LISTEN`` has to.
        """
        raise self.error(UnsupportedOperationError, "has no notifications")

    # -- sessions

    def bind_for(self, *, sync: bool) -> Engine:
        """Return the engine a session binds to."""
        return self.sync_engine if sync else self.engine


def _execute_waiting(moment: str, cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    """Run a statement while the other threads of a load may work; True: it has been run."""
    with waiting():
        getattr(context.dialect, moment)(cursor, statement, parameters, context)
    return True


def execute_within(limit: float, moment: str, cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    """Run a statement under a greenlet for ``limit`` seconds at most, then raise ``TimeoutError``."""
    timeout = asyncio.timeout(limit)
    await_only(timeout.__aenter__())
    try:
        getattr(context.dialect, moment)(cursor, statement, parameters, context)
    except BaseException as error:
        await_only(timeout.__aexit__(type(error), error, error.__traceback__))
        raise
    await_only(timeout.__aexit__(None, None, None))
    return True


def _guarded(compiler: type[SQLCompiler], store: SQLStore) -> type[SQLCompiler]:
    """Return a compiler that refuses a statement which names another service's tables.

    Statements are compiled once and cached: one that is sent again is not looked at again.
    """

    class ServiceCompiler(TouchedTables, compiler):  # type: ignore[misc, valid-type]
        sql_dialect = store.sql_dialect

        def __init__(self, dialect: Dialect, statement: Any, *args: Any, **options: Any) -> None:
            if statement is not None:
                services = services_of(statement) | {store.service}
                if len(services) > 1:
                    raise CrossServiceStatementError(services)
            super().__init__(dialect, statement, *args, **options)

    return ServiceCompiler


def array_filter(column: ColumnElement[Any], values: Sequence[Any], array_type: Any) -> ColumnElement[bool]:
    """Return ``column = ANY(:values)`` with all values in one array parameter."""
    from sqlalchemy import any_

    return column == any_(bindparam("keys", values, type_=array_type, unique=True))


def _causes(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain
