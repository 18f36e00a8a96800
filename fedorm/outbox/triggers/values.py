"""SQL that writes a column's value as JSON, as the session's own hook writes it; each database has its own words."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from sqlalchemy import Column, String, case, func, literal
from sqlalchemy import types as sqltypes
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeEngine

Value = ColumnElement[Any]
Text = ColumnElement[str]


class joined(FunctionElement[str]):  # noqa: N801 - it stands where functions of SQL stand
    """Texts one after the other; NULL if one of them is."""

    inherit_cache = True
    type = String()


@compiles(joined)
def _joined(element: Any, compiler: Any, **options: Any) -> str:
    return f"({' || '.join(compiler.process(one.self_group(), **options) for one in element.clauses)})"


@compiles(joined, "mysql")
@compiles(joined, "mariadb")
def _joined_mysql(element: Any, compiler: Any, **options: Any) -> str:
    return f"concat({', '.join(compiler.process(one, **options) for one in element.clauses)})"


def constant(value: str) -> Text:
    """Return a text that is written into the trigger."""
    return literal(value, String)


def quoted(value: Value) -> Text:
    """Return a value that has nothing to escape as a text of JSON."""
    return joined(constant('"'), value, constant('"'))


def micros(fraction: Value) -> Text:
    """Return ``.123456`` unless it is nothing: Python leaves it out then."""
    return func.coalesce(func.nullif(fraction, constant(".000000")), constant(""))


def _name(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


class ColumnJSON(ABC):
    """Writes expressions of a database's types as texts of JSON. Of all methods, ``value`` alone is never NULL."""

    comparable: ClassVar[tuple[type[TypeEngine[Any]], ...]]
    """Types whose values the database tells apart just where their JSON differs."""

    def __init__(self, dialect: Dialect, names: Mapping[str, Mapping[str, str]]) -> None:
        self.dialect = dialect
        self._names = names
        """By column, the names of an enum's members that are held as something else."""

    def value(self, value: Value, column: Column[Any]) -> Text:
        """Return the JSON of ``value``, which is of the type of ``column``."""
        return func.coalesce(self.nullable(value, column), constant("null"))

    def object(self, members: Sequence[tuple[str, Text]]) -> Text:
        """Return the JSON of an object, from names and the JSON of their values."""
        parts: list[Text] = []
        for index, (name, value) in enumerate(members):
            parts += [constant(f"{',' if index else '{'}{_name(name)}:"), value]
        return joined(*parts, constant("}")) if parts else constant("{}")

    def object_of(self, members: Sequence[tuple[str, ColumnElement[bool], Text]]) -> Text:
        """Return the JSON of an object of those members whose condition holds."""
        parts = [
            case((condition, joined(constant(f",{_name(name)}:"), value)), else_=constant(""))
            for name, condition, value in members
        ]
        return joined(constant("{"), func.substr(joined(*parts), 2), constant("}")) if parts else constant("{}")

    def array(self, values: Sequence[Text]) -> Text:
        """Return the JSON of an array, spaced as Python's ``json`` does it."""
        parts: list[Text] = []
        for index, value in enumerate(values):
            parts += [constant(", " if index else "["), value]
        return joined(*parts, constant("]"))

    def nullable(self, value: Value, column: Column[Any]) -> Text:
        """Return the same, but NULL for NULL."""
        kind, names = column.type, self._names.get(column.key)
        if names:
            held = self.characters(value)
            whens = [(held == constant(one), constant(_name(name))) for one, name in names.items()]
            return case(*whens, else_=self.text(held))
        if isinstance(kind, sqltypes.Interval):
            return self.interval(value)  # Where there are no intervals it would turn into a DATETIME.
        kind = held_as(kind, self.dialect)
        if isinstance(kind, sqltypes.Enum):
            return self.text(value)
        if isinstance(kind, sqltypes.Numeric | sqltypes.Float):  # Apart since SQLAlchemy 2.1.
            return self.decimal(value, kind) if kind.asdecimal else self.number(value)
        if isinstance(kind, sqltypes.DateTime):
            return self.datetime(value, zoned=bool(kind.timezone))
        for kinds, write in (
            (sqltypes.Boolean, self.boolean),
            (sqltypes.Uuid, self.uuid),
            (sqltypes.JSON, self.json),
            (sqltypes.Integer, self.integer),
            (sqltypes.Date, self.date),
            (sqltypes.Time, self.time),
            (sqltypes._Binary, self.binary),
            (sqltypes.String, self.text),
        ):
            if isinstance(kind, kinds):
                return write(value)
        return self.other(value, kind)

    @abstractmethod
    def characters(self, value: Value) -> Text:
        """Return a text, or an enum's member, as it is."""

    @abstractmethod
    def text(self, value: Value) -> Text:
        """Return a text in quotes, with what has to be escaped."""

    @abstractmethod
    def integer(self, value: Value) -> Text:
        """Return the digits."""

    @abstractmethod
    def number(self, value: Value) -> Text:
        """Return a float, every digit of it."""

    @abstractmethod
    def decimal(self, value: Value, kind: sqltypes.Numeric[Any]) -> Text:
        """Return a decimal in quotes, with the zeros of its scale, and without needless ones where it has none."""

    @abstractmethod
    def boolean(self, value: Value) -> Text:
        """Return true or false."""

    @abstractmethod
    def uuid(self, value: Value) -> Text:
        """Return a UUID in small letters, with its dashes."""

    @abstractmethod
    def json(self, value: Value) -> Text:
        """Return what is JSON already."""

    @abstractmethod
    def datetime(self, value: Value, *, zoned: bool) -> Text:
        """Return ISO 8601, in UTC if it has a zone, with microseconds if there are any."""

    @abstractmethod
    def date(self, value: Value) -> Text:
        """Return ISO 8601."""

    @abstractmethod
    def time(self, value: Value) -> Text:
        """Return ISO 8601, with microseconds if there are any."""

    @abstractmethod
    def interval(self, value: Value) -> Text:
        """Return the seconds, as a float."""

    @abstractmethod
    def binary(self, value: Value) -> Text:
        """Return base64."""

    @abstractmethod
    def other(self, value: Value, kind: TypeEngine[Any]) -> Text:
        """Return a value of a type that only this database has."""

    def changed(self, column: Column[Any], old: Value, new: Value) -> ColumnElement[bool]:
        """Say whether an event would tell of a change of a column's value; without making JSON, if that can be."""
        kind = held_as(column.type, self.dialect)
        if isinstance(kind, sqltypes.String) or column.key in self._names:
            return self.differ(self.characters(old), self.characters(new))
        if isinstance(kind, self.comparable) and not isinstance(column.type, sqltypes.Interval):
            return self.distinct(old, new)
        return self.differ(self.value(old, column), self.value(new, column))

    @abstractmethod
    def distinct(self, one: Value, other: Value) -> ColumnElement[bool]:
        """Say whether two values differ, or one of them alone is NULL."""

    @abstractmethod
    def differ(self, one: Text, other: Text) -> ColumnElement[bool]:
        """Say whether two texts differ in a single character, or one of them alone is NULL."""

    @abstractmethod
    def new_id(self) -> Value:
        """Return a new UUID as a text."""


def held_as(kind: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    """Return the type that a column really has in a database: what a decorator or a variant stands for there."""
    held = kind.dialect_impl(dialect)
    while isinstance(held, sqltypes.TypeDecorator):
        held = held.type_engine(dialect)
    return held
