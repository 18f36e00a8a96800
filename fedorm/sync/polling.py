"""``Batch`` and ``RealTime``: reading what was written since the last time, or comparing everything."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

from fedorm.sync.carrying import Carrying
from fedorm.sync.passes import go_through, remove_absent
from fedorm.sync.positions import Position
from fedorm.sync.strategies import Batch, RealTime
from fedorm.sync.waking import listening


class Poller:
    """Carries out one rule whose strategy is to look again and again."""

    def __init__(self, carrying: Carrying) -> None:
        self._carrying = carrying
        strategy = carrying.rule.strategy
        assert isinstance(strategy, Batch | RealTime)
        self._strategy = strategy
        self._woken = asyncio.Event()
        self._compared_at = 0.0

    async def run(self) -> None:
        """Look for ever, until stopped."""
        async with listening(self._carrying, self._woken.set) if self._listens else AsyncExitStack():
            while True:
                position = await self._carrying.load()
                if position is None or position.stage == "pass" or self._is_due(position):
                    self._woken.clear()
                    await self.look(position)
                self._carrying.progress.state = "waiting"
                await self._wait(position)

    @property
    def _listens(self) -> bool:
        return isinstance(self._strategy, RealTime) and self._strategy.notify

    def _is_due(self, position: Position) -> bool:
        strategy = self._strategy
        if isinstance(strategy, RealTime):
            return True
        return strategy.every is not None and (position.at or 0.0) + strategy.every <= time.time()

    async def _wait(self, before: Position | None) -> None:
        strategy = self._strategy
        if isinstance(strategy, RealTime):
            woken = asyncio.create_task(self._woken.wait())
            stopped = asyncio.create_task(self._carrying.stopping.wait())
            try:
                await asyncio.wait({woken, stopped}, timeout=strategy.poll, return_when=asyncio.FIRST_COMPLETED)
            finally:
                woken.cancel()
                stopped.cancel()
                await asyncio.gather(woken, stopped, return_exceptions=True)
            self._carrying.check()
            return
        if strategy.every is None:
            await self._carrying.rest(None)
        else:
            # A backfill may have been asked for meanwhile, by another process.
            await self._carrying.rest(min(strategy.every, 5.0))

    async def look(self, position: Position | None, *, whole: bool = False) -> Position:
        """Make one pass, or end the one that was interrupted; return the position afterwards.

        ``whole``: whatever has changed and whoever was looked at last, everything is compared.
        """
        carrying, strategy = self._carrying, self._strategy
        carrying.progress.state = "running"
        if position is None or position.stage != "pass":
            position = await self._begun(position)
        position = await go_through(carrying, position, page=strategy.page)
        if self._looks_for_deletes(whole):
            position = await remove_absent(carrying, position, page=strategy.page)
            self._compared_at = time.time()
        position = Position("waiting", mark=position.mark, at=time.time(), version=position.version + 1)
        await carrying.positions.save(None, position, carrying.epoch)
        carrying.done(lag=0.0)
        return position

    async def _begun(self, before: Position | None) -> Position:
        carrying, strategy = self._carrying, self._strategy
        # Before anything is read: what commits from now on will be behind this mark.
        mark = await carrying.source.mark(changed=strategy.changed, overlap=strategy.overlap)
        if carrying.rule.declared.load:
            mark = None  # Rows of other tables belong to a row: it has not changed itself when they have.
        since = before.mark if before is not None else None
        if mark is None or since is None or not carrying.source.reaches(since, mark):
            since = None
        fresh = before is None and await carrying.target.count() == 0
        version = carrying.first_version(before.version if before is not None else 0)
        return Position("pass", since=since, mark=mark, compares=not fresh and since is None, version=version)

    def _looks_for_deletes(self, whole: bool) -> bool:
        strategy = self._strategy
        if isinstance(strategy, Batch):
            return strategy.detect_deletes
        if strategy.detect_deletes is None:
            return False
        return whole or time.time() >= self._compared_at + strategy.detect_deletes
