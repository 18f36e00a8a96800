"""Whether a row that is there is the one that is wanted, as far as two databases' types can agree."""

from __future__ import annotations

import datetime
import enum
import math
from collections.abc import Collection
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import types as sqltypes

from fedorm.stores.rows import RowShape, Values

_NUMBERS = (int, float, Decimal)
_WIDE = Context(prec=200_000)
"""As many digits as a number can have anywhere: by itself Python rounds to 28, or refuses."""


class Sameness:
    """Compares rows of one shape; ``rounds`` says that moments with more digits than are kept are rounded, not cut.

    ``narrow`` are fields of which one side, at least, is a float of 32 bits: it has seven digits.
    """

    def __init__(self, shape: RowShape, *, rounds: bool, narrow: Collection[str] = ()) -> None:
        self._scales = {
            name: column.type.scale
            for name, column in shape.columns.items()
            if isinstance(column.type, sqltypes.Numeric) and column.type.asdecimal
        }
        self._floats = {name for name, column in shape.columns.items() if isinstance(column.type, sqltypes.Float)}
        self._rounds = rounds
        self._narrow = frozenset(narrow)

    def differing(self, wanted: Values, there: Values) -> list[str]:
        """Return the fields whose values mean different things."""
        return [name for name, value in wanted.items() if not self._same(name, value, there.get(name))]

    def _same(self, name: str, wanted: Any, there: Any) -> bool:
        if wanted is None or there is None:
            return wanted is there
        if type(wanted) is type(there) and wanted == there:
            return True
        if isinstance(wanted, datetime.datetime) and isinstance(there, datetime.datetime):
            return self._same_moment(_in_utc(wanted), _in_utc(there))
        if isinstance(wanted, bool) or isinstance(there, bool):
            return bool(wanted == there)
        if isinstance(wanted, _NUMBERS) and isinstance(there, _NUMBERS):
            return self._same_number(name, wanted, there)
        return bool(comparable(wanted) == comparable(there))

    def _same_moment(self, wanted: datetime.datetime, there: datetime.datetime) -> bool:
        """Say whether a moment is the one that is wanted, with as many digits of a second as it has."""
        if wanted == there:
            return True
        for unit in (1_000, 1_000_000):  # Microseconds: a column keeps six digits, three or none.
            if there.microsecond % unit == 0:
                more = datetime.timedelta(microseconds=unit // 2 if self._rounds else 0)
                kept = wanted + more
                if kept - datetime.timedelta(microseconds=kept.microsecond % unit) == there:
                    return True
        return False

    def _same_number(self, name: str, wanted: Any, there: Any) -> bool:
        if name in self._floats or isinstance(there, float):
            close = 1e-6 if name in self._narrow else 1e-15
            return math.isclose(wanted, there, rel_tol=close) or (math.isnan(wanted) and math.isnan(there))
        one, other = Decimal(str(wanted)), Decimal(str(there))
        if not (one.is_finite() and other.is_finite()):
            return str(one) == str(other)
        scale = self._scales.get(name)
        return one == other or (scale is not None and _rounded(one, scale) == _rounded(other, scale))


def _rounded(value: Decimal, scale: int) -> Decimal:
    """Return what databases keep of a number."""
    return value.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP, _WIDE)


def _in_utc(value: datetime.datetime) -> datetime.datetime:
    return value.astimezone(datetime.UTC).replace(tzinfo=None) if value.tzinfo is not None else value


def comparable(value: Any) -> Any:
    """Return a value in a form that is equal for values of other types that mean the same."""
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, datetime.datetime):
        return _in_utc(value).isoformat()
    if isinstance(value, float | Decimal):
        number = Decimal(str(value))
        return (number.normalize(_WIDE) if number else Decimal(0)) if number.is_finite() else str(number)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, BaseModel):
        return comparable(value.model_dump())
    if isinstance(value, dict):
        return {key: comparable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [comparable(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(map(comparable, value), key=str)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return value
