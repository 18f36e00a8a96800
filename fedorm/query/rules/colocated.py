"""Tables of one service that an inner join connects become one piece: the service joins them by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from fedorm.query.rules.pieces import Takes
from fedorm.query.rules.predicates import conditions, conjuncts, conjuncts_of, is_exact, nullable_sources


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """A join taken out of a select: its query, and for each column of its result the table's alias and column."""

    service: str
    query: exp.Select
    columns: dict[str, tuple[str, str]]
    tables: dict[str, exp.Table]
    node: exp.Table
    """What stands in its place, to be given the piece's name."""


Worth = Callable[[Mapping[str, exp.Table], Sequence[exp.Expr]], bool]
"""Whether it pays to join tables, by alias, under conditions, where they are."""


def take_joins(scope: Scope, takes: Takes, joins: Takes, is_worth: Worth) -> list[Joined]:
    """Take groups of co-located tables out of a select; the select then reads the pieces instead.

    ``joins`` says which services join tables of their own. Those that do not take whole queries, too, join by numbers
    and times alone, about which they mean what PostgreSQL means.
    """
    select = scope.expression
    if not isinstance(select, exp.Select) or any(
        join.side.upper() in ("RIGHT", "FULL") for join in select.args.get("joins") or ()
    ):
        return []
    parts = [part for part, sources in conditions(scope) if sources is None]
    taken = []
    for group in _groups(scope, takes, joins):
        belongs = partial(_belongs, group=group, exactly=not takes(next(iter(group.values())).db))
        if is_worth(group, [part for part in parts if belongs(part)]):
            taken.append(_take(scope, group, belongs))
    return taken


def _groups(scope: Scope, takes: Takes, joins: Takes) -> list[dict[str, exp.Table]]:
    assert isinstance(scope.expression, exp.Select)
    nullable = nullable_sources(scope.expression)
    tables = {
        alias: source
        for alias, source in scope.sources.items()
        if isinstance(source, exp.Table) and source.db and joins(source.db) and alias not in nullable
    }
    leader = {alias: alias for alias in tables}

    def find(alias: str) -> str:
        while leader[alias] != alias:
            alias = leader[alias]
        return alias

    for part, sources in conditions(scope):
        if sources is not None or not isinstance(part, exp.EQ):
            continue
        left, right = part.this, part.expression
        if isinstance(left, exp.Column) and isinstance(right, exp.Column):
            one, two = tables.get(left.table), tables.get(right.table)
            same = one is not None and two is not None and one.db == two.db
            if same and one is not None and (takes(one.db) or is_exact(part)):
                leader[find(left.table)] = find(right.table)
    groups: dict[str, dict[str, exp.Table]] = {}
    for alias, table in tables.items():
        groups.setdefault(find(alias), {})[alias] = table
    return [group for group in groups.values() if len(group) > 1]


def _take(scope: Scope, group: dict[str, exp.Table], belongs: Callable[[exp.Expr], bool]) -> Joined:
    select = scope.expression
    inside: list[exp.Expr] = []
    outside: list[exp.Expr] = []
    for part in conjuncts_of(select):
        (inside if belongs(part) else outside).append(part)
    members = set(group)
    start = select.args.get("from_") or select.args["from"]
    first = start.this if start.this.alias_or_name in members else None
    kept = []
    for join in select.args.get("joins") or ():
        if not join.side:
            parts = conjuncts(join.args.get("on"))
            inside += [part for part in parts if belongs(part)]
            rest = [part for part in parts if not belongs(part)]
            if join.this.alias_or_name in members:
                # An inner join's other conditions hold for every row: it is all the same where they stand.
                outside += rest
                if first is not None:
                    continue
                first, rest = join.this, []
            join.set("on", exp.and_(*rest, copy=False) if rest else None)
            if not rest:
                join.set("kind", "CROSS")
        kept.append(join)
    select.set("joins", kept)
    select.set("where", exp.Where(this=exp.and_(*outside, copy=False)) if outside else None)
    query = exp.select().from_(_table(group, 0))
    for number in range(1, len(group)):
        query = query.join(_table(group, number), join_type="cross")
    query = query.where(*inside, copy=False)
    assert first is not None
    alias = first.alias_or_name
    columns: dict[str, tuple[str, str]] = {}
    taken = {id(column) for part in inside for column in part.find_all(exp.Column)}
    for column in scope.columns:
        if column.table in members and id(column) not in taken:
            name = f"{column.table}__{column.name}"
            columns[name] = (column.table, column.name)
            column.set("this", exp.to_identifier(name, quoted=True))
            column.set("table", exp.to_identifier(alias, quoted=True))
    if not columns:
        only = next(iter(group))
        columns["fedorm__one"] = (only, "")
    query = query.select(*(_output(name, *origin) for name, origin in columns.items()))
    return Joined(first.db, query, columns, group, first)


def _table(group: dict[str, exp.Table], number: int) -> exp.Expr:
    alias, table = list(group.items())[number]
    return exp.alias_(exp.table_(table.name, quoted=True), alias, table=True, quoted=True)


def _output(name: str, alias: str, column: str) -> exp.Expr:
    value = exp.column(column, table=alias, quoted=True) if column else exp.Literal.number(1)
    return exp.alias_(value, name, quoted=True)


def _belongs(part: exp.Expr, group: Mapping[str, exp.Table], exactly: bool) -> bool:
    """Say whether a condition is over the group's tables alone and can be checked with the join."""
    if exactly and not is_exact(part):
        return False
    columns = list(part.find_all(exp.Column))
    free = part.find(exp.Query, exp.AggFunc, exp.Window) is None
    return free and bool(columns) and all(column.table in group for column in columns)
