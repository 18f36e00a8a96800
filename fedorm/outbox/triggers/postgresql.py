"""Column values as JSON in PostgreSQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Numeric, case, cast, func, literal_column
from sqlalchemy import types as sqltypes
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from fedorm.outbox.triggers.values import ColumnJSON, Text, Value, constant, joined, micros, quoted


def _as_text(value: Value) -> Text:
    return cast(value, sqltypes.Text)


class PostgreSQLColumnJSON(ColumnJSON):
    """PostgreSQL 13 and later."""

    comparable = (
        *(sqltypes.Integer, sqltypes.Numeric, sqltypes.Float, sqltypes._Binary, sqltypes.Boolean),
        *(sqltypes.Date, sqltypes.DateTime),
    )

    def characters(self, value: Value) -> Text:
        """Leave the column's type behind."""
        return _as_text(value)

    def text(self, value: Value) -> Text:
        """Let the server escape it."""
        return _as_text(func.to_json(_as_text(value)))

    def integer(self, value: Value) -> Text:
        """Return the digits."""
        return _as_text(value)

    def number(self, value: Value) -> Text:
        """Return the shortest digits that are this float; what JSON has no number for is a text."""
        return _as_text(func.to_json(value))

    def decimal(self, value: Value, kind: Numeric[Any]) -> Text:
        """Return the digits that are kept."""
        return quoted(_as_text(func.trim_scale(cast(value, Numeric)) if kind.precision is None else value))

    def boolean(self, value: Value) -> Text:
        """Return true or false."""
        return _as_text(value)

    def uuid(self, value: Value) -> Text:
        """Return it as the server writes it."""
        return quoted(_as_text(value))

    def json(self, value: Value) -> Text:
        """Return it in one order of its keys, in which alone two can be compared."""
        return _as_text(cast(value, postgresql.JSONB))

    def datetime(self, value: Value, *, zoned: bool) -> Text:
        """Format it."""
        here = func.timezone("UTC", value) if zoned else value
        zone = constant("+00:00" if zoned else "")
        written = joined(func.to_char(here, 'YYYY-MM-DD"T"HH24:MI:SS'), micros(func.to_char(here, ".US")), zone)
        first, last = constant("0001-01-01T00:00:00"), constant("9999-12-31T23:59:59.999999")
        return quoted(_finite(value, written, joined(first, zone), joined(last, zone)))

    def date(self, value: Value) -> Text:
        """Format it."""
        return quoted(_finite(value, func.to_char(value, "YYYY-MM-DD"), constant("0001-01-01"), constant("9999-12-31")))

    def time(self, value: Value) -> Text:
        """Format it as the time since midnight."""
        since = cast(cast(value, sqltypes.Time), postgresql.INTERVAL)
        return quoted(joined(func.to_char(since, "HH24:MI:SS"), micros(func.to_char(since, ".US"))))

    def interval(self, value: Value) -> Text:
        """Count the seconds."""
        return _as_text(func.trim_scale(func.date_part("epoch", value).cast(Numeric)))

    def binary(self, value: Value) -> Text:
        """Encode it, in one line."""
        return quoted(func.replace(func.encode(value, "base64"), "\n", ""))

    def other(self, value: Value, kind: TypeEngine[Any]) -> Text:
        """Let the server decide; the elements of an array of decimals are texts."""
        if isinstance(kind, ARRAY) and isinstance(kind.item_type, Numeric) and kind.item_type.asdecimal:
            value = cast(value, postgresql.ARRAY(sqltypes.Text))
        return _as_text(func.to_jsonb(value))

    def distinct(self, one: Value, other: Value) -> ColumnElement[bool]:
        """Compare them, NULL with NULL as well."""
        return one.is_distinct_from(other)

    def differ(self, one: Text, other: Text) -> ColumnElement[bool]:
        """Compare them byte by byte."""
        return self.distinct(one.collate("C"), other)

    def new_id(self) -> Value:
        """Let the server make one."""
        return _as_text(func.gen_random_uuid())


def _finite(value: Value, written: Text, first: Text, last: Text) -> Text:
    """Return what ``written`` is, or for infinity the ends of Python's calendar, which are held as that."""
    epoch: Value = literal_column("'epoch'")
    return case((func.isfinite(value), written), (value > epoch, last), (value < epoch, first))
