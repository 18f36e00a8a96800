"""The federated select of one federation: its planner, its plans by statement, its DuckDB."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine
from sqlglot import exp

from fedorm.exc import UnsupportedQueryError
from fedorm.query.dialect import federated_engine
from fedorm.query.executor import Execution
from fedorm.query.finish import Finisher
from fedorm.query.plan import Plan
from fedorm.query.planner import make_plan, parse
from fedorm.query.tables import Tables
from fedorm.stores.base import Capability, DocumentStore, Store
from fedorm.stores.offload import Workers

if TYPE_CHECKING:
    from fedorm.session import FederatedSession

PLANS = 500
"""How many statements' plans are kept."""


class QueryRunner:
    """Plans statements over several services and runs them for sessions."""

    def __init__(
        self, stores: Mapping[str, Store], *, memory_limit: str | None = None, spill_directory: str | None = None
    ) -> None:
        documents = {name: store.document_tables for name, store in stores.items() if isinstance(store, DocumentStore)}
        self._stores = stores
        self.tables = Tables(stores, documents)
        self._plans: OrderedDict[tuple[str, frozenset[str]], Plan] = OrderedDict()
        self._finisher = Finisher(memory_limit=memory_limit, spill_directory=spill_directory)
        self._workers = Workers("finish", 2)
        self._engines: dict[bool, Engine] = {}

    def engine(self, *, is_async: bool) -> Engine:
        """Return the engine that statements over several services are sent to."""
        if is_async not in self._engines:
            self._engines[is_async] = federated_engine(self, is_async=is_async)
        return self._engines[is_async]

    def plan(self, sql: str, expanding: Iterable[str] = ()) -> Plan:
        """Return the plan of a statement, made once for each text."""
        key = sql, frozenset(expanding)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = make_plan(sql, self, lists=key[1])
            while len(self._plans) > PLANS:
                self._plans.popitem(last=False)
        else:
            self._plans.move_to_end(key)
        return plan

    def names_tables(self, sql: str) -> bool:
        """Say whether a text is a query over tables of this federation; one that names none is for no service."""
        try:
            return parse(sql).find(exp.Table) is not None
        except UnsupportedQueryError:
            return False

    def run(
        self, session: FederatedSession, sql: str, expanding: frozenset[str], parameters: Mapping[str, Any]
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Plan, run the pieces and finish."""
        session._autoflush()
        plan = self.plan(sql, expanding)
        execution = Execution(session, plan, parameters)
        if plan.finish is None:
            return list(plan.names), execution.rows()
        tables = execution.tables()
        needed = {name: parameters[name] for name in plan.parameters}
        _, rows = self._workers.run(self._finisher.run, plan.finish, tables, needed)
        return list(plan.names), rows

    # -- what the planner asks

    def takes_queries(self, service: str) -> bool:
        """Say whether a service means by a whole query what PostgreSQL means."""
        return Capability.WHOLE_QUERIES in self._stores[service].capabilities

    def rows(self, service: str, table: str) -> float:
        """Return about how many rows a table has."""
        return 1000.0

    def close(self) -> None:
        """End the threads and give DuckDB's memory back."""
        self._workers.close()
        self._finisher.close()
