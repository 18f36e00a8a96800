"""How far a rule has come: saved in the target's own transaction where it has one, else after it."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.util import greenlet_spawn

from fedorm.stores.positions import PositionLog, SavedPosition
from fedorm.stores.sql import SQLStore
from fedorm.sync.errors import LeaseLostError
from fedorm.sync.keeping import Kept
from fedorm.sync.strategies import CDC, EventDriven, Strategy
from fedorm.sync.tables import fedorm_sync_positions

Stage = Literal["snapshot", "stream", "pass", "waiting"]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a rule goes on.

    In a snapshot, or a pass over the source, ``after`` is the key of the last row that is done, as JSON. ``feed`` is
    where the log is read on from, ``since`` and ``mark`` are what a pass reads from, and what the next one will.
    """

    stage: Stage
    feed: str | None = None
    after: list[Any] | None = None
    since: str | None = None
    mark: str | None = None
    compares: bool = True
    """Whether the target is read first: not while it is filled for the first time."""
    at: float | None = None
    """When a pass was over."""
    version: int = 0

    def is_of(self, strategy: Strategy) -> bool:
        """Say whether a strategy can go on from here: a rule may have had another one before."""
        if isinstance(strategy, CDC):
            return self.feed is not None
        if isinstance(strategy, EventDriven):
            return self.feed is None and self.stage in ("snapshot", "stream")
        return self.stage in ("pass", "waiting")

    def as_json(self) -> str:
        """Return it as it is saved."""
        return json.dumps({name: value for name, value in asdict(self).items() if value is not None})

    @classmethod
    def of_json(cls, text: str) -> Position:
        """Return what was saved."""
        return cls(**json.loads(text))


class Positions(ABC):
    """Keeps one rule's position for one owner at a time."""

    def __init__(self, rule: str) -> None:
        self.rule = rule

    async def make(self) -> None:
        """Make what they are kept in, where that is not there."""
        return

    @abstractmethod
    async def load(self, epoch: int) -> Position | None:
        """Return the position, and from now on take no other from owners before ``epoch``. None for a new rule."""

    @abstractmethod
    async def peek(self) -> Position | None:
        """Return the position, and change nothing."""

    @abstractmethod
    async def save(self, handle: Any, position: Position, epoch: int) -> None:
        """Save within the target's transaction, or without one if ``handle`` is None. Raises ``LeaseLostError``."""

    @abstractmethod
    async def forget(self) -> None:
        """Let the rule begin anew."""

    def lost(self) -> LeaseLostError:
        """Make the error of an owner that is one no more."""
        return LeaseLostError(f"sync rule {self.rule!r} is carried out by another process by now")


class SQLPositions(Positions):
    """In a table; ``within`` says that the handles are connections of this very service."""

    def __init__(self, rule: str, store: SQLStore, *, within: bool) -> None:
        super().__init__(rule)
        self._kept = Kept(store, fedorm_sync_positions)
        self._within = within
        self._is_there = False

    async def make(self) -> None:
        """Make the table."""
        await self._kept.make()

    async def load(self, epoch: int) -> Position | None:
        """Mark the row, if there is one, as this owner's."""
        table = self._kept.table
        mine = update(table).where(table.c.rule == self.rule, table.c.epoch <= epoch).values(epoch=epoch)

        def take(connection: Connection) -> Any:
            taken = connection.execute(mine).rowcount
            row = connection.execute(select(table).where(table.c.rule == self.rule)).one_or_none()
            if row is not None and not taken and row.epoch > epoch:
                raise self.lost()
            return row

        row = await self._kept.write(take)
        return None if row is None else Position.of_json(row.position)

    async def peek(self) -> Position | None:
        """Read the row."""
        table = self._kept.table
        rows = await self._kept.read(select(table.c.position).where(table.c.rule == self.rule))
        return Position.of_json(rows[0].position) if rows else None

    async def save(self, handle: Any, position: Position, epoch: int) -> None:
        """Change the row, or insert it."""
        if handle is not None and self._within:
            await greenlet_spawn(self._save, handle, position, epoch)
        else:
            await self._kept.write(lambda connection: self._save(connection, position, epoch))

    def _save(self, connection: Connection, position: Position, epoch: int) -> None:
        table = self._kept.table
        values = {
            "position": position.as_json(),
            "version": position.version,
            "epoch": epoch,
            "saved_at": time.time(),
        }
        # No update first: for a row that is not there MySQL locks the gap, in which other rules want to insert theirs.
        there = self._is_there or connection.scalar(select(table.c.epoch).where(table.c.rule == self.rule)) is not None
        if not there:
            connection.execute(insert(table).values(rule=self.rule, **values))
            return
        mine = update(table).where(table.c.rule == self.rule, table.c.epoch <= epoch).values(**values)
        if not connection.execute(mine).rowcount:
            raise self.lost()
        self._is_there = True

    async def forget(self) -> None:
        """Delete the row."""
        table = self._kept.table
        gone = delete(table).where(table.c.rule == self.rule)
        self._is_there = False
        await self._kept.write(lambda connection: connection.execute(gone))


class StorePositions(Positions):
    """Where the target itself keeps them, in its transaction where it has one."""

    def __init__(self, rule: str, log: PositionLog) -> None:
        super().__init__(rule)
        self._log = log

    async def load(self, epoch: int) -> Position | None:
        """Claim it."""
        found = await self._log.claim(self.rule, epoch)
        if found is None:
            return None
        if found.epoch > epoch:
            raise self.lost()
        return Position.of_json(found.position)

    async def peek(self) -> Position | None:
        """Read it."""
        found = await self._log.peek(self.rule)
        return None if found is None else Position.of_json(found.position)

    async def save(self, handle: Any, position: Position, epoch: int) -> None:
        """Save it, unless it is a later owner's."""
        saved = SavedPosition(position.as_json(), position.version, epoch, time.time())
        if not await self._log.save(handle, self.rule, saved):
            raise self.lost()

    async def forget(self) -> None:
        """Drop it."""
        await self._log.forget(self.rule)
