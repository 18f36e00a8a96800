"""Writing events: in the transaction of the changes that they tell of, and in the order of those.

A flush writes its events at its end, over the connection that it has used, in one statement for each service. What
models make of its changes comes first, then what ``emit()`` was given since the last flush.

Whoever hands events on in the same process need not wait until it looks again: each function in a store's
``on_events`` is called, without arguments, after a commit that has written events to that service's outbox, in the
thread or task that has committed; it must neither block nor raise.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast
from zlib import crc32

from pydantic import BaseModel
from sqlalchemy import Connection
from sqlalchemy.orm.session import SessionTransactionState
from sqlalchemy.util import langhelpers

from fedorm.bookkeeping import ensure, ensure_beside, is_ensured
from fedorm.catalog import SERVICE, service_of
from fedorm.exc import EventError
from fedorm.outbox.changes import RowChanges
from fedorm.outbox.documents import document_events
from fedorm.outbox.encoding import encoded
from fedorm.outbox.events import Event
from fedorm.outbox.plans import Row
from fedorm.outbox.rules import has_outbox
from fedorm.outbox.services import refusal_of
from fedorm.outbox.statements import writing
from fedorm.outbox.tables import PARTITIONS, State, fedorm_outbox
from fedorm.stores.base import Capability, DocumentStore
from fedorm.stores.sql import SQLStore

if TYPE_CHECKING:
    from fedorm.session import FederatedSession
    from fedorm.tracked import Write


class Outbox:
    """The events of a session that are still to be written, and what it takes to write them."""

    def __init__(self, session: FederatedSession) -> None:
        self._session = session
        self.changes = RowChanges(session)
        self._pending: list[tuple[str, Row]] = []
        """Services, and events for them, that the next flush writes."""
        self._written: set[str] = set()
        """Services that events were written to in this transaction."""

    # -- taking events

    def emit(self, what: Event | BaseModel, *, service: str | None, key: Any, type: str | None) -> Event:
        """Take an event in, to be written by the next flush; return it as it will be written."""
        made = Event.of(what, type=type, key=key)
        name = service or getattr(what.__class__, "__service__", None) or made.service or self._only_service(made)
        store = self._session.store_named(name, used_by=f"event {made.type!r}")
        if (refusal := refusal_of(store)) is not None:
            raise refusal
        row = {"id": made.id, "type": made.type, "key": made.key, "data": encoded(made.data)}
        self._session.begin_quietly()  # A rollback has to find a transaction that it takes it back with.
        self._pending.append((name, row))
        return replace(made, service=name)

    def _only_service(self, what: Event) -> str:
        session = self._session
        if len(session.stores) == 1:
            return next(iter(session.stores))
        found = {service_of(type(one)) for one in (*session.new, *session.dirty, *session.deleted)}
        found |= session.documents.transactions.keys()
        transaction = session._transaction
        while transaction is not None:
            for key in transaction._connections:
                found.add(str(key.get_execution_options().get(SERVICE, "")))
            transaction = transaction._parent
        found.discard("")
        if len(found) == 1:
            return found.pop()
        problem = f"has to do with {', '.join(sorted(found))}" if found else "has to do with no service yet"
        raise EventError(
            f"event {what.type!r} does not say whose outbox it is for, and the transaction {problem}: "
            f'write  session.emit(..., service="...")'
        )

    def documents_written(self, store: DocumentStore, work: Sequence[Write]) -> None:
        """Take in what the rules of documents make of changes that were sent, and are not settled yet."""
        rows = list(document_events(store, work))
        at = next((at for at, (service, _) in enumerate(self._pending) if service == store.service), None)
        # Before what was emitted since the last flush, as with rows.
        place = len(self._pending) if at is None else at
        self._pending[place:place] = [(store.service, row) for row in rows]

    # -- writing

    def has_work(self) -> bool:
        """Say whether a flush would write any event."""
        return any(self._is_due(service) for service, _ in self._pending)

    def wants(self, service: str) -> bool:
        """Say whether a transaction of a service that begins now may well write events."""
        return has_outbox(service) or any(name == service for name, _ in self._pending)

    def _is_due(self, service: str) -> bool:
        # As documents themselves, events of a service without savepoints wait for the end of a nested transaction.
        savepoints = Capability.SAVEPOINTS in self._session.store_named(service).capabilities
        return savepoints or not self._session.in_nested_transaction()

    def end_flush(self) -> None:
        """Write the events of the rows that this flush has changed, and all others for services of rows."""
        events = self.changes.events() if self.changes else {}
        self.changes.clear()
        rest: list[tuple[str, Row]] = []
        for service, row in self._pending:
            if isinstance(self._session.store_named(service), SQLStore):
                events.setdefault(service, []).append(row)
            else:
                rest.append((service, row))
        for service, rows in events.items():
            if rows:
                self._write_rows(service, rows)
        self._pending[:] = rest

    def flush(self) -> None:
        """Write what is pending when there is, or was, nothing else to flush."""
        session = self._session
        due = {service for service, _ in self._pending if self._is_due(service)}
        stores = [session.store_named(service) for service in sorted(due)]
        if any(isinstance(store, SQLStore) for store in stores):
            self._flush_rows()
        for store in stores:
            if isinstance(store, DocumentStore):
                session.bridge.run(self.write_documents(store))

    def _flush_rows(self) -> None:
        """Do as SQLAlchemy's own flush: what fails leaves a transaction that can only be rolled back."""
        session = self._session
        transaction = session._autobegin_t()._begin()
        flushing, session._flushing = session._flushing, True
        try:
            self.end_flush()
            transaction.commit()
        except BaseException:
            with langhelpers.safe_reraise():
                transaction.rollback(_capture_exception=True)
        finally:
            session._flushing = flushing

    def _write_rows(self, service: str, rows: list[Row]) -> None:
        session = self._session
        store = cast(SQLStore, session.store_named(service))
        engine, table = store.bind_for(sync=session.uses_threads), fedorm_outbox(service)
        is_there = is_ensured(engine, table)
        if not is_there and session.connected(service) is None:
            ensure(engine, table)
            is_there = True
        connection: Connection = session.connection(bind_arguments={"service": service})
        if not is_there:
            ensure_beside(connection, table, within=Capability.DDL_IN_TRANSACTIONS in store.capabilities)
        connection.execute(*writing(store, rows))
        self._written.add(service)

    async def write_documents(self, store: DocumentStore) -> None:
        """Write the pending events of a service of documents, in its transaction."""
        session, service = self._session, store.service
        rows = [row for name, row in self._pending if name == service]
        if not rows or not self._is_due(service):
            return
        if (refusal := refusal_of(store)) is not None:
            raise refusal
        now = datetime.datetime.now(datetime.UTC)
        events = [
            {**row, "at": now, "partition": crc32(row["key"].encode()) & (PARTITIONS - 1), "state": State.WAITING.value}
            for row in rows
        ]
        transaction = await session.documents.begin(store)
        await store.write_events(events, transaction=transaction, sync=session.uses_threads)
        self._pending[:] = [one for one in self._pending if one[0] != service]
        self._written.add(service)

    def written_by_triggers(self, service: str) -> None:
        """Take note that triggers write events to a service's outbox in this transaction."""
        self._written.add(service)

    # -- transactions

    def snapshot(self) -> list[tuple[str, Row]]:
        """Return what is pending at a savepoint."""
        return list(self._pending)

    def rolled_back(self, pending: Sequence[tuple[str, Row]] = ()) -> None:
        """Forget what was taken in since a savepoint, where this was ``pending``, or since the transaction's start."""
        self.changes.clear()
        self._pending[:] = pending

    def ended(self) -> None:
        """Tell those that hand events on: the transaction has ended, and some service may have committed."""
        written, self._written = self._written, set()
        for service in written:
            for listener in list(self._session.stores[service].on_events):
                listener()


class EmittingSession:
    """The part of a ``FederatedSession`` that events are emitted through."""

    @cached_property
    def outbox(self) -> Outbox:
        """The session's events; made at first use, as many sessions have none."""
        return Outbox(cast("FederatedSession", self))

    @property
    def has_outbox(self) -> bool:
        """Say whether the session has ever had to do with events."""
        return "outbox" in self.__dict__

    def emit(
        self, what: Event | BaseModel, *, service: str | None = None, key: Any = None, type: str | None = None
    ) -> Event:
        """Write an event, or a pydantic model as one, to a service's outbox, with the next flush.

        It is there if this transaction commits, and not if it does not. ``service`` may be left out while the
        transaction has to do with one service alone. ``type`` and ``key`` go before what the event says itself.
        Returns the event as it is written. Raises ``EventError``, and ``UnsupportedOperationError`` for a service
        without transactions.
        """
        return self.outbox.emit(what, service=service, key=key, type=type)

    def _is_clean(self) -> bool:
        """Count an event as work for a flush, but not while SQLAlchemy rolls back, which takes it away."""
        if self.has_outbox and self.outbox.has_work():
            transaction = cast("FederatedSession", self)._transaction
            if transaction is not None and transaction._state is SessionTransactionState.ACTIVE:
                return False
        return super()._is_clean()  # type: ignore[misc,no-any-return]


def end_flush(session: EmittingSession, context: Any) -> None:
    """Write events at the end of a flush, before it can be said to have succeeded."""
    if session.has_outbox:
        session.outbox.end_flush()
