"""Decimals of different scales that become one column: DuckDB would round those of the finer scale.

It does so when one of them has all the 38 digits that there are, as a sum has.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from fedorm.query.rules.typing import DECIMALS, INTEGERS, kind_of, values_of

_CHOICES = (exp.Coalesce, exp.Greatest, exp.Least)
_LIKE_THEIRS = (exp.Sum, exp.Window, exp.Filter, exp.Max, exp.Min, exp.Abs, exp.Neg)


def one_scale(node: exp.Expr) -> exp.Expr:
    """Give what a function chooses among the finest scale that one of it has."""
    _unify(values_of(node))
    return node


def one_scale_of_branches(tree: exp.Expr) -> None:
    """Do the same for the columns of UNION and its like."""
    for operation in tree.find_all(exp.SetOperation):
        branches = [operation.left.unnest(), operation.right.unnest()]
        if isinstance(branches[0], exp.Select) and isinstance(branches[1], exp.Select):
            for outputs in zip(branches[0].selects, branches[1].selects, strict=False):
                _unify([output.unalias() for output in outputs])


def _unify(values: Sequence[exp.Expr]) -> None:
    scales = [scale_of(value) for value in values]
    finest = max((scale for scale in scales if scale is not None), default=0)
    if not any(value.find(exp.Sum) for value in values):
        return
    for value, scale in zip(values, scales, strict=True):
        if scale is not None and scale < finest and value.find(exp.Sum) is not None:
            wider = exp.cast(value.copy(), f"decimal(38, {finest})")
            wider.type = value.type
            value.replace(wider)


def scale_of(node: exp.Expr) -> int | None:
    """Return how many digits after the point a decimal or a whole number has; None where that does not follow."""
    node = node.unnest()
    if isinstance(node, exp.Literal):
        return None if node.is_string else len(str(node.this).partition(".")[2])
    kind = kind_of(node)
    if kind in INTEGERS:
        return 0
    if kind not in DECIMALS:
        return None
    if node.type is not None and len(node.type.expressions) == 2:
        return int(node.type.expressions[1].name)
    if isinstance(node, exp.Mul):
        sides = scale_of(node.left), scale_of(node.right)
        return None if sides[0] is None or sides[1] is None else sides[0] + sides[1]
    inner: list[exp.Expr] = []
    if isinstance(node, (exp.Add, exp.Sub, exp.Case, *_CHOICES)):
        inner = values_of(node)
    elif isinstance(node, _LIKE_THEIRS):
        inner = [node.this]
    scales = [scale_of(one) for one in inner]
    return None if not scales or None in scales else max(scale for scale in scales if scale is not None)
