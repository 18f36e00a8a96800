"""Which service a model, a table or a statement belongs to, as a session answers it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import Connection, Engine, Table, inspect
from sqlalchemy.orm import Mapper, Session

from fedorm.catalog import owner_of, services_of
from fedorm.exc import UnknownServiceError, UnroutedStatementError, UnsupportedOperationError
from fedorm.stores.base import Store
from fedorm.stores.sql import SQLStore


class RoutedSession(Session):
    """A ``Session`` that finds the engine of each statement by what it names; it routes or raises."""

    def __init__(self, *, stores: Mapping[str, Store], uses_threads: bool, **options: Any) -> None:
        self.stores = stores
        self.uses_threads = uses_threads
        super().__init__(**options)

    def get_bind(
        self,
        mapper: Any = None,
        *,
        clause: Any = None,
        bind: Any = None,
        service: str | None = None,
        **other: Any,
    ) -> Any:
        """Return the engine of the service that a model, a table or a statement belongs to.

        The first of these that is given decides: 1. ``bind`` itself; 2. ``service``, as in
        ``bind_arguments={"service": "orders"}``; 3. the model or mapper; 4. the tables named in ``clause``.
        Raises ``UnknownServiceError`` for a service this federation does not have and ``UnroutedStatementError``
        when nothing names one; never guesses.
        """
        if bind is not None:
            return bind
        if service is None:
            service = self._service_of(mapper, clause)
        return self._engine_of(self.store_named(service))

    def _service_of(self, mapper: Any, clause: Any) -> str:
        if isinstance(mapper, Table):
            mapper, clause = None, mapper
        if mapper is not None:
            mapped = cast("Mapper[Any]", inspect(mapper))
            service = getattr(mapped.class_, "__service__", None)
            if service is None and isinstance(mapped.local_table, Table):
                service = owner_of(mapped.local_table)
            if service is not None:
                return str(service)
        services = services_of(clause) if clause is not None else set()
        if services:
            # Of several, any: the engine refuses the statement and names them all.
            return min(services)
        raise UnroutedStatementError(
            "nothing in this statement says which service it is for: use a model or a table of one, or pass "
            'bind_arguments={"service": "..."} to execute()'
        )

    def _engine_of(self, store: Store) -> Engine:
        if not isinstance(store, SQLStore):
            raise UnsupportedOperationError(
                "holds documents, not tables: use add(), get() and find()", service=store.service, address=store.address
            )
        return store.bind_for(sync=self.uses_threads)

    def store_named(self, service: str, used_by: str | None = None) -> Store:
        """Return the store of a service. Raises ``UnknownServiceError``."""
        store = self.stores.get(service)
        if store is None:
            raise UnknownServiceError(service, known=self.stores, used_by=used_by)
        return store

    def store_of(self, model: type[Any]) -> Store:
        """Return the store of a model. Raises ``UnknownServiceError``."""
        return self.store_named(model.__service__, used_by=model.__name__)

    def connected(self, service: str) -> Connection | None:
        """Return the connection to a service that this session's transaction has already, None without one."""
        engine, transaction = self._engine_of(self.store_named(service)), self._transaction
        while transaction is not None:
            found = transaction._connections.get(engine)
            if found is not None:
                return found[0]
            transaction = transaction._parent
        return None
