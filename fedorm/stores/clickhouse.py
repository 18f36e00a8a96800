"""ClickHouse servers: clickhouse-sqlalchemy's native and HTTP drivers, both in threads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from sqlalchemy import URL, Engine, MetaData, Table, create_engine, types
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool
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
from fedorm.stores.base import Capability
from fedorm.stores.offload import Workers, offload
from fedorm.stores.sql import SQLStore

_AUTHENTICATION = {192, 193, 194, 516}
_TIMEOUT = {159, 160, 209}
_NETWORK = {3, 81, 210}


class ClickHouseStore(SQLStore):
    """A ClickHouse server over ``clickhouse+native://`` or ``clickhouse+http://``; rows can only be appended."""

    kind = "clickhouse"
    extra = "clickhouse"
    async_driver = "native"
    sync_driver = "native"
    packages: ClassVar[Sequence[str]] = ("clickhouse_sqlalchemy",)
    # The keys are part of the statement's text, which the server takes up to 256 KiB of by default.
    batch_size = 2_000
    capabilities = frozenset({Capability.SQL, Capability.STREAMING, Capability.TLS})

    def __init__(self, service: str, settings: ServiceSettings) -> None:
        super().__init__(service, settings)
        self.driver = settings.scheme.partition("+")[2] or "native"
        if self.driver not in ("native", "http"):
            raise ConfigurationError(
                f"service {service!r}: {settings.address}: write clickhouse+native:// or clickhouse+http://"
            )
        self._workers = Workers(service, settings.pool_size + settings.max_overflow)

    # -- engines

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
        # The dialect is told that it is async below, after the check that compares the two.
        pool_class._is_asyncio = False
        options = self._engine_options(pool_class, {})
        options.pop("connect_args")
        engine = create_engine(self._driver_url(), **options)
        adapt(engine.dialect)
        return offload(engine, self._workers, _disconnect)

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
        if type(original).__name__ == "DatabaseException":
            # The driver's own error is none of SQLAlchemy's: without this a user would have to import it.
            raise self.error(StoreError, original) from original

    # -- schema

    async def create_all(self, metadata: MetaData, documents: Sequence[type[Any]]) -> None:
        """Run ``CREATE TABLE``; a table without an engine becomes a MergeTree ordered by its primary key."""

        def create() -> None:
            with self.engine.begin() as connection:
                version = str(connection.exec_driver_sql("SELECT version()").scalar())
                native = MetaData()
                for table in metadata.tables.values():
                    _native_table(table, native, precise=int(version.split(".")[0]) >= 20)
                native.create_all(connection)

        await greenlet_spawn(create)


def _native_table(table: Table, metadata: MetaData, *, precise: bool) -> None:
    """Copy a table with ClickHouse's own types; there a column is not nullable unless its type says so."""
    from clickhouse_sqlalchemy import engines
    from clickhouse_sqlalchemy import types as native

    copy = table.to_metadata(metadata)
    for index in list(copy.indexes):
        copy.indexes.discard(index)
    for column in copy.columns:
        column.type = _native_type(column.type, native, precise=precise)
        if column.nullable and not column.primary_key and not isinstance(column.type, native.Nullable):
            column.type = native.Nullable(column.type)
    engine = getattr(table, "engine", None)
    if engine is None:
        order = [column.name for column in copy.primary_key.columns]
        engine = engines.MergeTree(order_by=tuple(order) if order else "tuple()")
        engine._set_parent_with_dispatch(copy)
    else:
        setattr(copy, "engine", engine)  # noqa: B010 - the dialect reads an attribute that Table does not declare


def _native_type(kind: types.TypeEngine[Any], native: Any, *, precise: bool) -> types.TypeEngine[Any]:
    made: Any = kind
    if isinstance(kind, types.TypeDecorator):
        return _native_type(kind.impl_instance, native, precise=precise)
    if type(kind).__module__.startswith("clickhouse_sqlalchemy"):
        return kind
    if isinstance(kind, types.Boolean):
        made = native.UInt8()
    elif isinstance(kind, types.BigInteger):
        made = native.Int64()
    elif isinstance(kind, types.SmallInteger):
        made = native.Int16()
    elif isinstance(kind, types.Integer):
        made = native.Int32()
    elif isinstance(kind, types.Float):
        made = native.Float64()
    elif isinstance(kind, types.Numeric):
        made = native.Decimal(kind.precision or 18, kind.scale or 0)
    elif isinstance(kind, types.DateTime):
        zone = "UTC" if kind.timezone is True else kind.timezone or None
        made = native.DateTime64(6, zone) if precise else native.DateTime(zone)
    elif isinstance(kind, types.Uuid):
        made = native.UUID()
    elif isinstance(kind, types.String | types.JSON | types.LargeBinary | types.Enum):
        made = native.String()
    result: types.TypeEngine[Any] = made
    return result


class _Binary(types.LargeBinary):
    """Bytes in a String column: the driver returns text wherever it can."""

    def bind_processor(self, dialect: Any) -> Any:
        return None

    def result_processor(self, dialect: Any, coltype: object) -> Any:
        return lambda value: value.encode() if isinstance(value, str) else value


def adapt(dialect: Any) -> None:
    """Teach the dialect the generic types it does not know."""
    dialect.supports_native_boolean = False
    dialect._json_serializer = dialect._json_deserializer = None
    dialect.colspecs = {**dialect.colspecs, types.LargeBinary: _Binary}


def _disconnect(connection: Any) -> None:
    transport = connection.transport
    close = getattr(transport, "disconnect", None) or transport.http.close
    close()
