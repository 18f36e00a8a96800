"""From conditions to MongoDB's filters, which must find every document that PostgreSQL would, and may find more.

MongoDB compares a number with numbers alone and a date with dates, so documents are taken as their model declares them;
what reads them refuses one that is not so. Numbers of all its types compare by value, but a field declared as a float
may hold a ``Decimal128`` that is read as the float next to it, and the reverse: bounds are those further out.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any
from uuid import UUID

from bson import DBRef, Decimal128, ObjectId
from sqlalchemy import ARRAY, Table, types

from fedorm.stores.conditions import (
    Both,
    Compare,
    Condition,
    Contains,
    Either,
    IsNull,
    Like,
    OneOf,
    Operator,
    Parameter,
)
from fedorm.stores.document_table import LINK, TARGET, ObjectIdText
from fedorm.stores.entity_table import FIELD
from fedorm.stores.holding import instant, is_finite, near_float

Filter = dict[str, Any]

_MONGO = {"<": "$lt", "<=": "$lte", ">": "$gt", ">=": "$gte"}
_BOUNDS = set(_MONGO.values())
_EXACT = 2**53
"""The least integer beyond which a float is not sure to hold the next one."""
_WIDEST = 2**63
MOST_WILDCARDS = 3
"""A pattern with more is left to the finish: MongoDB gives up on a regular expression that takes too many steps."""


def match_filter(table: Table, condition: Condition) -> Filter | None:
    """Return the filter for a condition: ``{}`` where all documents have to be read, None where none can fulfil it."""
    if isinstance(condition, Either):
        return _any(match_filter(table, part) for part in condition.parts)
    parts = flattened(condition)
    bounded = {part.column for part in parts if isinstance(part, Compare) and part.operator in ("<", "<=")}
    return both_filters(
        _part_filter(table, part, bounded) if not isinstance(part, Either) else match_filter(table, part)
        for part in parts
    )


def flattened(condition: Condition) -> list[Condition]:
    """Return the parts of a condition that all have to hold."""
    if isinstance(condition, Both):
        return [inner for part in condition.parts for inner in flattened(part)]
    return [condition]


def _part_filter(table: Table, part: Condition, bounded: set[str]) -> Filter | None:
    assert not isinstance(part, Both | Either)
    column = table.c[part.column]
    field, kind = str(column.info[FIELD]), column.type
    if field.endswith(LINK):
        return _link_filter(field, kind, str(column.info[TARGET]), part)
    if isinstance(part, IsNull):
        return {field: None} if not part.negated else _not_null(field, kind)
    if isinstance(part, OneOf):
        return _one_of(field, kind, part)
    if isinstance(part, Contains):
        return _contains(field, kind, part.value)
    if isinstance(part, Like):
        return _like(field, kind, part.pattern)
    found = _compare(field, kind, part)
    if found and isinstance(kind, types.Float) and part.operator in (">", ">=") and part.column not in bounded:
        # NaN: greater than all other numbers in PostgreSQL, in MongoDB comparable with none.
        return {"$or": [found, {field: math.nan}]}
    return found


def both_filters(parts: Iterable[Filter | None]) -> Filter | None:
    """Return the filter of documents that fulfil all of some filters."""
    kept: list[Filter] = []
    for part in parts:
        if part is None:
            return None
        if part and part not in kept and not any(_joins(part, other) for other in kept):
            kept.append(part)
    if len(kept) < 2:
        return kept[0] if kept else {}
    names = [name for part in kept for name in part]
    if len(set(names)) == len(names):
        return {name: inner for part in kept for name, inner in part.items()}
    return {"$and": kept}


def _joins(part: Filter, other: Filter) -> bool:
    """Put bounds into a filter that has others for the same field."""
    (field, bounds), *more = part.items()
    there = other.get(field)
    if more or not isinstance(bounds, dict) or not isinstance(there, dict):
        return False
    if not {*bounds, *there} <= _BOUNDS or set(bounds) & set(there):
        return False
    other[field] = {**there, **bounds}
    return True


def _any(parts: Iterable[Filter | None]) -> Filter | None:
    kept: list[Filter] = []
    for part in parts:
        if part == {}:
            return {}
        if part is not None and part not in kept:
            kept.append(part)
    if len(kept) < 2:
        return kept[0] if kept else None
    return {"$or": kept}


# -- equality


def equal_values(kind: types.TypeEngine[Any], value: Any) -> list[Any] | None:
    """Return the values of documents that are read as ``value``; None where they cannot be listed."""
    if isinstance(value, Parameter):
        return [value]
    try:
        return _equal_values(kind, value)
    except (ValueError, OverflowError, ArithmeticError):
        return None


def _equal_values(kind: types.TypeEngine[Any], value: Any) -> list[Any] | None:
    if isinstance(kind, types.Boolean):
        return [value, int(value)] if isinstance(value, bool) else None
    if isinstance(kind, types.Integer):
        return _equal_integers(value)
    if isinstance(kind, types.Float):
        return _equal_floats(value)
    if isinstance(kind, types.Numeric):
        return _equal_decimals(value)
    if isinstance(kind, types.DateTime | types.Date):
        moment = instant(value)
        return None if moment is None else [_milliseconds(moment)]
    if isinstance(kind, ObjectIdText):
        return [ObjectId(str(value))] if ObjectId.is_valid(str(value)) else []
    if isinstance(kind, types.Uuid):
        try:
            return [UUID(str(value))]
        except ValueError:
            return []
    if isinstance(kind, types.Enum):
        members: Any = kind.enum_class or ()
        return [member.value for member in members if str(member.value) == value] or [value]
    if isinstance(kind, types.String) and isinstance(value, str):
        value.encode()  # What no document can hold raises, and is left to the finish.
        return [value]
    return [bytes(value)] if isinstance(kind, types.LargeBinary) and isinstance(value, bytes) else None


def _equal_integers(value: Any) -> list[Any] | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    if isinstance(value, float) and not abs(value) < _EXACT:  # Beyond, several integers equal it.
        return None
    whole = int(value)
    return [whole] if whole == value and -_WIDEST <= whole < _WIDEST else []


def _equal_floats(value: Any) -> list[Any] | None:
    number = near_float(value)
    return None if number is None else [number, Decimal128(repr(number))]


def _equal_decimals(value: Any) -> list[Any] | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None  # It is compared with a float as a float.
    made = Decimal(value)
    near = float(made)
    return [Decimal128(made), near] if Decimal(repr(near)) == made else [Decimal128(made)]


def _excluded(kind: types.TypeEngine[Any], value: Any) -> list[Any]:
    """Return values of documents that are sure to be read as ``value``, and are those that PostgreSQL leaves out."""
    if isinstance(kind, types.DateTime | types.Date):
        moment = None if isinstance(value, Parameter) else instant(value)
        if not isinstance(value, Parameter) and (moment is None or _milliseconds(moment) != moment):
            return []
    elif not isinstance(kind, types.Boolean | types.Integer | types.Float):
        return []  # A collation takes more texts for equal, and a float is a little off the decimal it is read as.
    return equal_values(kind, value) or []


def _one_of(field: str, kind: types.TypeEngine[Any], condition: OneOf) -> Filter | None:
    if condition.negated:
        left_out = [one for value in condition.values for one in _excluded(kind, value)]
        return {field: {"$nin": [*left_out, None]}} if left_out else _not_null(field, kind)
    found: list[Any] = []
    for value in condition.values:
        equal = equal_values(kind, value)
        if equal is None:
            return _any(_compare(field, kind, Compare(condition.column, "=", one)) for one in condition.values)
        found += equal
    if not found:
        return None
    if isinstance(found[0], Parameter):  # Which may stand for many.
        return {field: {"$in": found}}
    return {field: found[0]} if len(found) == 1 else {field: {"$in": found}}


def _contains(field: str, kind: types.TypeEngine[Any], value: Any) -> Filter | None:
    if not isinstance(kind, ARRAY):
        return {}
    equal = equal_values(kind.item_type, value)
    if equal is None:
        return {}
    return {field: {"$in": equal}} if equal else None


def _link_filter(field: str, kind: types.TypeEngine[Any], target: str, part: Condition) -> Filter | None:
    """Find links by the id within; beside that as wholes, which is all that some servers know."""
    whole = field.removesuffix(LINK)
    if isinstance(part, IsNull):
        return {whole: None} if not part.negated else _not_null(whole, kind)
    values: tuple[Any, ...] = ()
    if isinstance(part, Contains) and isinstance(kind, ARRAY):
        kind, values = kind.item_type, (part.value,)
    elif isinstance(part, Compare) and part.operator == "=" and not isinstance(kind, ARRAY):
        values = (part.value,)
    elif isinstance(part, OneOf) and not part.negated and not isinstance(kind, ARRAY):
        values = part.values
    else:
        return {}
    listed = [equal_values(kind, value) for value in values]
    ids = [one for equal in listed for one in equal or ()]
    if None in listed:
        return {}
    if not ids:
        return None
    links = [one if isinstance(one, Parameter) else DBRef(target, one) for one in ids]
    return {"$or": [{field: {"$in": ids}}, {whole: {"$in": links}}]}


# -- order


def _compare(field: str, kind: types.TypeEngine[Any], condition: Compare) -> Filter | None:
    operator, value = condition.operator, condition.value
    if operator == "<>":
        return _one_of(field, kind, OneOf(condition.column, (value,), negated=True))
    if operator == "=":
        equal = equal_values(kind, value)
        if isinstance(value, Parameter):
            return {field: value}
        if equal is None:
            return both_filters((_range(field, kind, ">=", value), _range(field, kind, "<=", value)))
        return _one_of(field, kind, OneOf(condition.column, (value,)))
    return _range(field, kind, operator, value)


def _range(field: str, kind: types.TypeEngine[Any], operator: Operator, value: Any) -> Filter | None:
    if isinstance(kind, types.Integer | types.Numeric | types.Float):
        return _number_range(field, kind, operator, value)
    if isinstance(kind, types.DateTime | types.Date):
        if isinstance(value, Parameter):
            return {field: {_MONGO[operator]: value}}
        return _time_range(field, operator, value)
    return {}


def _number_range(field: str, kind: types.TypeEngine[Any], operator: Operator, value: Any) -> Filter | None:
    if isinstance(value, Parameter):
        found: Filter = {field: {_MONGO[operator]: value}}
    elif isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return {}
    elif isinstance(kind, types.Integer):
        return _integer_range(field, operator, value)
    else:
        bound = _bound(kind, operator, value)
        if bound is None:
            return {}
        found = {field: {_MONGO[operator]: bound}}
    return found


def _bound(kind: types.TypeEngine[Any], operator: Operator, value: Any) -> Any:
    """Return the bound for floats and decimals, which may be stored as one another; None where there is none.

    A float and the decimal that is written like it differ by less than half the distance to the next float. Where both
    are read as the same number, and are to be found, the bound is the one further out.
    """
    near, upper, strict = near_float(value), operator in ("<", "<="), operator in ("<", ">")
    if near is None:
        return None
    written, exact = Decimal(repr(near)), Decimal(near)
    if isinstance(kind, types.Float):
        further = written > exact if upper else written < exact
        return Decimal128(written) if further and not strict else near
    if isinstance(value, float) or written != value:  # Several decimals are read as this float.
        return math.nextafter(near, math.inf if upper else -math.inf)
    further = exact > written if upper else exact < written
    return near if further and not strict else Decimal128(written)


def _integer_range(field: str, operator: Operator, value: float | Decimal) -> Filter:
    if not is_finite(value) or (isinstance(value, float) and abs(value) >= _EXACT):
        return {}
    exact = Decimal(value)
    if exact != exact.to_integral_value():
        upper = operator in ("<", "<=")
        exact = exact.to_integral_value(ROUND_FLOOR if upper else ROUND_CEILING)
        operator = "<=" if upper else ">="
    whole = int(exact)
    return {field: {_MONGO[operator]: whole}} if -_WIDEST <= whole < _WIDEST else {}


def _time_range(field: str, operator: Operator, value: Any) -> Filter:
    moment = instant(value)
    if moment is None:
        return {}
    bound = _milliseconds(moment)
    if bound != moment and operator == "<":
        operator = "<="  # MongoDB's times have milliseconds: that before the bound is still in.
    return {field: {_MONGO[operator]: bound}}


def _milliseconds(moment: datetime.datetime) -> datetime.datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


# -- the rest


def _not_null(field: str, kind: types.TypeEngine[Any]) -> Filter:
    if isinstance(kind, ARRAY | types.JSON):
        return {field: {"$exists": True}}  # ``$ne`` would leave out an array of which one element is null.
    return {field: {"$ne": None}}


def _like(field: str, kind: types.TypeEngine[Any], pattern: Any) -> Filter | None:
    if isinstance(kind, ObjectIdText | types.Uuid | types.Enum) or not isinstance(kind, types.String):
        return {}
    if isinstance(pattern, Parameter):
        return {field: {"$regex": pattern}}
    if not isinstance(pattern, str) or "\0" in pattern:
        return {}
    parts = re.split("%+", pattern)
    if len(parts) - 1 > MOST_WILDCARDS:
        return {}
    body = ".*".join("".join("." if letter == "_" else re.escape(letter) for letter in part) for part in parts)
    body = f"^{body}$".removeprefix("^.*").removesuffix(".*$")
    return {field: {"$regex": body, "$options": "s"}} if body else _not_null(field, kind)
