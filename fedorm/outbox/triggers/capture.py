"""What the triggers of a table write: which events, with which key and data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Column, Insert, Select, String, Table, cast, column, func, insert, or_, select, table
from sqlalchemy import types as sqltypes
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement

from fedorm.exc import ModelError
from fedorm.outbox.triggers.mysql import MySQLColumnJSON
from fedorm.outbox.triggers.postgresql import PostgreSQLColumnJSON
from fedorm.outbox.triggers.sqlite import SQLiteColumnJSON
from fedorm.outbox.triggers.values import ColumnJSON, Text, constant, held_as

Change = Literal["insert", "update", "delete"]
Row = Literal["OLD", "NEW"]
CHANGES: tuple[Change, ...] = ("insert", "update", "delete")

_JSON: Mapping[str, type[ColumnJSON]] = {
    "postgresql": PostgreSQLColumnJSON,
    "mysql": MySQLColumnJSON,
    "mariadb": MySQLColumnJSON,
    "sqlite": SQLiteColumnJSON,
}
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


@dataclass(frozen=True, eq=False)
class Capture:
    """The events that the changes of a table's rows make. All columns are of ``table``, under the names in the data."""

    service: str
    table: Table
    types: Mapping[Change, str]
    """The type of event for each change that makes one."""
    identity: Mapping[str, Column[Any]]
    """What is in the data as ``key``: the primary key."""
    ordering: tuple[Column[Any], ...]
    """What the ordering key is made of: for one column its text, for several a JSON array."""
    values: Mapping[str, Column[Any]]

    def name(self, change: Change) -> str:
        """Return the name of the trigger for a change."""
        whole = f"fedorm_outbox_{self.table.fullname.replace('.', '_')}_{change}"
        if len(whole.encode()) <= _LONGEST_NAME:
            return whole
        digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
        cut = whole.encode()[: _LONGEST_NAME - len(digest) - len(change) - 2].decode(errors="ignore")
        return f"{cut}_{digest}_{change}"

    def statement(self, change: Change, dialect: Dialect, schema: str | None = None) -> Insert:
        """Return what the trigger runs for a row; ``schema`` is where the outbox is, where it has to be named."""
        make = _JSON.get(dialect.name)
        if make is None:
            raise ModelError(f"{self.table.fullname} in {self.service!r}: {dialect.name} has no triggers for an outbox")
        return _Statement(self, change, make(dialect), dialect).insert(schema)


class _Statement:
    """Makes the INSERT of one trigger."""

    def __init__(self, capture: Capture, change: Change, json: ColumnJSON, dialect: Dialect) -> None:
        self._capture, self._change, self._json, self._dialect = capture, change, json, dialect
        self._row: Row = "OLD" if change == "delete" else "NEW"

    def insert(self, schema: str | None) -> Insert:
        json, capture = self._json, self._capture
        members = [("key", self._object(capture.identity))]
        if self._change == "update":
            # A subquery, so that each value is written down once, before it is compared.
            values = select(
                *(self._value("OLD", column).label(f"old_{at}") for at, column in enumerate(capture.values.values())),
                *(self._value("NEW", column).label(f"new_{at}") for at, column in enumerate(capture.values.values())),
            ).subquery("row_values")
            pairs = {name: (values.c[f"old_{at}"], values.c[f"new_{at}"]) for at, name in enumerate(capture.values)}
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

    def _object(self, columns: Mapping[str, Column[Any]]) -> Text:
        return self._json.object([(name, self._value(self._row, column)) for name, column in columns.items()])

    def _value(self, row: Row, column: Column[Any]) -> Text:
        return self._json.value(of_row(row, column), column.type)

    def _key(self) -> ColumnElement[str]:
        columns = self._capture.ordering
        if len(columns) != 1:
            return self._json.array([self._value(self._row, column) for column in columns])
        (column,) = columns
        value, kind = of_row(self._row, column), held_as(column.type, self._dialect)
        if isinstance(kind, sqltypes.String) and not isinstance(kind, sqltypes.Enum):
            return func.coalesce(cast(value, String(255)), constant(""))
        # Whatever else is in quotes in JSON has nothing in it that would be escaped.
        return func.coalesce(func.replace(self._json.nullable(value, column.type), '"', ""), constant(""))
