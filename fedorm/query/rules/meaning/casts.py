"""Casts, which DuckDB would do more roughly."""

from __future__ import annotations

import re

from sqlglot import exp

from fedorm.query.rules.meaning.comparisons import whole_moment
from fedorm.query.rules.meaning.writing import call, refused, text
from fedorm.query.rules.moments import MOMENTS
from fedorm.query.rules.typing import CHARS, DECIMALS, FLOATS, INTEGERS, TEXTS, kind_of, width_of


def cast(node: exp.Expr) -> exp.Expr:
    """Cast with the length, the digits and the spelling that PostgreSQL gives a value."""
    assert isinstance(node, exp.Cast)
    to, value = node.to, node.this
    kind, source, sizes = to.this, kind_of(value), to.expressions
    if kind in CHARS:
        return call("fedorm_char", _with_text(value), exp.Literal.number(width_of(node)))
    if kind in TEXTS:
        whole = _with_text(value)
        return exp.Left(this=whole, expression=sizes[0].this.copy()) if sizes else whole
    if kind in DECIMALS and not sizes:
        return _decimal(node, value, source)
    if kind == exp.DType.UUID:
        return exp.cast(exp.cast(value.copy(), "uuid"), "text")
    if kind in MOMENTS and isinstance(value, exp.Literal) and value.is_string:
        node.set("this", text(whole_moment(str(value.this), kind)))
    return node


def _with_text(value: exp.Expr) -> exp.Expr:
    return call("fedorm_float_text", value.copy()) if kind_of(value) in FLOATS else exp.cast(value.copy(), "text")


def _decimal(node: exp.Expr, value: exp.Expr, source: exp.DType) -> exp.Expr:
    """Cast to a decimal of no scale in particular, which for DuckDB would have three digits."""
    inner = value.unnest()
    if isinstance(inner, exp.Literal):
        found = re.fullmatch(r"\s*[+-]?(\d*)\.?(\d*)\s*", str(inner.this))
        if found is not None:
            digits = max(18, len(found[1]) + len(found[2]))
            return exp.cast(value.copy(), f"decimal({digits}, {len(found[2])})")
    if source in DECIMALS and not isinstance(inner, exp.Div | exp.Avg | exp.Sum | exp.Round):
        return value.copy()
    if source in INTEGERS:
        return exp.cast(value.copy(), "decimal(19, 0)")
    if source in TEXTS or source == exp.DType.UNKNOWN:
        return exp.cast(value.copy(), "decimal(38, 20)")
    if source in FLOATS or source in DECIMALS:
        return call("fedorm_decimal", value.copy())
    raise refused(node, ": name a precision and a scale")
