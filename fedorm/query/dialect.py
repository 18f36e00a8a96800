"""SQLAlchemy's way to a federated select: a dialect whose database is the federation itself.

A statement over several services is compiled as PostgreSQL's SQL with tables named ``service.table``, and its "driver"
plans and runs it. So everything above, rows into objects, identity map, caching of compiled statements, streaming,
result types, is SQLAlchemy's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from sqlalchemy import Engine, Table, make_url, types
from sqlalchemy.dialects.postgresql.base import PGDialect, PGIdentifierPreparer
from sqlalchemy.pool import NullPool

from fedorm.catalog import SESSION, owner_of
from fedorm.stores.exact import TextUuid, plain

_EXPANDING = re.compile(r"\(__\[POSTCOMPILE_([^\]~]+)[^\]]*\]\)")


class Batches(Protocol):
    """Rows that are made while they are read."""

    def batch(self) -> Sequence[tuple[Any, ...]]:
        """Return the next rows, none at the end."""

    def close(self) -> None:
        """Make no more."""


class Runner(Protocol):
    """Plans and runs a statement; what the driver below speaks to."""

    def run(
        self,
        session: Any,
        sql: str,
        expanding: frozenset[str],
        parameters: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> tuple[list[str], Any]:
        """Return the names of the result's columns and its rows, or a ``Batches`` of them."""


class _Preparer(PGIdentifierPreparer):
    """Writes a table's service where PostgreSQL has the schema."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.schema_for_object: Any = _service_or_schema


def _service_or_schema(table: Any) -> Any:
    return (owner_of(table) if isinstance(table, Table) else None) or getattr(table, "schema", None)


class _Numeric(types.Numeric[Any]):
    """Decimals without the zeros of a scale that nobody declared: the finish gives all of a column the same scale."""

    def result_processor(self, dialect: Any, coltype: object) -> Any:
        """Take them away."""
        if self.precision is not None or not self.asdecimal:
            return super().result_processor(dialect, coltype)  # type: ignore[no-untyped-call]
        return lambda value: plain(value) if isinstance(value, Decimal) and value.is_finite() else value


class FederatedDialect(PGDialect):
    """PostgreSQL's words, no server, and values that pass as they are."""

    driver = "fedorm"
    supports_statement_cache = True
    default_paramstyle = "named"
    preparer = _Preparer
    supports_native_uuid = False
    supports_native_decimal = True
    supports_server_side_cursors = False
    colspecs = {**PGDialect.colspecs, types.Uuid: TextUuid, types.Numeric: _Numeric, types.Float: types.Float}

    def __init__(self, runner: Runner, *, is_async: bool) -> None:
        super().__init__(paramstyle="named", dbapi=_Driver)  # type: ignore[no-untyped-call]
        self._runner = runner
        self.is_async = is_async
        self.server_version_info = (16,)

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        """Plan and run, as the text that SQLAlchemy keeps: lists of values stay single parameters in it."""
        session, compiled = context.execution_options[SESSION], context.compiled
        expanding = frozenset(_EXPANDING.findall(compiled.string))
        sql = _EXPANDING.sub(lambda found: f"(:{found[1]})", compiled.string)
        cursor.take(*self._runner.run(session, sql, expanding, _values(context), context.execution_options))

    def do_savepoint(self, connection: Any, name: str) -> None:
        """Do nothing: the pieces run in the services' own transactions."""

    do_rollback_to_savepoint = do_release_savepoint = do_savepoint

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Do nothing: the pieces run in the services' own transactions."""

    def do_commit(self, dbapi_connection: Any) -> None:
        """Do nothing."""

    def do_begin(self, dbapi_connection: Any) -> None:
        """Do nothing."""


def _values(context: Any) -> dict[str, Any]:
    """Return the parameters' values as the bind processors make them; lists are whole again."""
    compiled, expanded = context.compiled, context._expanded_parameters
    processors = compiled._bind_processors
    values = {}
    for name, value in context.compiled_parameters[0].items():
        process = processors.get(name)
        values[name] = process(value) if callable(process) else value
    for name, parts in expanded.items():
        process = processors.get(name)
        values[name] = [process(values[one]) if callable(process) else values[one] for one in parts]
    return _as_in_text(compiled, values)


def _as_in_text(compiled: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Call parameters as the text does, which has no dots in their names."""
    names = compiled.escaped_bind_names
    return {names.get(name, name): value for name, value in values.items()} if names else values


def compiled_for(
    statement: Any, dialect: FederatedDialect, parameters: Mapping[str, Any]
) -> tuple[str, frozenset[str], dict[str, Any]]:
    """Return the text of a statement, the parameters that are lists, and the values of all."""
    compiled = statement.compile(dialect=dialect)
    expanding = frozenset(_EXPANDING.findall(compiled.string))
    sql = _EXPANDING.sub(lambda found: f"(:{found[1]})", compiled.string)
    values = compiled.construct_params(dict(parameters), _check=False)
    for name, process in compiled._bind_processors.items():
        value = values.get(name)
        if callable(process) and value is not None:
            values[name] = [process(one) for one in value] if name in expanding else process(value)
    return sql, expanding, _as_in_text(compiled, values)


class _Cursor:
    """A DB-API cursor over rows that are there, or that are made while they are read."""

    arraysize = 1

    def __init__(self) -> None:
        self.description: list[tuple[Any, ...]] | None = None
        self._rows: Sequence[tuple[Any, ...]] = []
        self._more: Batches | None = None
        self._position = 0
        self.rowcount = -1

    def take(self, names: list[str], rows: Any) -> None:
        self.description = [(name, None, None, None, None, None, None) for name in names]
        self._position = 0
        if isinstance(rows, list):
            self._rows, self._more, self.rowcount = rows, None, len(rows)
        else:
            self._rows, self._more, self.rowcount = [], rows, -1

    def fetchone(self) -> Any:
        rows = self.fetchmany(1)
        return rows[0] if rows else None

    def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        size = size or self.arraysize
        while self._more is not None and len(self._rows) - self._position < size:
            batch = self._more.batch()
            if not batch:
                self._more = None
                break
            self._rows = [*self._rows[self._position :], *batch]
            self._position = 0
        start = self._position
        self._position = min(len(self._rows), start + size)
        return self._rows[start : self._position]

    def fetchall(self) -> Sequence[Any]:
        if not self._position and self._more is None:
            self._position = len(self._rows)
            return self._rows
        rows = list(self._rows[self._position :])
        while self._more is not None:
            batch = self._more.batch()
            rows += batch
            if not batch:
                self._more = None
        self._position = len(self._rows)
        return rows

    def close(self) -> None:
        more, self._more, self._rows = self._more, None, []
        if more is not None:
            more.close()

    async def _async_soft_close(self) -> None:
        """Keep the rows: SQLAlchemy gives a cursor back early, and reads on."""


class _Connection:
    """A DB-API connection to nothing."""

    def cursor(self, *args: Any) -> _Cursor:
        return _Cursor()

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def close(self) -> None: ...

    terminate = close


class _Driver:
    """What SQLAlchemy asks of a DB-API module."""

    class Error(Exception):
        """Never raised: fedorm's own errors are to come out as they are, which SQLAlchemy would wrap a driver's."""

    paramstyle = "named"
    Binary = bytes

    @staticmethod
    def connect(*args: Any, **options: Any) -> _Connection:
        return _Connection()


def federated_engine(runner: Runner, *, is_async: bool) -> Engine:
    """Make the engine that a session binds to for statements over several services."""
    dialect = FederatedDialect(runner, is_async=is_async)
    connect: Any = _Connection
    return Engine(NullPool(connect), dialect, make_url("fedorm://"), hide_parameters=True)
