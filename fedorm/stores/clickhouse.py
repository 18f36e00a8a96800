"""ClickHouse servers: clickhouse-sqlalchemy's native and HTTP drivers, both in threads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

from sqlalchemy import URL, Connection, Engine, MetaData, Table, TextClause, create_engine, func, text
from sqlalchemy.types import TypeEngine
from sqlalchemy.util import greenlet_spawn

from fedorm.bridge import ThreadBridge
from fedorm.config import ServiceSettings
from fedorm.exc import (
    AuthenticationError,
    ConfigurationError,
    ServiceTimeoutError,
    ServiceUnavailableError,
    StoreError,
    TLSError,
)
from fedorm.stores import clickhouse_reflection
from fedorm.stores.base import Capability
from fedorm.stores.clickhouse_rows import ClickHouseRowAccess
from fedorm.stores.clickhouse_sql import PARTS, adapt_types, allow_hints, native_tables, native_type
from fedorm.stores.findings import Finding, Needs
from fedorm.stores.offload import Workers, offload
from fedorm.stores.offloaded import OffloadedStore
from fedorm.stores.reflecting import Wanted
from fedorm.stores.rows import VERSION, RowAccess, RowShape

_AUTHENTICATION = {192, 193, 194, 516}
_TIMEOUT = {159, 160, 209}
_NETWORK = {3, 81, 210}


class ClickHouseStore(OffloadedStore):
    """A ClickHouse server over ``clickhouse+native://`` or ``clickhouse+http://``; rows can only be appended."""

    kind = "clickhouse"
    sql_dialect = "clickhouse"
    extra = "clickhouse"
    async_driver = "native"
    sync_driver = "native"
    packages: ClassVar[Sequence[str]] = ("clickhouse_sqlalchemy",)
    # The keys are part of the statement's text, which the server takes up to 256 KiB of by default.
    batch_size = 2_000

    def __init__(self, service: str, settings: ServiceSettings) -> None:
        super().__init__(service, settings)
        self.driver = settings.scheme.partition("+")[2] or "native"
        if self.driver not in ("native", "http"):
            raise ConfigurationError(
                f"service {service!r}: {settings.address}: write clickhouse+native:// or clickhouse+http://"
            )
        self._workers = Workers(service, settings.pool_size + settings.max_overflow)
        self._precise: bool | None = None
        """Whether the server has DateTime64 and Date32; known once it was connected to."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """SQL; rows while the statement runs over the native protocol alone: HTTP holds an answer until it is whole."""
        known = {Capability.SQL, Capability.TLS}
        return frozenset(known | {Capability.STREAMING} if self.driver == "native" else known)

    # -- engines

    def make_offloaded(self, options: dict[str, Any]) -> Engine:
        """Make an engine over the service's threads."""
        engine = create_engine(self._driver_url(), **options)
        return offload(engine, self._workers, _disconnect, self._connect)

    def _connect(self, *arguments: Any, **options: Any) -> Any:
        from fedorm.stores.clickhouse_drivers import HTTPConnection, NativeConnection

        connection = (NativeConnection if self.driver == "native" else HTTPConnection)(*arguments, **options)
        connection.is_precise = lambda: bool(self._precise)
        return connection

    def adapt(self, dialect: Any) -> None:
        """Keep every value or refuse it; which dates the server holds is known with the first connection."""
        from clickhouse_sqlalchemy import types as native

        dialect._json_serializer = dialect._json_deserializer = None
        initialize = dialect.initialize

        def initialize_types(connection: Any) -> None:
            initialize(connection)
            self._precise = dialect.server_version_info >= (20,)
            adapt_types(dialect, native, precise=bool(self._precise))

        dialect.initialize = initialize_types
        allow_hints(dialect)
        adapt_types(dialect, native, precise=bool(self._precise))

    def _driver_url(self) -> URL:
        settings, tls = self.settings, self.tls
        limit = settings.timeout
        url = self.url.set(drivername=f"clickhouse+{self.driver}")
        if self.driver == "http":
            wait = limit if limit is not None else 300
            query = {"timeout": f"{wait:g}"}
            if tls is not None:
                query["protocol"] = "https"
                query["verify"] = str(tls.ca) if tls.ca else str(tls.verify)
                if not tls.verify:
                    query["verify"] = "False"
                if tls.cert is not None:
                    query["cert"] = str(tls.cert)
            return url.update_query_dict(query)
        query = {"connect_timeout": f"{settings.connect_timeout:g}"}
        if limit is not None:
            query["send_receive_timeout"] = f"{limit + 1:g}"
            query["max_execution_time"] = str(math.ceil(limit))
        if tls is not None:
            query |= {"secure": "True", "verify": str(tls.verify)}
            if tls.ca is not None:
                query["ca_certs"] = str(tls.ca)
            if tls.cert is not None:
                query |= {"certfile": str(tls.cert), "keyfile": str(tls.key or tls.cert)}
        return url.update_query_dict(query)

    async def close(self) -> None:
        """Dispose of the pool and end its threads."""
        await super().close()
        if self._sync_engine is None:
            self._workers.close()

    def close_sync(self, bridge: ThreadBridge) -> None:
        """Dispose of the engine for threads."""
        super().close_sync(bridge)
        if self._engine is None:
            self._workers.close()

    # -- errors

    def row_access(self, shape: RowShape) -> RowAccess:
        """Return what reads and appends whole rows of one table."""
        return ClickHouseRowAccess(self, shape)

    def row_counts(self) -> TextClause:
        """Add up the rows of the parts."""
        return text(PARTS)

    def classify(self, error: BaseException) -> type[ServiceUnavailableError | ServiceTimeoutError] | None:
        """Tell by the server's or the driver's error code."""
        original = getattr(error, "orig", error)
        code, text = getattr(original, "code", None), str(original).lower()
        if code in _AUTHENTICATION or "code: 193" in text or "code: 516" in text or "wrong password" in text:
            return AuthenticationError
        if "ssl" in text or "certificate" in text:
            return TLSError
        if code in _TIMEOUT or "timed out" in text or "timeout exceeded" in text:
            return ServiceTimeoutError
        network = isinstance(original, EOFError | ConnectionError) or type(original).__module__.startswith("requests")
        return ServiceUnavailableError if network or code in _NETWORK else None

    def _name_service(self, context: Any) -> None:
        super()._name_service(context)
        original = context.original_exception
        driver = type(original).__module__.partition(".")[0]
        if driver in ("clickhouse_sqlalchemy", "clickhouse_driver"):
            # The driver's own error is none of SQLAlchemy's: without this a user would have to import it.
            raise self.error(StoreError, original) from original

    # -- what it is asked about itself

    def examine_rights(self, connection: Connection, needs: Needs, there: Sequence[Table]) -> Iterator[Finding]:
        """Try to read the tables, and ask whether the user may write."""
        yield from super().examine_rights(connection, needs, there)
        reads_only = connection.scalar(text("SELECT value FROM system.settings WHERE name = 'readonly'"))
        if str(reads_only) != "0":
            yield Finding(
                f"the user may only read, as its setting readonly is {reads_only}",
                "set  readonly  to 0 in the user's profile, in users.xml or by  ALTER USER, unless it is only read",
                "privilege",
                is_error=bool(needs.written),
            )

    # -- schema

    def reflect_tables(self, connection: Connection, metadata: MetaData, wanted: Wanted) -> None:
        """Ask the server's own catalog."""
        clickhouse_reflection.reflect_tables(connection, metadata, wanted, old=not self._precise)

    async def create_all(self, metadata: MetaData, documents: Sequence[type[Any]]) -> None:
        """Run ``CREATE TABLE``; a table without an engine becomes a MergeTree ordered by its primary key.

        One with a column of versions, as targets that are kept in sync have it, becomes a ReplacingMergeTree by it.
        """

        def create() -> None:
            with self.engine.begin() as connection:
                self.native_tables(metadata.tables.values()).create_all(connection)

        await greenlet_spawn(create)

    def native_tables(self, tables: Iterable[Table]) -> MetaData:
        """Copy tables as the server is to have them; which types that are is known once it was connected to."""
        from clickhouse_sqlalchemy import engines
        from clickhouse_sqlalchemy import types as native

        made = native_tables(tables, native, precise=bool(self._precise), nullable=True)
        for table in made.tables.values():
            if getattr(table, "engine", None) is None:
                _default_engine(table, engines)._set_parent_with_dispatch(table)
        return made

    def native_type(self, kind: TypeEngine[Any]) -> TypeEngine[Any]:
        """Return the server's own type for a generic one."""
        from clickhouse_sqlalchemy import types as native

        return native_type(kind, native, precise=bool(self._precise))


def _default_engine(table: Any, engines: Any) -> Any:
    """Return what a table becomes that names no engine."""
    order = tuple(column.name for column in table.primary_key.columns) or (func.tuple(),)
    if VERSION in table.columns:
        return engines.ReplacingMergeTree(version=VERSION, order_by=order)
    return engines.MergeTree(order_by=order)


def _disconnect(connection: Any) -> None:
    transport = connection.transport
    close = getattr(transport, "disconnect", None) or transport.http.close
    close()
