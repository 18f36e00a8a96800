"""Whole rows of SQL tables by key: what PostgreSQL, MySQL and SQLite share, and what ClickHouse reads alike."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, TypeVar

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.dml import Insert
from sqlalchemy.util import greenlet_spawn

from fedorm.exc import RowError, StoreError, UnsupportedOperationError
from fedorm.stores.base import batches
from fedorm.stores.exact import RefusedValueError
from fedorm.stores.rows import Block, Key, RowShape, Values
from fedorm.stores.sql import WRITES, SQLStore
from fedorm.stores.sql_binding import Binding, Prepared, Reading, RowFaultError
from fedorm.stores.sql_marks import SQLMarks

T = TypeVar("T")
VALUE, KEY = "fedorm_value_", "fedorm_key_"
"""What the names of parameters begin with: of those that a row is given, and of those by which it is found."""


class SQLRowReading(SQLMarks):
    """Reads rows by key over connections of the store's pool, each for one statement alone."""

    compares_rows = True
    """Whether ``(a, b) > (1, 2)`` is answered from an index."""

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

    @property
    def dialect(self) -> Dialect:
        """The dialect of the engine for greenlets."""
        return self.store.engine.dialect

    def source(self) -> Any:
        """Return what rows are selected from."""
        return self.table

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
        statement = self.selected(columns).order_by(*self.keys).limit(size)
        if after is not None:
            statement = statement.where(self.beyond(after))
        if since is not None:
            statement = statement.where(self.written_since(since))
        with self.store.engine.connect() as connection:
            return reading.rows(connection.execute(statement))

    def _found(self, reading: Reading, columns: Sequence[Column[Any]], keys: Sequence[Key]) -> list[Sequence[Any]]:
        found: list[Sequence[Any]] = []
        if keys:
            with self.store.engine.connect() as connection:
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

    # -- errors

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Run ``work`` under a greenlet; what it raises is an error of the store's."""
        try:
            return await greenlet_spawn(work, *args)
        except StoreError:
            raise
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
        return self.store.error(kind or StoreError, f"{self.shape.label}: {type(cause).__name__}: {cause}")

    @abstractmethod
    def fault(self, error: BaseException) -> str | None:
        """Say what is wrong with a row, where that is what the driver's error means; None where it is not."""


class SQLRowAccess(SQLRowReading):
    """Writes rows in transactions of the store's pool, by statements that are made once."""

    # -- transactions

    async def begin(self) -> Connection:
        """Take a connection and begin."""
        return await self.run(self._begin)

    async def write(self, handle: Connection, block: Block, *, version: int) -> None:
        """Delete, change, then insert or replace; the version is not written."""
        await self.run(self._write, handle, block)

    async def commit(self, handle: Connection) -> None:
        """Commit, and give the connection back."""
        await self.run(self._commit, handle)

    async def rollback(self, handle: Connection) -> None:
        """Undo, and give the connection back."""
        await greenlet_spawn(self._rollback, handle)

    def _begin(self) -> Connection:
        connection = self.store.engine.connect().execution_options(**{WRITES: True})
        try:
            connection.begin()
        except BaseException:
            connection.close()
            raise
        return connection

    def _commit(self, connection: Connection) -> None:
        try:
            connection.commit()
        finally:
            self._close(connection)

    def _rollback(self, connection: Connection) -> None:
        with suppress(Exception):
            connection.rollback()
        self._close(connection)

    @staticmethod
    def _close(connection: Connection) -> None:
        try:
            connection.close()
        except Exception:
            connection.invalidate()

    # -- writing

    def _write(self, connection: Connection, block: Block) -> None:
        # What is deleted may have held a value that is unique, and that another row now has.
        if block.deletes:
            self.delete(connection, block.deletes)
        if block.changes:
            self.change(connection, block.changes)
        if block.upserts:
            self.upsert(connection, block.upserts)

    @cached_property
    def written(self) -> dict[str, Column[Any]]:
        """The columns that are given a value, by field: those that the database does not compute itself."""
        fields = {name: self.shape.columns[name] for name in self.shape.fields}
        return {name: column for name, column in fields.items() if column.computed is None}

    @cached_property
    def replaced(self) -> list[Column[Any]]:
        """Those that a row that is there is given, too."""
        keys = set(self.keys)
        return [
            column
            for column in self.written.values()
            if column not in keys and not (column.identity is not None and column.identity.always)
        ]

    @cached_property
    def defaults(self) -> dict[str, Column[Any]]:
        """Columns beside the fields that Python gives new rows a value for, by the columns' own names."""
        named = {self.shape.columns[name] for name in self.shape.fields}
        return {one.name: one for one in self.table.columns if one not in named and _is_plain(one.default)}

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

    def _made(self, column: Column[Any], default: Any, number: int) -> Sequence[Any]:
        values = [default.arg(None) if default.is_callable else default.arg for _ in range(number)]
        return Binding({column.name: column}, self.dialect).column(column.name, values)

    @cached_property
    def _upsert(self) -> Prepared:
        return Prepared.of(self.upserting(parameters(self.inserted)), self.dialect)

    @abstractmethod
    def upserting(self, values: dict[Column[Any], Any]) -> Insert:
        """Return the statement that inserts a row of ``values``, or changes the one with its key."""

    def upsert(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Insert or replace rows, one by one for the database."""
        self._upsert.send_many(connection, numbered(self.bound(rows)))

    def delete(self, connection: Connection, keys: Sequence[Key]) -> None:
        """Delete by lists of keys."""
        for batch in batches(keys, self.store.keys_per_statement(len(self.keys))):
            connection.execute(delete(self.table).where(self.store.key_filter(self.keys, batch)))

    def change(self, connection: Connection, changes: Sequence[tuple[Key, Values]]) -> None:
        """Update row by row, those of the same fields by one statement."""
        for names, those in self.by_fields(changes):
            keys, columns = self.bound_changes(names, those)
            self.changing(names).send_many(connection, numbered(columns) | numbered(keys, KEY))

    def by_fields(
        self, changes: Sequence[tuple[Key, Values]]
    ) -> Iterator[tuple[tuple[str, ...], list[tuple[Key, Values]]]]:
        """Yield changes of the same fields together, in the order of the shape's; those of none are left out."""
        groups: dict[tuple[str, ...], list[tuple[Key, Values]]] = defaultdict(list)
        for key, values in changes:
            unknown = values.keys() - set(self.shape.fields)
            if unknown:
                raise RowFaultError(f"field {sorted(unknown)[0]!r} is none of its fields")
            groups[tuple(name for name in self.written if name in values)].append((key, values))
        yield from ((names, those) for names, those in groups.items() if names)

    def bound_keys(self, keys: Sequence[Key]) -> list[Sequence[Any]]:
        """Return the parts of keys as the driver takes them, a list each."""
        return [self.binding.column(name, [key[at] for key in keys]) for at, name in enumerate(self.shape.key)]

    def bound_changes(
        self, names: Sequence[str], changes: Sequence[tuple[Key, Values]]
    ) -> tuple[list[Sequence[Any]], list[Sequence[Any]]]:
        """Return the parts of the keys, and the values of the ``changed`` columns, a list each."""
        made = self.binding.columns([values for _, values in changes], names)
        stamped = self.changed(names)[len(names) :]
        made += [self._made(column, column.onupdate, len(changes)) for column in stamped]
        return self.bound_keys([key for key, _ in changes]), made

    def changed(self, names: Sequence[str]) -> list[Column[Any]]:
        """Return the columns of fields that are changed, and those that Python gives a value at each change."""
        columns = [self.written[name] for name in names]
        return columns + [one for one in self.table.columns if one not in columns and _is_plain(one.onupdate)]

    def changing(self, names: Sequence[str]) -> Prepared:
        """Return the statement that changes one row."""
        found = (column == one for column, one in parameters(self.keys, KEY).items())
        statement = update(self.table).where(and_(*found)).values(parameters(self.changed(names)))
        return self.prepared(("change", *names), statement)

    def prepared(self, name: tuple[str, ...], statement: Executable) -> Prepared:
        """Return a statement compiled; once for each name."""
        if name not in self._prepared:
            self._prepared[name] = Prepared.of(statement, self.dialect)
        return self._prepared[name]

    @cached_property
    def _prepared(self) -> dict[tuple[str, ...], Prepared]:
        return {}


def parameters(columns: Sequence[Column[Any]], prefix: str = VALUE) -> dict[Column[Any], BindParameter[Any]]:
    """Return a parameter for each column, called by its place."""
    return {column: bindparam(f"{prefix}{at}", type_=column.type) for at, column in enumerate(columns)}


def numbered(columns: Sequence[Sequence[Any]], prefix: str = VALUE) -> dict[str, Sequence[Any]]:
    """Return columns of values by the names of their ``parameters``."""
    return {f"{prefix}{at}": values for at, values in enumerate(columns)}


def _is_plain(default: Any) -> bool:
    return default is not None and bool(default.is_scalar or default.is_callable)
