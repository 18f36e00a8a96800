"""Whole rows of ClickHouse's tables by key: appended with a version, of which the greatest counts."""

from __future__ import annotations

import datetime
import re
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Date,
    DateTime,
    Integer,
    Select,
    TableClause,
    and_,
    func,
    insert,
    not_,
    select,
    type_coerce,
)
from sqlalchemy import column as plain_column
from sqlalchemy import table as plain_table

from fedorm.exc import UnsupportedOperationError
from fedorm.stores.clickhouse_sql import COLUMNAR
from fedorm.stores.rows import Block, Key, Values
from fedorm.stores.sql_binding import Reading, RowFaultError
from fedorm.stores.sql_row_reading import SQLRowReading
from fedorm.stores.watching import TOUCHED

_FAULTS = {6, 26, 27, 38, 41, 53, 69, 70, 72, 131, 321, 349, 376, 407, 439, 469}
"""The engine's codes for a value that cannot be read or held, and for a constraint."""
_CODE = re.compile(r"\bcode: (\d+)", re.IGNORECASE)
_COLUMN = re.compile(r"for column \"([^\"]+)\"|detailed info\. Column ([^:]+):")
_MISFIT = "a value is not of its column's type, or does not fit into it"
_TAKEN: tuple[tuple[Any, Any], ...] = ((Integer, int), (Date | DateTime, datetime.date))
"""What Python's values of a type have to be."""
_MISFITS = (TypeError, ValueError, AttributeError, OverflowError, struct.error)


class ClickHouseRowAccess(SQLRowReading):
    """Appends rows, those that say that one is gone included, and reads the last of each key by ``FINAL``.

    There are no transactions: what is written is there at once, each kind of a block by an INSERT of its own. A row
    is written whole: columns beside the shape's fields get their defaults. To change rows is to read them first.
    Tables whose shape names no version are read as they are, and are not written.
    """

    rounds_moments = False

    compares_rows = False
    narrow = r"(\w+\()*Float32"
    _unfit: str | None = None
    """What keeps rows of the table from being replaced, if anything; None as long as it was not asked."""
    _zone = "UTC"

    # -- reading

    def selected(self, columns: Sequence[Column[Any]]) -> Select[Any]:
        """Leave out rows that a later one replaces, and those that are gone."""
        if self.shape.version is None:
            return super().selected(columns)
        statement = select(*columns).select_from(self.table).with_hint(self.table, "FINAL")
        if self.shape.deleted is not None:
            statement = statement.where(type_coerce(self.shape.columns[self.shape.deleted], Integer) == 0)
        return statement

    async def pages(
        self, *, size: int, after: Key | None = None, since: str | None = None
    ) -> AsyncIterator[list[Values]]:
        """Find by the keys alone where a page ends: FINAL by itself reads all that follows."""
        names = self.shape.fields
        columns = [self.shape.columns[name] for name in names]
        async for rows in self._ranges(self._rows, columns, size, after, since):
            yield [dict(zip(names, row, strict=True)) for row in rows]

    async def key_pages(self, *, size: int, after: Key | None = None) -> AsyncIterator[list[Key]]:
        """Do the same for the keys alone."""
        async for rows in self._ranges(self._key_rows, self.keys, size, after):
            yield [tuple(row) for row in rows]

    async def _ranges(
        self,
        reading: Reading,
        columns: Sequence[Column[Any]],
        size: int,
        after: Key | None,
        since: str | None = None,
    ) -> AsyncIterator[list[Sequence[Any]]]:
        while True:
            rows, last = await self.run(self._range, reading, columns, size, after, since)
            if rows:
                yield rows
            if last is None:
                return
            after = last

    def _range(
        self, reading: Reading, columns: Sequence[Column[Any]], size: int, after: Key | None, since: str | None
    ) -> tuple[list[Sequence[Any]], Key | None]:
        lower = [self.beyond(after)] if after is not None else []
        ends = select(*self.keys).where(*lower).order_by(*self.keys).limit(1).offset(size - 1)
        with self.store.engine.connect() as connection:
            found = self._key_rows.rows(connection.execute(ends))
            last = tuple(found[0]) if found else None
            upper = [self._up_to(last)] if last is not None else []
            statement = self.selected(columns).where(*lower, *upper).order_by(*self.keys)
            if since is not None:
                statement = statement.where(self.written_since(since))
            return reading.rows(connection.execute(statement)), last

    def _up_to(self, last: Key) -> ColumnElement[bool]:
        return and_(self.keys[0] <= last[0], not_(self.beyond(last)))

    # -- writing

    async def begin(self) -> None:
        """Return None."""

    async def commit(self, handle: None) -> None:
        """Do nothing: what was sent is kept."""

    async def rollback(self, handle: None) -> None:
        """Do nothing: what was sent is kept."""

    async def write(self, handle: None, block: Block, *, version: int) -> None:
        """Append a block of rows, and one of keys that are gone."""
        await self.run(self._write, block, version)

    def _write(self, block: Block, version: int) -> None:
        if not block:
            return
        with self.store.engine.connect() as connection:
            self._refuse_unfit(connection, deletes=bool(block.deletes))
            rows = [*block.upserts, *self._changed(connection, block.changes)]
            if rows:
                self._append(connection, self.inserted, self.bound(rows), len(rows), version, deleted=0)
            if block.deletes:
                keys = [
                    self.binding.column(name, [key[at] for key in block.deletes])
                    for at, name in enumerate(self.shape.key)
                ]
                self._append(connection, self.keys, keys, len(block.deletes), version, deleted=1)

    async def write_columns(
        self, handle: None, columns: Mapping[str, Sequence[Any]], number: int, *, version: int
    ) -> None:
        """Append a block of rows that are given by columns."""
        await self.run(self._write_columns, columns, number, version)

    def _write_columns(self, columns: Mapping[str, Sequence[Any]], number: int, version: int) -> None:
        with self.store.engine.connect() as connection:
            self._refuse_unfit(connection, deletes=False)
            self._append(connection, self.inserted, self.bound_columns(columns, number), number, version, deleted=0)

    def _changed(self, connection: Connection, changes: Sequence[tuple[Key, Values]]) -> list[Values]:
        if not changes:
            return []
        columns = [self.shape.columns[name] for name in self.shape.fields]
        there: dict[Key, Values] = {}
        for row in self.found(connection, self._rows, columns, [key for key, _ in changes]):
            there[tuple(row[place] for place in self._key_places)] = dict(zip(self.shape.fields, row, strict=True))
        return [there[key] | values for key, values in changes if key in there]

    @cached_property
    def written(self) -> dict[str, Column[Any]]:
        """The fields' columns but those of the version and the mark."""
        own = {self.shape.version, self.shape.deleted}
        return {name: column for name, column in super().written.items() if name not in own}

    @cached_property
    def defaults(self) -> dict[str, Column[Any]]:
        """Those of columns that are not the version or the mark."""
        own = self._own_columns()
        return {name: column for name, column in super().defaults.items() if column not in own}

    def bound(self, rows: Sequence[Values]) -> list[Sequence[Any]]:
        """Refuse what newer engines would make another value of, NULL or a text that is no number or date."""
        return self._without_null(super().bound(rows))

    def bound_columns(self, columns: Mapping[str, Sequence[Any]], number: int) -> list[Sequence[Any]]:
        """Do the same for columns of values."""
        return self._without_null(super().bound_columns(columns, number))

    def _without_null(self, made: list[Sequence[Any]]) -> list[Sequence[Any]]:
        for column, values in zip(self.inserted, made, strict=True):
            if not column.nullable and any(value is None for value in values):
                raise RowFaultError(f"field {column.name!r} must not be NULL")
            kinds = next((taken for kind, taken in _TAKEN if isinstance(column.type, kind)), object)
            if not all(issubclass(kind, kinds) for kind in set(map(type, values)) - {type(None)}):
                raise RowFaultError(f"field {column.name!r}: {_MISFIT}")
        return made

    def _own_columns(self) -> list[Column[Any]]:
        return [self.shape.columns[name] for name in (self.shape.version, self.shape.deleted) if name is not None]

    def _append(
        self,
        connection: Connection,
        columns: Sequence[Column[Any]],
        values: Sequence[Sequence[Any]],
        number: int,
        version: int,
        *,
        deleted: int,
    ) -> None:
        own = self._own_columns()
        every = [*columns, *own]
        data = [*values, *([value] * number for value in (version, deleted)[: len(own)])]
        # Not the Table itself: the dialects would add Python's defaults of other columns.
        target = plain_table(
            self.table.name, *(plain_column(one.name, one.type) for one in every), schema=self.table.schema
        )
        compiled: Any = insert(target).compile(dialect=self.dialect)
        options: dict[str, Any] = {TOUCHED: compiled.touched}
        if self.dialect.positional:
            parameters: Any = list(zip(*data, strict=True))
        else:
            parameters = [tuple(one) for one in data]
            options[COLUMNAR] = True if self.dialect.driver == "native" else self._native(connection, every)
        try:
            connection.exec_driver_sql(compiled.string, parameters, execution_options=options)
        except _MISFITS as error:
            raise RowFaultError(_MISFIT) from error

    @cached_property
    def _native_types(self) -> dict[Column[Any], str]:
        return {}

    def _native(self, connection: Connection, columns: Sequence[Column[Any]]) -> Any:
        from fedorm.stores.clickhouse_native import NativeColumns

        if not self._native_types:
            every = [*self.inserted, *self._own_columns()]
            asked: Any = connection.execute(select(*every).limit(0)).cursor
            self._native_types = {one: str(told[1]) for one, told in zip(every, asked.description, strict=True)}
            self._zone = str(connection.execute(select(func.timezone())).scalar_one())
        return NativeColumns([(one.name, self._native_types[one]) for one in columns], self._zone)

    # -- errors

    def _refuse_unfit(self, connection: Connection, *, deletes: bool) -> None:
        """Refuse tables in which no later row could replace one that is there."""
        label, key = self.shape.label, ", ".join(column.name for column in self.keys)
        advice = (
            "rows can only be appended: give the table a column for a version (Int64) and one that says that a row is "
            f"gone (UInt8), ENGINE = ReplacingMergeTree(<version>) ORDER BY ({key}), and say which columns these are"
        )
        if self.shape.version is None or (deletes and self.shape.deleted is None):
            raise self.store.error(UnsupportedOperationError, f"{label}: {advice}")
        if self._unfit is None:
            self._unfit = self._unfitness(connection)
        if self._unfit:
            raise self.store.error(UnsupportedOperationError, f"{label}: {self._unfit}; {advice}")

    def _unfitness(self, connection: Connection) -> str:
        """Return why a row would not take the place of the one with its key; nothing where it would."""
        tables = _system("tables", "database", "name", "engine", "sorting_key")
        columns = _system("columns", "database", "table", "name", "is_in_sorting_key")
        schema = self.table.schema if self.table.schema is not None else func.currentDatabase()
        asked = select(tables.c.engine, tables.c.sorting_key)
        found = connection.execute(asked.where(tables.c.database == schema, tables.c.name == self.table.name))
        engine, order = found.one_or_none() or ("", "")
        if not engine.endswith("MergeTree"):
            return ""  # A view, or a table of others' that leads to one.
        if not engine.endswith("ReplacingMergeTree"):
            return "its engine replaces no rows"
        here = columns.c.database == schema, columns.c.table == self.table.name, columns.c.is_in_sorting_key == 1
        sorted_by = set(connection.scalars(select(columns.c.name).where(*here)))
        keys = {column.name for column in self.keys}
        if sorted_by == keys:
            return ""
        return f"it replaces rows by ORDER BY {order}, and the rule's are known by {', '.join(sorted(keys))}"

    def fault(self, error: BaseException) -> str | None:
        """Go by the engine's code, and by the native driver's own check of types."""
        original: Any = getattr(error, "orig", error)
        said = str(original)
        column = _COLUMN.search(said)
        if column is not None:
            return f"field {(column[1] or column[2])!r}: {_MISFIT}"
        if isinstance(original, _MISFITS):
            return _MISFIT
        code = getattr(original, "code", None)
        if not isinstance(code, int) or code in (400, 404, 500):
            found = _CODE.search(said)
            code = int(found[1]) if found else None
        return f"{type(original).__name__}: {said}" if code in _FAULTS else None


def _system(name: str, *columns: str) -> TableClause:
    return plain_table(name, *map(plain_column, columns), schema="system")
