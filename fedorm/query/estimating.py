"""How many rows are to be expected, and which way to them is the cheapest."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from sqlalchemy import Table, types
from sqlglot import exp

from fedorm.query.plan import Scan
from fedorm.query.rules import costs
from fedorm.query.rules.aggregates import Partial
from fedorm.query.rules.predicates import conjuncts_of
from fedorm.query.rules.selectivity import selectivity
from fedorm.query.rules.semijoins import Estimate
from fedorm.query.tables import Tables, storage_type

Sources = dict[tuple[str, str], tuple[str, Table]]
"""Tables by service and name."""
FEW = 20_000
"""Rows that are quick to fetch one by one."""
TINY = 1_000
"""Rows for which it does not matter how they are read."""


class Facts(Protocol):
    """What the planner asks of the federation."""

    @property
    def tables(self) -> Tables:
        """The tables there are."""

    def holds_documents(self, service: str) -> bool:
        """Say whether a service holds documents."""

    def takes_queries(self, service: str) -> bool:
        """Say whether a service means by a whole query what PostgreSQL means."""

    def orders_texts(self, service: str) -> bool:
        """Say whether a service orders texts by their code points."""

    def rows(self, service: str, table: str) -> float:
        """Return about how many rows a table has."""

    def distinct(self, service: str, table: str) -> Mapping[str, float]:
        """Return about how many different values columns of a table have, as far as that is known."""

    def outside(self, service: str, table: Table, columns: Sequence[str]) -> bool:
        """Say whether the finish can read columns of a table by itself."""

    def filters(self, service: str) -> bool:
        """Say whether the server checks conditions when the finish reads by itself."""

    def joins(self, service: str) -> bool:
        """Say whether a service joins tables of its own well."""

    def adds_exactly(self, service: str) -> bool:
        """Say whether a service adds up integers and decimals without rounding."""

    def streams(self, service: str, others: Collection[str]) -> bool:
        """Say whether a service's rows can be read a part at a time, while the ``others`` are asked."""

    def keys_per_statement(self, service: str) -> int:
        """Return how many keys one statement takes."""


class Estimator:
    """Reckons with what is known of a statement's tables."""

    def __init__(self, facts: Facts, sources: Sources) -> None:
        self._facts, self._sources = facts, sources

    def size(self, table: exp.Table) -> float:
        """Return about how many rows a table has."""
        return self._facts.rows(table.db, table.name)

    def distinct(self, service: str, table: Table, source: exp.Table) -> dict[str, float]:
        """Return how many different values the columns of a table have, where that is known."""
        total = self.size(source)
        distinct = dict(self._facts.distinct(service, source.name)) if total > TINY else {}
        keys = list(table.primary_key.columns)
        if len(keys) == 1:
            distinct[str(keys[0].name)] = max(1.0, total)
        return distinct

    def _readable(self, table: exp.Table) -> bool:
        service, known = self._sources[table.db, table.name]
        return self._facts.outside(service, known, narrowest(known))

    def expected(self, query: exp.Query) -> tuple[float, float]:
        """Return how many rows a query looks at, and about how many it returns."""
        sizes = [self.size(table) for table in query.find_all(exp.Table) if table.db]
        total = max(sizes, default=1.0)
        if not isinstance(query, exp.Select):
            return sum(sizes), sum(sizes)
        wanted = total * selectivity(conjuncts_of(query), {})
        if query.args.get("group"):
            wanted = max(1.0, wanted / 10)
        elif query.find(exp.AggFunc):
            wanted = 1.0
        return total, wanted

    def is_worth_asking(self, query: exp.Query) -> bool:
        """Say whether a query's answer is small, or its tables cannot be read in any other way as fast."""
        if self.expected(query)[1] <= FEW or query.args.get("limit"):
            return True
        return not all(self._readable(table) for table in query.find_all(exp.Table) if table.db)

    def is_worth_joining(self, tables: Mapping[str, exp.Table], parts: Sequence[exp.Expr]) -> bool:
        """Say whether joining tables where they are leaves few rows."""
        wanted = max(self.size(table) for table in tables.values()) * selectivity(of_one_table(parts), {})
        return wanted <= FEW or not all(self._readable(table) for table in tables.values())

    def is_worth_grouping(self, partial: Partial) -> bool:
        """Say whether a table is aggregated exactly where it is, and into so few groups that it is cheaper."""
        service, table = self._sources[partial.table.db, partial.table.name]
        if not self._facts.adds_exactly(service):
            return False
        plain = (types.Integer, types.Numeric, types.DateTime, types.Date)
        kinds = [storage_type(table.c[key].type) for key in partial.keys]
        if not all(isinstance(kind, plain) for kind in kinds) and not self._facts.takes_queries(service):
            return False  # By a collation that takes other texts for equal, or by what it has for them.
        sums = [storage_type(table.c[of.name].type) for _, _, of in partial.columns() if of is not None]
        if any(not isinstance(kind, plain) or isinstance(kind, types.Float) for kind in sums[len(kinds) :]):
            return False
        total, distinct = self.size(partial.table), self.distinct(service, table, partial.table)
        if any(key not in distinct for key in partial.keys):
            return False
        wanted = total * selectivity(partial.predicates, distinct)
        cost = costs.inside(total, wanted)
        if self._facts.outside(service, table, narrowest(table)):
            cost = min(cost, costs.outside(total, wanted, filters=self._facts.filters(service)))
        return self.grouping(partial).cost < cost

    def grouping(self, partial: Partial) -> Estimate:
        """Return what is expected of aggregating a table where it is."""
        service, table = self._sources[partial.table.db, partial.table.name]
        total, distinct = self.size(partial.table), self.distinct(service, table, partial.table)
        wanted = total * selectivity(partial.predicates, distinct)
        groups = min(wanted, math.prod(distinct.get(key, total) for key in partial.keys))
        return Estimate(total, groups, costs.grouped(total, groups), distinct=distinct)

    def scan(self, scan: Scan, source: exp.Table) -> Estimate:
        """Return what is expected of reading a table."""
        total = self.size(source)
        distinct = self.distinct(scan.service, scan.table, source)
        indexed, batch = _indexed(scan.table), self._facts.keys_per_statement(scan.service)
        wanted = total * selectivity(scan.predicates, distinct)
        inside = costs.inside(total, wanted)
        if total > TINY:
            outside = costs.outside(total, wanted, filters=self._facts.filters(scan.service))
            if outside < inside and self._facts.outside(scan.service, scan.table, scan.columns):
                return Estimate(total, wanted, outside, True, distinct, indexed, batch)
        return Estimate(total, wanted, inside, False, distinct, indexed, batch)


def _indexed(table: Table) -> frozenset[str]:
    """Return the columns by which a table's rows are found without looking at all of them."""
    first = [next(iter(table.primary_key.columns), None)]
    first += [next(iter(index.columns), None) for index in table.indexes]
    return frozenset(str(column.name) for column in first if column is not None)


def of_one_table(parts: Sequence[exp.Expr]) -> list[exp.Expr]:
    """Return the conditions that are no joins."""
    return [part for part in parts if len({column.table for column in part.find_all(exp.Column)}) == 1]


def narrowest(table: Table) -> tuple[str, ...]:
    """Return a column to count rows by, when none is asked for."""
    columns = list(table.primary_key.columns) or list(table.columns)
    return (str(columns[0].name),)
