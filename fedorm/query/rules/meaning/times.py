"""Dates, times and intervals."""

from __future__ import annotations

from sqlglot import exp

from fedorm.query.rules.meaning.writing import call, refused, text
from fedorm.query.rules.typing import INTEGERS, kind_of


def shift(node: exp.Expr) -> exp.Expr:
    """Add days to a date, or take some away; DuckDB wants them narrow."""
    one, two = node.this, node.args["expression"]
    for key, days, date in (("this", one, two), ("expression", two, one)):
        if kind_of(date) == exp.DType.DATE and kind_of(days) in INTEGERS:
            node.set(key, exp.cast(days.copy(), "int"))
    return node


def truncate(node: exp.Expr) -> exp.Expr:
    """Truncate a date as a time with a zone."""
    if kind_of(node.this) == exp.DType.DATE:
        node.set("this", exp.cast(node.this.copy(), "timestamptz"))
    return node


_FRACTIONS = {"SECOND": "0.000001", "SECONDS": "0.000001", "MILLISECOND": "0.001", "MILLISECONDS": "0.001"}


def extract(node: exp.Expr) -> exp.Expr:
    """Keep the fractions of seconds, as decimals."""
    part, value = node.name.upper(), node.args["expression"]
    unit = _FRACTIONS.get(part)
    whole: exp.Expr
    if unit is not None:
        whole = exp.Extract(this=exp.var("MICROSECONDS"), expression=value.copy())
    elif part == "EPOCH" and kind_of(value) in (exp.DType.TIMESTAMP, exp.DType.TIMESTAMPTZ):
        whole, unit = call("epoch_us", value.copy()), "0.000001"
    else:
        return node
    return exp.Paren(this=exp.Mul(this=exp.cast(whole, "decimal(18, 0)"), expression=exp.Literal.number(unit)))


def series(node: exp.Expr) -> exp.Expr:
    """Count dates as times with a zone."""
    for end in ("start", "end"):
        if kind_of(node.args[end]) == exp.DType.DATE:
            node.set(end, exp.cast(node.args[end].copy(), "timestamptz"))
    return node


def interval(node: exp.Expr) -> exp.Expr:
    """Add up the parts of ``make_interval()``, which may be other things than constants."""
    parts = []
    for unit in ("year", "month", "week", "day", "hour", "minute", "second"):
        given = node.args.get(unit)
        if given is not None:
            value = given.args["expression"] if isinstance(given, exp.Kwarg) else given
            one = exp.Interval(this=text("1"), unit=exp.var(unit.upper()))
            parts.append(exp.Mul(this=exp.Paren(this=value.copy()), expression=one))
    if not parts:
        raise refused(node)
    total: exp.Expr = parts[0]
    for part in parts[1:]:
        total = exp.Add(this=total, expression=part)
    return exp.Paren(this=total)
