"""Whether a row is sure to fulfil a condition as PostgreSQL takes it, so that the first rows found are enough."""

from __future__ import annotations

import datetime
import math
import operator
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy import ARRAY, Table, TypeDecorator, types

from fedorm.stores.conditions import Both, Condition, Contains, Either, IsNull, Like, OneOf, Operator

_COMPARE: Mapping[Operator, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "<>": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def surely_holds(table: Table, condition: Condition, row: Mapping[str, Any]) -> bool:
    """Say whether a row fulfils a condition for sure; False also where that is hard to say."""
    if isinstance(condition, Both):
        return all(surely_holds(table, part, row) for part in condition.parts)
    if isinstance(condition, Either):
        return any(surely_holds(table, part, row) for part in condition.parts)
    value, kind = row[condition.column], table.c[condition.column].type
    if isinstance(condition, IsNull):
        return (value is None) is not condition.negated
    if value is None:
        return False
    if isinstance(condition, OneOf):
        if condition.negated:
            return all(_compares(kind, value, "<>", one) for one in condition.values)
        return any(_compares(kind, value, "=", one) for one in condition.values)
    if isinstance(condition, Contains):
        inner = kind.item_type if isinstance(kind, ARRAY) else None
        return inner is not None and any(
            one is not None and _compares(inner, one, "=", condition.value) for one in value
        )
    if isinstance(condition, Like):
        return isinstance(condition.pattern, str) and _like(condition.pattern).fullmatch(value) is not None
    return _compares(kind, value, condition.operator, condition.value)


def columns_in(condition: Condition) -> set[str]:
    """Return the columns that a condition looks at."""
    if isinstance(condition, Both | Either):
        return {name for part in condition.parts for name in columns_in(part)}
    return {condition.column}


def _compares(kind: types.TypeEngine[Any], value: Any, sign: Operator, other: Any) -> bool:
    if isinstance(kind, types.Boolean):
        return isinstance(other, bool) and _COMPARE[sign](value, other)
    if isinstance(kind, types.Integer | types.Numeric | types.Float):
        return _compares_numbers(value, sign, other)
    if isinstance(kind, types.DateTime | types.Date):
        return _compares_times(value, sign, other)
    if isinstance(kind, types.String | types.Uuid | TypeDecorator) and sign in ("=", "<>"):
        return _COMPARE[sign](str(value), str(other))
    return False


def _compares_numbers(value: Any, sign: Operator, other: Any) -> bool:
    if isinstance(other, bool) or not isinstance(other, int | float | Decimal):
        return False
    if isinstance(other, Decimal) and not other.is_finite():
        return False
    if isinstance(value, float) or isinstance(other, float):  # As PostgreSQL does it when one of the two is a float.
        try:
            value, other = float(value), float(other)
        except OverflowError:
            return False
        if math.isnan(other):
            return False
        if math.isnan(value):
            return sign in (">", ">=", "<>")
    return _COMPARE[sign](value, other)


def _compares_times(value: Any, sign: Operator, other: Any) -> bool:
    one, two = instant(value), instant(other)
    return one is not None and two is not None and _COMPARE[sign](one, two)


def instant(value: Any) -> datetime.datetime | None:
    """Return a time as UTC, as the finish takes one without a zone; a date as its midnight."""
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        value = datetime.datetime.combine(value, datetime.time())
    if not isinstance(value, datetime.datetime):
        return None
    try:
        return value.replace(tzinfo=datetime.UTC) if value.tzinfo is None else value.astimezone(datetime.UTC)
    except OverflowError:
        return None


def _like(pattern: str) -> re.Pattern[str]:
    signs = {"%": ".*", "_": "."}
    return re.compile("".join(signs.get(letter) or re.escape(letter) for letter in pattern), re.DOTALL)


def near_float(value: Any) -> float | None:
    """Return the float that is nearest to a number; None for what is no number, or too large for one."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    try:
        number = float(value)
    except (ValueError, ArithmeticError):
        return None
    return number if math.isfinite(number) else None


def is_finite(value: float | Decimal) -> bool:
    """Say whether a number is neither infinite nor NaN."""
    return value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)
