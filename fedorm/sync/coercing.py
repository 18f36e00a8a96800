"""From a value as the source's model holds it to one that the target's field takes."""

from __future__ import annotations

import datetime
import enum
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import ARRAY
from sqlalchemy import types as sqltypes
from sqlalchemy.types import TypeDecorator, TypeEngine

from fedorm.outbox.encoding import encoded
from fedorm.stores.rows import RowShape

Convert = Callable[[Any], Any]


def needless(source: TypeEngine[Any], target: TypeEngine[Any]) -> bool:
    """Say whether every value that one column gives is one that the other takes."""
    if isinstance(target, sqltypes.JSON | TypeDecorator | ARRAY | sqltypes.Enum):
        return False
    if isinstance(source, TypeDecorator | sqltypes.Enum):
        return False
    for kind in _ALIKE:
        if isinstance(source, kind) and isinstance(target, kind):
            marks = ("asdecimal", "timezone", "as_uuid")
            return all(getattr(source, mark, None) == getattr(target, mark, None) for mark in marks)
    return False


def coercers(shape: RowShape) -> dict[str, Convert]:
    """Return, for each field of a target, what makes values fit that are of another type, but mean the same.

    A text for an identifier and the other way round, a moment with a zone for one that is in UTC without, a number of
    another kind: nothing is lost or guessed. Documents check and convert their values themselves.
    """
    if shape.document is not None:
        return dict.fromkeys(shape.fields, _same)
    return {name: coercer(shape.columns[name].type) for name in shape.fields}


def coercer(kind: TypeEngine[Any]) -> Convert:
    """Return what makes values fit a column's type."""
    convert = _of_type(kind)
    return lambda value: None if value is None else convert(value)


def _of_type(kind: TypeEngine[Any]) -> Convert:
    if isinstance(kind, TypeDecorator):
        return _same  # It takes what its own Python code takes.
    if isinstance(kind, sqltypes.Enum):
        members = kind.enum_class
        return _text if members is None else lambda value: _member(members, value)
    if isinstance(kind, sqltypes.DateTime):
        return _zoned if kind.timezone else _unzoned
    if isinstance(kind, ARRAY):
        inner = coercer(kind.item_type)
        return lambda value: [inner(one) for one in value]
    if isinstance(kind, sqltypes.Numeric):  # Float is one, too, up to SQLAlchemy 2.0.
        return _decimal if kind.asdecimal else float
    for kinds, convert in _BY_TYPE:
        if isinstance(kind, kinds):
            return convert
    return _same


def _same(value: Any) -> Any:
    return value


def _member(members: type[enum.Enum], value: Any) -> Any:
    if isinstance(value, members):
        return value
    return members[value.name if isinstance(value, enum.Enum) else value]


def _text(value: Any) -> Any:
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        return value
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, dict | list | tuple | BaseModel):
        return json.dumps(encoded(value), ensure_ascii=False)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def _zoned(value: Any) -> Any:
    moment = _moment(value)
    return moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment


def _unzoned(value: Any) -> Any:
    moment = _moment(value)
    return moment.astimezone(datetime.UTC).replace(tzinfo=None) if moment.tzinfo is not None else moment


def _moment(value: Any) -> datetime.datetime:
    if isinstance(value, datetime.datetime):
        return value
    if isinstance(value, datetime.date):
        return datetime.datetime(value.year, value.month, value.day)
    return datetime.datetime.fromisoformat(value)


def _date(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.date()
    return value if isinstance(value, datetime.date) else datetime.date.fromisoformat(value)


def _time(value: Any) -> Any:
    return value if isinstance(value, datetime.time) else datetime.time.fromisoformat(value)


def _decimal(value: Any) -> Any:
    return value if isinstance(value, Decimal) else Decimal(str(value))


def _integer(value: Any) -> Any:
    if type(value) is int:
        return value
    whole = int(value)
    if isinstance(value, float | Decimal) and whole != value:
        raise ValueError(f"{value!r} is not a whole number")
    return whole


def _boolean(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if value in (0, 1):
        return bool(value)
    raise ValueError(f"{value!r} is neither true nor false")


def _uuid(value: Any) -> Any:
    return value if isinstance(value, UUID) else UUID(str(value))


def _bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else bytes(value)


def _json(value: Any) -> Any:
    return encoded(value)


def _interval(value: Any) -> Any:
    return value if isinstance(value, datetime.timedelta) else datetime.timedelta(seconds=float(value))


_ALIKE: tuple[Any, ...] = (
    sqltypes.Boolean,
    sqltypes.Integer,
    sqltypes.Float,
    sqltypes.Numeric,
    sqltypes.DateTime,
    sqltypes.Date,
    sqltypes.Time,
    sqltypes.Uuid,
    sqltypes._Binary,
    sqltypes.String,
)
_BY_TYPE: tuple[tuple[Any, Convert], ...] = (
    (sqltypes.Boolean, _boolean),
    (sqltypes.Float, float),
    (sqltypes.Integer, _integer),
    (sqltypes.Uuid, _uuid),
    (sqltypes.Interval, _interval),
    (sqltypes.JSON, _json),
    (sqltypes.Date, _date),
    (sqltypes.Time, _time),
    (sqltypes._Binary, _bytes),
    (sqltypes.String, _text),
)
