"""The decision log: how transactions over several services have ended, in a table of each service that decides one."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Engine,
    MetaData,
    Row,
    String,
    Table,
    Text,
    delete,
    insert,
    inspect,
    update,
)
from sqlalchemy import exc as sa_exc
from sqlalchemy import select as sa_select

from fedorm.bookkeeping import ensure, own_table
from fedorm.bridge import Bridge
from fedorm.exc import ServiceTimeoutError, StillDecidingError, TwoPhaseError, UnsupportedOperationError
from fedorm.stores.base import DocumentStore, Store
from fedorm.stores.branches import first_id, new_log
from fedorm.stores.decisions import LOG_TOKEN, Entry
from fedorm.stores.sql import SQLStore

T = TypeVar("T")

PATIENCE = 5
"""For how many seconds ``settle()`` waits for a coordinator that is just writing its decision."""
_KNOWN = "fedorm.log_token"
_OVER, _TOGETHER = "fedorm.decisions_over", 100
"""Where ids of decisions are kept that nobody needs any more, and how many are dropped at a time."""
_LOCKED = {"55P03", 1205}
"""What PostgreSQL and MySQL say when a lock was not to be had in time."""


class Outcome(enum.StrEnum):
    """How a transaction ended, or where that is written."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    DELEGATED = "delegated"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a log says of a transaction; ``to`` is the service whose log decides it, if this one does not.

    ``to`` and ``services``, which have written in it, are names with the tokens of those services' own logs.
    """

    id: str
    outcome: Outcome
    to: str | None
    services: tuple[str, ...]
    at: datetime


@own_table
def fedorm_decisions(metadata: MetaData) -> Table:
    """Return the table of a service's decisions, and of its log's token."""
    return Table(
        "fedorm_decisions",
        metadata,
        Column("id", String(32), primary_key=True),
        Column("outcome", String(20), nullable=False),
        Column("handed_to", String(255)),
        Column("services", Text, nullable=False),
        Column("at", DateTime(timezone=True), nullable=False),
    )


class DecisionLog(ABC):
    """One service's log, to be used under a greenlet or in a thread, as its store is.

    Every method but ``record`` is a transaction of its own, over a connection of its own.
    """

    @abstractmethod
    def token(self) -> str:
        """Return by what the log is told from others; made with its table, or collection, at the first use."""

    @abstractmethod
    def known_token(self) -> str | None:
        """Return the token, None where no log has been made."""

    @abstractmethod
    def record(self, transaction: Any, id: str, services: Sequence[str]) -> None:
        """Write "committed" inside of ``transaction``: a SQLAlchemy connection, or what a document store has begun.

        Raises ``TwoPhaseError`` where a recovery has written "rolled back" before.
        """

    @abstractmethod
    def delegate(self, id: str, to: str, services: Sequence[str]) -> None:
        """Write that ``to`` decides."""

    @abstractmethod
    def concluding(self, id: str) -> AbstractContextManager[tuple[Decision, Callable[[Outcome], None]]]:
        """Hold what is written, so that nobody else concludes; give it, and what writes its outcome in its place.

        Raises ``StillDecidingError`` while somebody else holds it, and ``LookupError`` for what is not there.
        """

    @abstractmethod
    def is_over(self, id: str) -> None:
        """Take note that all services know the decision: it is dropped with one of the next that are recorded."""

    @abstractmethod
    def settle(self, id: str) -> Decision:
        """Return what is written, or write "rolled back" and return that; whoever comes second finds it.

        Raises ``StillDecidingError`` when somebody is just writing, and takes longer than ``PATIENCE``.
        """

    @abstractmethod
    def find(self, id: str) -> Decision | None:
        """Return what is written."""

    @abstractmethod
    def old(self, before: datetime, limit: int) -> list[Decision]:
        """Return the oldest decisions of before a moment, at most ``limit``, without those that stay: "rolled back"."""

    @abstractmethod
    def forget(self, ids: Iterable[str]) -> None:
        """Drop decisions."""


def decision_log(store: Store, bridge: Bridge, *, sync: bool) -> DecisionLog:
    """Return a service's log. Raises ``UnsupportedOperationError`` for a service without transactions."""
    if store.keeps_own:
        if isinstance(store, SQLStore):
            return _TableLog(store, store.bind_for(sync=sync))
        if isinstance(store, DocumentStore):
            return _CollectionLog(store, bridge, sync=sync)
    raise UnsupportedOperationError(
        "has no transactions, and can keep no decisions of them", service=store.service, address=store.address
    )


def _superseded(store: Store, id: str) -> TwoPhaseError:
    return TwoPhaseError(
        f"the transaction {id} was rolled back meanwhile by a recovery, which took it for abandoned",
        service=store.service,
        address=store.address,
    )


def _some_over(kept: dict[str, Any]) -> list[str]:
    over: list[str] = kept.get(_OVER, [])
    if len(over) < _TOGETHER:
        return []
    some, over[:] = over[:_TOGETHER], over[_TOGETHER:]
    return some


def _still_deciding(store: Store, id: str) -> StillDecidingError:
    return StillDecidingError(
        f"the transaction {id} is just being decided; ask again in a moment",
        service=store.service,
        address=store.address,
    )


class _TableLog(DecisionLog):
    def __init__(self, store: SQLStore, engine: Engine) -> None:
        self._store, self._engine = store, engine
        self._table = fedorm_decisions(store.service)

    def token(self) -> str:
        known: str | None = self._engine.pool.__dict__.get(_KNOWN)
        if known is None:
            ensure(self._engine, self._table)
            known = self._read_token() or self._write_token()
            self._engine.pool.__dict__[_KNOWN] = known
        return known

    def known_token(self) -> str | None:
        known: str | None = self._engine.pool.__dict__.get(_KNOWN)
        if known is not None:
            return known
        with self._engine.connect() as connection:
            there = inspect(connection).has_table(self._table.name)
        return self._read_token() if there else None

    def _read_token(self) -> str | None:
        with self._engine.connect() as connection:
            return connection.scalar(sa_select(self._table.c.outcome).where(self._table.c.id == LOG_TOKEN))

    def _write_token(self) -> str:
        token = new_log()
        try:
            with self._engine.begin() as connection:
                self._insert(connection, LOG_TOKEN, token, None, [])
        except sa_exc.IntegrityError:
            return self._read_token() or self._write_token()
        return token

    def _insert(self, connection: Connection, id: str, outcome: str, to: str | None, services: Sequence[str]) -> None:
        values = {"id": id, "outcome": outcome, "handed_to": to, "services": " ".join(services)}
        connection.execute(insert(self._table).values(at=datetime.now(UTC), **values))

    def record(self, transaction: Any, id: str, services: Sequence[str]) -> None:
        if over := _some_over(self._engine.pool.__dict__):
            transaction.execute(delete(self._table).where(self._table.c.id.in_(over)))
        try:
            self._insert(transaction, id, Outcome.COMMITTED, None, services)
        except sa_exc.IntegrityError as error:
            raise _superseded(self._store, id) from error

    def delegate(self, id: str, to: str, services: Sequence[str]) -> None:
        try:
            with self._engine.begin() as connection:
                self._insert(connection, id, Outcome.DELEGATED, to, services)
        except sa_exc.IntegrityError as error:
            raise _superseded(self._store, id) from error

    def is_over(self, id: str) -> None:
        self._engine.pool.__dict__.setdefault(_OVER, []).append(id)

    @contextmanager
    def concluding(self, id: str) -> Iterator[tuple[Decision, Callable[[Outcome], None]]]:
        is_it = self._table.c.id == id
        with self._engine.connect() as connection, self._store.brief_lock_waits(connection, 1):
            try:
                row = connection.execute(sa_select(self._table).where(is_it).with_for_update()).one_or_none()
            except sa_exc.DBAPIError as error:
                raise self._waited(error, id) from error
            if row is None:
                raise LookupError(id)

            def conclude(outcome: Outcome) -> None:
                connection.execute(update(self._table).where(is_it).values(outcome=outcome.value))
                connection.commit()

            yield _decision(row), conclude

    def _waited(self, error: sa_exc.DBAPIError, id: str) -> sa_exc.DBAPIError | StillDecidingError:
        waited = isinstance(error, ServiceTimeoutError) or _code(error) in _LOCKED
        return _still_deciding(self._store, id) if waited else error

    def settle(self, id: str) -> Decision:
        while True:
            found = self.find(id)
            if found is not None:
                return found
            try:
                with self._engine.connect() as connection, self._store.brief_lock_waits(connection, PATIENCE):
                    self._insert(connection, id, Outcome.ROLLED_BACK, None, [])
                    connection.commit()
            except sa_exc.IntegrityError:
                continue  # Somebody was quicker, and has said something.
            except sa_exc.DBAPIError as error:
                raise self._waited(error, id) from error
            return Decision(id, Outcome.ROLLED_BACK, None, (), datetime.now(UTC))

    def find(self, id: str) -> Decision | None:
        with self._engine.connect() as connection:
            row = connection.execute(sa_select(self._table).where(self._table.c.id == id)).one_or_none()
        return None if row is None else _decision(row)

    def old(self, before: datetime, limit: int) -> list[Decision]:
        table = self._table
        wanted = (
            sa_select(table)
            .where(table.c.id < first_id(before), table.c.at < before, table.c.outcome != Outcome.ROLLED_BACK)
            .order_by(table.c.id)
            .limit(limit)
        )
        with self._engine.connect() as connection:
            return [_decision(row) for row in connection.execute(wanted)]

    def forget(self, ids: Iterable[str]) -> None:
        with self._engine.begin() as connection:
            connection.execute(delete(self._table).where(self._table.c.id.in_(list(ids))))


def _decision(row: Row[Any]) -> Decision:
    return Decision(row.id, Outcome(row.outcome), row.handed_to, tuple(row.services.split()), row.at)


def _code(error: sa_exc.DBAPIError) -> Any:
    return getattr(error.orig, "sqlstate", None) or next(iter(getattr(error.orig, "args", ())), None)


class _CollectionLog(DecisionLog):
    def __init__(self, store: DocumentStore, bridge: Bridge, *, sync: bool) -> None:
        self._store, self._bridge = store, bridge
        self._log = store.decisions(sync=sync)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._bridge.run(work)

    def token(self) -> str:
        token = self._run(self._log.token(new_log()))
        assert token is not None
        return token

    def known_token(self) -> str | None:
        return self._run(self._log.token(None))

    def record(self, transaction: Any, id: str, services: Sequence[str]) -> None:
        if over := _some_over(self._store.__dict__):
            self._run(self._log.forget(over, transaction))
        entry = _entry(id, Outcome.COMMITTED, None, services)
        if not self._run(self._log.insert(entry, transaction)):
            raise _superseded(self._store, id)

    def delegate(self, id: str, to: str, services: Sequence[str]) -> None:
        entry = _entry(id, Outcome.DELEGATED, to, services)
        if not self._run(self._log.insert(entry, None)):
            raise _superseded(self._store, id)

    def is_over(self, id: str) -> None:
        self._store.__dict__.setdefault(_OVER, []).append(id)

    def concluding(self, id: str) -> AbstractContextManager[tuple[Decision, Callable[[Outcome], None]]]:
        raise UnsupportedOperationError(
            "decides by its own commit alone", service=self._store.service, address=self._store.address
        )

    def settle(self, id: str) -> Decision:
        entry = _entry(id, Outcome.ROLLED_BACK, None, [])
        found = self._run(self._log.settle(entry, PATIENCE))
        if found is None:
            raise _still_deciding(self._store, id)
        return _read(found)

    def find(self, id: str) -> Decision | None:
        found = self._run(self._log.find({"_id": id}, 1))
        return _read(found[0]) if found else None

    def old(self, before: datetime, limit: int) -> list[Decision]:
        wanted = {
            "_id": {"$lt": first_id(before)},
            "at": {"$lt": before},
            "outcome": {"$ne": Outcome.ROLLED_BACK.value},
        }
        found = self._run(self._log.find(wanted, limit))
        return [_read(one) for one in found]

    def forget(self, ids: Iterable[str]) -> None:
        self._run(self._log.forget(list(ids), None))


def _entry(id: str, outcome: Outcome, to: str | None, services: Sequence[str]) -> Entry:
    return {
        "_id": id,
        "outcome": outcome.value,
        "handed_to": to,
        "services": list(services),
        "at": datetime.now(UTC),
    }


def _read(found: Entry) -> Decision:
    return Decision(found["_id"], Outcome(found["outcome"]), found["handed_to"], tuple(found["services"]), found["at"])
