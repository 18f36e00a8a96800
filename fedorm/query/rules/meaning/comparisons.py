"""Comparisons and truth, where NULL and what a type fills up make a difference."""

from __future__ import annotations

from uuid import UUID

from sqlglot import exp

from fedorm.exc import UnsupportedQueryError
from fedorm.query.rules.meaning.writing import call, not_null, text
from fedorm.query.rules.moments import MOMENTS, moment
from fedorm.query.rules.typing import CHARS, kind_of


def compare(node: exp.Expr) -> exp.Expr:
    """Compare row values part by part, and constants in the other side's form."""
    one, two = node.this, node.args["expression"]
    if isinstance(one, exp.Tuple) and isinstance(two, exp.Tuple):
        return _compare_tuples(type(node), one.expressions, two.expressions)
    for side in (one, two):
        array = _array_of(side)
        if array is not None and kind_of(array) == exp.DType.ARRAY and not isinstance(array, exp.Array):
            return exp.Case(ifs=[exp.If(this=not_null(array), true=node.copy())])
    node.set("this", _comparable(one, two))
    node.set("expression", _comparable(two, one))
    return node


def _array_of(side: exp.Expr) -> exp.Expr | None:
    """Return what ANY, SOME or ALL is of, with which NULL compares as NULL."""
    if isinstance(side, exp.Any | exp.All):
        inner: exp.Expr = side.this.unnest()
        return inner
    is_all = isinstance(side, exp.Anonymous) and side.name.lower() in ("all", "some") and len(side.expressions) == 1
    return side.expressions[0].unnest() if is_all else None


def _comparable(node: exp.Expr, other: exp.Expr) -> exp.Expr:
    """Return a constant in the form that the other side's values have."""
    kind = kind_of(other)
    if kind in CHARS and isinstance(node, exp.Literal) and node.is_string:
        return text(str(node.this).rstrip(" "))
    if kind in CHARS and isinstance(node, exp.Placeholder):
        return call("rtrim", node.copy(), text(" "))
    if kind == exp.DType.UUID:
        return _canonical_uuid(node)
    if kind in MOMENTS and isinstance(node, exp.Literal) and node.is_string:
        return text(whole_moment(str(node.this), kind))
    return node


def _canonical_uuid(node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.Literal) and node.is_string:
        try:
            return text(str(UUID(str(node.this))))
        except ValueError:
            raise UnsupportedQueryError(f"{str(node.this)!r} is no UUID") from None
    if isinstance(node, exp.Placeholder):
        return exp.cast(exp.cast(node.copy(), "uuid"), "text")
    return node


def whole_moment(given: str, kind: exp.DType) -> str:
    """Return a time with all its parts, which DuckDB wants to see."""
    value = moment(given, kind)
    return given if value is None else str(value)


def _compare_tuples(kind: type[exp.Expr], one: list[exp.Expr], two: list[exp.Expr]) -> exp.Expr:
    """Compare row values part by part: NULL in one of them decides nothing."""
    if len(one) != len(two):
        raise UnsupportedQueryError("row values of different lengths cannot be compared")
    pairs = list(zip(one, two, strict=True))
    if kind in (exp.EQ, exp.NEQ):
        equal = exp.and_(*(compare(exp.EQ(this=a.copy(), expression=b.copy())) for a, b in pairs))
        return exp.Paren(this=equal) if kind is exp.EQ else exp.Not(this=exp.Paren(this=equal))
    strict = exp.LT if kind in (exp.LT, exp.LTE) else exp.GT
    (a, b), rest = pairs[0], pairs[1:]
    if not rest:
        return kind(this=a.copy(), expression=b.copy())
    tail = _compare_tuples(kind, [one for one, _ in rest], [two for _, two in rest])
    first = strict(this=a.copy(), expression=b.copy())
    same = exp.EQ(this=a.copy(), expression=b.copy())
    return exp.Paren(this=exp.or_(first, exp.and_(same, tail)))


def among(node: exp.Expr) -> exp.Expr:
    """Look among row values, or among constants in the value's form."""
    value, members = node.this, node.expressions
    if isinstance(value, exp.Tuple) and members and all(isinstance(one, exp.Tuple) for one in members):
        return exp.Paren(this=exp.or_(*(_compare_tuples(exp.EQ, value.expressions, m.expressions) for m in members)))
    node.set("expressions", [_comparable(one, value) for one in members])
    return node


def between(node: exp.Expr) -> exp.Expr:
    """Compare with constants in the value's form."""
    for end in ("low", "high"):
        node.set(end, _comparable(node.args[end], node.this))
    return node


def is_truth(node: exp.Expr) -> exp.Expr:
    """Test for TRUE or FALSE, of which NULL is neither."""
    truth = node.args["expression"]
    if not isinstance(truth, exp.Boolean):
        return node
    # Not as it stands: over Arrow DuckDB cannot push it down.
    value = node.this.copy() if truth.this else exp.Not(this=exp.Paren(this=node.this.copy()))
    made: exp.Expr = exp.Coalesce(this=value, expressions=[exp.Boolean(this=False)])
    return exp.Not(this=made) if node.args.get("negate") else made
