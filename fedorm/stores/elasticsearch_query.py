"""From conditions to Elasticsearch's queries, which must find every document that PostgreSQL would, and may find more.

A field is looked for as it is indexed, which is not as it is held: texts as words unless a keyword is beside them,
times to the millisecond, decimals as the double next to them. What the server's mapping says counts, not what the class
declares: a field of another type, or that is not indexed, leaves the condition to the finish.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Column, Table, types

from fedorm.stores.conditions import (
    Both,
    Condition,
    Contains,
    Either,
    IsNull,
    Like,
    OneOf,
    Operator,
    Parameter,
)
from fedorm.stores.elasticsearch_values import is_short
from fedorm.stores.entity_table import FIELD
from fedorm.stores.holding import instant, is_finite, near_float

Query = dict[str, Any]
Mapped = Mapping[str, Mapping[str, Any]]
"""The ``properties`` of an index's mapping."""

ALL: Query = {"match_all": {}}
_OPERATORS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_LONGS = ("long", "integer", "short", "byte", "unsigned_long")
_MOMENT = "strict_date_optional_time"
_WIDEST = 2**63
_MOST_TERMS, _MOST_CLAUSES = 65_536, 1_000
"""What an index takes in one query unless it is set otherwise; conditions with more are checked here alone."""
_OPAQUE = {"null_value", "normalizer", "ignore_malformed", "script", "on_script_error", "path"}
"""Settings by which a field is not indexed as it is held."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """How a column's field can be looked for."""

    kind: str
    """The type in the mapping of what is looked for."""
    path: str
    """What is compared."""
    outer: str
    """What is asked whether it is there."""
    longest: int | None = None
    """Longer texts are not in it."""
    elements: bool = False
    """Whether the column holds several values."""


def match_query(table: Table, condition: Condition, mapped: Mapped) -> Query | None:
    """Return the query for a condition: ``ALL`` where all documents have to be read, None where none can fulfil it."""
    if isinstance(condition, Both):
        return both_queries(match_query(table, part, mapped) for part in condition.parts)
    if isinstance(condition, Either):
        return _any(match_query(table, part, mapped) for part in condition.parts)
    column = table.c[condition.column]
    field = indexed(column, mapped)
    if field is None:
        return ALL
    kind = column.type.item_type if isinstance(column.type, ARRAY) else column.type
    if isinstance(condition, IsNull):
        return _null(field, negated=condition.negated)
    if isinstance(condition, Contains):
        return _one_of(field, kind, [condition.value]) if field.elements else ALL
    if field.elements:
        return ALL
    if isinstance(condition, OneOf):
        return _none_of(field, kind, condition.values) if condition.negated else _one_of(field, kind, condition.values)
    if isinstance(condition, Like):
        return _like(field, condition.pattern)
    if condition.operator == "=":
        return _one_of(field, kind, [condition.value])
    if condition.operator == "<>":
        return _none_of(field, kind, [condition.value])
    return _range(field, kind, condition.operator, condition.value)


def indexed(column: Column[Any], mapped: Mapped) -> Indexed | None:
    """Return how a column can be looked for; None where it cannot be, or not in its own type's meaning."""
    name = column.info.get(FIELD)
    if not isinstance(name, str) or name in _copied(mapped):
        return None
    found = _property(name, mapped)
    if found is None or found.get("index") in (False, "false") or _OPAQUE & found.keys():
        return None
    several = isinstance(column.type, ARRAY)
    kind = column.type.item_type if isinstance(column.type, ARRAY) else column.type
    said, path, longest = str(found.get("type", "object")), name, found.get("ignore_above")
    if said == "text":
        inner = ((one, field) for one, field in (found.get("fields") or {}).items() if field.get("type") == "keyword")
        beside = next(((one, field) for one, field in inner if not _OPAQUE & field.keys()), None)
        if beside is None:
            return Indexed("text", name, name, elements=several)
        said, path, longest = "keyword", f"{name}.{beside[0]}", beside[1].get("ignore_above")
    if said not in _types_for(kind):
        return None
    outer = name
    if path == name and longest is not None:
        outer = ""  # A text that is too long would not seem to be there.
    return Indexed(said, path, outer, None if longest is None else int(longest), several)


def _property(path: str, mapped: Mapped) -> Mapping[str, Any] | None:
    """Return what the mapping says of a path; None inside of what is searched apart from its document."""
    found: Mapping[str, Any] = {"properties": mapped}
    for name in path.split("."):
        if found.get("type", "object") != "object" or found.get("enabled") in (False, "false"):
            return None
        within = (found.get("properties") or {}).get(name)
        if within is None:
            return None
        found = within
    return found


def _copied(mapped: Mapped) -> set[str]:
    """Return the fields that others are copied to, so that they hold more than their own values."""
    names: set[str] = set()
    for one in mapped.values():
        said = one.get("copy_to", ())
        names.update([said] if isinstance(said, str) else said)
        names |= _copied(one.get("properties") or {})
    return names


def _types_for(kind: types.TypeEngine[Any]) -> tuple[str, ...]:
    if isinstance(kind, types.Boolean):
        return ("boolean",)
    if isinstance(kind, types.Integer):
        return _LONGS
    if isinstance(kind, types.Float | types.Numeric):
        return ("double",)
    if isinstance(kind, types.DateTime | types.Date):
        return ("date", "date_nanos")
    if isinstance(kind, types.JSON | types.LargeBinary):
        return ()
    return ("keyword", "constant_keyword", "wildcard") if isinstance(kind, types.String | types.Uuid) else ()


# -- joining


def both_queries(parts: Iterable[Query | None]) -> Query | None:
    """Return the query of documents that fulfil all of some queries; none of them counts for the ranking."""
    kept: list[Query] = []
    without: list[Query] = []
    for part in parts:
        if part is None:
            return None
        inner = part.get("bool", {})
        if part == ALL:
            continue
        if inner and inner.keys() <= {"filter", "must_not"}:
            kept += [one for one in inner.get("filter", ()) if one not in kept]
            without += [one for one in inner.get("must_not", ()) if one not in without]
        elif part not in kept:
            kept.append(part)
    if not kept and not without:
        return ALL
    return {"bool": ({"filter": kept} if kept else {}) | ({"must_not": without} if without else {})}


def _any(parts: Iterable[Query | None]) -> Query | None:
    kept: list[Query] = []
    for part in parts:
        if part == ALL:
            return ALL
        if part is not None and part not in kept:
            kept.append(part)
    if len(kept) < 2:
        return kept[0] if kept else None
    return {"bool": {"should": kept, "minimum_should_match": 1}}


# -- equality


def _one_of(field: Indexed, kind: types.TypeEngine[Any], values: Iterable[Any]) -> Query | None:
    if field.kind == "text":
        return ALL
    terms: list[Any] = []
    others: list[Query | None] = []
    for value in values:
        if isinstance(value, Parameter):
            terms.append(value)
            continue
        equal = _term(field, kind, value)
        if equal is None or len(terms) == _MOST_TERMS or len(others) == _MOST_CLAUSES:
            return ALL
        if isinstance(equal, dict):
            others.append(equal)
        elif equal is not _NOTHING:
            terms.append(equal)
    if terms:
        others.insert(0, {"terms": {field.path: list(dict.fromkeys(terms))}})
    return _any(others)


_NOTHING = object()
"""Stands for a value that no document can hold."""


def _term(field: Indexed, kind: types.TypeEngine[Any], value: Any) -> Any:
    """Return the term that a value is indexed as, or a query; None where that cannot be said."""
    if isinstance(kind, types.Boolean):
        return value if isinstance(value, bool) else None
    if isinstance(kind, types.Integer):
        return _whole_term(value)
    if isinstance(kind, types.Numeric | types.Float):
        number = near_float(value)
        if number is None:
            return None
        if not isinstance(kind, types.Float) and (isinstance(value, float) or not is_short(Decimal(value))):
            return None
        # An index has two zeros, of which one is less than the other.
        return number if number else {"range": {field.path: {"gte": -0.0, "lte": 0.0}}}
    if isinstance(kind, types.DateTime | types.Date):
        moment = instant(value)
        after = None if moment is None else _after(moment)
        if moment is None or after is None:
            return None
        return {"range": {field.path: {"gte": _iso(moment), "lt": after, "format": _MOMENT}}}
    if isinstance(kind, types.Uuid):
        try:
            return str(UUID(str(value)))
        except ValueError:
            return _NOTHING
    if not isinstance(value, str) or (field.longest is not None and _length(value) > field.longest):
        return None
    return value


def _length(text: str) -> int:
    """Return the length of a text as Java counts, in units of 16 bits."""
    return len(text) + sum(letter > "\uffff" for letter in text)


def _whole_term(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not is_finite(value):
        return None
    if isinstance(value, float) and abs(value) >= 2**53:  # Several integers equal it.
        return None
    whole = int(value)
    return whole if whole == value and -_WIDEST <= whole < _WIDEST else _NOTHING


def _none_of(field: Indexed, kind: types.TypeEngine[Any], values: Iterable[Any]) -> Query | None:
    left_out: list[Any] = []
    is_rough = isinstance(kind, types.DateTime | types.Date | types.Numeric) and not isinstance(kind, types.Float)
    if field.kind != "text" and not is_rough:  # Others may be indexed as the same time or number.
        for value in values:
            term = value if isinstance(value, Parameter) else _term(field, kind, value)
            if term is not None and term is not _NOTHING and not isinstance(term, dict):
                left_out.append(term)
        left_out = left_out[:_MOST_TERMS]
    there = _null(field, negated=True)
    return both_queries([there, {"bool": {"must_not": [{"terms": {field.path: left_out}}]}}] if left_out else [there])


def _null(field: Indexed, *, negated: bool) -> Query:
    if not field.outer or (negated and field.elements):  # An empty list is there, and not indexed.
        return ALL
    there = {"exists": {"field": field.outer}}
    return {"bool": {"filter": [there]}} if negated else {"bool": {"must_not": [there]}}


# -- order


def _range(field: Indexed, kind: types.TypeEngine[Any], operator: Operator, value: Any) -> Query:
    if isinstance(kind, types.Integer | types.Numeric | types.Float | types.DateTime | types.Date):
        if isinstance(value, Parameter):
            return {"range": {field.path: {_OPERATORS[operator]: value}}}
        bounds = _bounds(kind, operator, value)
        if bounds is not None:
            return {"range": {field.path: bounds}}
    return ALL


def _bounds(kind: types.TypeEngine[Any], operator: Operator, value: Any) -> dict[str, Any] | None:
    upper = operator in ("<", "<=")
    if isinstance(kind, types.DateTime | types.Date):
        moment = instant(value)
        # It is indexed to the millisecond: what is less than the bound may share its millisecond.
        bound = None if moment is None else _after(moment) if upper else _iso(moment)
        return None if bound is None else {"lt" if upper else "gte": bound, "format": _MOMENT}
    if isinstance(kind, types.Integer):
        return _whole_bounds(operator, value)
    number = near_float(value)
    if number is None:
        return None
    if number == 0:
        number = 0.0 if upper else -0.0
    if isinstance(kind, types.Float):
        return {_OPERATORS[operator]: number}
    # Indexed as the double next to it, it may equal that of the bound.
    return {"lte": number} if upper else {"gte": number}


def _whole_bounds(operator: Operator, value: Any) -> dict[str, Any] | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not is_finite(value):
        return None
    if isinstance(value, float) and abs(value) >= 2**53:
        return None
    exact = Decimal(value)
    if exact != exact.to_integral_value():
        upper = operator in ("<", "<=")
        exact = exact.to_integral_value(ROUND_FLOOR if upper else ROUND_CEILING)
        operator = "<=" if upper else ">="
    whole = int(exact)
    return {_OPERATORS[operator]: whole} if -_WIDEST <= whole < _WIDEST else None


def _after(moment: datetime.datetime) -> str | None:
    """Return the millisecond after that of a time: where nanoseconds are indexed it has more than one time."""
    try:
        return _iso(moment + datetime.timedelta(milliseconds=1))
    except OverflowError:
        return None


def _iso(moment: datetime.datetime) -> str:
    """Return a moment to the millisecond that it is indexed as."""
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


# -- texts


def _like(field: Indexed, pattern: Any) -> Query:
    if field.kind not in ("keyword", "wildcard") or not isinstance(pattern, str | Parameter):
        return ALL
    fits: Query = {"wildcard": {field.path: {"value": pattern if isinstance(pattern, Parameter) else _wild(pattern)}}}
    if field.longest is None:
        return fits
    # Texts that are too long are not in it, and may fit.
    return {
        "bool": {
            "should": [fits, {"bool": {"must_not": [{"exists": {"field": field.path}}]}}],
            "minimum_should_match": 1,
        }
    }


def _wild(pattern: str) -> str:
    # One of its own signs may be any letter here: what is found is looked at again.
    return pattern.translate(str.maketrans("%_*\\", "*???"))
