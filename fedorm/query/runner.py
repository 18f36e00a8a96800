"""The federated select of one federation: its planner, its plans by statement, its DuckDB."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, Executable
from sqlglot import exp

from fedorm.cache.results import ResultCache
from fedorm.exc import UnsupportedQueryError
from fedorm.query.dialect import FederatedDialect, compiled_for, federated_engine
from fedorm.query.executor import Execution, Measured
from fedorm.query.explain import Explanation, explain_plan
from fedorm.query.finish import Finisher
from fedorm.query.plan import Plan
from fedorm.query.planner import make_plan, parse
from fedorm.query.remembering import Remembering
from fedorm.query.tables import Tables
from fedorm.stats import UNOBSERVED, Observer
from fedorm.stores.base import Capability, DocumentStore, Store
from fedorm.stores.offload import Workers
from fedorm.stores.sql import SQLStore

if TYPE_CHECKING:
    from fedorm.session import FederatedSession

PLANS = 500
"""How many statements' plans are kept."""


FRESH = 60.0
"""Seconds after which row counts are asked for again."""
UNKNOWN = 1000.0
"""Rows of a table of which nothing is known."""


class _SessionFacts:
    """What the planner asks, answered over a session's connections."""

    def __init__(self, runner: QueryRunner, session: FederatedSession) -> None:
        self._runner, self._session = runner, session

    @property
    def tables(self) -> Tables:
        """The tables there are."""
        return self._runner.tables

    def takes_queries(self, service: str) -> bool:
        """Say whether a service means by a whole query what PostgreSQL means."""
        return Capability.WHOLE_QUERIES in self._runner.stores[service].capabilities

    def rows(self, service: str, table: str) -> float:
        """Return about how many rows a table has."""
        return self._runner.row_counts(self._session, service).get(table, UNKNOWN)


class QueryRunner:
    """Plans statements over several services and runs them for sessions."""

    def __init__(
        self, stores: Mapping[str, Store], *, memory_limit: str | None = None, spill_directory: str | None = None
    ) -> None:
        documents = {name: store.document_tables for name, store in stores.items() if isinstance(store, DocumentStore)}
        self.stores = stores
        self.tables = Tables(stores, documents)
        self._plans: OrderedDict[tuple[str, frozenset[str]], Plan] = OrderedDict()
        self._finisher = Finisher(memory_limit=memory_limit, spill_directory=spill_directory)
        self._workers = Workers("finish", 2)
        self._engines: dict[bool, Engine] = {}
        self.planned = 0
        """How many statements have been planned, and not found among those planned before."""
        self._counts: dict[str, tuple[float, dict[str, float]]] = {}
        self.observer: Observer = UNOBSERVED
        """What watches each step."""
        self.cache: ResultCache | None = None

    def engine(self, *, is_async: bool) -> Engine:
        """Return the engine that statements over several services are sent to."""
        if is_async not in self._engines:
            self._engines[is_async] = federated_engine(Remembering(self), is_async=is_async)
        return self._engines[is_async]

    def plan(self, session: FederatedSession, sql: str, expanding: Iterable[str] = ()) -> Plan:
        """Return the plan of a statement, made once for each text."""
        key = sql, frozenset(expanding)
        plan = self._plans.get(key)
        if plan is None:
            self.planned += 1
            plan = self._plans[key] = make_plan(sql, _SessionFacts(self, session), lists=key[1])
            while len(self._plans) > PLANS:
                self._plans.popitem(last=False)
        else:
            self._plans.move_to_end(key)
        return plan

    @staticmethod
    @lru_cache(maxsize=PLANS)
    def names_tables(sql: str) -> bool:
        """Say whether a text is a query over tables; one that names none is for no service."""
        try:
            return parse(sql).find(exp.Table) is not None
        except UnsupportedQueryError:
            return False

    def run(
        self, session: FederatedSession, sql: str, expanding: frozenset[str], parameters: Mapping[str, Any]
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Plan, run the pieces and finish."""
        session._autoflush()
        plan = self.plan(session, sql, expanding)
        execution = Execution(session, plan, parameters, self.observer)
        if plan.finish is None:
            return list(plan.names), execution.rows()
        tables = execution.tables()
        needed = {name: parameters[name] for name in plan.parameters}
        _, rows = self._workers.run(self._finisher.run, plan.finish, tables, needed)
        return list(plan.names), rows

    def explain(
        self, session: FederatedSession, statement: Executable, parameters: Mapping[str, Any], *, analyze: bool
    ) -> Explanation:
        """Plan a statement, run it for ``analyze``, and return what was, or would be, done."""
        sql, expanding, values = compiled_for(statement, FederatedDialect(self, is_async=False), parameters)
        session._autoflush()
        plan = self.plan(session, sql, expanding)
        if not analyze:
            return explain_plan(plan, self.stores, {}, None)
        execution = Execution(session, plan, values, self.observer)
        started = time.perf_counter()
        if plan.finish is None:
            rows = execution.rows()
            took = Measured(len(rows), 0, (time.perf_counter() - started) * 1000)
            return explain_plan(plan, self.stores, {plan.steps[0].name: took}, None)
        tables = execution.tables()
        started = time.perf_counter()
        needed = {name: values[name] for name in plan.parameters}
        _, rows = self._workers.run(self._finisher.run, plan.finish, tables, needed)
        finished = Measured(len(rows), 0, (time.perf_counter() - started) * 1000)
        return explain_plan(plan, self.stores, execution.measured, finished)

    def row_counts(self, session: FederatedSession, service: str) -> dict[str, float]:
        """Return about how many rows a service's tables have; asked for again after a while."""
        asked, counts = self._counts.get(service, (0.0, {}))
        if asked and time.monotonic() - asked < FRESH:
            return counts
        store = self.stores[service]
        if isinstance(store, DocumentStore):
            counts = session.bridge.run(store.row_counts(sync=session.uses_threads))
        elif isinstance(store, SQLStore) and (statement := store.row_counts()) is not None:
            found = session.execute(statement, bind_arguments={"service": service})
            counts = {str(name): float(number) for name, number in found}
        self._counts[service] = time.monotonic(), counts
        return counts

    def close(self) -> None:
        """End the threads and give DuckDB's memory back."""
        self._workers.close()
        self._finisher.close()
