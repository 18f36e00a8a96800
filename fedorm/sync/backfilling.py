"""Filling a rule's target anew, beside what its strategy does all the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fedorm.sync.carrying import Carrying
from fedorm.sync.feeding import leave_log
from fedorm.sync.passes import snapshot
from fedorm.sync.polling import Poller
from fedorm.sync.positions import Position
from fedorm.sync.retaining import begun
from fedorm.sync.strategies import CDC, EventDriven

if TYPE_CHECKING:
    from fedorm.sync.sync import Sync


@dataclass(frozen=True, slots=True)
class Filled:
    """How far a backfill is."""

    rows: int
    """Of the source, that were gone through."""
    total: int
    """Rows of the source when it began."""
    written: int
    deleted: int
    failed: int
    seconds: float

    @property
    def rate(self) -> float:
        """Rows gone through in a second."""
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take at that rate; None while there is none."""
        return max(0, self.total - self.rows) / self.rate if self.rate else None


async def fill(sync: Sync, carrying: Carrying, report: Callable[[Filled], None] | None) -> Filled:
    """Go through the source, and keep where the strategy goes on from afterwards."""
    carrying.total = await carrying.source.count()
    counter = _Counter(carrying, carrying.total, report)
    strategy, before = carrying.rule.strategy, await carrying.load()
    await leave_log(sync, carrying)
    carrying.on_page = counter.page
    if isinstance(strategy, CDC | EventDriven):
        await _fill_behind_stream(sync, carrying, before)
    else:
        # One pass over everything: without a mark from before.
        position = replace(before, mark=None) if before is not None and before.stage != "pass" else before
        await Poller(carrying).look(position, whole=True)
    return counter.now()


async def _fill_behind_stream(sync: Sync, carrying: Carrying, before: Position | None) -> None:
    strategy = carrying.rule.strategy
    assert isinstance(strategy, CDC | EventDriven)
    is_lost = await sync.accounts(carrying.rule).lost(carrying.rule.name) is not None
    if before is not None and before.stage == "snapshot" and before.is_of(strategy) and not is_lost:
        position = before  # Goes on from where it was interrupted.
    else:
        fresh = before is None and await carrying.target.count() == 0
        if before is not None and before.feed is not None:
            # Killed in between, the log is not where it was: without a place in it, a snapshot is begun anew.
            nowhere = replace(before, stage="snapshot", feed=None, after=None, compares=True)
            await carrying.positions.save(None, nowhere, carrying.epoch)
        # Anew also where there is one: its log may be lost, which is what a backfill mends.
        feed = await begun(carrying, sync.feed(carrying.rule)) if isinstance(strategy, CDC) else None
        version = before.version + 1 if before is not None else carrying.first_version() + 1
        # What is committed from now on is in the stream, and comes again after this.
        position = Position("snapshot", feed=feed, compares=not fresh, version=version)
        await carrying.positions.save(None, position, carrying.epoch)
    await snapshot(carrying, position, page=strategy.page)


async def rewind(sync: Sync, carrying: Carrying) -> Filled:
    """Have all rows published again by who publishes the changes of a rule, when that goes on."""
    position = await carrying.load()
    is_lost = await sync.accounts(carrying.rule).lost(carrying.rule.name) is not None
    if position is not None and (position.stage != "snapshot" or is_lost):
        await carrying.positions.save(None, replace(position, stage="snapshot", feed=None, after=None), carrying.epoch)
        feed = await begun(carrying, sync.feed(carrying.rule))
        anew = Position("snapshot", feed=feed, version=position.version + 1)
        await carrying.positions.save(None, anew, carrying.epoch)
    return Filled(0, await carrying.source.count(), 0, 0, 0, 0.0)


class _Counter:
    def __init__(self, carrying: Carrying, total: int, report: Callable[[Filled], None] | None) -> None:
        self._carrying, self._total, self._report = carrying, total, report
        self._started = time.monotonic()
        self._rows = 0
        self._written = self._deleted = self._failed = 0

    def page(self, rows: int, written: int, deleted: int, failed: int) -> None:
        """Count a page."""
        self._rows += rows
        self._written += written
        self._deleted += deleted
        self._failed += failed
        if self._report is not None:
            self._report(self.now())

    def now(self) -> Filled:
        """Return how far it is."""
        return Filled(
            self._rows,
            max(self._total, self._rows),
            self._written,
            self._deleted,
            self._failed,
            time.monotonic() - self._started,
        )
