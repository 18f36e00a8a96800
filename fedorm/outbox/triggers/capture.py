"""What the triggers of a table write: which events, with which key and data."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

from sqlalchemy import (
    Column,
    Insert,
    Label,
    Select,
    Table,
    case,
    cast,
    column,
    false,
    func,
    insert,
    literal,
    not_,
    or_,
    select,
    table,
    union_all,
)
from sqlalchemy import types as sqltypes
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeEngine

from fedorm.exc import ModelError
from fedorm.outbox.rules import CHANGES, Change
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

    @property
    def moves(self) -> bool:
        """Whether a row whose primary key was changed is one that is gone and one that is new."""
        return {"insert", "delete"} <= self.types.keys()

    @property
    def changes(self) -> tuple[Change, ...]:
        """The changes that need a trigger."""
        return tuple(one for one in CHANGES if one in self.types or (one == "update" and self.moves))

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


def number_of(name: str) -> int:
    """Return which of several for one table it was whose trigger is called ``name``."""
    found = re.search(r"_(\d+)$", name)
    return int(found[1]) if found else 1


def has_triggers(dialect: Dialect) -> bool:
    """Say whether an outbox can be written by triggers in a database of that kind."""
    return dialect.name in _JSON


class _Event(NamedTuple):
    """An event that a change may be."""

    conditions: tuple[ColumnElement[bool], ...]
    type: Label[str]
    key: Label[str]
    data: Label[Any]


class _Statement:
    """Makes the INSERT of one trigger."""

    def __init__(self, capture: Capture, change: Change, json: ColumnJSON, dialect: Dialect) -> None:
        self._capture, self._change, self._json, self._dialect = capture, change, json, dialect

    def insert(self, schema: str | None) -> Insert:
        rows = self._rows(self._events())
        names = rows.selected_columns.keys()
        return insert(table("fedorm_outbox", *map(column, names), schema=schema)).from_select(names, rows)

    def _events(self) -> list[_Event]:
        """Return the events that the change may be, in their order."""
        capture, change = self._capture, self._change
        if change != "update":
            return [self._whole(change)]
        events: list[_Event] = []
        moved = or_(false(), *map(self._differ, capture.table.primary_key.columns))
        if "update" in capture.types:
            events.append(self._changed(not_(moved)) if capture.moves else self._changed())
        if capture.moves:
            # In this order: it is gone, and is new under another key.
            events += [self._whole("delete", moved), self._whole("insert", moved)]
        return events

    def _rows(self, events: Sequence[_Event]) -> Select[Any]:
        new_id = self._json.new_id().label("id")
        if len(events) == 1:
            (one,) = events
            return select(new_id, one.type, one.key, one.data).where(*one.conditions)
        # Which events there are comes first, in numbers: MariaDB makes a temporary table of a UNION for each row that
        # changes, and it is a file where there are long texts in it.
        which = [select(literal(at).label("event")).where(*one.conditions) for at, one in enumerate(events)]
        event = union_all(*which).subquery("happened").c.event

        def that_of(values: Iterable[ColumnElement[Any]]) -> ColumnElement[Any]:
            return case(dict(enumerate(values)), value=event)

        return select(
            new_id,
            that_of(one.type for one in events).label("type"),
            that_of(one.key for one in events).label("key"),
            that_of(one.data for one in events).label("data"),
        )

    def _whole(self, change: Change, *conditions: ColumnElement[bool]) -> _Event:
        """Return the event of a row that is new, or gone."""
        row: Row = "OLD" if change == "delete" else "NEW"
        values = [(column.key, self._value(row, column)) for column in self._capture.values]
        return self._event(change, row, [("values", self._json.object(values))], conditions)

    def _changed(self, *conditions: ColumnElement[bool]) -> _Event:
        """Return the event of a row that has other values now."""
        json, columns = self._json, self._capture.values
        differ = [self._differ(column) for column in columns]
        changed = [
            (column.key, differs, json.array(self._both(column)))
            for column, differs in zip(columns, differ, strict=True)
        ]
        members = [
            ("values", json.object([(column.key, self._value("NEW", column)) for column in columns])),
            ("changed", json.object_of(changed)),
        ]
        return self._event("update", "NEW", members, (*conditions, or_(false(), *differ)))

    def _event(
        self,
        change: Change,
        row: Row,
        members: Sequence[tuple[str, Text]],
        conditions: tuple[ColumnElement[bool], ...],
    ) -> _Event:
        identity = [(column.key, self._value(row, column)) for column in self._capture.table.primary_key.columns]
        data = self._json.object([("key", self._json.object(identity)), *members])
        return _Event(
            conditions,
            constant(self._capture.types[change]).label("type"),
            self._key(row).label("key"),
            (cast(data, postgresql.JSONB) if self._dialect.name == "postgresql" else data).label("data"),
        )

    def _differ(self, column: Column[Any]) -> ColumnElement[bool]:
        return self._json.changed(column, of_row("OLD", column), of_row("NEW", column))

    def _both(self, column: Column[Any]) -> tuple[Text, Text]:
        return self._value("OLD", column), self._value("NEW", column)

    def _value(self, row: Row, column: Column[Any]) -> Text:
        return self._json.value(of_row(row, column), column)

    def _key(self, row: Row) -> ColumnElement[str]:
        columns = self._capture.ordering
        if len(columns) > 1:
            return self._json.array([self._value(row, column) for column in columns])
        if not columns:
            return constant("")
        (column,) = columns
        value, kind = of_row(row, column), held_as(column.type, self._dialect)
        if isinstance(kind, sqltypes.String) and column.key not in self._capture.names:
            return func.coalesce(self._json.characters(value), constant(""))
        # Whatever else is in quotes in JSON has nothing in it that would be escaped.
        return func.coalesce(func.replace(self._json.nullable(value, column), '"', ""), constant(""))
