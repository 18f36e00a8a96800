"""Aggregates over one table of a join are made where the table is, by join key, before it is joined.

``sum(o.total)`` by the country of an order's user needs of the orders no more than their sum by user. Of a group's sum
all that match are added up, as its rows would be (Yan and Larson, Eager Aggregation and Lazy Aggregation, 1995).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from fedorm.query.rules.predicates import conjuncts, conjuncts_of, is_exact, is_of

COUNT = "fedorm__count"


@dataclass(frozen=True, slots=True, eq=False)
class Partial:
    """A table of a select, and how it is aggregated: by ``keys``, of rows that fulfil ``predicates``."""

    alias: str
    table: exp.Table
    keys: tuple[str, ...]
    aggregates: tuple[exp.AggFunc, ...]
    predicates: tuple[exp.Expr, ...]
    """What the service checks for good; they leave the select."""

    def columns(self) -> list[tuple[str, exp.Expr, exp.Column | None]]:
        """Return the outputs: name, expression, and the column that a sum, a least or a greatest value is of."""
        found: list[tuple[str, exp.Expr, exp.Column | None]] = []
        for key in self.keys:
            column = exp.column(key, table=self.alias, quoted=True)
            found.append((key, column, column))
        for name, aggregate in self.named().items():
            of = aggregate.this if isinstance(aggregate.this, exp.Column) else None
            found.append((name, aggregate.copy(), None if isinstance(aggregate, exp.Count) else of))
        return found

    def named(self) -> dict[str, exp.AggFunc]:
        """Return the different aggregates by the names that their columns get."""
        return {_name(aggregate): aggregate for aggregate in self.aggregates}

    def query(self) -> exp.Select:
        """Return the query for the service."""
        outputs = [exp.alias_(value, name, quoted=True) for name, value, _ in self.columns()]
        source = exp.alias_(exp.table_(self.table.name, quoted=True), self.alias, table=True, quoted=True)
        query = exp.select(*outputs).from_(source).where(*(one.copy() for one in self.predicates))
        keys = [exp.column(key, table=self.alias, quoted=True) for key in self.keys]
        return query.group_by(*keys) if keys else query


Worth = Callable[[Partial], bool]
"""Whether to aggregate a table where it is: whether that is possible there, exact, and cheaper."""


def take_aggregates(scope: Scope, is_worth: Worth, name: Callable[[Partial], str]) -> None:
    """Replace a table of a select by its aggregates, called as ``name`` says, and add those up instead."""
    partial = _partial(scope)
    if partial is None or not is_worth(partial):
        return
    called = name(partial)
    for part in partial.predicates:
        part.replace(exp.true())
    for aggregate in partial.aggregates:
        total = _total(partial.alias, aggregate)
        total.type = aggregate.type
        aggregate.replace(total)
    partial.table.set("db", None)
    partial.table.set("this", exp.to_identifier(called, quoted=True))


def _partial(scope: Scope) -> Partial | None:
    select = scope.expression
    if not isinstance(select, exp.Select) or select.find(exp.Window, exp.Distinct) or select.args.get("distinct"):
        return None
    joins = select.args.get("joins") or ()
    if not joins or any(join.side or join.args.get("using") for join in joins) or _has_queries(select):
        return None
    aggregates = list(select.find_all(exp.AggFunc))
    if not aggregates or not all(_is_simple(aggregate) for aggregate in aggregates):
        return None
    owners = {column.table for aggregate in aggregates for column in aggregate.find_all(exp.Column)}
    if len(owners) != 1:
        return None
    alias = owners.pop()
    table = scope.sources.get(alias)
    if not isinstance(table, exp.Table) or not table.db:
        return None
    predicates = tuple(part for part in _conditions(select) if is_of(part, alias) and is_exact(part))
    inside = {id(column) for node in (*aggregates, *predicates) for column in node.find_all(exp.Column)}
    keys = dict.fromkeys(column.name for column in scope.columns if column.table == alias and id(column) not in inside)
    return Partial(alias, table, tuple(keys), tuple(aggregates), predicates)


def _conditions(select: exp.Select) -> Sequence[exp.Expr]:
    parts = conjuncts_of(select)
    for join in select.args.get("joins") or ():
        parts += conjuncts(join.args.get("on"))
    return parts


def _has_queries(select: exp.Select) -> bool:
    return any(node is not select for node in select.find_all(exp.Query))


def _is_simple(aggregate: exp.AggFunc) -> bool:
    if isinstance(aggregate.parent, exp.Filter | exp.WithinGroup | exp.Order) or aggregate.find_ancestor(exp.AggFunc):
        return False
    if isinstance(aggregate, exp.Count):
        return isinstance(aggregate.this, exp.Star | exp.Column) and not aggregate.expressions
    return type(aggregate) in (exp.Sum, exp.Min, exp.Max) and isinstance(aggregate.this, exp.Column)


def _name(aggregate: exp.AggFunc) -> str:
    if not isinstance(aggregate.this, exp.Column):
        return COUNT
    return f"fedorm__{aggregate.key}_{aggregate.this.name}"


def _total(alias: str, aggregate: exp.AggFunc) -> exp.Expr:
    column = exp.column(_name(aggregate), table=alias, quoted=True)
    if isinstance(aggregate, exp.Count):
        return exp.cast(exp.Coalesce(this=exp.Sum(this=column), expressions=[exp.Literal.number(0)]), "bigint")
    if isinstance(aggregate, exp.Sum) and aggregate.this.is_type(*exp.DataType.INTEGER_TYPES):
        return exp.cast(exp.Sum(this=column), "int128")
    return type(aggregate)(this=column)
