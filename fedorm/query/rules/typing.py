"""The types of a tree as PostgreSQL gives them, where sqlglot's own reasoning differs."""

from __future__ import annotations

from typing import Any

from sqlglot import Schema, exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.optimizer.annotate_types import annotate_types

TEXTS = exp.DataType.TEXT_TYPES
INTEGERS = exp.DataType.INTEGER_TYPES
FLOATS = frozenset({exp.DType.FLOAT, exp.DType.DOUBLE})
DECIMALS = frozenset({exp.DType.DECIMAL, exp.DType.BIGDECIMAL})
CHARS = frozenset({exp.DType.CHAR, exp.DType.NCHAR, exp.DType.BPCHAR})


def annotate(tree: exp.Query, schema: Schema) -> exp.Query:
    """Write its type on each node: a number with a point is a decimal, and so is the sum of 64-bit integers."""
    return annotate_types(tree, schema=schema, dialect=Postgres, expression_metadata=_METADATA)


def kind_of(node: exp.Expr) -> exp.DType:
    """Return what kind of type a node has, ``UNKNOWN`` where that does not follow from the statement."""
    kind = node.type.this if node.type is not None else exp.DType.UNKNOWN
    return kind if isinstance(kind, exp.DType) else exp.DType.UNKNOWN


def width_of(node: exp.Expr) -> int:
    """Return how many characters a ``char(n)`` has."""
    sizes = node.type.expressions if node.type is not None else []
    return int(sizes[0].name) if sizes else 1


def _literal(annotator: Any, node: exp.Literal) -> exp.Expr:
    annotator._annotate_literal(node)
    if not node.is_string and not node.is_int:
        node.type = exp.DataType.build("decimal")
    return node


def _sum(annotator: Any, node: exp.Sum) -> exp.Expr:
    kind = kind_of(node.this)
    if kind in (exp.DType.BIGINT, exp.DType.UBIGINT) or kind in DECIMALS:
        node.type = exp.DataType.build("decimal")
    elif kind in INTEGERS:
        node.type = exp.DataType.build("bigint")
    else:
        node.type = node.this.type
    return node


def _like_argument(annotator: Any, node: exp.Expr) -> exp.Expr:
    """Return a decimal for whole numbers, and what the argument is for others."""
    kind = kind_of(node.this)
    if kind in INTEGERS or kind in DECIMALS:
        node.type = exp.DataType.build("decimal")
    else:
        node.type = node.this.type if kind in FLOATS else exp.DataType.build("unknown")
    return node


def _quotient(annotator: Any, node: exp.Div) -> exp.Expr:
    kinds = {kind_of(node.left), kind_of(node.right)}
    if exp.DType.UNKNOWN in kinds:
        node.type = exp.DataType.build("unknown")
    elif kinds <= INTEGERS:
        node.type = exp.DataType.build("bigint")
    elif exp.DType.INTERVAL in kinds:
        node.type = exp.DataType.build("interval")
    else:
        node.type = exp.DataType.build("double" if kinds & FLOATS else "decimal")
    return node


def _added(annotator: Any, node: exp.Add | exp.Sub) -> exp.Expr:
    """Reckon with dates as PostgreSQL does: a date and an interval make a timestamp."""
    one, two = kind_of(node.left), kind_of(node.right)
    made = _TIMES.get((type(node) is exp.Sub, one, two))
    if made is None and not isinstance(node, exp.Sub):
        made = _TIMES.get((False, two, one))
    if exp.DType.DATE in (one, two) and {one, two} & INTEGERS:
        made = "date"
    if made is None:
        return _mixed(annotator, node)
    node.type = exp.DataType.build(made)
    return node


def values_of(node: exp.Expr) -> list[exp.Expr]:
    """Return what makes up the type of a node: both sides, or what it chooses among."""
    if isinstance(node, exp.Case):
        found = [one.args["true"] for one in node.args["ifs"]] + [node.args.get("default")]
    elif isinstance(node, exp.If):
        found = [node.args["true"], node.args.get("false")]
    else:
        found = [node.this, *(node.expressions if isinstance(node, exp.Func) else [node.args["expression"]])]
    return [one for one in found if one is not None]


def _mixed(annotator: Any, node: exp.Expr) -> exp.Expr:
    """Return a float for numbers of which one is a float, else a decimal if one is a decimal."""
    kinds = {kind_of(value) for value in values_of(node)} - {exp.DType.NULL}
    if kinds and kinds <= DECIMALS | FLOATS | INTEGERS and kinds & (DECIMALS | FLOATS):
        node.type = exp.DataType.build("double" if kinds & FLOATS else "decimal")
        return node
    if exp.DType.INTERVAL in kinds and isinstance(node, exp.Mul):
        node.type = exp.DataType.build("interval")
        return node
    made: exp.Expr = Postgres.EXPRESSION_METADATA[type(node)]["annotator"](annotator, node)
    return made


_DATE, _TIMESTAMP, _TIMESTAMPTZ = exp.DType.DATE, exp.DType.TIMESTAMP, exp.DType.TIMESTAMPTZ
_TIMES: dict[tuple[bool, exp.DType, exp.DType], str] = {
    **{(sub, _DATE, exp.DType.INTERVAL): "timestamp" for sub in (False, True)},
    **{(sub, _TIMESTAMP, exp.DType.INTERVAL): "timestamp" for sub in (False, True)},
    **{(sub, _TIMESTAMPTZ, exp.DType.INTERVAL): "timestamptz" for sub in (False, True)},
    **{(True, one, two): "interval" for one in (_TIMESTAMP, _TIMESTAMPTZ, _DATE) for two in (_TIMESTAMP, _TIMESTAMPTZ)},
    **{(True, one, _DATE): "interval" for one in (_TIMESTAMP, _TIMESTAMPTZ)},
    (True, _DATE, _DATE): "int",
}
"""What a sum, or a difference (then ``True``), of two types is."""


def _truncated(annotator: Any, node: exp.TimestampTrunc) -> exp.Expr:
    kind = kind_of(node.this)
    node.type = exp.DataType.build("timestamptz") if kind == exp.DType.DATE else node.this.type
    return node


_METADATA: dict[Any, Any] = {
    **Postgres.EXPRESSION_METADATA,
    exp.Literal: {"annotator": _literal},
    exp.Sum: {"annotator": _sum},
    exp.Div: {"annotator": _quotient},
    **{
        kind: {"annotator": _mixed}
        for kind in (exp.Mul, exp.Mod, exp.Coalesce, exp.Case, exp.If, exp.Greatest, exp.Least)
    },
    exp.Add: {"annotator": _added},
    exp.Sub: {"annotator": _added},
    exp.TimestampTrunc: {"annotator": _truncated},
    **{kind: {"annotator": _like_argument} for kind in (exp.Avg, exp.Round, exp.Trunc, exp.Ceil, exp.Floor)},
}
