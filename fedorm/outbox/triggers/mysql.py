"""Column values as JSON in MySQL and MariaDB."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Numeric, case, cast, func, literal_column
from sqlalchemy import types as sqltypes
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeEngine

from fedorm.outbox.triggers.values import ColumnJSON, Text, Value, constant, joined, micros, quoted


class in_utf8(FunctionElement[str]):  # noqa: N801
    """A text in the character set of JSON, whatever that of its column."""

    inherit_cache = True
    type = sqltypes.String()


@compiles(in_utf8)
def _in_utf8(element: Any, compiler: Any, **options: Any) -> str:
    return f"CONVERT({compiler.process(element.clauses, **options)} USING utf8mb4)"


class without_trailing(FunctionElement[str]):  # noqa: N801
    """A text without any number of a character at its end."""

    inherit_cache = True
    type = sqltypes.String()


@compiles(without_trailing)
def _without_trailing(element: Any, compiler: Any, **options: Any) -> str:
    value, character = (compiler.process(one, **options) for one in element.clauses)
    return f"TRIM(TRAILING {character} FROM {value})"


def _digits(number: Value) -> Text:
    # With a length: MariaDB's own is 22 for a float, and in a subquery it cuts off what is longer.
    return cast(number, mysql.CHAR(100))


class MySQLColumnJSON(ColumnJSON):
    """MySQL 8 and MariaDB 10.6, and later."""

    comparable = (
        *(sqltypes.Integer, sqltypes.Numeric, sqltypes.Float, sqltypes._Binary),
        *(sqltypes.Date, sqltypes.DateTime, sqltypes.Time),
    )

    def characters(self, value: Value) -> Text:
        """Leave the column's character set behind."""
        return in_utf8(value)

    def text(self, value: Value) -> Text:
        """Let the server escape it."""
        return func.json_quote(in_utf8(value))

    def integer(self, value: Value) -> Text:
        """Return the digits."""
        return _digits(value)

    def number(self, value: Value) -> Text:
        """Return the shortest digits that are this float."""
        return _digits(value)

    def decimal(self, value: Value, kind: Numeric[Any]) -> Text:
        """Return the digits that are kept."""
        digits: Text = _digits(value)
        if kind.precision is None:
            digits = without_trailing(without_trailing(digits, constant("0")), constant("."))
        return quoted(digits)

    def boolean(self, value: Value) -> Text:
        """Tell true, which is any number but 0."""
        return case((value.is_(None), None), (value == literal_column("0"), constant("false")), else_=constant("true"))

    def uuid(self, value: Value) -> Text:
        """Set the dashes, which a column of characters has not got."""
        digits = func.replace(func.lower(in_utf8(value)), "-", "")
        parts: list[Text] = []
        for start, length in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12)):
            parts += [constant("-"), func.substr(digits, start, length)]
        return quoted(joined(*parts[1:]))

    def json(self, value: Value) -> Text:
        """Return it as it is held."""
        return in_utf8(value)

    def datetime(self, value: Value, *, zoned: bool) -> Text:
        """Format it: what has a zone is held in UTC."""
        fraction = micros(func.date_format(value, ".%f"))
        return quoted(joined(func.date_format(value, "%Y-%m-%dT%H:%i:%s"), fraction, constant("+00:00" * zoned)))

    def date(self, value: Value) -> Text:
        """Format it."""
        return quoted(func.date_format(value, "%Y-%m-%d"))

    def time(self, value: Value) -> Text:
        """Format it."""
        return quoted(joined(func.time_format(value, "%H:%i:%s"), micros(func.time_format(value, ".%f"))))

    def interval(self, value: Value) -> Text:
        """Count the seconds since 1970, from where intervals are held."""
        micro = func.timestampdiff(literal_column("MICROSECOND"), constant("1970-01-01"), value)
        return without_trailing(without_trailing(_digits(micro / 1000000), constant("0")), constant("."))

    def binary(self, value: Value) -> Text:
        """Encode it, in one line."""
        return quoted(func.replace(func.to_base64(value), "\n", ""))

    def other(self, value: Value, kind: TypeEngine[Any]) -> Text:
        """Return a number as one, and anything else as text."""
        if isinstance(kind, mysql.YEAR | mysql.BIT):
            return _digits(value + literal_column("0"))
        return self.text(value)

    def distinct(self, one: Value, other: Value) -> ColumnElement[bool]:
        """Compare them, NULL with NULL as well."""
        # Not is_distinct_from(): of that SQLAlchemy makes parameters, whatever it is told.
        return ~one.bool_op("<=>")(other)

    def differ(self, one: Text, other: Text) -> ColumnElement[bool]:
        """Compare them byte by byte, whatever the collation takes for equal."""
        return self.distinct(cast(one, mysql.BINARY), cast(other, mysql.BINARY))

    def new_id(self) -> Value:
        """Let the server make one."""
        return in_utf8(func.uuid())  # In MariaDB it is of a type of its own.
