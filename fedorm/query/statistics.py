"""How many rows tables have, by the servers' own statistics; asked for again after a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import TextClause

from fedorm.catalog import catalog
from fedorm.stores.base import DocumentStore, Store
from fedorm.stores.sql import SQLStore

if TYPE_CHECKING:
    from fedorm.session import FederatedSession

FRESH = 60.0
"""Seconds after which a service is asked again."""
UNKNOWN = 1000.0
"""Rows of a table of which nothing is known."""

Distinct = dict[str, dict[str, float]]


class Statistics:
    """What is known of the tables of some services."""

    def __init__(self, stores: Mapping[str, Store]) -> None:
        self._stores = stores
        self._rows: dict[str, tuple[float, dict[str, float]]] = {}
        self._distinct: dict[str, tuple[float, Distinct]] = {}
        self._ordered: dict[str, bool] = {}

    def rows(self, session: FederatedSession, service: str) -> Mapping[str, float]:
        """Return about how many rows a service's tables have, by their names."""
        rows: Mapping[str, float] = self._kept(self._rows, service, lambda: self._ask_rows(session, service))
        return rows

    def distinct(self, session: FederatedSession, service: str) -> Mapping[str, Mapping[str, float]]:
        """Return about how many different values the columns of a service's tables have."""
        distinct: Distinct = self._kept(self._distinct, service, lambda: self._ask_distinct(session, service))
        return distinct

    def orders_texts(self, session: FederatedSession, service: str) -> bool:
        """Say whether a service orders texts by their code points, whatever a database's collation is called."""
        if service not in self._ordered:
            store = self._stores[service]
            if isinstance(store, SQLStore):
                statement = store.orders_by_code_points()
                if statement is not None:
                    self._ordered[service] = bool(self._ask(session, store, statement)[0][0])
            self._ordered.setdefault(service, True)
        return self._ordered[service]

    @staticmethod
    def _kept(known: dict[str, tuple[float, Any]], service: str, ask: Callable[[], Any]) -> Any:
        asked, found = known.get(service, (0.0, {}))
        if not asked or time.monotonic() - asked >= FRESH:
            found = ask()
            known[service] = time.monotonic(), found
        return found

    def _ask_rows(self, session: FederatedSession, service: str) -> dict[str, float]:
        store = self._stores[service]
        if isinstance(store, DocumentStore):
            return session.bridge.run(store.row_counts(sync=session.uses_threads))
        if isinstance(store, SQLStore) and (statement := store.row_counts()) is not None:
            return {str(name): float(number) for name, number in self._ask(session, store, statement)}
        return {}

    def _ask_distinct(self, session: FederatedSession, service: str) -> Distinct:
        store, names = self._stores[service], [table.name for table in catalog.metadata(service).tables.values()]
        found: Distinct = {}
        if isinstance(store, SQLStore) and names and (statement := store.distinct_counts(names)) is not None:
            for table, column, number in self._ask(session, store, statement):
                if number and number > 0:
                    found.setdefault(str(table), {})[str(column)] = float(number)
        return found

    @staticmethod
    def _ask(session: FederatedSession, store: SQLStore, statement: TextClause) -> list[Any]:
        """Ask over the session's connection if it has one, else over another, so that the session does not get one."""
        if session.connected(store.service) is not None:
            return list(session.execute(statement, bind_arguments={"service": store.service}))
        with store.bind_for(sync=session.uses_threads).connect() as connection:
            return list(connection.execute(statement))
