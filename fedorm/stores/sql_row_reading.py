"""Whole rows of SQL tables by key: reading, and values on their way to a table, alike in all databases."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Float,
    Select,
    Table,
    and_,
    func,
    or_,
    select,
    tuple_,
)
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import Dialect
from sqlalchemy.util import greenlet_spawn

from fedorm.exc import RowError, StoreError, UnsupportedOperationError
from fedorm.stores.base import batches
from fedorm.stores.exact import RefusedValueError
from fedorm.stores.passing import ColumnPassage, Pair, Passage
from fedorm.stores.rows import Key, RowAccess, RowShape, Values
from fedorm.stores.sql import SQLStore
from fedorm.stores.sql_binding import Binding, Reading, RowFaultError
from fedorm.stores.sql_marks import SQLMarks

T = TypeVar("T")
_UNSPECIFIC = (StoreError, UnsupportedOperationError)
"""What an engine's own handler makes of errors that it knows nothing about."""
_UNREADABLE = (ValueError, LookupError, ArithmeticError)
"""What a driver or a column's type raises for a value that Python has none for."""


class SQLRowReading(SQLMarks):
    """Reads rows by key over connections of the store's pool, each for one statement alone."""

    compares_rows = True
    """Whether ``(a, b) > (1, 2)`` is answered from an index."""
    narrow: ClassVar[str] = "$."
    """What types of floats of 32 bits look like in DDL; none here."""

    def __init__(self, store: SQLStore, shape: RowShape) -> None:
        super().__init__(shape)
        if shape.table is None:
            raise store.error(UnsupportedOperationError, f"{shape.label} is no table")
        self.store = store
        self.table: Table = shape.table
        self.keys: list[Column[Any]] = [shape.columns[name] for name in shape.key]
        self._rows = Reading([shape.columns[name] for name in shape.fields])
        self._key_rows = Reading(self.keys)
        self._key_places = [shape.fields.index(name) for name in shape.key]
        self.narrow_floats = frozenset(name for name in shape.fields if self._is_narrow(shape.columns[name]))

    @property
    def dialect(self) -> Dialect:
        """The dialect of the engine for greenlets."""
        return self.store.engine.dialect

    def _is_narrow(self, column: Column[Any]) -> bool:
        kind = column.type
        return isinstance(kind, Float) and bool(re.match(self.narrow, kind.compile(self.dialect), re.IGNORECASE))

    def source(self) -> Any:
        """Return what rows are selected from."""
        return self.table

    def narrowed(self, fields: Collection[str]) -> RowAccess:
        """Go to the same table."""
        return self.store.row_access(self.shape.of(fields))

    # -- reading

    async def pages(
        self, *, size: int, after: Key | None = None, since: str | None = None
    ) -> AsyncIterator[list[Values]]:
        """Read each page by the key of the last row before it."""
        names, places = self.shape.fields, self._key_places
        while True:
            columns = [self.shape.columns[name] for name in names]
            rows = await self.run(self._page, self._rows, columns, size, after, since)
            if rows:
                after = tuple(rows[-1][place] for place in places)
                yield [dict(zip(names, row, strict=True)) for row in rows]
            if len(rows) < size:
                return

    async def key_pages(self, *, size: int, after: Key | None = None) -> AsyncIterator[list[Key]]:
        """Read each page by the last key before it."""
        while True:
            rows = await self.run(self._page, self._key_rows, self.keys, size, after)
            keys = [tuple(row) for row in rows]
            if keys:
                after = keys[-1]
                yield keys
            if len(keys) < size:
                return

    async def read(self, keys: Sequence[Key]) -> dict[Key, Values]:
        """Look the keys up in batches, over one connection."""
        names, places = self.shape.fields, self._key_places
        rows = await self.run(self._found, self._rows, [self.shape.columns[name] for name in names], keys)
        return {tuple(row[place] for place in places): dict(zip(names, row, strict=True)) for row in rows}

    async def present(self, keys: Sequence[Key]) -> set[Key]:
        """Look the keys up in batches, over one connection."""
        return {tuple(row) for row in await self.run(self._found, self._key_rows, self.keys, keys)}

    async def count(self) -> int:
        """Count the rows."""
        return await self.run(self._count)

    def _page(
        self,
        reading: Reading,
        columns: Sequence[Column[Any]],
        size: int,
        after: Key | None,
        since: str | None = None,
    ) -> list[Sequence[Any]]:
        with self.store.engine.connect() as connection:
            return reading.rows(connection.execute(self._paged(columns, size, after, since)))

    def _paged(
        self, columns: Sequence[Column[Any]], size: int, after: Key | None, since: str | None = None
    ) -> Select[Any]:
        statement = self.selected(columns).order_by(*self.keys).limit(size)
        if after is not None:
            statement = statement.where(self.beyond(after))
        if since is not None:
            statement = statement.where(self.written_since(since))
        return statement

    async def column_pages(
        self, *, size: int, after: Key | None
    ) -> AsyncIterator[tuple[int, Key, dict[str, Sequence[Any]]]]:
        """Yield pages by columns: how many rows there are, the last key, and the values of each field."""
        names = self.shape.fields
        while True:
            number, columns = await self.run(self._column_page, size, after)
            if number:
                after = tuple(columns[place][-1] for place in self._key_places)
                yield number, after, dict(zip(names, columns, strict=True))
            if number < size:
                return

    def _column_page(self, size: int, after: Key | None) -> tuple[int, list[Sequence[Any]]]:
        statement = self._paged([self.shape.columns[name] for name in self.shape.fields], size, after)
        with self.store.engine.connect() as connection:
            return self._rows.columns(connection.execute(statement))

    async def passage(self, target: RowAccess, pairs: Sequence[Pair]) -> Passage | None:
        """Return a way by columns, to any table."""
        if not isinstance(target, SQLRowReading) or not hasattr(target, "write_columns"):
            return None
        return ColumnPassage(self, target, pairs)

    def _found(self, reading: Reading, columns: Sequence[Column[Any]], keys: Sequence[Key]) -> list[Sequence[Any]]:
        if not keys:
            return []
        with self.store.engine.connect() as connection:
            return self.found(connection, reading, columns, keys)

    def found(
        self, connection: Connection, reading: Reading, columns: Sequence[Column[Any]], keys: Sequence[Key]
    ) -> list[Sequence[Any]]:
        """Return columns of the rows with these keys."""
        found: list[Sequence[Any]] = []
        for batch in batches(keys, self.store.keys_per_statement(len(self.keys))):
            statement = self.selected(columns).where(self.store.key_filter(self.keys, batch))
            found += reading.rows(connection.execute(statement))
        return found

    def _count(self) -> int:
        with self.store.engine.connect() as connection:
            statement = self.selected([]).with_only_columns(func.count()).select_from(self.source())
            return int(connection.execute(statement).scalar_one())

    def selected(self, columns: Sequence[Column[Any]]) -> Select[Any]:
        """Return the query for columns of all rows that count."""
        return select(*columns).select_from(self.source())

    def beyond(self, after: Key) -> ColumnElement[bool]:
        """Return the condition that a row comes after a key."""
        if len(self.keys) == 1:
            return and_(self.keys[0] > after[0])
        if self.compares_rows:
            return and_(tuple_(*self.keys) > tuple_(*after))
        # The first part alone lets an index be used that knows nothing of the alternatives.
        steps = [
            and_(*(self.keys[at] == after[at] for at in range(last)), self.keys[last] > after[last])
            for last in range(len(self.keys))
        ]
        return and_(self.keys[0] >= after[0], or_(*steps))

    # -- values on their way to the database

    @cached_property
    def written(self) -> dict[str, Column[Any]]:
        """The columns that are given a value, by field: those that the database does not compute itself."""
        fields = {name: self.shape.columns[name] for name in self.shape.fields}
        return {name: column for name, column in fields.items() if column.computed is None}

    @cached_property
    def defaults(self) -> dict[str, Column[Any]]:
        """Columns beside the fields that Python gives new rows a value for, by the columns' own names."""
        named = {self.shape.columns[name] for name in self.shape.fields}
        return {one.name: one for one in self.table.columns if one not in named and is_plain(one.default)}

    @cached_property
    def inserted(self) -> list[Column[Any]]:
        """All columns that a new row is given."""
        return [*self.written.values(), *self.defaults.values()]

    @cached_property
    def binding(self) -> Binding:
        """What the types of the fields' columns make of values."""
        return Binding({name: self.shape.columns[name] for name in self.shape.fields}, self.dialect)

    def bound(self, rows: Sequence[Values]) -> list[Sequence[Any]]:
        """Return the values of all ``inserted`` columns as the driver takes them, a list each."""
        made = self.binding.columns(rows, list(self.written))
        return made + [self._made(column, column.default, len(rows)) for column in self.defaults.values()]

    def bound_columns(self, columns: Mapping[str, Sequence[Any]], number: int) -> list[Sequence[Any]]:
        """Do the same for columns of values."""
        made = [self.binding.column(name, columns[name]) for name in self.written]
        return made + [self._made(column, column.default, number) for column in self.defaults.values()]

    def _made(self, column: Column[Any], default: Any, number: int) -> Sequence[Any]:
        values = [default.arg(None) if default.is_callable else default.arg for _ in range(number)]
        return Binding({column.name: column}, self.dialect).column(column.name, values)

    # -- errors

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Run ``work`` under a greenlet; what it raises is an error of the store's."""
        try:
            return await greenlet_spawn(work, *args)
        except StoreError as error:
            cause = error.__cause__
            fault = self.fault(cause) if type(error) in _UNSPECIFIC and cause is not None else None
            if fault is None:
                raise
            raise self.store.error(RowError, f"{self.shape.label}: {fault}") from cause
        except Exception as error:
            raise self.named(error) from error

    def named(self, error: Exception) -> StoreError:
        """Return an error in fedorm's words: a ``RowError`` for what is the rows' fault."""
        if isinstance(error, RowFaultError):
            return self.store.error(RowError, f"{self.shape.label}: {error}")
        original = getattr(error, "orig", None) or error
        cause = original.__cause__ if isinstance(original.__cause__, Exception) else original
        if isinstance(original, RefusedValueError) or (isinstance(error, sa_exc.StatementError) and error.orig is None):
            return self.store.error(RowError, f"{self.shape.label}: {type(cause).__name__}: a value does not fit")
        fault = self.fault(cause)
        if fault is None and isinstance(error, sa_exc.IntegrityError | sa_exc.DataError):
            fault = f"{type(cause).__name__}: {cause}"
        if fault is not None:
            return self.store.error(RowError, f"{self.shape.label}: {fault}")
        kind = self.store._kind_of(original)
        if kind is None and isinstance(cause, _UNREADABLE):
            said = f"{type(cause).__name__}: a value cannot be read or written"
            return self.store.error(RowError, f"{self.shape.label}: {said}")
        return self.store.error(kind or StoreError, f"{self.shape.label}: {type(cause).__name__}: {cause}")

    @abstractmethod
    def fault(self, error: BaseException) -> str | None:
        """Say what is wrong with a row, where that is what the driver's error means; None where it is not."""


def is_plain(default: Any) -> bool:
    """Say whether Python gives a column a value, and not an expression."""
    return default is not None and bool(default.is_scalar or default.is_callable)
