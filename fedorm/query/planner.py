"""From a statement's SQL to a plan: names resolved, columns and conditions pushed down, scans put in order."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace

import sqlglot
from sqlalchemy import Table
from sqlglot import exp
from sqlglot.errors import OptimizeError, ParseError, SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.pushdown_predicates import pushdown_predicates
from sqlglot.optimizer.pushdown_projections import pushdown_projections
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, traverse_scope
from sqlglot.schema import MappingSchema

from fedorm.exc import UnsupportedQueryError
from fedorm.query.plan import KeyFilter, Plan, Scan
from fedorm.query.rules.predicates import pushed_predicates
from fedorm.query.rules.semijoins import key_pairs
from fedorm.query.tables import Tables, column_types

DIALECT = "postgres"
Sources = dict[tuple[str, str], tuple[str, Table]]
"""Tables by service and name."""
Estimate = Callable[[Scan], float]
"""How many rows a scan will return, as far as can be told."""


def parse(sql: str) -> exp.Query:
    """Return the tree of a query. Raises ``UnsupportedQueryError`` for what is no query."""
    try:
        tree = sqlglot.parse_one(sql, read=DIALECT)
    except ParseError as error:
        raise UnsupportedQueryError(f"the statement cannot be read as SQL: {_first_line(error)}") from error
    if not isinstance(tree, exp.Query):
        kind = tree.key.upper()
        raise UnsupportedQueryError(f"{kind} over several services is not possible: write to one service at a time")
    return tree


def make_plan(sql: str, tables: Tables, estimate: Estimate, lists: Container[str] = ()) -> Plan:
    """Plan a query; ``lists`` names the parameters that hold a list of values.

    Raises ``QueryError`` for names that are not there and for what cannot be planned.
    """
    tree = parse(sql)
    if any(with_.recursive for with_ in tree.find_all(exp.With)):
        raise UnsupportedQueryError("WITH RECURSIVE over several services is not supported")
    names = tuple(_result_name(column) for column in tree.selects)
    schema, sources = _resolve(tree, tables)
    try:
        tree = qualify(tree, schema=schema, dialect=DIALECT)
        tree = annotate_types(tree, schema=schema, dialect=DIALECT)
        tree = pushdown_predicates(tree, dialect=DIALECT)
        tree = pushdown_projections(tree)
        tree = annotate_types(tree, schema=schema, dialect=DIALECT)
    except (OptimizeError, SqlglotError) as error:
        raise UnsupportedQueryError(f"the statement cannot be planned: {_first_line(error)}") from error
    scans: list[Scan] = []
    filters: list[tuple[str, KeyFilter]] = []
    for scope in traverse_scope(tree):
        filters += _scan_scope(scope, scans, sources)
    if len(tree.selects) > len(names) or "*" in names:
        names = tuple(column.alias_or_name for column in tree.selects)
    finish = _finishable(tree, lists)
    parameters = frozenset(str(node.this) for node in finish.find_all(exp.Placeholder))
    return Plan(_in_waves(scans, filters, estimate), finish.sql(dialect="duckdb"), names, parameters)


def _result_name(column: exp.Expr) -> str:
    """Return what PostgreSQL calls a column of a result."""
    if isinstance(column, exp.Alias | exp.Column | exp.Star):
        return str(column.alias_or_name)
    inner = column.unnest()
    if isinstance(inner, exp.Func):
        return str(inner.sql_name()).lower() if not isinstance(inner, exp.Anonymous) else str(inner.name).lower()
    return "?column?"


def _finishable(tree: exp.Expr, lists: Container[str]) -> exp.Expr:
    """Write lists of values in the way that DuckDB binds them."""
    made = tree.copy()
    for node in list(made.find_all(exp.In)):
        if len(node.expressions) == 1 and _is_list(node.expressions[0], lists):
            node.replace(exp.EQ(this=node.this, expression=exp.Any(this=exp.Paren(this=node.expressions[0]))))
    return made


def _is_list(node: exp.Expr, lists: Container[str]) -> bool:
    return isinstance(node, exp.Placeholder) and str(node.this) in lists


def _resolve(tree: exp.Expr, tables: Tables) -> tuple[MappingSchema, Sources]:
    """Write the service before every table's name, and return what is known of the tables."""
    schema = MappingSchema(dialect=DIALECT)
    sources: Sources = {}
    for scope_table in list(tree.find_all(exp.Table)):
        if not scope_table.name or _is_cte(scope_table):
            continue
        if not scope_table.alias:
            scope_table.set("alias", exp.TableAlias(this=exp.to_identifier(scope_table.name, quoted=True)))
        service, table = tables.find(scope_table.name, scope_table.db or None)
        scope_table.set("db", exp.to_identifier(service, quoted=True))
        scope_table.set("this", exp.to_identifier(scope_table.name, quoted=True))
        sources[service, scope_table.name] = (service, table)
        schema.add_table(exp.table_(scope_table.name, db=service, quoted=True), column_types(table), dialect=DIALECT)
    return schema, sources


def _is_cte(table: exp.Table) -> bool:
    if table.db:
        return False
    parent = table.parent
    while parent is not None:
        with_ = parent.args.get("with_") or parent.args.get("with") if isinstance(parent, exp.Query) else None
        if with_ is not None and any(cte.alias == table.name for cte in with_.expressions):
            return True
        parent = parent.parent
    return False


def _scan_scope(scope: Scope, scans: list[Scan], sources: Sources) -> list[tuple[str, KeyFilter]]:
    """Put a scan in the place of each table of a scope; return the semi-joins between them."""
    names: dict[str, str] = {}
    for alias, source in scope.sources.items():
        if not isinstance(source, exp.Table) or not source.db:
            continue
        service, table = sources[source.db, source.name]
        columns = list(dict.fromkeys(column.name for column in scope.columns if column.table == alias))
        name = f"s{len(scans)}"
        names[alias] = name
        scans.append(Scan(name, service, table, tuple(columns or _narrowest(table)), pushed_predicates(scope, alias)))
        source.set("db", None)
        source.set("this", exp.to_identifier(name, quoted=True))
    return [
        (names[target.table], KeyFilter(target.name, names[source.table], source.name))
        for source, target in key_pairs(scope)
        if source.table in names and target.table in names
    ]


def _narrowest(table: Table) -> tuple[str, ...]:
    """Return a column to count rows by, when none is asked for."""
    columns = list(table.primary_key.columns) or list(table.columns)
    return (str(columns[0].name),)


def _in_waves(
    scans: list[Scan], filters: list[tuple[str, KeyFilter]], estimate: Estimate
) -> tuple[tuple[Scan, ...], ...]:
    """Let small scans run before the ones that their keys narrow."""
    rows = {scan.name: estimate(scan) for scan in scans}
    by_name = {scan.name: scan for scan in scans}
    wave = dict.fromkeys(rows, 0)
    for target, key in sorted(filters, key=lambda one: rows[one[1].source]):
        source = key.source
        small = rows[source] * FEWER <= rows[target] and rows[source] <= MOST_KEYS
        if not small or (wave[source] >= wave[target] + 1 and wave[target] > 0):
            continue
        by_name[target] = replace(by_name[target], key_filters=(*by_name[target].key_filters, key))
        wave[target] = max(wave[target], wave[source] + 1)
        # What the narrowed scan will return is at most as large as this makes it.
        rows[target] = min(rows[target], max(rows[source] * 4, rows[target] / FEWER))
    ordered: list[tuple[Scan, ...]] = []
    for number in range(max(wave.values(), default=0) + 1):
        ordered.append(tuple(by_name[name] for name, at in wave.items() if at == number))
    return tuple(one for one in ordered if one)


FEWER = 3
"""How many times smaller a scan has to be for its keys to be worth a wait."""
MOST_KEYS = 100_000
"""A scan expected to return more rows sends no keys."""


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
