"""The outbox of a service that speaks SQL, as the relay reads it."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from sqlalchemy import Connection, Dialect, Select, Table, exists, func, insert, inspect, select, update
from sqlalchemy import exc as sa_exc
from sqlalchemy.util import greenlet_spawn

from fedorm.bookkeeping import ensure
from fedorm.outbox.tables import PARTITIONS, State
from fedorm.outbox.waking import CHANNEL, ensure_waking
from fedorm.relay.sources import Backlog, Claim, Held
from fedorm.relay.sql_claims import LeasingClaim, LockingClaim
from fedorm.relay.sql_statements import Statements
from fedorm.relay.waking import Bell
from fedorm.stores.base import Capability
from fedorm.stores.sql import WRITES, SQLStore

T = TypeVar("T")
_LONG_POLL, _SHORT_POLL = 0.5, 0.05
"""After how many seconds to look for events, with somebody who tells of them, and without."""
_PART = 1000
"""How many rows are removed in one transaction."""
logger = logging.getLogger("fedorm.outbox")


class SQLSource:
    """A PostgreSQL, MySQL, MariaDB or SQLite database's outbox."""

    def __init__(self, store: SQLStore, *, keep: float = 0.0, lease: float = 10.0) -> None:
        self.store = store
        self.service = store.service
        self.keep = keep
        self.statements = Statements(store)
        self._locks = Capability.SKIP_LOCKED in store.capabilities
        self.lease = None if self._locks else lease
        self.lease_time = lease
        self.listens = Capability.LISTEN in store.capabilities
        self.poll = _LONG_POLL if self.listens else _SHORT_POLL
        # Each statement has to see what was committed before it: the events of a partition, after its lock.
        self.connection_options = {"isolation_level": "READ COMMITTED"} if self._locks else {}

    def claim(self, owner: str) -> Claim:
        """Return a new worker's claim; ``owner`` is like no other's in the world."""
        return (LockingClaim if self._locks else LeasingClaim)(self, owner)

    async def listen(self, bell: Bell) -> None:
        """Ring when events were written, until the connection is lost."""
        await self.store.listen(CHANNEL, bell.ring)

    async def _within(self, work: Callable[[Connection], T], *, writes: bool = True) -> T:
        """Run ``work`` in a transaction, each statement of which sees what there is as of now.

        A table may be younger than a snapshot, and MariaDB has none then.
        """
        engine = self.store.engine.execution_options(**self.connection_options, **{WRITES: writes})

        def run() -> T:
            with engine.begin() as connection:
                return work(connection)

        return await greenlet_spawn(run)

    # -- the tables

    async def exists(self) -> bool:
        """Say whether the service has an outbox."""
        return await self._within(lambda connection: _has(connection, self.statements.outbox), writes=False)

    async def _asked(self, work: Callable[[Connection], T], default: T, *, writes: bool = True) -> T:
        """Return what ``work`` returns, or ``default`` while no relay has ever run here."""

        def ask(connection: Connection) -> T:
            return work(connection) if _has(connection, self.statements.deliveries) else default

        return await self._within(ask, writes=writes)

    async def prepare(self) -> None:
        """Make the tables, the rows of the partitions, and what tells of new events."""
        statements = self.statements
        tables = (statements.outbox, statements.deliveries, statements.partitions)
        await greenlet_spawn(ensure, self.store.engine, *tables)
        wanted = range(PARTITIONS) if self._locks else range(1)

        def fill(connection: Connection) -> None:
            there = set(connection.scalars(select(statements.partitions.c.partition)))
            missing = [{"partition": number} for number in wanted if number not in there]
            if missing:
                connection.execute(insert(statements.partitions), missing)

        try:
            await self._within(fill)
        except sa_exc.IntegrityError:
            await self._within(fill)  # Another relay was there first.
        if self.listens and not await self._within(ensure_waking):
            logger.warning(
                "service %r: fedorm may not make the trigger that tells of new events; they are looked for every %g s",
                *(self.service, _SHORT_POLL),
            )
            self.listens, self.poll = False, _SHORT_POLL

    # -- figures

    async def backlog(self) -> Backlog:
        """Count what is there."""
        o, d = self.statements.outbox.c, self.statements.deliveries.c

        def count(connection: Connection) -> Backlog:
            if not _has(connection, self.statements.outbox):
                return Backlog(0, None, 0, {}, {})
            numbers = _counts(connection, select(o.state, func.count()).group_by(o.state))
            held = select(d.target, func.count()).group_by(d.target)
            is_used = _has(connection, self.statements.deliveries)
            waiting = numbers.get(State.WAITING, 0) + numbers.get(State.HELD, 0)
            oldest = connection.scalar(select(func.min(o.at)).where(o.state != State.DELIVERED.value))
            return Backlog(
                waiting=waiting,
                oldest=None if oldest is None else max(0.0, time.time() - _seconds(oldest)),
                kept=numbers.get(State.DELIVERED, 0),
                held=_counts(connection, held.where(d.failed_at.is_(None))) if is_used else {},
                failed=_counts(connection, held.where(d.failed_at.is_not(None))) if is_used else {},
            )

        return await self._within(count, writes=False)

    async def oldest(self) -> float:
        """Return when the oldest event was written that may be handed on again, in seconds since 1970: now if none."""
        o, d = self.statements.outbox.c, self.statements.deliveries.c
        pending = exists().where(d.position == o.position, d.failed_at.is_(None))
        waiting = o.state == State.WAITING.value

        def ask(connection: Connection) -> datetime.datetime | None:
            if not _has(connection, self.statements.outbox):
                return None
            is_used = _has(connection, self.statements.deliveries)
            which = waiting | (o.state == State.HELD.value) & pending if is_used else waiting
            found: datetime.datetime | None = connection.scalar(select(func.min(o.at)).where(which))
            return found

        moment = await self._within(ask, writes=False)
        return time.time() if moment is None else _seconds(moment)

    # -- what was put aside

    async def troubles(self, *, target: str | None, failed: bool) -> list[Held]:
        """Return what was put aside, or for ``failed=False`` what is being tried again, oldest first."""
        statement = self.statements.troubles(target=target, failed=failed)

        def read(connection: Connection) -> list[Held]:
            return [Held(self.service, *row) for row in connection.execute(statement)]

        return await self._asked(read, [], writes=False)

    async def retry(self, *, target: str | None, ids: Collection[str] | None) -> int:
        """Hand on anew what was put aside, of these ids or all; return how many."""
        d = self.statements.deliveries

        def retry(connection: Connection) -> int:
            which = connection.execute(self.statements.put_aside_events(target=target, ids=ids)).all()
            for name, position in which:
                connection.execute(
                    update(d)
                    .where(d.c.target == name, d.c.position == position)
                    .values(failed_at=None, attempts=0, next_at=0.0)
                )
            return len(which)

        return await self._asked(retry, 0)

    async def drop(self, *, target: str | None, ids: Collection[str] | None) -> int:
        """Never hand on what was put aside, of these ids or all; return how many."""
        statements = self.statements

        def drop(connection: Connection) -> int:
            which = connection.execute(statements.put_aside_events(target=target, ids=ids)).all()
            for name, position in which:
                connection.execute(statements.got(name, [position]))
            if which:
                finished = connection.scalars(statements.complete([position for _, position in which])).all()
                if finished:
                    connection.execute(statements.remove(finished))
            return len(which)

        return await self._asked(drop, 0)

    # -- what is kept for a time

    async def forget_delivered(self, keep: float) -> int:
        """Remove events that were delivered before ``keep`` seconds; return how many."""
        o = self.statements.outbox.c
        since = _moment(time.time() - keep, o.delivered_at, self.store.engine.dialect)
        # In the order of their positions, and ended by the first that has to stay: no index is needed for it.
        first = select(o.position, o.delivered_at < since).where(o.state == State.DELIVERED.value)
        first = first.order_by(o.position).limit(_PART)

        def remove(connection: Connection) -> tuple[int, bool]:
            rows = connection.execute(first).all()
            gone = [position for position, old in rows if old]
            if gone:
                connection.execute(self.statements.remove(gone))
            return len(gone), len(gone) == _PART

        if not await self.exists():
            return 0
        return await self._until_done(remove)

    async def forget_inbox(self, before: float) -> int:
        """Remove rows of the inbox that were written before a moment, in seconds since 1970; return how many."""
        inbox = self.statements.inbox
        moment = _moment(before, inbox.c.at, self.store.engine.dialect)
        old = select(inbox.c.handler, inbox.c.id).where(inbox.c.at < moment).order_by(inbox.c.at).limit(_PART)

        def remove(connection: Connection) -> tuple[int, bool]:
            rows = connection.execute(old).all()
            by_handler: dict[str, list[str]] = {}
            for handler, number in rows:
                by_handler.setdefault(handler, []).append(number)
            for handler, numbers in by_handler.items():
                among = self.statements.among(inbox.c.id, numbers)
                connection.execute(inbox.delete().where(inbox.c.handler == handler, among))
            return len(rows), len(rows) == _PART

        return await self._until_done(remove)

    async def _until_done(self, remove: Callable[[Connection], tuple[int, bool]]) -> int:
        removed, more = 0, True
        while more:
            number, more = await self._within(remove)
            removed += number
        return removed


def _has(connection: Connection, table: Table) -> bool:
    try:
        return inspect(connection).has_table(table.name)
    except sa_exc.OperationalError:
        # MariaDB describes no table that is just being made.
        return table.name in inspect(connection).get_table_names()


def _counts(connection: Connection, statement: Select[Any]) -> dict[Any, int]:
    return {row[0]: row[1] for row in connection.execute(statement)}


def _moment(seconds: float, column: Any, dialect: Dialect) -> datetime.datetime:
    """Return a moment as the column holds it: in UTC, and without a zone where it has none."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    zoned: bool = column.type.dialect_impl(dialect).timezone
    return moment if zoned else moment.replace(tzinfo=None)


def _seconds(moment: datetime.datetime) -> float:
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)).timestamp()
