"""Runs a plan: scans wave by wave on the session's own connections, then the finish in a thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import bindparam, select, text, type_coerce, types
from sqlglot import exp

from fedorm.exc import UnsupportedQueryError
from fedorm.query.arrow import to_arrow
from fedorm.query.explain import sent
from fedorm.query.plan import KeyFilter, Piece, Plan, Scan, Step
from fedorm.query.tables import storage_type, to_database
from fedorm.stats import UNOBSERVED, Observed, Observer
from fedorm.stores.base import DocumentStore, batches
from fedorm.stores.sql import SQLStore

if TYPE_CHECKING:
    from fedorm.session import FederatedSession

Keys = tuple[str, list[Any] | None, tuple[Any, Any] | None]
"""A column, and the values it may have: a list of them, or the least and the greatest."""

MOST_KEYS = 20_000
"""More distinct keys than these travel as a range: their least and their greatest value."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a step returned, and how long it took in milliseconds."""

    rows: int
    bytes: int
    milliseconds: float


class Execution:
    """One plan with the values of its parameters, for one session."""

    def __init__(
        self, session: FederatedSession, plan: Plan, parameters: Mapping[str, Any], observer: Observer = UNOBSERVED
    ) -> None:
        self._session, self._plan, self._parameters = session, plan, parameters
        self.observer = observer
        self._tables: dict[str, pa.Table] = {}
        self.measured: dict[str, Measured] = {}
        """How it went, by step."""

    def tables(self) -> dict[str, pa.Table]:
        """Run the scans and return what each has found, by its name."""
        session = self._session
        for wave in self._plan.waves:
            by_service: dict[str, list[Step]] = {}
            for step in wave:
                by_service.setdefault(step.service, []).append(step)
            if len(by_service) > 1:
                for service in by_service:
                    if isinstance(session.stores[service], SQLStore):
                        # Now, one after the other: a session refuses to connect two services at the same moment.
                        session.connection(bind_arguments={"service": service})
            jobs = [self._job(steps) for steps in by_service.values()]
            for found in session.bridge.side_by_side(jobs):
                self._tables.update(found)
        return self._tables

    def rows(self) -> list[tuple[Any, ...]]:
        """Run the only step of a plan without a finish and return its rows."""
        (step,) = self._plan.steps
        assert isinstance(step, Piece)
        whole = [number for number, kind in enumerate(step.kinds) if isinstance(kind, types.Integer)]
        with self._watched(step) as seen:
            rows = [tuple(row) for row in self._ask(step, [])]
            seen.rows = len(rows)
        return [_with_integers(row, whole) for row in rows] if whole and step.sums else rows

    def _job(self, steps: Sequence[Step]) -> Callable[[], dict[str, pa.Table]]:
        return lambda: {step.name: self._timed(step) for step in steps}

    def _watched(self, step: Step) -> AbstractContextManager[Observed]:
        store = self._session.store_named(step.service)
        return self.observer.step(step.service, step.name, lambda: sent(step, store), getattr(step, "why", ""))

    def _timed(self, step: Step) -> pa.Table:
        started = time.perf_counter()
        with self._watched(step) as seen:
            table = self._run(step)
            seen.rows = table.num_rows
        took = (time.perf_counter() - started) * 1000
        self.measured[step.name] = Measured(table.num_rows, table.nbytes, took)
        return table

    def _run(self, step: Step) -> pa.Table:
        keys = [self._keys(one) for one in step.key_filters]
        if isinstance(step, Scan):
            return self._scan(step, keys)
        try:
            return to_arrow(list(self._ask(step, keys)), step.columns, step.kinds)
        except (pa.ArrowException, ValueError, OverflowError) as error:
            raise UnsupportedQueryError(f"service {step.service!r}: {error}") from error

    def _scan(self, scan: Scan, keys: Sequence[Keys]) -> pa.Table:
        store = self._session.store_named(scan.service)
        kinds = [storage_type(scan.table.c[name].type) for name in scan.columns]
        if isinstance(store, DocumentStore):
            rows = self._find(store, scan, keys)
        elif isinstance(store, SQLStore):
            rows = self._select(store, scan, keys)
        else:
            raise UnsupportedQueryError(f"service {scan.service!r} cannot be read by a federated select")
        try:
            return to_arrow(rows, scan.columns, kinds)
        except (pa.ArrowException, ValueError, OverflowError) as error:
            raise UnsupportedQueryError(f"service {scan.service!r}, table {scan.table.name!r}: {error}") from error

    def _keys(self, filter_: KeyFilter) -> Keys:
        column = self._tables[filter_.source].column(filter_.source_column)
        distinct = pc.unique(column)
        if len(distinct) <= MOST_KEYS:
            return filter_.column, [value for value in distinct.to_pylist() if value is not None], None
        if not (pa.types.is_integer(column.type) or pa.types.is_temporal(column.type)):
            return filter_.column, None, None
        ends = pc.min_max(column).as_py()
        return filter_.column, None, (ends["min"], ends["max"])

    # -- whole queries

    def _ask(self, piece: Piece, keys: Sequence[Keys]) -> Any:
        """Send a piece, narrowed by keys that fit into one list or range, to its service."""
        store = self._session.store_named(piece.service)
        assert isinstance(store, SQLStore)
        query, bound = piece.query.copy(), list[Any]()
        for name, values, ends in keys:
            alias, column = piece.origins[name]
            kind = piece.kinds[piece.columns.index(name)]
            target = exp.column(column, table=alias, quoted=True)
            if values is not None:
                if len(values) > store.keys_per_statement(1):
                    continue
                marker = f"k{len(bound)}"
                bound.append(store.key_parameter(marker, kind, to_database(kind, values) if kind else values))
                condition: exp.Expr = exp.Var(this=f"{target.sql(store.sql_dialect)} {store.key_condition(marker)}")
            elif ends is not None:
                low, high = exp.Var(this=f":k{len(bound)}"), exp.Var(this=f":k{len(bound) + 1}")
                condition = exp.Between(this=target, low=low, high=high)
                bound += [bindparam(f"k{len(bound) + number}", end, type_=kind) for number, end in enumerate(ends)]
            else:
                continue
            assert isinstance(query, exp.Select)
            query = query.where(condition, copy=False)
        bound += self._bind(query, None)
        statement = text(query.sql(dialect=store.sql_dialect)).bindparams(*bound)
        return self._session.execute(statement, bind_arguments={"service": piece.service})

    # -- SQL

    def _select(self, store: SQLStore, scan: Scan, keys: Sequence[Keys]) -> list[Any]:
        columns = [type_coerce(scan.table.c[name], storage_type(scan.table.c[name].type)) for name in scan.columns]
        statement = select(*columns).select_from(scan.table)
        for number, predicate in enumerate(scan.predicates):
            statement = statement.where(self._condition(store, scan, predicate, f"q{number}_"))
        lists: list[tuple[Any, list[Any]]] = []
        for name, values, ends in keys:
            kind = storage_type(scan.table.c[name].type)
            column = type_coerce(scan.table.c[name], kind)
            if values is not None:
                if not values:
                    return []
                lists.append((column, to_database(kind, values)))
            elif ends is not None:
                statement = statement.where(column.between(*ends))
        arguments = {"service": scan.service}
        if not lists:
            return list(self._session.execute(statement, bind_arguments=arguments))
        lists.sort(key=lambda one: len(one[1]))
        # The shortest list is cut into batches; the others' keys are left to the finish.
        column, values = lists[0]
        rows: list[Any] = []
        for batch in batches(((value,) for value in values), store.keys_per_statement(1)):
            wanted = statement.where(store.key_filter([column], batch))
            rows.extend(self._session.execute(wanted, bind_arguments=arguments))
        return rows

    def _condition(self, store: SQLStore, scan: Scan, predicate: exp.Expr, prefix: str) -> Any:
        """Return a pushed condition as SQL of the service's own dialect; every value in it is bound."""
        made = exp.Paren(this=predicate.copy())
        bound = self._bind(made, lambda node: _compared_type(scan, node), prefix)
        return text(made.sql(dialect=store.sql_dialect, identify=True)).bindparams(*bound)

    def _bind(
        self, tree: exp.Expr, kind_of: Callable[[exp.Expr], types.TypeEngine[Any] | None] | None, prefix: str = "v"
    ) -> list[Any]:
        """Write a marker in the place of each value and return the parameters.

        Without ``kind_of`` numbers stay as they are: PostgreSQL wants them so in LIMIT, and by position in GROUP BY.
        """
        bound: list[Any] = []
        for node in list(tree.find_all(exp.Placeholder, exp.Literal)):
            if isinstance(node, exp.Literal) and kind_of is None and not _is_text_value(node):
                if node.is_string:
                    node.set("this", str(node.this).replace(":", "\\:"))  # For text() a colon begins a parameter.
                continue
            name = f"{prefix}{len(bound)}"
            value = self._parameters[str(node.this)] if isinstance(node, exp.Placeholder) else node.to_py()
            kind = kind_of(node) if kind_of is not None else None
            many = isinstance(value, list | tuple)
            bound.append(bindparam(name, to_database(kind, value) if kind else value, type_=kind, expanding=many))
            marker = exp.Var(this=f":{name}")
            if many and isinstance(node.parent, exp.In):
                node.parent.replace(exp.In(this=node.parent.this, field=marker))  # SQLAlchemy writes the parentheses.
            else:
                node.replace(marker)
        return bound

    # -- documents

    def _find(self, store: DocumentStore, scan: Scan, keys: Sequence[Keys]) -> list[Any]:
        session = self._session
        lists = [(name, values) for name, values, _ in keys if values is not None]
        if any(not values for _, values in lists):
            return []
        transaction = session.documents.transactions.get(store.service)
        return session.bridge.run(
            store.scan(scan.table, scan.columns, lists, transaction=transaction, sync=session.uses_threads)
        )


def _is_text_value(node: exp.Literal) -> bool:
    """Say whether a literal is compared with a text; others may be part of the syntax, as in an interval."""
    if not node.is_string or not isinstance(node.parent, exp.Binary | exp.In | exp.Between):
        return False
    columns = list(node.parent.find_all(exp.Column))
    return bool(columns) and all(column.is_type(*exp.DataType.TEXT_TYPES) for column in columns)


def _with_integers(row: tuple[Any, ...], columns: Sequence[int]) -> tuple[Any, ...]:
    """Return a row in which sums of integers are integers, which PostgreSQL makes decimals of."""
    values = list(row)
    for number in columns:
        values[number] = None if values[number] is None else int(values[number])
    return tuple(values)


def _compared_type(scan: Scan, node: exp.Expr) -> types.TypeEngine[Any] | None:
    """Return the type of the column that a value is compared with; None where there is none, or are several."""
    leaf = node.find_ancestor(exp.Binary, exp.In, exp.Between, exp.Is)
    columns = {column.name for column in leaf.find_all(exp.Column)} if leaf is not None else set()
    return storage_type(scan.table.c[columns.pop()].type) if len(columns) == 1 else None
