"""Values as JSON can say them: of a column by its type, of anything else by the value itself."""

from __future__ import annotations

import base64
import datetime
import enum
import functools
import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import ARRAY
from sqlalchemy import types as sqltypes
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from fedorm.exc import EventError

Convert = Callable[[Any], Any]
_AS_IT_IS = frozenset({str, int, bool, type(None)})


def encoded(value: Any) -> Any:
    """Return a copy of ``value`` of nothing but JSON's own types. Raises ``EventError`` for what has no such form.

    A decimal is its digits, a datetime ISO 8601 with its zone, bytes base64, an enum's member its name, an interval
    its seconds, and a float that JSON has no number for ``"NaN"``, ``"Infinity"`` or ``"-Infinity"``.
    """
    if type(value) in _AS_IT_IS:
        return value
    try:
        return _encoded(value)
    except RecursionError:
        raise EventError("the data of an event holds itself") from None


def _encoded(value: Any) -> Any:
    kind = type(value)
    if kind in _AS_IT_IS:
        return value
    if isinstance(value, Mapping):
        return {_member(name): _encoded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(map(_encoded, value), key=str)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, enum.Enum):
        return value.name
    plain = _plain(value)
    if plain is None:
        raise EventError(f"an event cannot hold a {kind.__name__}: make JSON of it, or a text, before")
    return plain


def _member(name: Any) -> str:
    return name if isinstance(name, str) else key_text(name)


def _plain(value: Any) -> Any:
    """Return one value's form; None for a type that has none."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _not_finite(value)
    if isinstance(value, int | str):  # Of a class of its own.
        return str(value) if isinstance(value, str) else int(value)
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else _not_finite(float(value))
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, UUID):
        return str(value)
    return None


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def key_text(value: Any) -> str:
    """Return an ordering key as a text: several values as a JSON array, None as nothing."""
    if value is None:
        return ""
    if type(value) is int:  # Of most keys, and each row has one.
        return str(value)
    if isinstance(value, tuple | list):
        return json.dumps(encoded(value), ensure_ascii=False)
    plain = encoded(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


# -- columns


def of_column(kind: TypeEngine[Any], dialect: Dialect) -> Convert:
    """Return what makes of a column's values, as models hold them, what its database would make of the row's.

    So an event is the same whether the session or a trigger has written it.
    """
    convert = _of_type(kind, dialect)
    plain = _PLAIN.get(convert)

    @functools.wraps(convert)
    def converted(value: Any) -> Any:
        return value if value is None or type(value) is plain else convert(value)

    return converted


def _of_type(kind: TypeEngine[Any], dialect: Dialect) -> Convert:
    if isinstance(kind, sqltypes.Interval):
        return encoded
    if isinstance(kind, TypeDecorator):
        return _decorated(kind, dialect)
    if isinstance(kind, sqltypes.Enum):
        return _text if kind.enum_class is None else encoded
    kind = kind.dialect_impl(dialect) if kind._variant_mapping else kind
    if isinstance(kind, TypeDecorator):
        return _decorated(kind, dialect)
    if isinstance(kind, sqltypes.Numeric | sqltypes.Float):  # Apart since SQLAlchemy 2.1.
        return _decimal(kind) if kind.asdecimal else _float
    if isinstance(kind, sqltypes.DateTime):
        return _in_utc if kind.timezone else encoded
    for kinds, convert in _BY_TYPE:
        if isinstance(kind, kinds):
            return convert
    if isinstance(kind, ARRAY):
        inner = of_column(kind.item_type, dialect)
        return _array(inner)
    return _any


def _decorated(kind: TypeDecorator[Any], dialect: Dialect) -> Convert:
    bound, inner = kind.process_bind_param, of_column(kind.load_dialect_impl(dialect), dialect)

    def convert(value: Any) -> Any:
        with suppress(NotImplementedError):  # It has none of its own.
            value = bound(value, dialect)
        return inner(value)

    return convert


def _decimal(kind: sqltypes.Numeric[Any]) -> Convert:
    scale = (kind.scale or 0) if kind.precision is not None else None
    unit = Decimal(1).scaleb(-scale) if scale is not None else None

    def convert(value: Any) -> Any:
        number = value if isinstance(value, Decimal) else Decimal(str(value))
        if not number.is_finite():
            return encoded(number)
        if unit is not None:
            return format(number.quantize(unit), "f")
        digits = format(number, "f")
        return digits.rstrip("0").rstrip(".") if "." in digits else digits

    return convert


def _float(value: Any) -> Any:
    return encoded(float(value))


def _in_utc(value: Any) -> Any:
    return encoded(value.astimezone(datetime.UTC) if isinstance(value, datetime.datetime) else value)


def _array(inner: Convert) -> Convert:
    def convert(value: Any) -> Any:
        return [convert(one) if isinstance(one, list | tuple) else inner(one) for one in value]

    return convert


def _text(value: Any) -> Any:
    return _any(value)


def _any(value: Any) -> Any:
    """Return a value of a type that only one database has: as JSON if it can be, else as a text."""
    try:
        return encoded(value)
    except EventError:
        return str(value)


def _uuid(value: Any) -> Any:
    return str(value if isinstance(value, UUID) else UUID(str(value)))


def _integer(value: Any) -> Any:
    return int(value)


_BY_TYPE: tuple[tuple[Any, Convert], ...] = (
    (sqltypes.Boolean, bool),
    (sqltypes.Uuid, _uuid),
    (sqltypes.JSON, encoded),
    (sqltypes.Integer, _integer),
    (sqltypes.Date, encoded),
    (sqltypes.Time, encoded),
    (sqltypes._Binary, encoded),
    (sqltypes.String, _text),
)

_PLAIN: dict[Convert, type] = {_text: str, _integer: int, bool: bool}
"""Types whose values stay as they are, by what converts all others."""
