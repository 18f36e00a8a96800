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


def _truncated(annotator: Any, node: exp.TimestampTrunc) -> exp.Expr:
    kind = kind_of(node.this)
    node.type = exp.DataType.build("timestamptz") if kind == exp.DType.DATE else node.this.type
    return node


_METADATA: dict[Any, Any] = {
    **Postgres.EXPRESSION_METADATA,
    exp.Literal: {"annotator": _literal},
    exp.Sum: {"annotator": _sum},
    exp.Div: {"annotator": _quotient},
    exp.TimestampTrunc: {"annotator": _truncated},
    **{kind: {"annotator": _like_argument} for kind in (exp.Avg, exp.Round, exp.Trunc, exp.Ceil, exp.Floor)},
}
