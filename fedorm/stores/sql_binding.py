"""Rows as a driver takes them: columns of values, each through its type's own processor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import JSON, Column, Connection
from sqlalchemy.engine import CursorResult, Dialect
from sqlalchemy.sql.base import Executable

from fedorm.stores.exact import RefusedValueError
from fedorm.stores.rows import Values
from fedorm.stores.touched import Touched
from fedorm.stores.watching import TOUCHED

Processor = Callable[[Any], Any]


class RowFaultError(Exception):
    """A value that its column does not take; the message names the field and leaves the value out."""


class Binding:
    """What the columns' types make of values on their way to one driver."""

    def __init__(self, columns: Mapping[str, Column[Any]], dialect: Dialect) -> None:
        self._processors = {name: bind_processor(column, dialect) for name, column in columns.items()}

    def columns(self, rows: Sequence[Values], names: Sequence[str]) -> list[Sequence[Any]]:
        """Return the fields ``names`` of all rows, a column each. Raises ``RowFaultError``."""
        made: list[Sequence[Any]] = []
        for name in names:
            try:
                values = [row[name] for row in rows]
            except KeyError:
                raise RowFaultError(f"field {name!r} is missing") from None
            made.append(self.column(name, values))
        return made

    def column(self, name: str, values: Sequence[Any]) -> Sequence[Any]:
        """Return the values of one field."""
        process = self._processors[name]
        if process is None:
            return values
        value = None
        try:
            return [process(value := one) for one in values]
        except Exception as error:
            raise RowFaultError(f"field {name!r}: {_reason(error, value)}") from error


def bind_processor(column: Column[Any], dialect: Dialect) -> Processor | None:
    """Return what makes the driver's value of a model's; None where it is the same one."""
    process: Processor | None = column.type.dialect_impl(dialect).bind_processor(dialect)
    if isinstance(column.type, JSON) and column.nullable and process is not None:
        # None would become JSON's null, as if a row without a value had one.
        inner = process
        return lambda value: None if value is None else inner(value)
    return process


def _reason(error: Exception, value: Any) -> str:
    """Return what is wrong with a value, without it."""
    text = str(error)
    if not isinstance(error, RefusedValueError):
        return f"{type(error).__name__}: a {type(value).__name__} does not fit its column"
    for shown in (repr(value), str(value)):
        if text.startswith(shown):
            return f"a {type(value).__name__}{text[len(shown) :]}"
    return f"a {type(value).__name__} is refused"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement compiled once for one driver, which is sent values that its columns' types have been through."""

    text: str
    names: Sequence[str]
    """The parameters' names in their order."""
    touched: Touched

    @classmethod
    def of(cls, statement: Executable, dialect: Dialect) -> Prepared:
        """Compile a statement whose parameters have names and are none of SQLAlchemy's expanding ones."""
        compiled: Any = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        return cls(compiled.string, tuple(compiled.positiontup or ()), compiled.touched)

    def send(self, connection: Connection, values: Mapping[str, Any]) -> CursorResult[Any]:
        """Run the statement once."""
        return self._run(connection, tuple(values[name] for name in self.names))

    def send_many(self, connection: Connection, columns: Mapping[str, Sequence[Any]]) -> None:
        """Run the statement for each row of ``columns``."""
        self._run(connection, list(zip(*(columns[name] for name in self.names), strict=True)))

    def _run(self, connection: Connection, parameters: Any) -> CursorResult[Any]:
        return connection.exec_driver_sql(self.text, parameters, execution_options={TOUCHED: self.touched})


class Reading:
    """What the columns' types make of values that come from one driver."""

    def __init__(self, columns: Sequence[Column[Any]]) -> None:
        self._columns = columns
        self._known: dict[tuple[Any, ...], list[tuple[int, Processor]]] = {}

    def rows(self, result: CursorResult[Any]) -> list[Sequence[Any]]:
        """Return all rows of a result that has just these columns."""
        rows, processors = self._fetched(result)
        if not processors or not rows:
            return rows
        return list(zip(*self._processed(rows, processors), strict=True))

    def columns(self, result: CursorResult[Any]) -> tuple[int, list[Sequence[Any]]]:
        """Return how many rows a result has, and the values of each column."""
        rows, processors = self._fetched(result)
        if not rows:
            return 0, [[] for _ in self._columns]
        return len(rows), [one if isinstance(one, tuple) else list(one) for one in self._processed(rows, processors)]

    @staticmethod
    def _processed(rows: list[Sequence[Any]], processors: list[tuple[int, Processor]]) -> list[Any]:
        columns: list[Any] = list(zip(*rows, strict=True))
        for at, process in processors:
            columns[at] = map(process, columns[at])
        return columns

    def _fetched(self, result: CursorResult[Any]) -> tuple[list[Sequence[Any]], list[tuple[int, Processor]]]:
        dialect, cursor = result.dialect, result.cursor
        assert cursor is not None
        kinds = tuple(one[1] for one in cursor.description)
        if (processors := self._known.get(kinds)) is None:
            made = [
                column.type.dialect_impl(dialect).result_processor(dialect, kind)
                for column, kind in zip(self._columns, kinds, strict=True)
            ]
            processors = [(at, process) for at, process in enumerate(made) if process is not None]
            self._known[kinds] = processors
        rows: list[Sequence[Any]] = list(cursor.fetchall())
        result.close()
        return rows, processors
