"""``CDC``: a first snapshot, and then what the database's log says was committed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import NoReturn

from fedorm.exc import FeedLostError, RowError
from fedorm.stores.feeds import ChangeFeed, Chunk
from fedorm.sync.carrying import Carrying, log
from fedorm.sync.errors import SyncRuleError
from fedorm.sync.feeding import untold
from fedorm.sync.passes import ahead, remove_absent, snapshot
from fedorm.sync.positions import Position
from fedorm.sync.retaining import begun, why_lost
from fedorm.sync.strategies import CDC
from fedorm.sync.touching import Touched, work_of

_MANY = 500


def _is_large(chunk: Chunk) -> bool:
    """Say whether it is worth reading on while it is written: else what is read then waits for a write more."""
    return len(chunk.changes) >= _MANY


class _BeginAgainError(Exception):
    """What is saved by now is where to go on."""


class Streamer:
    """Carries out one rule whose strategy is to read the log."""

    def __init__(self, carrying: Carrying, feed: ChangeFeed) -> None:
        self._carrying, self._feed = carrying, feed
        strategy = carrying.rule.strategy
        assert isinstance(strategy, CDC)
        self._strategy = strategy
        self._main = carrying.rule.mapping.source
        self._touched = Touched()
        self._version = 0

    async def run(self) -> None:
        """Follow the log for ever, until stopped."""
        await self._check()
        position = await self._carrying.load()
        if position is None or not position.is_of(self._strategy):
            position = await self._begin()
        failed_at: Position | None = None
        while True:
            try:
                if position.stage == "snapshot":
                    if (lost := await why_lost(self._carrying)) is not None:
                        raise lost  # Before work is done that would have to be done again.
                    position = await self._snapshot(position)
                await self._follow(position)
            except FeedLostError as error:
                why = await why_lost(self._carrying)
                if not self._strategy.resnapshot:
                    if why is None:
                        raise
                    raise why from error
                log.warning("sync rule %r: %s; it begins with a new snapshot", self._carrying.rule.name, why or error)
                position = await self._begin()
                if self._carrying.shared:
                    self._carrying.tell_left()  # Of what was deleted meanwhile nothing tells any more.
            except RowError:
                # A row fails in a transaction that was half written: read again, and written part by part.
                before, position = failed_at, await self._saved()
                if before is not None and (before.stage, before.feed) == (position.stage, position.feed):
                    raise
                failed_at = position
            except _BeginAgainError:
                position = await self._saved()

    async def _check(self) -> None:
        """Refuse what a federation may not have seen as it was opened: its tables may have been made since."""
        found = await untold(self._carrying.federation, self._carrying.rule)
        if found:
            raise SyncRuleError("; ".join(map(str, found)))

    async def _saved(self) -> Position:
        position = await self._carrying.load()
        assert position is not None
        return position

    # -- the snapshot

    async def _begin(self) -> Position:
        carrying = self._carrying
        carrying.progress.state = "snapshot"
        before = await carrying.positions.peek()
        # Before the first row is read: what commits from now on is in the stream.
        feed = await begun(carrying, self._feed)
        fresh = before is None and await carrying.target.count() == 0
        version = carrying.first_version(before.version if before is not None else 0) + 1
        stage = "snapshot" if self._strategy.snapshot or before is not None else "stream"
        position = Position(stage, feed=feed, compares=not fresh, version=version)  # type: ignore[arg-type]
        await carrying.positions.save(None, position, carrying.epoch)
        return position

    async def _snapshot(self, position: Position) -> Position:
        carrying = self._carrying
        carrying.progress.state = "snapshot"
        return await snapshot(carrying, position, page=self._strategy.page)

    # -- the stream

    async def _follow(self, position: Position) -> None:
        carrying, feed = self._carrying, self._feed
        assert position.feed is not None
        carrying.progress.state, carrying.progress.lag_rows = "streaming", 0
        self._touched, self._version = Touched(), position.version
        confirmed = time.monotonic()
        try:
            async for chunk in self._until_stopped(ahead(feed.stream(position.feed), when=_is_large)):
                await self._write(chunk)
                now = time.monotonic()
                if chunk.position is not None and now - confirmed > 0.5:
                    await self._confirm(chunk.position)
                    confirmed = now
                carrying.check()
        finally:
            await carrying.applier.abandon()

    async def _confirm(self, position: str) -> None:
        await self._feed.confirm(position)

    async def _until_stopped(self, chunks: AsyncGenerator[Chunk]) -> AsyncIterator[Chunk]:
        """Yield chunks until the rule is stopped: an idle log would keep it waiting."""
        stopped = asyncio.create_task(self._carrying.stopping.wait())
        following: asyncio.Task[Chunk] | None = None
        try:
            while True:
                following = asyncio.ensure_future(anext(chunks))
                await asyncio.wait({following, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    self._carrying.check()
                yield await following
        finally:
            stopped.cancel()
            if following is not None:
                following.cancel()
            await asyncio.gather(*(one for one in (stopped, following) if one is not None), return_exceptions=True)
            await chunks.aclose()

    async def _write(self, chunk: Chunk) -> None:
        carrying, touched = self._carrying, self._touched
        self._take(chunk)
        self._version += 1
        position = None if chunk.position is None else Position("stream", feed=chunk.position, version=self._version)
        if (touched.emptied or touched.linked.emptied) and position is None:
            return  # What was in the table goes with the rest of this transaction.
        if touched.linked.emptied and position is not None:
            await self._compare_all(position)
        work = await work_of(carrying, touched)
        self._touched = Touched()
        if touched.emptied and position is not None:
            position = await self._empty(position)
        await carrying.applier.apply(work, position, version=self._version)
        if position is not None:
            lag = None if chunk.committed_at is None else time.time() - chunk.committed_at
            carrying.done(lag=lag if chunk.changes else 0.0)
            carrying.progress.lag_rows = 0
            carrying.progress.position = chunk.position

    def _take(self, chunk: Chunk) -> None:
        progress = self._carrying.progress
        progress.lag_rows = (progress.lag_rows or 0) + len(chunk.changes)
        related = self._carrying.related
        for change in chunk.changes:
            if change.shape is self._main:
                self._touched.take(change)
            if related is not None:  # Also one of the main table, where that is related to itself.
                related.belongs(change, self._touched.linked)

    async def _compare_all(self, position: Position) -> NoReturn:
        """Go through the source again: which rows had something that is gone now, all at once, nothing tells."""
        again = replace(position, stage="snapshot", compares=True)
        await self._carrying.positions.save(None, again, self._carrying.epoch)
        raise _BeginAgainError

    async def _empty(self, position: Position) -> Position:
        """Remove what the source has no more: all rows at once were."""
        if self._carrying.shared and self._carrying.rule.declared.on_delete != "ignore":
            self._carrying.tell_left()
            return position
        at = replace(position, feed=(await self._saved()).feed)
        at = await remove_absent(self._carrying, at, page=self._strategy.page)
        self._version = at.version + 1
        return replace(position, version=self._version)
