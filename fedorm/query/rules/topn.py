"""ORDER BY and LIMIT over one table of a select: its service sends rows in that order, and no more than are needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlglot import exp

from fedorm.query.plan import Order, Scan, Step
from fedorm.query.rules.predicates import conjuncts_of, is_exact, is_of

_PARTS = {"expressions", "from_", "joins", "where", "order", "limit", "offset", "hint"}
_ORDERED = (*exp.DataType.NUMERIC_TYPES, *exp.DataType.TEMPORAL_TYPES, exp.DType.BOOLEAN)


@dataclass(frozen=True, slots=True)
class TopN:
    """The order in which a step's first rows make the first rows of the result; ``limit`` of them, if ``exact``."""

    step: str
    order: tuple[Order, ...]
    limit: exp.Expr
    exact: bool
    """Whether every row of the step is in the result at least once, if it is among the first."""


def top_n(tree: exp.Query, steps: Mapping[str, Step]) -> TopN | None:
    """Return what a statement's LIMIT means for one of its tables; None where it means nothing.

    The tables have been replaced by ``steps``, and columns are qualified and typed.
    """
    if not isinstance(tree, exp.Select) or {name for name, value in tree.args.items() if value} - _PARTS:
        return None
    limit = _limit(tree)
    makes_rows = (exp.AggFunc, exp.Window, exp.UDTF, exp.Explode, exp.GenerateSeries)
    if limit is None or tree.find(*makes_rows) or any(one is not tree for one in tree.find_all(exp.Query)):
        return None
    joins = tree.args.get("joins") or []
    if any(join.side.upper() in ("RIGHT", "FULL") or join.args.get("using") for join in joins):
        return None
    start = tree.args["from_"].this
    tables = {table.alias_or_name: table.name for table in (start, *(join.this for join in joins))}
    if not all(isinstance(table, exp.Table) for table in (start, *(join.this for join in joins))):
        return None
    optional = {join.this.alias_or_name for join in joins if join.side}
    ordered = _ordered(tree)
    if ordered is None:
        return None
    owners = {column.table for column, _ in ordered} or {start.alias_or_name}
    alias = owners.pop()
    step = steps.get(tables.get(alias, ""))
    if owners or alias in optional or not isinstance(step, Scan):
        return None
    free = [part for part in conjuncts_of(tree) if not _is_true(part)]
    exact = len(optional) == len(joins) and all(is_of(part, alias) and is_exact(part) for part in free)
    exact = exact and len(free) <= len(step.predicates)
    return TopN(step.name, tuple(order for _, order in ordered), limit, exact)


def _ordered(tree: exp.Select) -> list[tuple[exp.Column, Order]] | None:
    outputs = {output.alias_or_name: output.unalias() for output in tree.selects}
    found: list[tuple[exp.Column, Order]] = []
    order = tree.args.get("order")
    for term in order.expressions if order is not None else ():
        column = term.this if isinstance(term, exp.Ordered) else None
        if isinstance(column, exp.Column) and not column.table:
            column = outputs.get(column.name)
        if not isinstance(column, exp.Column) or not column.is_type(*_ORDERED):
            return None
        descending, nulls_first = bool(term.args.get("desc")), term.args.get("nulls_first")
        first = descending if nulls_first is None else bool(nulls_first)
        found.append((column, Order(column.name, descending, first)))
    return found


def _limit(tree: exp.Select) -> exp.Expr | None:
    """Return how many rows are asked for, with those that OFFSET leaves out."""
    parts = [tree.args.get("limit"), tree.args.get("offset")]
    numbers = [part.expression for part in parts if part is not None]
    plain = all(
        isinstance(number, exp.Placeholder) or (isinstance(number, exp.Literal) and number.is_int) for number in numbers
    )
    if parts[0] is None or not plain:
        return None
    return numbers[0].copy() if len(numbers) == 1 else exp.Add(this=numbers[0].copy(), expression=numbers[1].copy())


def _is_true(part: exp.Expr) -> bool:
    return isinstance(part, exp.Boolean) and bool(part.this)
