"""From the values in an event, which are JSON's, back to what a column takes."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY
from sqlalchemy import types as sqltypes
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

Convert = Callable[[Any], Any]


def to_column(kind: TypeEngine[Any], dialect: Dialect) -> Convert:
    """Return what makes a value of an event one that a column of this type takes, as ``encoding`` has written it.

    A datetime for a column without a zone is in UTC there; one without a zone, for a column that has one, is in UTC.
    """
    convert = _of_type(kind, dialect)
    return lambda value: None if value is None else convert(value)


def _of_type(kind: TypeEngine[Any], dialect: Dialect) -> Convert:
    if isinstance(kind, sqltypes.Interval):
        return _interval
    if isinstance(kind, TypeDecorator):
        return _decorated(kind, dialect)
    if isinstance(kind, sqltypes.Enum):
        members = kind.enum_class
        return _same if members is None else lambda value: members[value] if isinstance(value, str) else value
    kind = kind.dialect_impl(dialect) if kind._variant_mapping else kind
    if isinstance(kind, sqltypes.DateTime):
        return _datetime(kind.timezone)
    if isinstance(kind, sqltypes.Uuid):
        return _uuid if kind.as_uuid else _text
    if isinstance(kind, ARRAY):
        inner = to_column(kind.item_type, dialect)
        return lambda value: [inner(one) for one in value]
    for kinds, convert in _BY_TYPE:
        if isinstance(kind, kinds):
            return convert
    return _same


def _decorated(kind: TypeDecorator[Any], dialect: Dialect) -> Convert:
    inner = to_column(kind.load_dialect_impl(dialect), dialect)

    def convert(value: Any) -> Any:
        value = inner(value)
        try:
            # What the column binds is what was written; what it is given is what the model would hold.
            return kind.process_result_value(value, dialect)
        except NotImplementedError:
            return value

    return convert


def _same(value: Any) -> Any:
    return value


def _number(value: Any) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(str(value))


def _datetime(zoned: bool) -> Convert:
    def convert(value: Any) -> Any:
        moment = datetime.datetime.fromisoformat(value) if isinstance(value, str) else value
        if zoned and moment.tzinfo is None:
            return moment.replace(tzinfo=datetime.UTC)
        if not zoned and moment.tzinfo is not None:
            return moment.astimezone(datetime.UTC).replace(tzinfo=None)
        return moment

    return convert


def _date(value: Any) -> Any:
    return datetime.datetime.fromisoformat(value).date() if isinstance(value, str) else value


def _time(value: Any) -> Any:
    return datetime.time.fromisoformat(value) if isinstance(value, str) else value


def _interval(value: Any) -> Any:
    return datetime.timedelta(seconds=value) if isinstance(value, int | float) else value


def _bytes(value: Any) -> Any:
    return base64.b64decode(value) if isinstance(value, str) else value


def _uuid(value: Any) -> Any:
    return UUID(value) if isinstance(value, str) else value


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else str(value)


_BY_TYPE: tuple[tuple[Any, Convert], ...] = (
    (sqltypes.Boolean, bool),
    (sqltypes.Float, float),
    (sqltypes.Numeric, _number),
    (sqltypes.Integer, int),
    (sqltypes.JSON, _same),
    (sqltypes.Date, _date),
    (sqltypes.Time, _time),
    (sqltypes._Binary, _bytes),
    (sqltypes.String, _text),
)
