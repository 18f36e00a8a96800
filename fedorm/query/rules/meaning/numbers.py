"""Numbers, as PostgreSQL reckons with them."""

from __future__ import annotations

from sqlglot import exp

from fedorm.query.rules.meaning.writing import call
from fedorm.query.rules.typing import DECIMALS, FLOATS, INTEGERS, kind_of


def divide(node: exp.Expr) -> exp.Expr:
    """Divide decimals as floats, whole numbers as whole numbers, and nothing by zero."""
    assert isinstance(node, exp.Div)
    one, two = kind_of(node.left), kind_of(node.right)
    if exp.DType.INTERVAL in (one, two):
        return node
    if exp.DType.UNKNOWN not in (one, two) and not (one in INTEGERS and two in INTEGERS):
        left = exp.cast(node.left.copy(), "double")
        left.type = exp.DataType.build("double")
        node.set("this", left)
    node.set("expression", _divisor(node.right))
    return node


def modulo(node: exp.Expr) -> exp.Expr:
    """Divide by zero nowhere."""
    node.set("expression", _divisor(node.args["expression"]))
    return node


def _divisor(node: exp.Expr) -> exp.Expr:
    inner = node.unnest()
    if isinstance(inner, exp.Literal) and inner.to_py() != 0:
        return node
    if isinstance(inner, exp.Nullif) and inner.expression.unnest() == exp.Literal.number(0):
        return node
    checked = call("fedorm_divisor", node.copy())
    checked.type = node.type
    return checked


def whole_quotient(node: exp.Expr) -> exp.Expr:
    """Return ``div()``: exact, as a double may lie just below the next whole number."""
    one, two = node.this, _divisor(node.args["expression"])
    if kind_of(one) in INTEGERS and kind_of(two) in INTEGERS:
        return exp.Paren(this=exp.Div(this=one.copy(), expression=two, typed=True))
    rest = exp.Paren(this=exp.Sub(this=one.copy(), expression=exp.Mod(this=one.copy(), expression=two.copy())))
    quotient = exp.Div(this=exp.cast(rest, "double"), expression=two)
    return exp.cast(call("round", quotient), "decimal(24, 0)")


def rounded(node: exp.Expr) -> exp.Expr:
    """Round floats to even, and decimals, also those that are floats here, away from zero."""
    kind, value = kind_of(node.this), node.this
    if node.args.get("decimals") is None:
        return call("round_even", value.copy(), exp.Literal.number(0)) if kind in FLOATS else node
    if kind in DECIMALS and value.find(exp.Div, exp.Avg, exp.Stddev, exp.Variance) is not None:
        node.set("this", call("fedorm_decimal", value.copy()))
    return node


def hexadecimal(node: exp.Expr) -> exp.Expr:
    """Write in small letters, negative numbers as wide as their type."""
    value = node.this.copy()
    if kind_of(node.this) in (exp.DType.INT, exp.DType.SMALLINT):
        value = exp.BitwiseAnd(this=exp.Paren(this=value), expression=exp.Literal.number(2**32 - 1))
    return exp.Lower(this=call("to_hex", value))


def one_zero(tree: exp.Expr) -> None:
    """Make 0.0 and -0.0 equal where floats are looked up by their hashes: in joins, and among lists."""
    for node in list(tree.find_all(exp.EQ, exp.In)):
        sides = (node.this, node.expression) if isinstance(node, exp.EQ) else (node.this,)
        if all(isinstance(side, exp.Column) for side in sides):
            for side in sides:
                if side.is_type(*exp.DataType.FLOAT_TYPES):
                    side.replace(exp.Paren(this=exp.Add(this=side.copy(), expression=exp.Literal.number("0.0"))))
