"""Settling what a crash has left in doubt: prepared branches of two-phase commits that nobody ends any more."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import greenlet_spawn

from fedorm.bridge import AsyncBridge
from fedorm.exc import FedormError
from fedorm.stats import InDoubtStatistics, Meter
from fedorm.stores.base import Store
from fedorm.twophase.recovering import GRACE, KEEP, RecoveryRun
from fedorm.twophase.reports import RecoveredBranch, Recovery, in_doubt_of
from fedorm.twophase.settling import Done

if TYPE_CHECKING:
    from fedorm.bridge import ThreadBridge

__all__ = ["GRACE", "Done", "RecoveredBranch", "Recovery", "RecoveringStores", "in_doubt_of", "look", "opened"]

log = logging.getLogger("fedorm.recovery")

_LOOK: dict[str, Any] = {"older_than": math.inf, "dry_run": True}
"""Whose branches they are is asked, and not what was decided about them."""


class RecoveringStores:
    """The part of a ``Federation`` that settles what is in doubt."""

    stores: dict[str, Store]
    meter: Meter
    _async_bridge: AsyncBridge
    _thread_bridge: ThreadBridge | None
    _recover_on_start: bool
    _later: asyncio.Task[None] | None = None
    _repeater: _Repeater | None = None

    if TYPE_CHECKING:

        def _require_open(self) -> None: ...

    async def recover(self, older_than: float = GRACE, *, dry_run: bool = False, keep: float = KEEP) -> Recovery:
        """Settle the branches of two-phase commits that a crash has left prepared, and say what was done.

        What was decided is done; what nobody has decided is rolled back once it is ``older_than`` seconds: give no less
        than the slowest of your commits takes. Branches of other federations are left alone, and so are those of which
        a service is down, which the report names. Safe at any time, also from several processes at once. Decisions that
        no branch needs are dropped after ``keep`` seconds. ``dry_run`` changes nothing, and says what would be done.

        Raises ``ConfigurationError`` for a negative time.
        """
        self._require_open()
        return await self._recover(older_than=older_than, dry_run=dry_run, keep=keep)

    def sync_recover(self, older_than: float = GRACE, *, dry_run: bool = False, keep: float = KEEP) -> Recovery:
        """Do the same as ``recover()`` in code that is not async."""
        if self._thread_bridge is None:
            raise FedormError("the federation is not open for threads: write  with federation:  around sync_recover()")
        return self._sync_recover(self._thread_bridge, older_than=older_than, dry_run=dry_run, keep=keep)

    async def recover_where_possible(
        self, older_than: float = GRACE, *, dry_run: bool = False, keep: float = KEEP
    ) -> Recovery:
        """Do the same as ``recover()`` with a federation that is not open, and may be only in parts.

        The services that answer are opened for it, and closed again; the others are named in the report.
        """
        async with opened(self.stores) as down:
            return await self._recover(older_than=older_than, dry_run=dry_run, keep=keep, down=down)

    async def in_doubt(self) -> InDoubtStatistics:
        """Ask every service for branches that are prepared and not ended, those of others aside; ``stats()`` shows it.

        A commit that is under way has some for a moment: it is the age that tells of a crash.
        """
        self._require_open()
        report = await self._recover(**_LOOK)
        return self._looked(report)

    def sync_in_doubt(self) -> InDoubtStatistics:
        """Do the same as ``in_doubt()`` in code that is not async."""
        if self._thread_bridge is None:
            raise FedormError("the federation is not open for threads: write  with federation:  around sync_in_doubt()")
        report = self._sync_recover(self._thread_bridge, **_LOOK)
        return self._looked(report)

    async def _recover(self, **options: Any) -> Recovery:
        run = RecoveryRun(self.stores, self._async_bridge, sync=False, **options)
        report = await greenlet_spawn(run.run)
        self._looked(report)
        return report

    def _sync_recover(self, bridge: ThreadBridge, **options: Any) -> Recovery:
        report = RecoveryRun(self.stores, bridge, sync=True, **options).run()
        self._looked(report)
        return report

    def _looked(self, report: Recovery) -> InDoubtStatistics:
        self.meter.in_doubt = found = in_doubt_of(report, self.stores)
        return found

    # -- at the start

    async def _recover_at_start(self) -> None:
        """Settle what there is; what is too young yet, or in a service that is down, is tried again in a task."""
        if self._recover_on_start:
            report = await self._recover(older_than=GRACE)
            _tell(report)
            if not report.is_complete:
                self._later = asyncio.create_task(self._recover_later(report), name="fedorm-recovery")

    async def _recover_later(self, report: Recovery) -> None:
        while not report.is_complete:
            await asyncio.sleep(_due(report))
            report = await self._recover(older_than=GRACE)
            _tell(report)

    async def _stop_recovering(self) -> None:
        task, self._later = self._later, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.wait({task})

    def _sync_recover_at_start(self, bridge: ThreadBridge) -> None:
        """Do the same with a thread."""
        if self._recover_on_start:
            report = self._sync_recover(bridge, older_than=GRACE)
            _tell(report)
            if not report.is_complete:
                self._repeater = _Repeater(report, partial(self._sync_recover, bridge, older_than=GRACE))

    def _sync_stop_recovering(self) -> None:
        repeater, self._repeater = self._repeater, None
        if repeater is not None:
            repeater.stop()


@asynccontextmanager
async def opened(stores: Mapping[str, Store]) -> AsyncIterator[dict[str, FedormError]]:
    """Open the stores that answer, for the block; give the errors of the others by their names."""
    try:
        answers = await asyncio.gather(*(store.open() for store in stores.values()), return_exceptions=True)
        down: dict[str, FedormError] = {}
        for name, answer in zip(stores, answers, strict=True):
            if isinstance(answer, FedormError):
                down[name] = answer
            elif isinstance(answer, BaseException):
                raise answer
        yield down
    finally:
        await asyncio.gather(*(store.close() for store in stores.values()))


async def look(stores: Mapping[str, Store], down: Mapping[str, FedormError]) -> Recovery:
    """Return which branches are in doubt in stores that belong to no federation; nothing is changed."""
    return await greenlet_spawn(RecoveryRun(stores, AsyncBridge(), sync=False, down=down, **_LOOK).run)


class _Repeater:
    """A thread that recovers again and again, until nothing is left."""

    def __init__(self, report: Recovery, recover: Callable[[], Recovery]) -> None:
        self._report, self._recover = report, recover
        self._enough = Event()
        self._thread = Thread(target=self._run, name="fedorm-recovery", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._report.is_complete and not self._enough.wait(_due(self._report)):
            self._report = self._recover()
            _tell(self._report)

    def stop(self) -> None:
        """Wait for what is under way, and end."""
        self._enough.set()
        self._thread.join()


def _due(report: Recovery) -> float:
    """Return in how many seconds one that was left is old enough; there may be other reasons, too."""
    waiting = [GRACE - branch.age for branch in report.left if branch.age < GRACE]
    return max(1.0, min(waiting, default=GRACE))


def _tell(report: Recovery) -> None:
    """Log what a recovery at the start was about; it keeps no service from starting."""
    for branch in report.branches:
        if branch.done is not Done.FOREIGN:
            level = logging.WARNING if branch.done is Done.LEFT else logging.INFO
            log.log(level, "service %r, transaction %s: %s", branch.service, branch.id, branch)
    for error in report.unasked.values():
        log.warning("not asked for transactions in doubt: %s", error)
