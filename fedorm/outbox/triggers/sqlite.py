"""Column values as JSON in SQLite."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Integer, Numeric, case, cast, func, literal_column, select
from sqlalchemy import types as sqltypes
from sqlalchemy.types import TypeEngine

from fedorm.outbox.triggers.values import ColumnJSON, Text, Value, constant, joined, micros, quoted

_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_HEX = "0123456789ABCDEF"


def _number(value: int) -> ColumnElement[int]:
    return literal_column(str(value), Integer)


class SQLiteColumnJSON(ColumnJSON):
    """SQLite 3.38 and later. A value that is not of its column's type, which SQLite allows, is written as it is."""

    comparable = (sqltypes.Integer, sqltypes._Binary)

    def characters(self, value: Value) -> Text:
        """Take whatever is there for a text."""
        return cast(value, sqltypes.Text)

    def text(self, value: Value) -> Text:
        """Let the library escape it."""
        return func.json_quote(cast(value, sqltypes.Text))

    def integer(self, value: Value) -> Text:
        """Return the digits."""
        return func.json_quote(value)

    def number(self, value: Value) -> Text:
        """Return enough digits for every float: the library itself writes 15."""
        is_float = func.typeof(value) == constant("real")
        return case((is_float, func.printf("%!.17g", value)), else_=func.json_quote(value))

    def decimal(self, value: Value, kind: Numeric[Any]) -> Text:
        """Return the decimal that the float stands for, of 15 digits."""
        if kind.precision is not None:
            return case((value.is_not(None), quoted(func.printf(f"%.{kind.scale or 0}f", value))))
        return case((value.is_not(None), quoted(func.printf("%.15g", value))))

    def boolean(self, value: Value) -> Text:
        """Tell true, which is any number but 0."""
        return case((value.is_(None), None), (value == _number(0), constant("false")), else_=constant("true"))

    def uuid(self, value: Value) -> Text:
        """Set the dashes, which a column of characters has not got."""
        digits = func.replace(func.lower(value), "-", "")
        parts: list[Text] = []
        for start, length in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12)):
            parts += [constant("-"), func.substr(digits, start, length)]
        return quoted(joined(*parts[1:]))

    def json(self, value: Value) -> Text:
        """Return it as it is held, if it is JSON."""
        return case((func.json_valid(value), func.json(value)), else_=func.json_quote(value))

    def datetime(self, value: Value, *, zoned: bool) -> Text:
        """Put the T between date and time, in the text that is held."""
        day = func.replace(func.substr(value, 1, 19), " ", "T")
        return quoted(joined(day, micros(func.substr(value, 20, 7)), constant("+00:00" * zoned)))

    def date(self, value: Value) -> Text:
        """Return the text that is held."""
        return quoted(value)

    def time(self, value: Value) -> Text:
        """Return the text that is held."""
        return quoted(joined(func.substr(value, 1, 8), micros(func.substr(value, 9, 7))))

    def interval(self, value: Value) -> Text:
        """Count the seconds since 1970, from where intervals are held; milliseconds of them are exact."""
        since = (func.julianday(value) - literal_column("2440587.5")) * literal_column("86400.0")
        return case((value.is_not(None), func.printf("%!.15g", func.round(since, 3))))

    def binary(self, value: Value) -> Text:
        """Encode it by SQL: three digits of base 16 are two of base 64."""
        return quoted(_base64(value))

    def other(self, value: Value, kind: TypeEngine[Any]) -> Text:
        """Return a number or text as such; anything else as text."""
        return case((func.typeof(value) == constant("blob"), self.binary(value)), else_=func.json_quote(value))

    def distinct(self, one: Value, other: Value) -> ColumnElement[bool]:
        """Compare them, NULL with NULL as well."""
        # Not is_distinct_from(): of that SQLAlchemy makes parameters, whatever it is told.
        return one.bool_op("IS NOT")(other)

    def differ(self, one: Text, other: Text) -> ColumnElement[bool]:
        """Compare them byte by byte: they are of no column, which might have a collation."""
        return self.distinct(one, other)

    def new_id(self) -> Value:
        """Make a UUID of version 4 from random bytes."""

        def random(size: int, start: int = 1) -> Text:
            return func.lower(func.substr(func.hex(func.randomblob(_number(size))), _number(start)))

        variant = func.substr(constant("89ab"), (func.abs(func.random()) % _number(4)) + _number(1), _number(1))
        parts = [random(4), random(2), joined(constant("4"), random(2, 2)), joined(variant, random(2, 2)), random(6)]
        with_dashes = [piece for part in parts for piece in (constant("-"), part)]
        return joined(*with_dashes[1:])


def _base64(value: Value) -> Text:
    """Three bytes are six digits of base 16, and four of base 64."""
    size = func.length(value, type_=Integer)
    places = select(_number(0).label("at")).cte(recursive=True, nesting=True)
    places = places.union_all(select(places.c.at + 3).where(places.c.at + 3 < size))
    # Of the bytes, not of their digits: in a text each look would be as long as the way there.
    digits = select(joined(func.hex(func.substr(value, places.c.at + 1, 3)), constant("0000")).label("hex")).subquery()

    def digit(at: int) -> ColumnElement[int]:
        return func.instr(constant(_HEX), func.substr(digits.c.hex, at, 1), type_=Integer) - 1

    halves = [digit(at) * 256 + digit(at + 1) * 16 + digit(at + 2) for at in (1, 4)]
    letters = [func.substr(constant(_BASE64), place + 1, 1) for half in halves for place in (half // 64, half % 64)]
    written = select(func.group_concat(joined(*letters), "")).select_from(digits).scalar_subquery()
    return joined(func.substr(written, 1, (size * 4 + 2) // 3), func.substr(constant("=="), 1, (3 - size % 3) % 3))
