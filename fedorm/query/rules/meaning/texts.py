"""Texts, as PostgreSQL takes them apart and puts them together."""

from __future__ import annotations

import re

from sqlglot import exp

from fedorm.query.rules.formats import similar_pattern, strftime_format
from fedorm.query.rules.meaning.writing import call, refused, text
from fedorm.query.rules.typing import CHARS, FLOATS, kind_of, width_of


def like(node: exp.Expr) -> exp.Expr:
    """Let a backslash escape, as it does where no other character is named."""
    pattern = node.args["expression"].unnest()
    plain = isinstance(pattern, exp.Literal) and "\\" not in str(pattern.this)
    if plain or isinstance(node.parent, exp.Escape) or isinstance(pattern, exp.Any | exp.All):
        return node
    negated = bool(node.args.get("negate"))
    inner = node.copy()
    inner.set("negate", None)
    escaped: exp.Expr = exp.Escape(this=inner, expression=text("\\"))
    return exp.Not(this=exp.Paren(this=escaped)) if negated else escaped


def similar(node: exp.Expr) -> exp.Expr:
    """Match a pattern of SQL:1999, which is no regular expression."""
    pattern = node.args["expression"].unnest()
    if isinstance(node.parent, exp.Escape) or not (isinstance(pattern, exp.Literal) and pattern.is_string):
        raise refused(node, ": write the pattern as a constant, or as a regular expression with ~")
    matched = call("regexp_full_match", node.this.copy(), text(similar_pattern(str(pattern.this))))
    return exp.Not(this=matched) if node.args.get("negate") else matched


def substring(node: exp.Expr) -> exp.Expr:
    """Take a part by position, which may lie before the text, or by a regular expression."""
    start, length = node.args.get("start"), node.args.get("length")
    if isinstance(start, exp.Literal) and start.is_string:
        groups = re.compile(str(start.this)).groups
        return call("fedorm_matched", node.this.copy(), start.copy(), exp.Literal.number(min(groups, 1)))
    if start is None or (isinstance(start, exp.Literal) and start.is_int and int(start.name) > 0):
        fits = length is None or (isinstance(length, exp.Literal) and length.is_int)
        if fits:
            return node
    start = start.copy() if start is not None else exp.Literal.number(1)
    if length is None:
        return call("fedorm_substring_from", node.this.copy(), start)
    return call("fedorm_substring", node.this.copy(), start, length.copy())


def overlay(node: exp.Expr) -> exp.Expr:
    """Put a text in the place of a part."""
    put, first, length = node.args["expression"], node.args["from_"], node.args.get("for_")
    length = length.copy() if length is not None else exp.Length(this=put.copy())
    return call("fedorm_overlay", node.this.copy(), put.copy(), first.copy(), length)


def concat(node: exp.Expr) -> exp.Expr:
    """Put values together as PostgreSQL writes them."""
    made = [
        call("fedorm_boolean_text", one.copy()) if kind_of(one) == exp.DType.BOOLEAN else _as_text(one)
        for one in node.expressions
    ]
    node.set("expressions", made)
    return node


def _as_text(node: exp.Expr) -> exp.Expr:
    return call("fedorm_float_text", node.copy()) if kind_of(node) in FLOATS else node


def concatenate(node: exp.Expr) -> exp.Expr:
    """Put two texts or arrays together."""
    one, two = node.this, node.args["expression"]
    if exp.DType.ARRAY in (kind_of(one), kind_of(two)):
        sides = [
            side.copy() if kind_of(side) == exp.DType.ARRAY else exp.Array(expressions=[side.copy()])
            for side in (one, two)
        ]
        return call("fedorm_array_cat", *sides)
    node.set("this", _as_text(one))
    node.set("expression", _as_text(two))
    return node


def char_column(node: exp.Expr) -> exp.Expr:
    """Take off what fills a ``char(n)`` up, but where a pattern is matched."""
    if kind_of(node) not in CHARS or not node.args.get("table"):
        return node
    bare = call("rtrim", node.copy(), text(" "))
    if isinstance(node.parent, exp.Like | exp.ILike | exp.RegexpLike | exp.RegexpILike):
        return call("rpad", bare, exp.Literal.number(width_of(node)), text(" "))
    return bare


def character(node: exp.Expr) -> exp.Expr:
    """Return a character by its number, which may be a wide one."""
    return call("chr", exp.cast(node.expressions[0].copy(), "int"))


def time_format(node: exp.Expr) -> exp.Expr:
    """Translate a format of PostgreSQL."""
    given = node.args.get("format")
    if not isinstance(given, exp.Literal) or not given.is_string:
        raise refused(node, ": the format has to be a constant")
    node.set("format", text(strftime_format(str(given.this))))
    return exp.cast(node.copy(), "timestamptz") if isinstance(node, exp.StrToTime) else node
