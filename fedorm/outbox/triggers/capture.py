"""What the triggers of a table write: which events, with which key and data."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from sqlalchemy import Column, Insert, Select, Table, cast, column, func, insert, or_, select, table
from sqlalchemy import types as sqltypes
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeEngine

from fedorm.exc import ModelError
from fedorm.outbox.rules import Change
from fedorm.outbox.triggers.mysql import MySQLColumnJSON
from fedorm.outbox.triggers.postgresql import PostgreSQLColumnJSON
from fedorm.outbox.triggers.sqlite import SQLiteColumnJSON
from fedorm.outbox.triggers.values import ColumnJSON, Text, constant, held_as

Row = Literal["OLD", "NEW"]

_JSON: Mapping[str, type[ColumnJSON]] = {
    "postgresql": PostgreSQLColumnJSON,
    "mysql": MySQLColumnJSON,
    "mariadb": MySQLColumnJSON,
    "sqlite": SQLiteColumnJSON,
}
PREFIX = "fedorm_outbox_"
_LONGEST_NAME = 60
"""Of a trigger, in bytes: PostgreSQL cuts off what is beyond 63, and MySQL refuses more than 64 characters."""


class of_row(ColumnElement[Any]):  # noqa: N801 - it stands where a column stands
    """A column of the row as it was before the change, ``OLD``, or as it is after it, ``NEW``."""

    __visit_name__ = "of_row"
    inherit_cache = False

    def __init__(self, row: Row, column: Column[Any]) -> None:
        self.row, self.name, self.type = row, column.name, column.type


@compiles(of_row)
def _of_row(element: of_row, compiler: Any, **options: Any) -> str:
    return f"{element.row}.{compiler.preparer.quote(element.name)}"


def renamed(kind: TypeEngine[Any]) -> Mapping[str, str]:
    """Return, for an enum whose members are held as something else than their names, the name for what is held."""
    if not isinstance(kind, sqltypes.Enum) or kind.enum_class is None:
        return {}
    members = [member.name for member in kind.enum_class]
    return {held: name for held, name in zip(kind.enums, members, strict=False) if held != name}


@dataclass(frozen=True, eq=False)
class Capture:
    """The events that the changes of a table's rows make."""

    table: Table
    """Its columns are those that the triggers read; their keys are their names in the data."""
    types: Mapping[Change, str]
    """The type of event for each change that makes one."""
    values: tuple[Column[Any], ...]
    ordering: tuple[Column[Any], ...]
    """What the ordering key is made of: for one column its text, for several a JSON array; for none, nothing."""
    names: Mapping[str, Mapping[str, str]]
    """By column, the names of an enum's members that are held as something else."""
    number: int = 1
    """Of several for one table, which this is."""

    @classmethod
    def of(
        cls,
        table: Table,
        *,
        types: Mapping[Change, str],
        values: Collection[str] | None = None,
        key: Collection[str] | None = None,
        names: Mapping[str, Mapping[str, str]] | None = None,
        number: int = 1,
    ) -> Self:
        """Make one from keys of a table's columns: all values, ordered by the primary key, unless told otherwise."""
        columns = table.columns
        try:
            return cls(
                table,
                types,
                tuple(columns) if values is None else tuple(columns[one] for one in values),
                tuple(table.primary_key.columns) if key is None else tuple(columns[one] for one in key),
                names or {},
                number,
            )
        except KeyError as error:
            raise ModelError(f"the outbox's triggers of {table.fullname}: there is no column {error}") from None

    def name(self, change: Change) -> str:
        """Return the name of the trigger for a change."""
        return trigger_name(self.table, change, self.number)

    def statement(self, change: Change, dialect: Dialect, schema: str | None = None) -> Insert:
        """Return what the trigger runs for a row; ``schema`` is where the outbox is, where it has to be named."""
        make = _JSON.get(dialect.name)
        if make is None:
            raise ModelError(f"the outbox's triggers of {self.table.fullname}: there are none for {dialect.name}")
        return _Statement(self, change, make(dialect, self.names), dialect).insert(schema)


def trigger_name(table: Table, change: Change, number: int = 1) -> str:
    """Return what the trigger of a table for a change is called, and the function that it calls, if it does."""
    end = f"_{change}" if number == 1 else f"_{change}_{number}"
    whole = f"{PREFIX}{table.fullname.replace('.', '_')}"
    if len(whole.encode()) + len(end) <= _LONGEST_NAME:
        return whole + end
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    cut = whole.encode()[: _LONGEST_NAME - len(digest) - len(end) - 1].decode(errors="ignore")
    return f"{cut}_{digest}{end}"


class _Statement:
    """Makes the INSERT of one trigger."""

    def __init__(self, capture: Capture, change: Change, json: ColumnJSON, dialect: Dialect) -> None:
        self._capture, self._change, self._json, self._dialect = capture, change, json, dialect
        self._row: Row = "OLD" if change == "delete" else "NEW"

    def insert(self, schema: str | None) -> Insert:
        json, capture = self._json, self._capture
        members = [("key", self._object(list(capture.table.primary_key.columns)))]
        if self._change == "update":
            # A subquery, so that each value is written down once, before it is compared.
            values = select(
                *(self._value("OLD", one).label(f"old_{at}") for at, one in enumerate(capture.values)),
                *(self._value("NEW", one).label(f"new_{at}") for at, one in enumerate(capture.values)),
            ).subquery("row_values")
            pairs = {one.key: (values.c[f"old_{at}"], values.c[f"new_{at}"]) for at, one in enumerate(capture.values)}
            members.append(("values", json.object([(name, new) for name, (_, new) in pairs.items()])))
            changed = [(name, json.differ(*pair), json.array(pair)) for name, pair in pairs.items()]
            members.append(("changed", json.object_of(changed)))
            row = self._select(members).where(or_(*(differs for _, differs, _ in changed)))
        else:
            row = self._select([*members, ("values", self._object(capture.values))])
        names = row.selected_columns.keys()
        return insert(table("fedorm_outbox", *map(column, names), schema=schema)).from_select(names, row)

    def _select(self, members: Sequence[tuple[str, Text]]) -> Select[Any]:
        data = self._json.object(members)
        return select(
            self._json.new_id().label("id"),
            constant(self._capture.types[self._change]).label("type"),
            self._key().label("key"),
            (cast(data, postgresql.JSONB) if self._dialect.name == "postgresql" else data).label("data"),
        )

    def _object(self, columns: Sequence[Column[Any]]) -> Text:
        return self._json.object([(column.key, self._value(self._row, column)) for column in columns])

    def _value(self, row: Row, column: Column[Any]) -> Text:
        return self._json.value(of_row(row, column), column)

    def _key(self) -> ColumnElement[str]:
        columns = self._capture.ordering
        if len(columns) > 1:
            return self._json.array([self._value(self._row, column) for column in columns])
        # What has no key is ordered with nothing else.
        alone = self._json.new_id()
        if not columns:
            return alone
        (column,) = columns
        value, kind = of_row(self._row, column), held_as(column.type, self._dialect)
        if isinstance(kind, sqltypes.String) and column.key not in self._capture.names:
            key = self._json.characters(value)
        else:
            # Whatever else is in quotes in JSON has nothing in it that would be escaped.
            key = func.replace(self._json.nullable(value, column), '"', "")
        return func.coalesce(func.nullif(key, constant("")), alone)
