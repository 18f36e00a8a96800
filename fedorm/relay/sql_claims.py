"""One relay worker's hold on partitions of a SQL outbox: by row locks, or by leases where there are none."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, or_, update
from sqlalchemy.util import greenlet_spawn

from fedorm.bridge import AsyncBridge
from fedorm.outbox.tables import PARTITIONS, State, utc_now
from fedorm.relay.rows import event_of
from fedorm.relay.sources import Batch, ClaimLostError, Settlement, Waiting, keys_of, positions

if TYPE_CHECKING:
    from fedorm.relay.sql_source import SQLSource

T = TypeVar("T")
AT_ONCE = PARTITIONS // 4
"""How many partitions a worker takes at a time, so that there is something left for others."""


class SQLClaim:
    """A worker with a connection of its own, kept from batch to batch."""

    def __init__(self, source: SQLSource, owner: str) -> None:
        self._source = source
        self._owner = owner
        self._statements = source.statements
        self._connection: Connection | None = None
        self._next = 0
        """With which partition to begin, so that each gets its turn when there is much to do."""
        self._taken: list[int] = []
        self._token: int | None = None

    # -- what the relay calls

    async def take(self, targets: Collection[str], limit: int) -> Batch | None:
        """Make some partitions this worker's and return their next events; None where there are none to be had."""
        return await self._run(lambda connection: self._take(connection, targets, limit))

    async def settle(self, done: Settlement) -> None:
        """Write down what has become of the batch, and give the partitions back. Raises where they were lost."""
        await self._run(lambda connection: self._settle(connection, done))

    async def renew(self) -> None:
        """Do nothing: locks hold."""

    async def give_up(self) -> None:
        """Give the partitions back with everything as it was; harmless without any."""
        if self._connection is not None:
            await self._run(self._release)

    async def close(self) -> None:
        """Give up, and let go of the connection, also when the task that waits for it is cancelled."""
        if self._connection is not None:
            await greenlet_spawn(lambda: AsyncBridge().to_its_end(self._close))

    # -- under a greenlet

    async def _run(self, work: Callable[[Connection], T]) -> T:
        def run() -> T:
            if self._connection is None:
                self._connection = self._connect()
            try:
                return work(self._connection)
            except BaseException:
                # Whatever it was, this connection's transaction is no more, nor are its locks.
                self._close()
                raise

        return await greenlet_spawn(run)

    def _connect(self) -> Connection:
        return self._source.store.engine.connect().execution_options(**self._source.connection_options)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # It may well be why the connection is closed; then the server does it.
                self._release(connection)
            connection.close()

    @abstractmethod
    def _claimed(self, connection: Connection, targets: Collection[str]) -> list[int]:
        """Return partitions with something to do that are this worker's now."""

    @abstractmethod
    def _assert_claim(self, connection: Connection) -> None:
        """Raise ``ClaimLostError`` where the partitions may be another's now."""

    @abstractmethod
    def _release(self, connection: Connection) -> None:
        """Roll back, and give the partitions back."""

    def _take(self, connection: Connection, targets: Collection[str], limit: int) -> Batch | None:
        self._taken = self._claimed(connection, targets)
        if not self._taken:
            return None
        statement, parameters = self._statements.fresh(self._taken, limit)
        rows = connection.execute(statement, parameters).all()
        service = self._source.service
        batch = Batch([Waiting(row[0], row[6], event_of(service, row)) for row in rows], token=self._token)
        if not rows or rows[0].any_held:
            self._add_held(connection, batch, targets, limit)
        return batch

    def _add_held(self, connection: Connection, batch: Batch, targets: Collection[str], limit: int) -> None:
        statements, service = self._statements, self._source.service
        if batch.fresh:
            held = connection.execute(statements.held(self._taken, keys_of(batch.fresh)))
            batch.held = {(target, key): moment for target, key, moment in held}
        if targets:
            for row in connection.execute(statements.due(self._taken, targets, time.time(), limit)):
                waiting = Waiting(row[0], row[6], event_of(service, row), row.attempts)
                batch.due.setdefault(row.target, []).append(waiting)

    def _settle(self, connection: Connection, done: Settlement) -> None:
        self._assert_claim(connection)
        statements = self._statements
        for target, caught_up in done.caught_up.items():
            connection.execute(statements.got(target, positions(caught_up)))
        self._park(connection, done)
        for failure in done.failures:
            head = {"at_position": failure.first.position, "of_target": failure.target, "because": failure.error}
            if failure.next_at is None:
                connection.execute(statements.put_aside, {**head, "now": time.time()})
            else:
                line = {"at_partition": failure.first.partition, "of_key": failure.first.event.key}
                moment = {"of_target": failure.target, "to_moment": failure.next_at}
                connection.execute(statements.postpone, {**line, **moment})
                if failure.tried:
                    connection.execute(statements.note_failure, head)
        finished = positions(done.delivered)
        caught_up = [one for several in done.caught_up.values() for one in several]
        if caught_up:
            finished += connection.scalars(statements.complete(positions(caught_up))).all()
        if finished:
            self._finish(connection, finished)
        connection.commit()

    def _park(self, connection: Connection, done: Settlement) -> None:
        rows = [
            {
                "target": target,
                "position": waiting.position,
                "partition": waiting.partition,
                "key": waiting.event.key,
                "next_at": moment,
            }
            for target, parked in done.parked.items()
            for waiting, moment in parked
        ]
        if rows:
            connection.execute(self._statements.park, rows)
            held = list(dict.fromkeys(row["position"] for row in rows))
            connection.execute(self._statements.mark(held, State.HELD))

    def _finish(self, connection: Connection, finished: Sequence[Any]) -> None:
        if self._source.keep > 0:
            connection.execute(self._statements.mark(finished, State.DELIVERED, delivered_at=utc_now()))
        else:
            connection.execute(self._statements.remove(finished))


class LockingClaim(SQLClaim):
    """Locks the rows of its partitions for the time of one transaction; the server frees a dead relay's at once."""

    def _claimed(self, connection: Connection, targets: Collection[str]) -> list[int]:
        partition = self._statements.partitions.c.partition
        found = self._statements.open_partitions(targets, time.time())
        found = found.limit(AT_ONCE).with_for_update(skip_locked=True)
        taken: list[int] = []
        if self._next:
            taken = list(connection.scalars(found.where(partition >= self._next)))
        if not taken:
            taken = list(connection.scalars(found))
        if not taken:
            connection.rollback()
        self._next = (taken[-1] + 1) % PARTITIONS if len(taken) == AT_ONCE else 0
        return taken

    def _assert_claim(self, connection: Connection) -> None:
        # A connection that was lost has been closed, and a new one holds no locks.
        if not connection.in_transaction():
            raise ClaimLostError(self._source.service)

    def _release(self, connection: Connection) -> None:
        connection.rollback()


class LeasingClaim(SQLClaim):
    """Writes its name and a time limit beside its partitions, and renews them while it works."""

    def _claimed(self, connection: Connection, targets: Collection[str]) -> list[int]:
        now = time.time()
        taken = list(connection.scalars(self._statements.open_partitions(targets, now)))
        connection.rollback()
        # Who writes to a file has its clock: a lease that is over now was taken before now.
        self._token = int(now * 1e6)
        if not taken or not self._lease(connection, taken, anew=True, until=self._end_of_lease(), now=now):
            return []
        connection.commit()
        return taken

    def _lease(
        self, connection: Connection, partitions: Sequence[int], *, anew: bool, until: float | None, now: float = 0.0
    ) -> bool:
        """Write the lease of all partitions, or of none; without ``anew`` where it is still this worker's alone."""
        table = self._statements.partitions
        mine = table.c.owner == self._owner
        leased = connection.execute(
            update(table)
            .where(table.c.partition.in_(partitions), or_(mine, table.c.until < now) if anew else mine)
            .values(owner=None if until is None else self._owner, until=until or 0.0)
        )
        if leased.rowcount == len(partitions):
            return True
        connection.rollback()
        return False

    def _end_of_lease(self) -> float:
        return time.time() + self._source.lease_time

    async def renew(self) -> None:
        """Keep the partitions for longer, over a connection of its own. Raises ``ClaimLostError``."""

        def renew() -> None:
            with self._connect() as connection:
                if not self._lease(connection, self._taken, anew=False, until=self._end_of_lease()):
                    raise ClaimLostError(self._source.service)
                connection.commit()

        await greenlet_spawn(renew)

    def _take(self, connection: Connection, targets: Collection[str], limit: int) -> Batch | None:
        batch = super()._take(connection, targets, limit)
        connection.rollback()  # Nobody is kept from writing while the events are handed on.
        return batch

    def _assert_claim(self, connection: Connection) -> None:
        # First of all: from here on nobody else writes, and what is settled and the end of the lease are one.
        if not self._lease(connection, self._taken, anew=False, until=None):
            raise ClaimLostError(self._source.service)
        self._taken = []

    def _release(self, connection: Connection) -> None:
        connection.rollback()
        if self._taken:
            if self._lease(connection, self._taken, anew=False, until=None):
                connection.commit()
            self._taken = []
