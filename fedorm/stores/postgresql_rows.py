"""Whole rows of PostgreSQL's tables by key: arrays for few of them, COPY for many."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from functools import cached_property, partial
from hashlib import blake2b
from typing import Any, ClassVar
from weakref import WeakSet

from sqlalchemy import (
    ARRAY,
    CHAR,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Date,
    DateTime,
    Enum,
    FromClause,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Select,
    String,
    Table,
    Text,
    Time,
    Transaction,
    Uuid,
    bindparam,
    cast,
    column,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy import exc as sa_exc
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql.dml import Insert
from sqlalchemy.types import TypeEngine
from sqlalchemy.util import await_only

from fedorm.stores.passing import Pair, Passage
from fedorm.stores.postgresql_copies import PostgreSQLCopies
from fedorm.stores.rows import Key, RowAccess, Values
from fedorm.stores.sql_binding import Prepared, RowFaultError
from fedorm.stores.sql_marks import PostgreSQLMarks
from fedorm.stores.sql_rows import KEY, VALUE, SQLRowAccess, numbered
from fedorm.stores.touched import NOTHING, Touched
from fedorm.stores.watching import note_change

Copy = Callable[[Connection, Table], None]
_FEW = 200
"""Up to how many rows arrays are faster than COPY and a second statement."""
_FAULTS = ("22", "23", "44", "54000", "P0001")
"""SQLSTATEs of data, constraints, views' checks, values too large for an index, and what triggers raise."""
_NOT_COPIED = ("23505", "0A000")
"""A row is there already, or the table takes no COPY, as one with row-level security."""
_ARGUMENT = re.compile(r"query argument \$(\d+)")
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
_MISFIT = "a value is not of its column's type, or does not fit into it"
_COMPARED = (Integer, Numeric, String, Boolean, Date, DateTime, Time, Uuid, LargeBinary, Enum, postgresql.JSONB)
"""Types whose values can be compared, and are equal only if they are the same."""


class PostgreSQLRowAccess(PostgreSQLMarks, SQLRowAccess):
    """Writes few rows as arrays in one statement; many by COPY into a temporary table of the connection's."""

    few: ClassVar[int] = _FEW
    narrow = r"REAL|FLOAT\((\d|1\d|2[0-4])\)"
    _are_new = True
    """Whether rows were new as often as there were many: then a first copy of a table is faster by a half."""
    _key_is_unique = False
    """Whether that was seen."""

    # -- upserts

    async def passage(self, target: RowAccess, pairs: Sequence[Pair]) -> Passage | None:
        """Return the way by COPY alone, to a table of PostgreSQL's whose columns have the same types."""
        if isinstance(target, PostgreSQLRowAccess) and not any(one.convert for one in pairs):
            copies = PostgreSQLCopies(self, target, pairs)
            if await copies.fit():
                return copies
        return await super().passage(target, pairs)

    def upsert_bound(self, connection: Connection, columns: Sequence[Sequence[Any]], number: int) -> None:
        """Choose the way by the number of rows."""
        if number <= self.few and self._fits_arrays(self.inserted):
            with self._naming(self._from_arrays, self.inserted):
                self._from_arrays.send(connection, numbered(columns))
            return
        try:
            self.fill(connection, partial(self._copy, columns))
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise RowFaultError(_misfit(self.inserted, columns)) from error

    def fill(self, connection: Connection, copy: Copy) -> None:
        """Insert or replace the rows that ``copy`` puts into a table of the ``inserted`` columns."""
        if not self._are_new or not self._insert(connection, copy):
            self._stage(connection, copy)
            self._from_staging.send(connection, {})

    def _insert(self, connection: Connection, copy: Copy) -> bool:
        """Copy rows right into the table, as long as none of them is there; say whether that was so."""
        if not self._key_is_unique:
            # Of no rows: it fails where no index keeps a key from being there twice, as COPY would not.
            self._making.send(connection, {})
            self._from_staging.send(connection, {})
            self._key_is_unique = True
        savepoint = connection.begin_nested()
        try:
            copy(connection, self.table)
        except Exception as error:
            savepoint.rollback()
            if getattr(error, "sqlstate", None) not in _NOT_COPIED:
                raise
            self._are_new = False
            return False
        savepoint.commit()
        note_change(connection, self.touched)
        return True

    @property
    def touched(self) -> Touched:
        """What the result cache forgets when rows are written."""
        return self._from_staging.touched

    def upserting(self, values: dict[Column[Any], Any]) -> Insert:
        """Return the statement for one row."""
        return self._on_conflict(postgresql.insert(self.table).inline().values(values))

    def _on_conflict(self, made: postgresql.Insert) -> Insert:
        if not self.replaced:
            return made.on_conflict_do_nothing(index_elements=self.keys)
        return made.on_conflict_do_update(
            index_elements=self.keys,
            set_={one: made.excluded[one.key] for one in self.replaced},
            where=_differ({one: made.excluded[one.key] for one in self.replaced}),
        )

    def _upserting_from(self, source: FromClause) -> Insert:
        chosen = _Given(*source.columns)
        return self._on_conflict(postgresql.insert(self.table).inline().from_select(self.inserted, chosen))

    @cached_property
    def _from_arrays(self) -> Prepared:
        return Prepared.of(self._upserting_from(_arrays(self.inserted, VALUE)), self.dialect)

    @cached_property
    def _from_staging(self) -> Prepared:
        return Prepared.of(self._upserting_from(self._staging), self.dialect)

    # -- many rows

    @cached_property
    def _staging(self) -> Table:
        columns = [(self.table.fullname, one.name, str(one.type)) for one in self.inserted]
        name = f"fedorm_rows_{blake2b(repr(columns).encode(), digest_size=8).hexdigest()}"
        return Table(name, MetaData(), *(Column(one.name, one.type) for one in self.inserted), schema="pg_temp")

    @cached_property
    def _making(self) -> Prepared:
        made = _MakeStaging(self._staging, select(*self.inserted))
        return Prepared(str(made.compile(dialect=self.dialect)), (), NOTHING)

    @cached_property
    def _used(self) -> WeakSet[Transaction]:
        """Transactions that have filled the staging table before."""
        return WeakSet()

    def _stage(self, connection: Connection, copy: Copy) -> None:
        transaction = connection.get_transaction()
        if transaction in self._used:
            Prepared.of(delete(self._staging), self.dialect).send(connection, {})
        else:
            # Not once for a connection: what was made in a transaction that is undone is not there any more.
            self._making.send(connection, {})
            if transaction is not None:
                self._used.add(transaction)
        copy(connection, self._staging)

    def _copy(self, columns: Sequence[Sequence[Any]], connection: Connection, target: Table) -> None:
        driver: Any = connection.connection.driver_connection
        names = [one.name for one in self.inserted]
        await_only(
            driver.copy_records_to_table(
                target.name, schema_name=target.schema, columns=names, records=zip(*columns, strict=True)
            )
        )

    # -- changes and deletes

    def change(self, connection: Connection, changes: Sequence[tuple[Key, Values]]) -> None:
        """Update those of the same fields by one statement."""
        for names, those in self.by_fields(changes):
            if not self._fits_arrays([*self.keys, *self.changed(names)]):
                super().change(connection, those)
                continue
            keys, columns = self.bound_changes(names, those)
            statement = self._changing_arrays(names)
            with self._naming(statement, self.changed(names)):
                statement.send(connection, numbered(columns) | numbered(keys, KEY))

    def _changing_arrays(self, names: Sequence[str]) -> Prepared:
        changed = self.changed(names)
        source = _arrays(self.keys, KEY, changed, VALUE)
        found, given = list(source.columns)[: len(self.keys)], list(source.columns)[len(self.keys) :]
        values = dict(zip(changed, given, strict=True))
        statement = (
            update(self.table)
            .where(*(one == key for one, key in zip(self.keys, found, strict=True)))
            .where(_differ(values))
            .values(values)
        )
        return self.prepared(("change", "arrays", *names), statement)

    def delete(self, connection: Connection, keys: Sequence[Key]) -> None:
        """Delete by arrays."""
        if not self._fits_arrays(self.keys):
            super().delete(connection, keys)
            return
        source = _arrays(self.keys, KEY)
        statement = delete(self.table).where(*(one == key for one, key in zip(self.keys, source.columns, strict=True)))
        self.prepared(("delete",), statement).send(connection, numbered(self.bound_keys(keys), KEY))

    @staticmethod
    def _fits_arrays(columns: Sequence[Column[Any]]) -> bool:
        """Say whether an array can hold values of each as they are.

        unnest() takes arrays within apart, and a cast to a type with a length cuts off what is longer.
        """
        return not any(isinstance(one.type, ARRAY | postgresql.ARRAY | CHAR | postgresql.BIT) for one in columns)

    # -- errors

    @contextmanager
    def _naming(self, statement: Prepared, columns: Sequence[Column[Any]]) -> Iterator[None]:
        """Name the column of an array that asyncpg refuses."""
        try:
            yield
        except sa_exc.DBAPIError as error:
            found = _ARGUMENT.search(str(error.orig))
            if found is None:
                raise
            named = {f"{VALUE}{at}": one.name for at, one in enumerate(columns)}
            name = named.get(statement.names[int(found[1]) - 1], "the key")
            raise RowFaultError(f"field {name!r}: {_MISFIT}") from error

    def fault(self, error: BaseException) -> str | None:
        """Go by SQLSTATE."""
        state = getattr(error, "sqlstate", None)
        if not isinstance(state, str) or not state.startswith(_FAULTS):
            return None
        # What asyncpg refuses by itself repeats the value.
        return _MISFIT if "query argument" in str(error) else f"{type(error).__name__}: {error}"


def _misfit(columns: Sequence[Column[Any]], values: Sequence[Sequence[Any]]) -> str:
    """Name a column with a value that is not of its type, as far as Python can tell."""
    for one, those in zip(columns, values, strict=True):
        with suppress(NotImplementedError):
            expected: Any = one.type.python_type
            if expected in (float, Decimal):
                expected = (int, float, Decimal)
            if not all(value is None or isinstance(value, expected) for value in those):
                return f"field {one.name!r}: {_MISFIT}"
    return _MISFIT


def _arrays(columns: Sequence[Column[Any]], prefix: str, *more: Any) -> FromClause:
    """Return rows made of arrays, one parameter for each column."""
    pairs = [(columns, prefix), *([more] if more else [])]
    named = [(f"{name}{at}", one.type) for part, name in pairs for at, one in enumerate(part)]
    arrays = (bindparam(name, type_=postgresql.ARRAY(_unlimited(kind))) for name, kind in named)
    made: FromClause = (
        func.unnest(*arrays).table_valued(*(column(name, kind) for name, kind in named), name="given").render_derived()
    )
    return made


def _unlimited(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type without a length: a cast to it cuts off nothing, and the column itself then refuses it."""
    impl = kind.dialect_impl(_DIALECT)
    return Text() if isinstance(impl, String) and not isinstance(impl, postgresql.ENUM) else kind


def _differ(pairs: Mapping[Any, ColumnElement[Any]]) -> ColumnElement[bool]:
    """Return the condition that one of the columns has another value."""
    alike = [(one, other) for one, other in pairs.items() if _is_compared(one)]
    texts = [(cast(one, Text), cast(other, Text)) for one, other in pairs.items() if not _is_compared(one)]
    return or_(*(one.is_distinct_from(other) for one, other in [*alike, *texts]))


def _is_compared(one: Column[Any]) -> bool:
    return isinstance(one.type, _COMPARED) and not isinstance(one.type, postgresql.CITEXT)


class _Given(Select[Any]):
    """The rows of an INSERT whose identity columns take what they are given."""

    inherit_cache = True


@compiles(_Given)
def _given(element: _Given, compiler: Any, **options: Any) -> str:
    return f"OVERRIDING SYSTEM VALUE {compiler.visit_select(element, **options)}"


class _MakeStaging(ExecutableDDLElement):
    """Makes a temporary table with the columns of a query, empty at the end of each transaction."""

    inherit_cache = False

    def __init__(self, table: Table, query: Select[Any]) -> None:
        self.table, self.query = table, query


@compiles(_MakeStaging)
def _make_staging(element: _MakeStaging, compiler: Any, **options: Any) -> str:
    name = compiler.preparer.format_table(element.table)
    query = compiler.sql_compiler.process(element.query, literal_binds=True)
    return f"CREATE TEMPORARY TABLE IF NOT EXISTS {name} ON COMMIT DELETE ROWS AS {query} WITH NO DATA"
