"""From a statement's SQL to a plan: names resolved, columns and conditions pushed down, scans put in order."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

from sqlalchemy import types
from sqlglot import exp
from sqlglot.errors import OptimizeError, SqlglotError
from sqlglot.optimizer.pushdown_predicates import pushdown_predicates
from sqlglot.optimizer.pushdown_projections import pushdown_projections
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, traverse_scope
from sqlglot.schema import MappingSchema

from fedorm.exc import UnsupportedQueryError
from fedorm.query.document_conditions import can_send
from fedorm.query.estimating import FEW, Estimator, Facts, Sources, narrowest, of_one_table
from fedorm.query.parsing import DIALECT, parse, refuse_locks, unresolved
from fedorm.query.plan import Head, KeyFilter, Piece, Plan, Scan, Step
from fedorm.query.rules import costs
from fedorm.query.rules.aggregates import Partial, take_aggregates
from fedorm.query.rules.colocated import Joined, take_joins
from fedorm.query.rules.meaning import for_finish
from fedorm.query.rules.nested import derive_nested_joins
from fedorm.query.rules.nulls import order_nulls_apart
from fedorm.query.rules.pieces import outermost, single_service
from fedorm.query.rules.predicates import conjuncts_of, is_safe, pushed_predicates
from fedorm.query.rules.selectivity import selectivity
from fedorm.query.rules.semijoins import Estimate, Strategy, in_waves, key_pairs
from fedorm.query.rules.services import for_service
from fedorm.query.rules.topn import TopN, top_n
from fedorm.query.rules.typing import annotate
from fedorm.query.small import small_finish
from fedorm.query.tables import Tables, column_types, result_type, storage_type


def make_plan(sql: str, facts: Facts, lists: Container[str] = (), strategy: Strategy = "auto") -> Plan:
    """Plan a query; ``lists`` names the parameters that hold a list of values.

    Raises ``QueryError`` for names that are not there and for what cannot be planned.
    """
    tree = parse(sql)
    if any(with_.recursive for with_ in tree.find_all(exp.With)):
        raise UnsupportedQueryError("WITH RECURSIVE over several services is not supported")
    names = tuple(_result_name(column) for column in tree.selects)
    name_unnested(tree)
    name_subqueries(tree)
    schema, sources = _resolve(tree, facts.tables)
    try:
        tree = derive_nested_joins(qualify(tree, schema=schema, dialect=DIALECT))
        tree = annotate(tree, schema)
        tree = pushdown_predicates(tree, dialect=DIALECT)
        tree = pushdown_projections(tree)
        tree = annotate(tree, schema)
    except (OptimizeError, SqlglotError) as error:
        raise unresolved(error, tree, {key: table for key, (_, table) in sources.items()}) from error
    if len(tree.selects) > len(names) or "*" in names:
        names = tuple(column.alias_or_name for column in tree.selects)
    return _Builder(facts, sources, strategy).build(tree, names, lists)


class _Builder:
    """Cuts a tree into steps."""

    def __init__(self, facts: Facts, sources: Sources, strategy: Strategy) -> None:
        self._facts, self._sources, self._strategy = facts, sources, strategy
        self._estimator = Estimator(facts, sources)
        self._steps: dict[str, Step] = {}
        self._estimates: dict[str, Estimate] = {}

    def build(self, tree: exp.Query, names: tuple[str, ...], lists: Container[str]) -> Plan:
        takes = self._facts.takes_queries
        service = single_service(tree, takes)
        own = (
            self._meant(tree, service, whole=True, enumerations=self._enumerations(tree))
            if service is not None
            else None
        )
        if service is not None and own is not None:
            step = self._piece(tree, own, service, "all its tables are there")
            return Plan(((step,),), None, names, frozenset(), self._rows())
        refuse_locks(tree)
        for query, owner in list(outermost(tree, takes)):
            columns = query.named_selects
            if len(set(columns)) == len(columns) and self._estimator.is_worth_asking(query):
                own = self._meant(query, owner, whole=False, enumerations=self._enumerations(query))
                if own is None:
                    continue
                piece = self._piece(query, own, owner, "all tables of this query are there")
                source = exp.table_(piece.name, quoted=True)
                query.replace(exp.select(*(exp.column(name, quoted=True) for name in columns)).from_(source))
        for scope in traverse_scope(tree):
            take_aggregates(scope, self._estimator.is_worth_grouping, self._grouped)
        for scope in traverse_scope(tree):
            for joined in take_joins(scope, takes, self._facts.joins, self._estimator.is_worth_joining):
                self._joined(joined)
        filters: list[tuple[str, KeyFilter]] = []
        for scope in traverse_scope(tree):
            filters += self._scan_scope(scope)
        top = top_n(tree, self._steps) if self._strategy in ("auto", "lookup") else None
        if top is not None and top.exact:
            self._limited(top)
        head = self._head(tree, names, lists, top, filters) if top is not None and not top.exact else None
        if self._strategy == "nested_loop":
            compare_pairs(tree)
        plan = self._plan(tree, names, lists, filters)
        if head is not None and head.cost < sum(estimate.cost for estimate in self._estimates.values()):
            plan = replace(plan, head=head)
        return plan

    def _plan(
        self,
        tree: exp.Query,
        names: tuple[str, ...],
        lists: Container[str],
        filters: Sequence[tuple[str, KeyFilter]],
    ) -> Plan:
        waves = in_waves(self._steps, self._estimates, filters, self._strategy)
        waves = tuple(tuple(self._placed(step) for step in wave) for wave in waves)
        self._steps = {step.name: step for wave in waves for step in wave}
        finish = for_finish(tree, lists)
        parameters = frozenset(str(node.this) for node in finish.find_all(exp.Placeholder))
        small = small_finish(finish, self._steps, {name: _columns(step) for name, step in self._steps.items()})
        scans = [step for step in self._steps.values() if isinstance(step, Scan)]
        if any(scan.outside or scan.most_keys is not None for scan in scans):
            finish = order_nulls_apart(finish)
        return Plan(waves, finish.sql(dialect="duckdb"), names, parameters, self._rows(), small)

    # -- the first rows

    def _limited(self, top: TopN) -> None:
        """Let a step return no more rows than the statement does."""
        step, estimate = self._steps[top.step], self._estimates[top.step]
        number = _about(top.limit)
        if isinstance(step, Scan) and number < min(estimate.wanted, FEW):
            self._steps[top.step] = replace(step, order=top.order, limit=top.limit)
            cost = costs.inside(estimate.total, number)
            self._estimates[top.step] = replace(estimate, wanted=number, cost=cost, outside=False)

    def _head(
        self,
        tree: exp.Query,
        names: tuple[str, ...],
        lists: Container[str],
        top: TopN,
        filters: Sequence[tuple[str, KeyFilter]],
    ) -> Head | None:
        """Return how to read one step in order, a part at a time, until there are rows enough."""
        step, estimate = self._steps[top.step], self._estimates[top.step]
        others = [name for name in self._steps if name != top.step]
        if not isinstance(step, Scan) or not self._facts.streams(
            step.service, {self._steps[one].service for one in others}
        ):
            return None
        matching = math.prod(
            max(1.0, self._estimates[one].wanted) / max(1.0, self._estimates[one].total) for one in others
        )
        needed = _about(top.limit) / max(matching, 1e-6) * 1.5
        if needed > min(estimate.wanted, FEW):
            return None
        made = copy(self)
        made._steps = dict(self._steps) | {top.step: replace(step, order=top.order)}
        made._estimates = {name: replace(one, outside=False) for name, one in self._estimates.items()}
        made._estimates[top.step] = replace(estimate, wanted=needed, cost=costs.inside(0, needed), outside=False)
        short = tree.copy()
        short.set("offset", None)
        short.set("limit", exp.Limit(expression=top.limit.copy()))
        plan = made._plan(short, names, lists, [one for one in filters if one[0] != top.step])
        last = made._steps
        if any(made._estimates[name].total > FEW and not last[name].key_filters for name in others):
            return None
        cost = sum(one.cost for one in made._estimates.values())
        offset = tree.args.get("offset")
        skipped = offset.expression if offset is not None else None
        return Head(top.step, plan, top.limit, skipped, int(needed), cost)

    def _rows(self) -> dict[str, float]:
        return {name: estimate.wanted for name, estimate in self._estimates.items()}

    # -- what a service does by itself

    def _enumerations(self, query: exp.Query) -> set[tuple[str, str]]:
        """Return the columns of a query, by alias and name, that are of a type of their own and texts in the finish."""
        return {
            (table.alias_or_name, str(column.name))
            for table in query.find_all(exp.Table)
            if table.db
            for column in self._sources[table.db, table.name][1].columns
            if isinstance(storage_type(column.type), types.Enum)
        }

    def _meant(
        self, query: exp.Query, service: str, *, whole: bool, enumerations: Container[tuple[str, str]] = ()
    ) -> exp.Query | None:
        """Return a query as a service is asked to mean it as the finish would; None where it cannot."""
        collate = not self._facts.orders_texts(service)
        return for_service(query, whole=whole, collate=collate, enumerations=enumerations)

    def _piece(self, query: exp.Query, own: exp.Query, service: str, why: str) -> Piece:
        kinds = tuple(_kind(self._sources, column) for column in query.selects)
        total, wanted = self._estimator.expected(query)
        for table in own.find_all(exp.Table):
            table.set("db", None)
        name = f"p{len(self._steps)}"
        piece = Piece(name, service, own, tuple(query.named_selects), kinds, {}, why=why)
        self._steps[name] = piece
        self._estimates[name] = Estimate(total, wanted, costs.inside(total, wanted))
        return piece

    def _joined(self, joined: Joined) -> None:
        kinds = tuple(
            types.Integer() if not column else self._column(joined.tables[alias], column)
            for alias, column in joined.columns.values()
        )
        total = max(self._estimator.size(table) for table in joined.tables.values())
        wanted = total * selectivity(of_one_table(conjuncts_of(joined.query)), {})
        name = f"j{len(self._steps)}"
        origins = {output: origin for output, origin in joined.columns.items() if origin[1]}
        why = "its tables are joined where they are"
        query = self._meant(joined.query, joined.service, whole=True) or joined.query
        tables = {alias: self._sources[table.db, table.name][1] for alias, table in joined.tables.items()}
        columns = tuple(joined.columns)
        self._steps[name] = Piece(name, joined.service, query, columns, kinds, origins, tables, why=why)
        self._estimates[name] = Estimate(total, wanted, costs.inside(total, wanted))
        joined.node.set("db", None)
        joined.node.set("this", exp.to_identifier(name, quoted=True))

    def _grouped(self, partial: Partial) -> str:
        service, table = self._sources[partial.table.db, partial.table.name]
        kinds: list[types.TypeEngine[Any] | None] = []
        for name, _, of in partial.columns():
            kind = result_type(table.c[of.name].type) if of is not None else types.BigInteger()
            summed = name not in partial.keys and isinstance(partial.named()[name], exp.Sum)
            if summed and isinstance(kind, types.Integer):
                kind = types.Numeric(38, 0)
            elif summed and isinstance(kind, types.Numeric):
                kind = types.Numeric(38, kind.scale or 0) if kind.precision is not None else types.Numeric()
            kinds.append(kind)
        name = f"g{len(self._steps)}"
        origins = {key: (partial.alias, key) for key in partial.keys}
        columns = tuple(name for name, _, _ in partial.columns())
        why = "aggregated where it is, by what it is joined and grouped by"
        self._steps[name] = Piece(
            name, service, partial.query(), columns, tuple(kinds), origins, {partial.alias: table}, why=why
        )
        self._estimates[name] = self._estimator.grouping(partial)
        return name

    def _column(self, table: exp.Table, name: str) -> types.TypeEngine[Any]:
        return result_type(self._sources[table.db, table.name][1].c[name].type)

    # -- scans

    def _scan_scope(self, scope: Scope) -> list[tuple[str, KeyFilter]]:
        """Put a scan in the place of each table of a scope; return the semi-joins between its steps."""
        if scope.is_udtf:
            return []  # UNNEST sees the tables beside it, and reads none of its own.
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
            safe = can_send if self._facts.holds_documents(service) else is_safe
            predicates = pushed_predicates(scope, alias, safe)
            name = f"s{len(self._steps)}"
            steps[alias] = name
            scan = Scan(name, service, table, tuple(columns or narrowest(table)), predicates)
            self._steps[name] = scan
            self._estimates[name] = self._estimator.scan(scan, source)
            source.set("db", None)
            source.set("this", exp.to_identifier(name, quoted=True))
        return [
            (steps[target.table], KeyFilter(target.name, steps[source.table], source.name))
            for source, target in key_pairs(scope)
            if source.table in steps and target.table in steps
        ]

    def _placed(self, step: Step) -> Step:
        """Return a step as it will run: read by the finish, narrowed by keys, or read as it is; and why."""
        estimate = self._estimates[step.name]
        if isinstance(step, Piece):
            return step
        if step.key_filters:
            return replace(step, why="its rows with these keys are fewer than the rest")
        if step.limit is not None:
            return replace(step, why="the first rows in this order are all that can be in the result")
        if step.order:
            return replace(step, why="read in the result's order, a part at a time, until there are rows enough")
        if estimate.outside:
            return replace(step, outside=True, why="large, so DuckDB reads it over connections of its own")
        return replace(step, why="read over the session's connection")


def _about(limit: exp.Expr) -> float:
    """Return how many rows a LIMIT is likely to stand for: a page, where it is a parameter."""
    if isinstance(limit, exp.Add):
        return _about(limit.this) + _about(limit.expression)
    return float(limit.to_py()) if isinstance(limit, exp.Literal) else 100.0


def _columns(step: Step) -> tuple[tuple[str, ...], tuple[types.TypeEngine[Any] | None, ...]]:
    if isinstance(step, Piece):
        return step.columns, step.kinds
    return step.columns, tuple(result_type(step.table.c[name].type) for name in step.columns)


def _kind(sources: Sources, output: exp.Expr) -> types.TypeEngine[Any] | None:
    """Return the storage type of a plain column's output; None for an expression."""
    inner = output.unalias()
    if not isinstance(inner, exp.Column):
        return types.BigInteger() if inner.is_type(*exp.DataType.INTEGER_TYPES) else None
    scope = inner.find_ancestor(exp.Select)
    for table in scope.find_all(exp.Table) if scope is not None else ():
        if table.alias_or_name == inner.table and (table.db, table.name) in sources:
            return result_type(sources[table.db, table.name][1].c[inner.name].type)
    return None


def _result_name(column: exp.Expr) -> str:
    """Return what PostgreSQL calls a column of a result."""
    if isinstance(column, exp.Alias | exp.Column | exp.Star):
        return str(column.alias_or_name)
    inner = column.unnest()
    if isinstance(inner, exp.Func):
        return str(inner.sql_name()).lower() if not isinstance(inner, exp.Anonymous) else str(inner.name).lower()
    return "?column?"


def name_unnested(tree: exp.Expr) -> None:
    """Name the column of an ``unnest() AS tag`` after it, as PostgreSQL does."""
    for node in tree.find_all(exp.Unnest):
        alias = node.args.get("alias")
        if alias is not None and alias.this is not None and not alias.columns:
            alias.set("columns", [alias.this.copy()])


def name_subqueries(tree: exp.Expr) -> None:
    """Name subqueries among the outputs as other outputs are named: ORDER BY 1 finds them then."""
    for select in list(tree.find_all(exp.Select)):
        for number, output in enumerate(select.expressions):
            if isinstance(output, exp.Subquery):
                name = output.alias or f"_col_{number}"
                output.set("alias", None)
                select.set("expressions", exp.alias_(exp.Paren(this=output.copy()), name, quoted=True), number)


def compare_pairs(tree: exp.Expr) -> None:
    """Hide the equalities of joins from the finish, so that it compares each row of one side with all of the other."""
    for node in list(tree.find_all(exp.EQ)):
        if isinstance(node.this, exp.Column) and isinstance(node.expression, exp.Column):
            node.replace(exp.Coalesce(this=node.copy(), expressions=[exp.Boolean(this=False)]))


def _resolve(tree: exp.Expr, tables: Tables) -> tuple[MappingSchema, Sources]:
    """Write the service before every table's name, and return what is known of the tables."""
    schema = MappingSchema(dialect=DIALECT)
    sources: Sources = {}
    visible: Any = schema.visible
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
        # What SELECT * shows: of documents, not the fields within fields.
        shown = [str(column.name) for column in table.columns if not column._omit_from_statements]
        visible.setdefault(service, {})[scope_table.name] = shown
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
