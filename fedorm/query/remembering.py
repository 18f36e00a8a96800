"""The result cache before the planner: the rows of a statement over several services, if they are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from fedorm.cache.codec import UnknownTypeError, digest
from fedorm.cache.results import Ask, ttl_of
from fedorm.cache.rows import Rows
from fedorm.catalog import STRATEGY
from fedorm.query.plan import Piece, Plan
from fedorm.stores.base import DocumentStore
from fedorm.stores.sql import SQLStore
from fedorm.stores.watching import info_of, reads_own_changes, snapshot_of

if TYPE_CHECKING:
    from fedorm.query.runner import QueryRunner
    from fedorm.session import FederatedSession


class Remembering:
    """Stands before a ``QueryRunner``."""

    def __init__(self, runner: QueryRunner) -> None:
        self._runner = runner

    def run(
        self,
        session: FederatedSession,
        sql: str,
        expanding: frozenset[str],
        parameters: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> tuple[list[str], Any]:
        """Return what the runner returns, or returned before."""
        cache, ttl = self._runner.cache, ttl_of(options)
        if cache is None or ttl is None or options.get("stream_results") or options.get("yield_per"):
            return self._runner.run(session, sql, expanding, parameters, options)
        session._autoflush()
        plan = self._runner.plan(session, sql, expanding, options.get(STRATEGY, "auto"))
        ask = _ask(session, plan, sql, parameters, ttl)
        if ask is None:
            return self._runner.run(session, sql, expanding, parameters, options)

        def fetch() -> Rows:
            names, rows = self._runner.run(session, sql, expanding, parameters, options)
            return Rows(tuple((name,) for name in names), [tuple(row) for row in rows])

        found = cache.rows(ask, fetch)
        return [name for (name,) in found.description], list(found.rows)


def _ask(session: FederatedSession, plan: Plan, sql: str, parameters: Mapping[str, Any], ttl: float) -> Ask | None:
    """Return the question to the cache; None for a statement that has to run."""
    names: list[str] = []
    identities: list[str] = []
    since: list[int] = []
    patience: list[float] = []
    for service, tables in sorted(_tables(plan, session).items()):
        store = session.store_named(service)
        if isinstance(store, DocumentStore):
            if session.has_documents and service in session.documents.transactions:
                # Its snapshot is as old as the transaction, and what it has written is in there.
                return None
        elif isinstance(store, SQLStore):
            connection = session.connected(service)
            if connection is not None:
                if reads_own_changes(info_of(connection.connection), tables):
                    return None
                began = snapshot_of(store, connection)
                since += [] if began is None else [began]
                # The one that runs may be waiting for this very connection.
                patience.append(store.settings.pool_timeout / 2)
        names += store.place.read(tables)
        identities.append(store.place.identity)
    try:
        key = digest("federated", session.uses_threads, sql, identities, dict(parameters))
    except UnknownTypeError:
        return None
    return Ask(key, tuple(names), ttl, min(since, default=None), min(patience, default=None))


def _tables(plan: Plan, session: FederatedSession) -> dict[str, frozenset[str]]:
    """Return the tables and collections that a plan reads, by service."""
    found: dict[str, set[str]] = {}
    for step in plan.steps:
        names = found.setdefault(step.service, set())
        if isinstance(step, Piece):
            names.update(table.name.lower() for table in step.query.find_all(exp.Table))
        elif isinstance(session.store_named(step.service), DocumentStore):
            from fedorm.stores.entity_table import COLLECTION

            names.add(str(step.table.info[COLLECTION]).lower())
        else:
            names.add(step.table.name.lower())
    return {service: frozenset(names) for service, names in found.items()}
