"""What a service's values are as Python's own, the same that come back from DuckDB."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from operator import itemgetter
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
) -> list[tuple[Any, ...]]:
    """Return rows whose values have the classes that the result has. Raises ``unfit`` for one that cannot."""
    plain = list(map(tuple, rows))
    changes: dict[int, Callable[[Any], Any]] = {}
    for number, kind in enumerate(kinds):
        is_plain, convert = _conversion(kind)
        if any(value is not None and not is_plain(value) for value in map(itemgetter(number), plain)):
            changes[number] = convert
    if not changes:
        return plain
    try:
        columns = list(zip(*plain, strict=True))
        for number, change in changes.items():
            columns[number] = tuple([None if value is None else change(value) for value in columns[number]])
        return list(zip(*columns, strict=True))
    except (ValueError, ArithmeticError, TypeError) as error:
        raise unfit from error


def _conversion(kind: types.TypeEngine[Any] | None) -> tuple[Callable[[Any], bool], Callable[[Any], Any]]:
    """Return what says whether a value is plain already, and what makes it so."""
    kind = storage_type(kind) if kind is not None else None
    if isinstance(kind, types.Boolean):
        return _is(bool), bool
    if isinstance(kind, types.Integer):
        return _is(int), int
    if isinstance(kind, types.Float):
        return lambda value: type(value) is float and value == value, _number
    if isinstance(kind, types.Numeric):
        unit = Decimal(1).scaleb(-(kind.scale or 0))
        return lambda value: type(value) is Decimal and value.same_quantum(unit), lambda value: _scaled(value, unit)
    if isinstance(kind, types.DateTime):
        return lambda value: value.tzinfo is None or value.tzinfo is datetime.UTC, _to_utc
    if isinstance(kind, types.Date):
        return _is(datetime.date), _refuse
    if isinstance(kind, types.Uuid):
        return _is(str), lambda value: str(uuid.UUID(str(value)))
    return _is(str), str


def _is(wanted: type[Any]) -> Callable[[Any], bool]:
    return lambda value: type(value) is wanted


def _refuse(value: Any) -> Any:
    raise ValueError(f"{value!r} is no date")


def _number(value: Any) -> float:
    number = float(value)
    if number != number:
        raise ValueError("for Python NaN is neither equal to itself nor greater than all other numbers")
    return number


def _scaled(given: Any, unit: Decimal) -> Decimal:
    value = Decimal(str(given))
    scaled = value.quantize(unit)
    if scaled != value:
        raise ValueError(f"{value} has more digits than its column")
    return scaled


def _to_utc(value: datetime.datetime) -> datetime.datetime:
    return value.astimezone(datetime.UTC)
