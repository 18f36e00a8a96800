"""Whole rows of SQL tables by key: what PostgreSQL, MySQL and SQLite share."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, TypeVar

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    delete,
    update,
)
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.dml import Insert
from sqlalchemy.util import greenlet_spawn

from fedorm.stores.base import batches
from fedorm.stores.rows import Block, Key, Values
from fedorm.stores.sql import WRITES
from fedorm.stores.sql_binding import Prepared, RowFaultError
from fedorm.stores.sql_row_reading import SQLRowReading, is_plain

T = TypeVar("T")
VALUE, KEY = "fedorm_value_", "fedorm_key_"
"""What the names of parameters begin with: of those that a row is given, and of those by which it is found."""


class SQLRowAccess(SQLRowReading):
    """Writes rows in transactions of the store's pool, by statements that are made once."""

    heeds_only = True

    # -- transactions

    async def begin(self) -> Connection:
        """Take a connection and begin."""
        return await self.run(self._begin)

    async def write(self, handle: Connection, block: Block, *, version: int) -> None:
        """Delete, change, then insert or replace; the version is not written."""
        await self.run(self._write, handle, block)

    async def write_columns(
        self, handle: Connection, columns: Mapping[str, Sequence[Any]], number: int, *, version: int
    ) -> None:
        """Insert or replace rows that are given by columns."""
        await self.run(self._write_columns, handle, columns, number)

    def _write_columns(self, connection: Connection, columns: Mapping[str, Sequence[Any]], number: int) -> None:
        self.upsert_bound(connection, self.bound_columns(columns, number), number)

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
            if self.as_replica:
                self.store.begin_as_replica(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _commit(self, connection: Connection) -> None:
        try:
            connection.commit()
        except BaseException:
            # SQLite's transaction goes on, and SQLAlchemy takes it for ended.
            with suppress(Exception):
                connection.connection.rollback()
            raise
        finally:
            self._close(connection)

    def _rollback(self, connection: Connection) -> None:
        with suppress(Exception):
            connection.rollback()
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        try:
            if self.as_replica and not connection.invalidated:
                self.store.end_as_replica(connection)
            connection.close()
        except Exception:
            connection.invalidate()

    # -- writing

    def _write(self, connection: Connection, block: Block) -> None:
        # What is deleted may have held a value that is unique, and that another row now has.
        if block.deletes:
            if block.only:
                self._delete_only(connection, block.deletes, block.only)
            else:
                self.delete(connection, block.deletes)
        if block.changes:
            if block.only:
                self._change_only(connection, block.changes, block.only)
            else:
                self.change(connection, block.changes)
        if block.upserts:
            self.upsert(connection, block.upserts)

    def _delete_only(self, connection: Connection, keys: Sequence[Key], only: Values) -> None:
        for batch in batches(keys, self.store.keys_per_statement(len(self.keys))):
            chosen = self.store.key_filter(self.keys, batch)
            connection.execute(delete(self.table).where(chosen, *self._those(only)))

    def _change_only(self, connection: Connection, changes: Sequence[tuple[Key, Values]], only: Values) -> None:
        for key, values in changes:
            chosen = self.store.key_filter(self.keys, [key])
            new = {self.shape.columns[name]: value for name, value in values.items()}
            connection.execute(update(self.table).where(chosen, *self._those(only)).values(new))

    def _those(self, only: Values) -> list[ColumnElement[bool]]:
        columns = {name: self.shape.columns[name] for name in only}
        return [columns[name].is_(None) if value is None else columns[name] == value for name, value in only.items()]

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
    def _upsert(self) -> Prepared:
        return Prepared.of(self.upserting(parameters(self.inserted)), self.dialect)

    @abstractmethod
    def upserting(self, values: dict[Column[Any], Any]) -> Insert:
        """Return the statement that inserts a row of ``values``, or changes the one with its key."""

    def upsert(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Insert or replace rows."""
        self.upsert_bound(connection, self.bound(rows), len(rows))

    def upsert_bound(self, connection: Connection, columns: Sequence[Sequence[Any]], number: int) -> None:
        """Insert or replace rows that are bound already, one by one for the database."""
        self._upsert.send_many(connection, numbered(columns))

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
        return columns + [one for one in self.table.columns if one not in columns and is_plain(one.onupdate)]

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
