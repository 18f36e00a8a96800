"""The federated select of one federation: its planner, its plans by statement, its DuckDB."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from sqlalchemy import Engine, Executable, Table
from sqlglot import exp

from fedorm.cache.results import ResultCache
from fedorm.catalog import STRATEGY
from fedorm.config import QuerySettings
from fedorm.exc import UnsupportedQueryError
from fedorm.query.arrow import as_promised
from fedorm.query.dialect import FederatedDialect, compiled_for, federated_engine
from fedorm.query.executor import Execution
from fedorm.query.explain import Explanation, explain_plan
from fedorm.query.finish import Finisher
from fedorm.query.finishing import Finish, OutsideError
from fedorm.query.heads import first_rows
from fedorm.query.measured import Measured
from fedorm.query.outside import Attached
from fedorm.query.parsing import parse, refuse_text
from fedorm.query.plan import Head, Plan, Scan
from fedorm.query.planner import make_plan
from fedorm.query.plans import PLANS, Plans
from fedorm.query.remembering import Remembering
from fedorm.query.rules.semijoins import Strategy
from fedorm.query.small import UnfitError
from fedorm.query.statistics import UNKNOWN, Statistics
from fedorm.query.tables import Tables
from fedorm.stats import UNOBSERVED, Observer
from fedorm.stores.base import Capability, DocumentStore, Store
from fedorm.stores.offload import Workers
from fedorm.stores.sql import SQLStore

if TYPE_CHECKING:
    from fedorm.session import FederatedSession

STRATEGIES: tuple[Strategy, ...] = ("auto", "lookup", "hash", "nested_loop")


@lru_cache(maxsize=PLANS)
def _names_tables(sql: str) -> bool:
    return parse(sql).find(exp.Table) is not None


class _SessionFacts:
    """What the planner asks, answered over a session's connections; ``inside`` are read over these alone."""

    def __init__(self, runner: QueryRunner, session: FederatedSession, inside: frozenset[str]) -> None:
        self._runner, self._session, self._inside = runner, session, inside
        self.sizes: dict[tuple[str, str], float] = {}
        """How many rows the tables have that were asked for."""

    @property
    def tables(self) -> Tables:
        """The tables there are."""
        return self._runner.tables

    def holds_documents(self, service: str) -> bool:
        """Say whether a service holds documents."""
        return isinstance(self._runner.stores[service], DocumentStore)

    def takes_queries(self, service: str) -> bool:
        """Say whether a service means by a whole query what PostgreSQL means."""
        return Capability.WHOLE_QUERIES in self._runner.stores[service].capabilities

    def orders_texts(self, service: str) -> bool:
        """Say whether a service orders texts by their code points."""
        return self._runner.statistics.orders_texts(self._session, service)

    def rows(self, service: str, table: str) -> float:
        """Return about how many rows a table has."""
        rows = self._runner.statistics.rows(self._session, service).get(table, UNKNOWN)
        self.sizes[service, table] = rows
        return rows

    def distinct(self, service: str, table: str) -> Mapping[str, float]:
        """Return about how many different values columns of a table have, as far as that is known."""
        return self._runner.statistics.distinct(self._session, service).get(table, {})

    def outside(self, service: str, table: Table, columns: Sequence[str]) -> bool:
        """Say whether the finish can read columns of a table by itself."""
        if service in self._inside:
            return False
        attached = self._runner.attached(self._session, service)
        return attached is not None and self._runner.view(attached, table, columns) is not None

    def filters(self, service: str) -> bool:
        """Say whether the server checks conditions when the finish reads by itself."""
        attached = self._runner.attached(self._session, service)
        return attached is not None and attached.scanner.filters

    def joins(self, service: str) -> bool:
        """Say whether a service joins tables of its own well."""
        return Capability.JOINS in self._runner.stores[service].capabilities

    def adds_exactly(self, service: str) -> bool:
        """Say whether a service adds up integers and decimals without rounding."""
        return Capability.EXACT_SUMS in self._runner.stores[service].capabilities

    def streams(self, service: str, others: Collection[str]) -> bool:
        """Say whether a service's rows can be read a part at a time, while the ``others`` are asked."""
        store = self._runner.stores[service]
        streams = isinstance(store, SQLStore) and Capability.STREAMING in store.capabilities
        return streams and (store.answers_while_streaming or service not in others)  # type: ignore[attr-defined]

    def keys_per_statement(self, service: str) -> int:
        """Return how many keys one statement takes."""
        return self._runner.stores[service].keys_per_statement(1)


class QueryRunner:
    """Plans statements over several services and runs them for sessions."""

    def __init__(self, stores: Mapping[str, Store], tables: Tables, limits: QuerySettings) -> None:
        self.stores, self.tables = stores, tables
        self.statistics = Statistics(stores)
        self._plans = Plans()
        self._finisher = Finisher(limits)
        self._workers = Workers("finish", 4)
        self._engines: dict[bool, Engine] = {}
        self.planned = 0
        """How many statements have been planned, and not found among those planned before."""
        self.observer: Observer = UNOBSERVED
        """What watches each step."""
        self.cache: ResultCache | None = None

    def engine(self, *, is_async: bool) -> Engine:
        """Return the engine that statements over several services are sent to."""
        if is_async not in self._engines:
            self._engines[is_async] = federated_engine(Remembering(self), is_async=is_async)
        return self._engines[is_async]

    # -- planning

    def plan(
        self,
        session: FederatedSession,
        sql: str,
        expanding: Iterable[str] = (),
        strategy: Strategy = "auto",
        inside: frozenset[str] = frozenset(),
    ) -> Plan:
        """Return the plan of a statement, made once for each text.

        ``inside`` names services that are to be read over the session's connections alone.
        """
        key = sql, frozenset(expanding), strategy, inside, self.tables.version
        facts = _SessionFacts(self, session, inside)
        plan = self._plans.get(key, facts.rows)
        if plan is None:
            if strategy not in STRATEGIES:
                raise UnsupportedQueryError(f"join_strategy={strategy!r}: one of {', '.join(STRATEGIES)}")
            self.planned += 1
            plan = make_plan(sql, facts, key[1], strategy)
            self._workers.run(self._finisher.check, plan)
            self._plans.put(key, plan, facts.sizes)
        session.crossed |= len(plan.services) > 1
        return plan

    def _plan_for(self, session: FederatedSession, sql: str, expanding: frozenset[str], strategy: Strategy) -> Plan:
        """Return a plan that reads outside of the session only where the session has written nothing."""
        plan = self.plan(session, sql, expanding, strategy)
        outside = {step.service for step in plan.steps if isinstance(step, Scan) and step.outside}
        inside = frozenset(service for service in outside if not self._may_read_outside(session, service))
        return self.plan(session, sql, expanding, strategy, inside) if inside else plan

    def _may_read_outside(self, session: FederatedSession, service: str) -> bool:
        store = self.stores[service]
        return isinstance(store, SQLStore) and store.may_read_outside(session.connected(service))

    def attached(self, session: FederatedSession, service: str) -> Attached | None:
        """Return a service's database as the finish reads it; None where it cannot."""
        store = self.stores[service]
        if not isinstance(store, SQLStore):
            return None
        scanner = store.scanner(store.bind_for(sync=session.uses_threads))
        return None if scanner is None else self._workers.run(self._finisher.attached, service, scanner)

    def view(self, attached: Attached, table: Table, columns: Sequence[str]) -> exp.Query | None:
        """Return how the finish reads a table; None where it cannot."""
        return self._workers.run(self._finisher.view, attached, table, columns)

    def names_tables(self, sql: str) -> bool:
        """Say whether a text is a query over tables; one that names none is for no service.

        Raises ``UnsupportedQueryError`` or ``UnroutedStatementError`` for a text that no service can be found for.
        """
        try:
            return _names_tables(sql)
        except UnsupportedQueryError:
            refuse_text(sql, self.stores)
            return False

    # -- running

    def run(
        self,
        session: FederatedSession,
        sql: str,
        expanding: frozenset[str],
        parameters: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> tuple[list[str], Any]:
        """Plan, run the pieces and finish; return the names of the columns, and the rows or a ``Finish`` to read on."""
        session._autoflush()
        plan = self._plan_for(session, sql, expanding, options.get(STRATEGY, "auto"))
        names = list(plan.names)
        streams = options.get("stream_results") or options.get("yield_per")
        if plan.finish is None:
            execution = self._execution(session, plan, parameters)
            parts = execution.parts() if streams else None
            return names, execution.result() if parts is None else parts

        def read(plan: Plan) -> Any:
            if plan.head is not None:
                execution = self._execution(session, plan.head.plan, parameters)
                if (rows := self._first(execution, plan.head, parameters)) is not None:
                    return rows
            execution = self._execution(session, plan, parameters)
            execution.read()
            if (rows := self._few(execution, plan, parameters)) is not None:
                return rows
            finish = self._finish(execution, plan, parameters)
            return finish.started() if streams else finish.rows()

        return names, self._read(session, sql, expanding, plan, read)

    @staticmethod
    def _few(execution: Execution, plan: Plan, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]] | None:
        """Return the result if Python can make it of what was found, and sooner than DuckDB; else None."""
        if plan.small is None or not execution.has_few():
            return None
        try:
            return plan.small.run(execution.found, parameters)
        except UnfitError:
            return None

    def _first(self, execution: Execution, head: Head, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]] | None:
        """Return the first rows of a result if they are found without reading everything; else None."""

        def finish(execution: Execution) -> list[tuple[Any, ...]]:
            rows = self._few(execution, head.plan, parameters)
            return rows if rows is not None else self._finish(execution, head.plan, parameters).rows()

        return first_rows(execution, head, parameters, finish)

    def arrow(
        self, session: FederatedSession, statement: Executable, parameters: Mapping[str, Any], strategy: Strategy
    ) -> pa.Table:
        """Plan, run the pieces and finish; return the result as Arrow."""
        sql, expanding, values = compiled_for(statement, FederatedDialect(self, is_async=False), parameters)
        session._autoflush()
        plan = self._plan_for(session, sql, expanding, strategy)

        def read(plan: Plan) -> pa.Table:
            execution = self._execution(session, plan, values)
            execution.read()
            if plan.finish is None:
                ((_, rows),) = execution.tables().items()
                return rows
            return self._finish(execution, plan, values).table()

        table: pa.Table = self._read(session, sql, expanding, plan, read)
        return as_promised(table.rename_columns(list(plan.names)))

    def _read(
        self, session: FederatedSession, sql: str, expanding: frozenset[str], plan: Plan, read: Callable[[Plan], Any]
    ) -> Any:
        """Read by a plan; when what DuckDB reads by itself fails, once more over the session's own connections.

        That succeeds, or says in the service's words what is wrong.
        """
        try:
            return read(plan)
        except OutsideError as error:
            inside = frozenset(
                step.service
                for step in plan.steps
                if isinstance(step, Scan) and (step.outside or step.most_keys is not None)
            )
            try:
                return read(self.plan(session, sql, expanding, "auto", inside))
            except UnsupportedQueryError as same:
                raise same from error

    def _execution(self, session: FederatedSession, plan: Plan, parameters: Mapping[str, Any]) -> Execution:
        return Execution(
            session, plan, parameters, self.observer, lambda service: self._may_read_outside(session, service)
        )

    def _finish(self, execution: Execution, plan: Plan, parameters: Mapping[str, Any]) -> Finish:
        assert plan.finish is not None
        views: dict[str, exp.Query] = {}
        for step in execution.outside:
            attached = self.attached(execution.session, step.service)
            view = self.view(attached, step.table, step.columns) if attached is not None else None
            if view is None:
                raise OutsideError(f"service {step.service!r} can no longer be read by DuckDB")
            views[step.name] = view
        needed = {name: parameters[name] for name in plan.parameters}
        return Finish(self._finisher, self._workers, execution.tables(), views, plan.finish, needed)

    # -- explaining

    def explain(
        self,
        session: FederatedSession,
        statement: Executable,
        parameters: Mapping[str, Any],
        *,
        analyze: bool,
        strategy: Strategy = "auto",
    ) -> Explanation:
        """Plan a statement, run it for ``analyze``, and return what was, or would be, done."""
        sql, expanding, values = compiled_for(statement, FederatedDialect(self, is_async=False), parameters)
        session._autoflush()
        plan = self._plan_for(session, sql, expanding, strategy)
        if not analyze:
            return explain_plan(plan if plan.head is None else plan.head.plan, self.stores, {}, None)
        started = time.perf_counter()
        if plan.head is not None:
            execution = self._execution(session, plan.head.plan, values)
            execution.analyzes = True
            if (rows := self._first(execution, plan.head, values)) is not None:
                took = Measured(len(rows), 0, (time.perf_counter() - started) * 1000)
                return explain_plan(plan.head.plan, self.stores, execution.measured(), took)
        execution = self._execution(session, plan, values)
        if plan.finish is None:
            execution.result()
            return explain_plan(plan, self.stores, execution.measured(), None)
        execution.read()
        started = time.perf_counter()
        rows = self._few(execution, plan, values)
        if rows is not None:
            took = Measured(len(rows), 0, (time.perf_counter() - started) * 1000)
            return explain_plan(plan, self.stores, execution.measured(), took, in_python=True)
        measured, table = self._finish(execution, plan, values).measured()
        took = Measured(table.num_rows, table.nbytes, (time.perf_counter() - started) * 1000)
        changed = plan.with_outside(step.name for step in execution.outside)
        return explain_plan(changed, self.stores, execution.measured() | measured, took)

    def close(self) -> None:
        """End the threads and give DuckDB's memory back."""
        self._workers.close()
        self._finisher.close()
