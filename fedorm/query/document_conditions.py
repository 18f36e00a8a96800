"""From a condition's tree to the plain data that stores of documents take."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from sqlglot import exp

from fedorm.stores.conditions import (
    ALWAYS,
    NEVER,
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

ValueOf = Callable[[str], Any]
"""Returns the value of a parameter by its name, a list for one that stands for several."""

_OPERATORS: dict[type[exp.Expr], Operator] = {
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=",
}  # fmt: skip
_FLIPPED: dict[Operator, Operator] = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_OPPOSITE: dict[Operator, Operator] = {"=": "<>", "<>": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


class _Unknown(Exception):  # noqa: N818 - no error: a condition that is left to the finish
    """A part of a condition has no form as plain data."""


def document_condition(predicate: exp.Expr, value_of: ValueOf = Parameter) -> Condition:
    """Return a condition, over bare columns of one collection, as far as it has a form as plain data.

    What has none holds always here, as the finish checks it again. Without ``value_of`` the parameters stay open.
    """
    return condition_of(predicate, value_of)[0]


def condition_of(predicate: exp.Expr, value_of: ValueOf = Parameter) -> tuple[Condition, bool]:
    """Return a condition as ``document_condition`` does, and whether it is the whole of it."""
    reader = _Reader(value_of)
    return reader.condition(predicate, negated=False), reader.complete


def can_send(predicate: exp.Expr) -> bool:
    """Say whether a store of documents could leave out a row for a condition."""
    return not _holds_always(document_condition(predicate))


def _holds_always(condition: Condition) -> bool:
    if isinstance(condition, Both):
        return all(_holds_always(part) for part in condition.parts)
    return isinstance(condition, Either) and any(_holds_always(part) for part in condition.parts)


class _Reader:
    def __init__(self, value_of: ValueOf) -> None:
        self._value_of = value_of
        self.complete = True

    def condition(self, node: exp.Expr, *, negated: bool) -> Condition:
        """Return when ``node`` is true or, ``negated``, when it is false: in SQL that is not all the rest."""
        try:
            return self._condition(node.unnest(), negated)
        except _Unknown:
            self.complete = False
            return ALWAYS

    def _condition(self, node: exp.Expr, negated: bool) -> Condition:
        if node.args.get("negate"):  # IS NOT NULL and NOT LIKE have their NOT inside.
            negated = not negated
        if isinstance(node, exp.Not):
            return self.condition(node.this, negated=not negated)
        if isinstance(node, exp.And | exp.Or):
            parts = tuple(self.condition(part, negated=negated) for part in (node.this, node.expression))
            return Both(parts) if isinstance(node, exp.And) is not negated else Either(parts)
        if isinstance(node, exp.Boolean):
            return ALWAYS if bool(node.this) is not negated else NEVER
        if isinstance(node, exp.Null):
            return NEVER
        if isinstance(node, exp.Column):
            return Compare(node.name, "=", not negated)
        if isinstance(node, exp.Is):
            return self._is(node, negated)
        if isinstance(node, exp.In):
            return self._in(node, negated)
        if isinstance(node, exp.Between):
            return self._between(node, negated)
        if isinstance(node, exp.Like) and not negated:
            return self._like(node)
        if type(node) in _OPERATORS:
            return self._comparison(node, negated)
        raise _Unknown

    def _is(self, node: exp.Is, negated: bool) -> Condition:
        name, what = _column(node.this), node.expression
        if isinstance(what, exp.Null):
            return IsNull(name, negated)
        if not isinstance(what, exp.Boolean):
            raise _Unknown
        if negated:
            return Either((IsNull(name), Compare(name, "=", not what.this)))
        return Compare(name, "=", bool(what.this))

    def _in(self, node: exp.In, negated: bool) -> Condition:
        if any(node.args.get(other) for other in ("query", "unnest", "field")):
            raise _Unknown
        return _one_of(_column(node.this), [self._value(one) for one in node.expressions], negated)

    def _between(self, node: exp.Between, negated: bool) -> Condition:
        if node.args.get("symmetric"):
            raise _Unknown
        name = _column(node.this)
        low, high = self._value(node.args["low"]), self._value(node.args["high"])
        if negated:
            return Either((_compare(name, "<", low), _compare(name, ">", high)))
        return Both((_compare(name, ">=", low), _compare(name, "<=", high)))

    def _like(self, node: exp.Like) -> Condition:
        pattern = self._value(node.expression)
        if pattern is None:
            return NEVER
        if isinstance(pattern, Parameter) or (isinstance(pattern, str) and "\\" not in pattern):
            return Like(_column(node.this), pattern)
        raise _Unknown

    def _comparison(self, node: exp.Expr, negated: bool) -> Condition:
        operator, left, right = _OPERATORS[type(node)], node.this.unnest(), node.expression.unnest()
        if isinstance(right, exp.Any):
            return self._any(operator, left, right.this.unnest(), negated)
        if isinstance(right, exp.Column):
            left, right, operator = right, left, _FLIPPED[operator]
        value = self._value(right)
        if isinstance(value, list | tuple):
            raise _Unknown
        return _compare(_column(left), _OPPOSITE[operator] if negated else operator, value)

    def _any(self, operator: Operator, left: exp.Expr, right: exp.Expr, negated: bool) -> Condition:
        if operator != "=":
            raise _Unknown
        if isinstance(right, exp.Column) and not negated:
            value = self._value(left)
            return NEVER if value is None else Contains(right.name, value)
        values = self._value(right)
        if not isinstance(values, list | tuple | Parameter):
            raise _Unknown
        return _one_of(_column(left), [values], negated)

    def _value(self, node: exp.Expr) -> Any:
        node = node.unnest()
        if isinstance(node, exp.Placeholder):
            return self._value_of(str(node.this))
        if isinstance(node, exp.Null):
            return None
        if isinstance(node, exp.Boolean):
            return bool(node.this)
        if isinstance(node, exp.Literal):
            return node.to_py()
        if isinstance(node, exp.Neg):
            value = self._value(node.this)
            if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
                return -value
        if isinstance(node, exp.Cast) and not isinstance(node, exp.TryCast):
            return _cast(self._value(node.this), node.to)
        raise _Unknown


def _column(node: exp.Expr) -> str:
    node = node.unnest()
    if not isinstance(node, exp.Column):
        raise _Unknown
    return node.name


def _compare(name: str, operator: Operator, value: Any) -> Condition:
    return NEVER if value is None else Compare(name, operator, value)


def _one_of(name: str, values: list[Any], negated: bool) -> Condition:
    listed: list[Any] = []
    for value in values:
        listed += value if isinstance(value, list | tuple) else [value]
    if negated and None in listed:
        return NEVER
    if negated and not listed:
        return ALWAYS
    return OneOf(name, tuple(value for value in listed if value is not None), negated)


def _cast(value: Any, to: exp.DataType) -> Any:
    """Return a constant as a date or a time; casts to other types may change what it is compared as."""
    if value is None or isinstance(value, Parameter):
        return value
    try:
        if to.is_type("date"):
            if isinstance(value, str):
                return datetime.date.fromisoformat(value.strip())
            if type(value) is datetime.date:
                return value
        if to.is_type("timestamp", "timestamptz"):
            if isinstance(value, str):
                value = datetime.datetime.fromisoformat(value.strip())
            if isinstance(value, datetime.datetime) and to.is_type("timestamptz"):
                return value
            if isinstance(value, datetime.datetime) and value.tzinfo is None:
                return value
            if type(value) is datetime.date:
                return datetime.datetime.combine(value, datetime.time())
    except ValueError as error:
        raise _Unknown from error
    raise _Unknown
