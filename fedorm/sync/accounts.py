"""The account that a service keeps of each rule: who carries it out, whether it is paused, how it does."""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy import exc as sa_exc

from fedorm.stores.sql import SQLStore
from fedorm.sync.errors import LeaseLostError
from fedorm.sync.keeping import Kept
from fedorm.sync.tables import fedorm_sync_dead_letters, fedorm_sync_rules

LEASE = 10.0
"""For how many seconds a rule is its owner's after that was last heard of."""


@dataclass(frozen=True, slots=True)
class Account:
    """What is known of a rule, whichever process carries it out."""

    owner: str | None
    until: float
    paused: bool
    state: str
    synced: int
    deleted: int
    errors: int
    last_sync_at: float | None
    last_error: str | None
    lag_seconds: float | None
    lag_rows: int | None
    held: bool = False
    """Whether somebody wants it for himself, or has it: nobody else is to carry it out."""
    lost: str | None = None
    """Why its log is kept no more, and what to do; None as long as it is."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What has been done for a rule since it was made, by all of its owners, and what is left of it undone."""

    synced: int
    deleted: int
    errors: int
    dead_letters: int


@dataclass(slots=True)
class Progress:
    """What an owner has done since it last said so, and how it is now."""

    state: str = "starting"
    synced: int = 0
    deleted: int = 0
    errors: int = 0
    last_sync_at: float | None = None
    last_error: str | None = None
    lag_seconds: float | None = None
    lag_rows: int | None = None
    position: str | None = None
    totals: Totals | None = None
    """What the account said when that was last done, this owner's share included; None before."""


class Accounts:
    """The accounts of one service, for one process."""

    def __init__(self, store: SQLStore, *, lease: float = LEASE) -> None:
        self._kept = Kept(store, fedorm_sync_rules)
        self._letters = Kept(store, fedorm_sync_dead_letters)
        self.lease = lease
        self.owner = secrets.token_hex(8)
        self.until: dict[str, float] = {}
        """Up to when, at least, nobody else can own rules that this process does, or did."""

    @property
    def store(self) -> SQLStore:
        """Where they are kept."""
        return self._kept.store

    async def take(self, rule: str, *, even_paused: bool = False) -> int | None:
        """Own a rule that nobody owns and that is not paused, and return its epoch; None if that cannot be."""
        table, now = self._kept.table, time.time()
        claim = update(table).where(table.c.rule == rule, table.c.until < now)
        if not even_paused:
            claim = claim.where(table.c.paused.is_(False))

        def work(connection: Connection) -> int | None:
            if not even_paused and connection.execute(self._held(rule, now)).scalar():
                return None
            claimed = connection.execute(
                claim.values(owner=self.owner, until=now + self.lease, epoch=table.c.epoch + 1, last_error=None)
            ).rowcount
            if not claimed:
                return None
            return int(connection.execute(select(table.c.epoch).where(table.c.rule == rule)).scalar_one())

        await self._enter(rule)
        epoch = await self._kept.write(work)
        if epoch is not None:
            self.until[rule] = now + self.lease
        return epoch

    def _held(self, rule: str, now: float) -> Any:
        """Return the query whether somebody wants a rule for himself."""
        wishes = self._kept.table.alias()
        return select(func.count() > 0).where(wishes.c.rule == wish(rule), wishes.c.until >= now)

    async def _enter(self, rule: str) -> None:
        table = self._kept.table
        if await self._kept.read(select(table.c.rule).where(table.c.rule == rule)):
            return
        with suppress(sa_exc.IntegrityError):  # Another process was faster.
            await self._kept.write(lambda connection: connection.execute(insert(table).values(rule=rule)))

    async def renew(self, rule: str, epoch: int, progress: Progress, *, release: bool = False) -> bool:
        """Say what was done, and go on owning the rule or let go of it; return whether others shall not carry it out.

        Raises ``LeaseLostError`` when it is another's. What ``progress`` counts is added, and begins at 0 again.
        """
        table = self._kept.table
        values, counted = self._values(progress)
        until = values["until"] = 0.0 if release else time.time() + self.lease
        if release:
            values["owner"] = None
        mine = table.c.rule == rule, table.c.owner == self.owner, table.c.epoch == epoch
        ours = update(table).where(*mine).values(**values)
        letters = self._letters.table
        put_aside = select(func.count()).select_from(letters).where(letters.c.rule == rule).scalar_subquery()
        held = self._held(rule, time.time()).scalar_subquery()
        now = select(table.c.paused, held, table.c.synced, table.c.deleted, table.c.errors, put_aside)

        def work(connection: Connection) -> Any:
            if not connection.execute(ours).rowcount:
                return None
            return connection.execute(now.where(table.c.rule == rule)).one()

        await self._letters.make()
        found = await self._kept.write(work)
        if found is None:
            raise LeaseLostError(f"sync rule {rule!r} is carried out by another process by now")
        self.until[rule] = until
        _uncount(progress, counted)
        progress.totals = Totals(*found[2:])
        return bool(found[0] or found[1])

    async def add(self, rule: str, progress: Progress) -> None:
        """Say what was done for a rule by a process that does not own it: relays of events share one."""
        table = self._kept.table
        values, counted = self._values(progress)
        del values["state"]
        change = update(table).where(table.c.rule == rule).values(**values)
        await self._kept.write(lambda connection: connection.execute(change))
        _uncount(progress, counted)

    def _values(self, progress: Progress) -> tuple[dict[str, Any], tuple[int, int, int]]:
        table = self._kept.table
        counted = progress.synced, progress.deleted, progress.errors
        values: dict[str, Any] = {
            "state": progress.state,
            "synced": table.c.synced + counted[0],
            "deleted": table.c.deleted + counted[1],
            "errors": table.c.errors + counted[2],
        }
        # Of a rule that goes through a broker several processes tell: what one does not know is known to another.
        if progress.lag_seconds is not None:
            values["lag_seconds"] = progress.lag_seconds
        if progress.lag_rows is not None:
            values["lag_rows"] = progress.lag_rows
        if progress.last_error is not None:
            values["last_error"] = progress.last_error
        if progress.last_sync_at is not None:
            values["last_sync_at"] = progress.last_sync_at
        if progress.position is not None:
            values["position"] = progress.position
        return values, counted

    async def pause(self, rule: str, paused: bool) -> None:
        """Pause a rule, or let it go on: its owner hears of it when it next renews its lease."""
        table = self._kept.table
        await self._enter(rule)
        change = update(table).where(table.c.rule == rule).values(paused=paused)
        await self._kept.write(lambda connection: connection.execute(change))

    async def get(self, rule: str) -> Account | None:
        """Return a rule's account; None for one that was never carried out."""
        table = self._kept.table
        names = [name for name in Account.__dataclass_fields__ if name not in ("held", "lost")]
        held, lost = self._held(rule, time.time()).scalar_subquery(), self._lost(rule).scalar_subquery()
        rows = await self._kept.read(select(*(table.c[name] for name in names), held, lost).where(table.c.rule == rule))
        return Account(*rows[0]) if rows else None

    # -- of a log that is kept no more

    def _lost(self, rule: str) -> Any:
        """Return the query why a rule's log is kept no more."""
        notes = self._kept.table.alias()
        return select(notes.c.last_error).where(notes.c.rule == f"{rule} (log lost)")

    async def lost(self, rule: str) -> str | None:
        """Return why a rule's log is kept no more, as it was noted."""
        rows = await self._kept.read(self._lost(rule))
        return rows[0][0] if rows else None

    async def note_lost(self, rule: str, why: str) -> None:
        """Note why a rule's log is kept no more, until ``found()``. Who has noted it first is right."""
        table, note = self._kept.table, f"{rule} (log lost)"
        await self._enter(rule)
        with suppress(sa_exc.IntegrityError):
            noted = insert(table).values(rule=note, last_error=why)
            await self._kept.write(lambda connection: connection.execute(noted))

    async def found(self, rule: str) -> None:
        """Note that a rule's log is read from now on, anew."""
        if await self.lost(rule) is not None:
            gone = delete(self._kept.table).where(self._kept.table.c.rule == f"{rule} (log lost)")
            await self._kept.write(lambda connection: connection.execute(gone))

    async def warn(self, rule: str, error: str) -> None:
        """Note what its owner, if it has one, may not have noticed."""
        table = self._kept.table
        await self._enter(rule)
        change = update(table).where(table.c.rule == rule).values(last_error=error)
        await self._kept.write(lambda connection: connection.execute(change))


def wish(rule: str) -> str:
    """Return under which name it is kept who wants a rule for himself: a lease beside the rule's own."""
    return f"{rule} (exclusively)"


def _uncount(progress: Progress, counted: tuple[int, int, int]) -> None:
    progress.synced -= counted[0]
    progress.deleted -= counted[1]
    progress.errors -= counted[2]
