"""From a statement's SQL to a plan: names resolved, columns and conditions pushed down, scans put in order."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, Protocol

import sqlglot
from sqlalchemy import Table, types
from sqlglot import exp
from sqlglot.errors import OptimizeError, ParseError, SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.pushdown_predicates import pushdown_predicates
from sqlglot.optimizer.pushdown_projections import pushdown_projections
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, traverse_scope
from sqlglot.schema import MappingSchema

from fedorm.exc import UnsupportedQueryError
from fedorm.query.plan import KeyFilter, Piece, Plan, Scan, Step
from fedorm.query.rules.colocated import Joined, take_joins
from fedorm.query.rules.pieces import outermost, single_service
from fedorm.query.rules.predicates import pushed_predicates
from fedorm.query.rules.semijoins import in_waves, key_pairs
from fedorm.query.tables import Tables, column_types, storage_type

DIALECT = "postgres"
Sources = dict[tuple[str, str], tuple[str, Table]]
"""Tables by service and name."""


class Facts(Protocol):
    """What the planner asks of the federation."""

    @property
    def tables(self) -> Tables:
        """The tables there are."""

    def takes_queries(self, service: str) -> bool:
        """Say whether a service means by a whole query what PostgreSQL means."""

    def rows(self, service: str, table: str) -> float:
        """Return about how many rows a table has."""


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


def make_plan(sql: str, facts: Facts, lists: Container[str] = ()) -> Plan:
    """Plan a query; ``lists`` names the parameters that hold a list of values.

    Raises ``QueryError`` for names that are not there and for what cannot be planned.
    """
    tree = parse(sql)
    if any(with_.recursive for with_ in tree.find_all(exp.With)):
        raise UnsupportedQueryError("WITH RECURSIVE over several services is not supported")
    names = tuple(_result_name(column) for column in tree.selects)
    schema, sources = _resolve(tree, facts.tables)
    try:
        tree = qualify(tree, schema=schema, dialect=DIALECT)
        tree = annotate_types(tree, schema=schema, dialect=DIALECT)
        tree = pushdown_predicates(tree, dialect=DIALECT)
        tree = pushdown_projections(tree)
        tree = annotate_types(tree, schema=schema, dialect=DIALECT)
    except (OptimizeError, SqlglotError) as error:
        raise UnsupportedQueryError(f"the statement cannot be planned: {_first_line(error)}") from error
    if len(tree.selects) > len(names) or "*" in names:
        names = tuple(column.alias_or_name for column in tree.selects)
    return _Builder(facts, sources).build(tree, names, lists)


class _Builder:
    """Cuts a tree into steps."""

    def __init__(self, facts: Facts, sources: Sources) -> None:
        self._facts, self._sources = facts, sources
        self._steps: dict[str, Step] = {}
        self._rows: dict[str, float] = {}

    def build(self, tree: exp.Query, names: tuple[str, ...], lists: Container[str]) -> Plan:
        takes = self._facts.takes_queries
        service = single_service(tree, takes)
        if service is not None:
            step = self._piece(tree, service, "all its tables are there")
            return Plan(((step,),), None, names, frozenset(), self._rows)
        for query, owner in list(outermost(tree, takes)):
            columns = query.named_selects
            if len(set(columns)) == len(columns):
                piece = self._piece(query, owner, "all tables of this query are there")
                source = exp.table_(piece.name, quoted=True)
                query.replace(exp.select(*(exp.column(name, quoted=True) for name in columns)).from_(source))
        for scope in traverse_scope(tree):
            for joined in take_joins(scope, takes):
                self._joined(joined)
        filters: list[tuple[str, KeyFilter]] = []
        for scope in traverse_scope(tree):
            filters += self._scan_scope(scope)
        finish = _finishable(tree, lists)
        parameters = frozenset(str(node.this) for node in finish.find_all(exp.Placeholder))
        waves = in_waves(self._steps, self._rows, filters)
        return Plan(waves, finish.sql(dialect="duckdb"), names, parameters, self._rows)

    def _piece(self, query: exp.Query, service: str, why: str) -> Piece:
        kinds = tuple(_kind(self._sources, column) for column in query.selects)
        size = max(self._size(table) for table in query.find_all(exp.Table) if table.db)
        own = query.copy()
        for average in list(own.find_all(exp.Avg)):
            # Everywhere in a federated select an average is a float, as it is in the finish.
            average.replace(exp.cast(average.copy(), "double", dialect=DIALECT))
        for table in own.find_all(exp.Table):
            table.set("db", None)
        name = f"p{len(self._steps)}"
        piece = Piece(name, service, own, tuple(query.named_selects), kinds, {}, why=why)
        self._steps[name], self._rows[name] = piece, size if not query.find(exp.Group, exp.AggFunc) else size / 10
        return piece

    def _joined(self, joined: Joined) -> None:
        kinds = tuple(
            types.Integer() if not column else self._column(joined.tables[alias], column)
            for alias, column in joined.columns.values()
        )
        selective = joined.query.find(exp.Literal, exp.Placeholder) is not None
        size = max(self._size(table) for table in joined.tables.values()) / (10 if selective else 1)
        name = f"j{len(self._steps)}"
        origins = {output: origin for output, origin in joined.columns.items() if origin[1]}
        why = "its tables are joined where they are"
        self._steps[name] = Piece(name, joined.service, joined.query, tuple(joined.columns), kinds, origins, why=why)
        self._rows[name] = size
        joined.node.set("db", None)
        joined.node.set("this", exp.to_identifier(name, quoted=True))

    def _column(self, table: exp.Table, name: str) -> types.TypeEngine[Any]:
        return storage_type(self._sources[table.db, table.name][1].c[name].type)

    def _size(self, table: exp.Table) -> float:
        return self._facts.rows(table.db, table.name)

    def _scan_scope(self, scope: Scope) -> list[tuple[str, KeyFilter]]:
        """Put a scan in the place of each table of a scope; return the semi-joins between its steps."""
        steps: dict[str, str] = {}
        for alias, source in scope.sources.items():
            if not isinstance(source, exp.Table):
                continue
            if not source.db:
                if source.name in self._steps:
                    steps[alias] = source.name
                continue
            service, table = self._sources[source.db, source.name]
            columns = list(dict.fromkeys(column.name for column in scope.columns if column.table == alias))
            predicates = pushed_predicates(scope, alias)
            name = f"s{len(self._steps)}"
            steps[alias] = name
            self._rows[name] = self._size(source) * _selectivity(predicates)
            self._steps[name] = Scan(name, service, table, tuple(columns or _narrowest(table)), predicates)
            source.set("db", None)
            source.set("this", exp.to_identifier(name, quoted=True))
        return [
            (steps[target.table], KeyFilter(target.name, steps[source.table], source.name))
            for source, target in key_pairs(scope)
            if source.table in steps and target.table in steps
        ]


def _kind(sources: Sources, output: exp.Expr) -> types.TypeEngine[Any] | None:
    """Return the storage type of a plain column's output; None for an expression."""
    inner = output.unalias()
    if not isinstance(inner, exp.Column):
        return types.BigInteger() if inner.is_type(*exp.DataType.INTEGER_TYPES) else None
    scope = inner.find_ancestor(exp.Select)
    for table in scope.find_all(exp.Table) if scope is not None else ():
        if table.alias_or_name == inner.table and (table.db, table.name) in sources:
            return storage_type(sources[table.db, table.name][1].c[inner.name].type)
    return None


def _selectivity(predicates: Sequence[exp.Expr]) -> float:
    """Guess which part of a table fulfils conditions: a tenth for each equality, a third for anything else."""
    part = 1.0
    for predicate in predicates:
        part *= 0.1 if isinstance(predicate, exp.EQ | exp.In) else 0.33
    return part


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


def _narrowest(table: Table) -> tuple[str, ...]:
    """Return a column to count rows by, when none is asked for."""
    columns = list(table.primary_key.columns) or list(table.columns)
    return (str(columns[0].name),)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
