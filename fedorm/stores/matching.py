"""Conditions and orders on rows that are in memory, for stores whose servers do not check them, or not all."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedorm.stores.conditions import Both, Compare, Condition, Contains, Either, IsNull, Like, OneOf, Operator

Row = Mapping[str, Any]
Test = Callable[[Row], bool]
_Comparison = Callable[[Any, Any], Any]
_COMPARE: dict[Operator, _Comparison] = {
    "=": operator.eq, "<>": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_NUMBERS = (int, float)
_EXACT = 2**53


def condition_from(given: Any) -> Condition:
    """Return the condition that ``session.find()`` was given: a dict of values, a ``Condition``, several of which all
    have to hold. Raises ``TypeError`` for anything else.
    """
    if isinstance(given, Mapping):
        return Both(tuple(_equal(str(name), value) for name, value in given.items()))
    if isinstance(given, list | tuple):
        return Both(tuple(condition_from(one) for one in given))
    if isinstance(given, Compare | OneOf | IsNull | Contains | Like | Both | Either):
        return given
    raise TypeError(f"{given!r}: a condition here is a dict of fields and values, or one of fedorm.stores.conditions")


def _equal(name: str, value: Any) -> Condition:
    if value is None:
        return IsNull(name)
    return OneOf(name, tuple(value)) if isinstance(value, set | frozenset) else Compare(name, "=", value)


def predicate_of(condition: Condition, *, exact: bool = False) -> Test:
    """Return what says whether a row fulfils a condition, as PostgreSQL would say.

    Values that Python may compare otherwise count as fulfilling it, as whoever asks checks again; ``exact``: Python's
    comparison is the last word.
    """
    if isinstance(condition, Both):
        parts = [predicate_of(part, exact=exact) for part in condition.parts]
        return lambda row: all(part(row) for part in parts)
    if isinstance(condition, Either):
        parts = [predicate_of(part, exact=exact) for part in condition.parts]
        return lambda row: any(part(row) for part in parts)
    name = condition.column
    if isinstance(condition, IsNull):
        negated = condition.negated
        return lambda row: (row[name] is None) is not negated
    check = _check(condition, exact)

    def test(row: Row) -> bool:
        value = row[name]
        if value is None:
            return False
        try:
            return bool(check(value))
        except (TypeError, ValueError, ArithmeticError):
            return not exact

    return test


def _check(condition: Compare | OneOf | Contains | Like, exact: bool) -> Callable[[Any], Any]:
    if isinstance(condition, Compare):
        compare, other = _COMPARE[condition.operator], condition.value
        if exact:
            return lambda value: compare(value, other)
        return lambda value: not _alike(value, other) or compare(value, other)
    if isinstance(condition, OneOf):
        listed, negated = condition.values, condition.negated
        if exact and negated and any(one is None for one in listed):
            return lambda value: False
        if exact:
            return lambda value: (value in listed) is not negated
        return _one_of(listed, negated)
    if isinstance(condition, Contains):
        wanted = condition.value
        return lambda value: not isinstance(value, list | tuple | set | frozenset) or wanted in value
    pattern = "".join({"%": ".*", "_": "."}.get(one, re.escape(one)) for one in str(condition.pattern))
    like = re.compile(pattern, re.DOTALL)
    return lambda value: not isinstance(value, str) or like.fullmatch(value) is not None


def _alike(value: Any, other: Any) -> bool:
    """Say whether Python compares two values as PostgreSQL does; NaN is equal to itself and the greatest there."""
    if value != value or other != other:
        return False
    if type(value) is type(other):
        return True
    # With a float an integer is compared as one, of which several are the same from there on.
    return all(isinstance(one, _NUMBERS) and abs(one) < _EXACT for one in (value, other))


def _one_of(listed: Sequence[Any], negated: bool) -> Callable[[Any], bool]:
    kinds = {type(value) for value in listed}
    values = frozenset(listed)

    def check(value: Any) -> bool:
        return kinds != {type(value)} or value != value or (value in values) is not negated

    return check


def ordered(rows: Sequence[Any], sort: Sequence[str], value_of: Callable[[Any, str], Any]) -> list[Any]:
    """Return rows in the order of fields, a minus before those that descend; None is the greatest."""
    found = list(rows)
    for name in reversed(sort):
        found.sort(key=_key(name.lstrip("-+"), value_of), reverse=name.startswith("-"))
    return found


def _key(field: str, value_of: Callable[[Any, str], Any]) -> Callable[[Any], Any]:
    def key(row: Any) -> Any:
        value = value_of(row, field)
        return (True, 0) if value is None else (False, value)

    return key
