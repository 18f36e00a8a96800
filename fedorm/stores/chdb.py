"""chDB: ClickHouse's engine inside this process, over the dialect chdb-sqlalchemy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import Connection, Engine, MetaData, Table, TextClause, create_engine, text
from sqlalchemy.types import TypeEngine

from fedorm.bridge import ThreadBridge
from fedorm.config import ServiceSettings
from fedorm.exc import ServiceTimeoutError, ServiceUnavailableError, StoreError
from fedorm.stores import clickhouse_reflection
from fedorm.stores.base import Capability
from fedorm.stores.clickhouse_rows import ClickHouseRowAccess
from fedorm.stores.clickhouse_sql import (
    PARTS,
    HexBinary,
    adapt_types,
    allow_hints,
    is_insert,
    literal,
    native_tables,
    native_type,
)
from fedorm.stores.offload import Workers, offload
from fedorm.stores.offloaded import OffloadedStore
from fedorm.stores.reflecting import Wanted
from fedorm.stores.rows import VERSION, RowAccess, RowShape


class ChDBStore(OffloadedStore):
    """A folder, or memory, that the engine of ClickHouse works in; a process can have one at a time."""

    kind = "chdb"
    sql_dialect = "clickhouse"
    extra = "chdb"
    async_driver = "dbapi"
    sync_driver = "dbapi"
    packages: ClassVar[Sequence[str]] = ("chdb", "chdb_sqlalchemy")
    batch_size = 2_000
    capabilities = frozenset({Capability.SQL})

    def __init__(self, service: str, settings: ServiceSettings) -> None:
        super().__init__(service, settings)
        # Relative with three slashes, and without a path memory, as for SQLite: the dialect takes paths from the root.
        path = self.url.database or ":memory:"
        self.url = self.url.set(database=path if path == ":memory:" else str(Path(path).absolute()))
        # One thread: the engine is one for the process and is not made for several at once.
        self._workers = Workers(service, 1)

    def make_offloaded(self, options: dict[str, Any]) -> Engine:
        """Make an engine of one connection, over one thread."""
        options |= {"pool_size": 1, "max_overflow": 0}
        engine = create_engine(self.url.set(drivername="chdb"), **options)
        return offload(engine, self._workers, lambda connection: connection.close(), self._connect)

    def _connect(self, **options: Any) -> Any:
        from chdb_sqlalchemy.connector import import_dbapi

        return _Connection(import_dbapi().connect(**options))

    def adapt(self, dialect: Any) -> None:
        """Keep every value or refuse it."""
        from chdb_sqlalchemy import types as native

        adapt_types(dialect, native, precise=True, binary=HexBinary)
        allow_hints(dialect)
        dialect.ddl_compiler = _replacing(dialect.ddl_compiler)

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

    def reflect_tables(self, connection: Connection, metadata: MetaData, wanted: Wanted) -> None:
        """Ask the engine's own catalog."""
        clickhouse_reflection.reflect_tables(connection, metadata, wanted, old=False)

    def row_access(self, shape: RowShape) -> RowAccess:
        """Return what reads and appends whole rows of one table."""
        return ClickHouseRowAccess(self, shape)

    def row_counts(self) -> TextClause:
        """Add up the rows of the parts."""
        return text(PARTS)

    def error(self, kind: type[StoreError], cause: BaseException | str, **more: Any) -> StoreError:
        """Leave the stack out of the engine's text, which a folder that cannot be opened has."""
        text = cause if isinstance(cause, str) else f"{type(cause).__name__}: {cause}"
        return super().error(kind, text.partition(", Stack trace")[0], **more)

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

    async def create_all(self, metadata: MetaData, documents: Sequence[type[Any]]) -> None:
        """Run ``CREATE TABLE``: a MergeTree ordered by the primary key, or with versions one that replaces rows."""
        await super().create_all(self.native_tables(metadata.tables.values()), documents)

    def native_tables(self, tables: Iterable[Table]) -> MetaData:
        """Copy tables as the engine is to have them."""
        from chdb_sqlalchemy import types as native

        return native_tables(tables, native, precise=True, nullable=False)

    def native_type(self, kind: TypeEngine[Any]) -> TypeEngine[Any]:
        """Return the engine's own type for a generic one."""
        from chdb_sqlalchemy import types as native

        return native_type(kind, native, precise=True)


def _replacing(compiler: type[Any]) -> type[Any]:
    class ReplacingCompiler(compiler):  # type: ignore[misc]
        """Gives tables with versions the engine that keeps the greatest."""

        def post_create_table(self, table: Any) -> str:
            suffix: str = super().post_create_table(table)
            if VERSION not in table.columns:
                return suffix
            return suffix.replace("= MergeTree", f"= ReplacingMergeTree({self.preparer.quote(VERSION)})", 1)

    return ReplacingCompiler


class _Connection:
    """A connection whose cursors write exact literals."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def cursor(self) -> _Cursor:
        return _Cursor(self._connection.cursor())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class _Cursor:
    """A cursor that puts the values into the statement itself: the driver cuts floats and is misled by quotes."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def execute(self, statement: str, parameters: Sequence[Any] | None = None) -> None:
        self._run(_fill(statement, parameters or (), inserting=is_insert(statement)))

    def executemany(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        head, values, template = statement.rpartition("VALUES")
        if not is_insert(statement) or not values:
            for row in rows:
                self.execute(statement, row)
            return
        # One block: a row by itself would become a part of the table on disk.
        self._run(head + values + ", ".join(_fill(template, row, inserting=True) for row in rows))

    def _run(self, statement: str) -> None:
        if len(statement) > _LONG and not is_insert(statement):
            statement = f"{statement}\nSETTINGS max_query_size = {2 * len(statement)}"
        self._cursor.execute(statement)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


_LONG = 200_000
"""From how many characters on a statement needs a larger ``max_query_size``, 262,144 by default."""
_TOKENS = re.compile(r"""'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`|\?""", re.DOTALL)


def _fill(statement: str, values: Sequence[Any], *, inserting: bool) -> str:
    """Put ``values`` in place of the question marks that are not part of a text or a name."""
    rest = iter(values)
    return _TOKENS.sub(
        lambda token: literal(next(rest), inserting=inserting, precise=True) if token[0] == "?" else token[0],
        statement,
    )
