"""What a service's values are as Python's own, the same that come back from DuckDB."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import types

from fedorm.query.tables import storage_type

FAMILIES: Mapping[str, tuple[type[Any], ...]] = {
    "exact": (int, Decimal),
    "float": (float, int),
    "text": (str,),
    "boolean": (bool,),
    "date": (datetime.date,),
    "datetime": (datetime.datetime,),
    "instant": (datetime.datetime,),
}
"""Values of one family compare in Python as they do in PostgreSQL; these are their classes."""


def family_of(kind: types.TypeEngine[Any] | None) -> str | None:
    """Return the family of a type, None for one whose values are better left to DuckDB."""
    kind = storage_type(kind) if kind is not None else None
    if isinstance(kind, types.Boolean):
        return "boolean"
    if isinstance(kind, types.Integer):
        return "exact"
    if isinstance(kind, types.Float):
        return "float"
    if isinstance(kind, types.Numeric):
        return "exact" if kind.precision is not None else None
    if isinstance(kind, types.DateTime):
        return "instant" if kind.timezone else "datetime"
    if isinstance(kind, types.Date):
        return "date"
    return "text" if isinstance(kind, types.String | types.Uuid) and not isinstance(kind, types.JSON) else None


def plain_values(
    rows: Sequence[Sequence[Any]], kinds: Sequence[types.TypeEngine[Any] | None], unfit: type[Exception]
) -> Sequence[Sequence[Any]]:
    """Return rows whose values have the classes that the result has. Raises ``unfit`` for one that cannot."""
    changes: dict[int, Callable[[Any], Any]] = {}
    for number, kind in enumerate(kinds):
        wanted, convert = _conversion(kind)
        if convert is not None and any(
            (value := row[number]) is not None and (type(value) is not wanted or wanted in _ALWAYS) for row in rows
        ):
            changes[number] = convert
    if not changes:
        return rows
    try:
        return [
            tuple(
                changes[number](value) if value is not None and number in changes else value
                for number, value in enumerate(row)
            )
            for row in rows
        ]
    except (ValueError, ArithmeticError, TypeError) as error:
        raise unfit from error


_ALWAYS = {Decimal, datetime.datetime, float}
"""Classes whose values may have to be changed, too: a scale, a zone; or refused."""


def _conversion(kind: types.TypeEngine[Any] | None) -> tuple[type[Any], Callable[[Any], Any] | None]:
    kind = storage_type(kind) if kind is not None else None
    if isinstance(kind, types.Boolean):
        return bool, bool
    if isinstance(kind, types.Integer):
        return int, int
    if isinstance(kind, types.Float):
        return float, _number
    if isinstance(kind, types.Numeric):
        unit = Decimal(1).scaleb(-(kind.scale or 0))
        return Decimal, lambda value: _scaled(Decimal(str(value)), unit)
    if isinstance(kind, types.DateTime):
        return (datetime.datetime, _to_utc) if kind.timezone else (datetime.datetime, None)
    if isinstance(kind, types.Date):
        return datetime.date, None
    if isinstance(kind, types.Uuid):
        return str, lambda value: str(uuid.UUID(str(value)))
    return str, str


def _number(value: Any) -> float:
    number = float(value)
    if number != number:
        raise ValueError("for Python NaN is neither equal to itself nor greater than all other numbers")
    return number


def _scaled(value: Decimal, unit: Decimal) -> Decimal:
    scaled = value.quantize(unit)
    if scaled != value:
        raise ValueError(f"{value} has more digits than its column")
    return scaled


def _to_utc(value: datetime.datetime) -> datetime.datetime:
    return value if value.tzinfo is datetime.UTC else value.astimezone(datetime.UTC)
