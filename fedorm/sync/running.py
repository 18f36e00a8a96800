"""Carrying rules out: each by one process at a time, under a lease, again and again after what may pass."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from fedorm.exc import ConfigurationError, FedormError, FeedLostError, MissingDriverError, StoreError
from fedorm.sagas.trying import may_pass
from fedorm.sync.accounts import Accounts, Progress
from fedorm.sync.carrying import Carrying, StoppedError, log
from fedorm.sync.errors import LeaseLostError
from fedorm.sync.events import Following
from fedorm.sync.feeding import leave_log
from fedorm.sync.polling import Poller
from fedorm.sync.resolving import ResolvedRule
from fedorm.sync.strategies import CDC, EventDriven
from fedorm.sync.streaming import Streamer

if TYPE_CHECKING:
    from fedorm.sync.sync import Sync


class RuleRunner:
    """Carries one rule out in this process whenever no other does."""

    def __init__(self, sync: Sync, rule: ResolvedRule) -> None:
        self._sync, self.rule = sync, rule
        self.progress = Progress()
        self.ending = asyncio.Event()
        """Set when it has been told to stop."""
        self._carrying: Carrying | None = None
        self._failures = 0
        self._synced_at: float | None = None
        """When it was last synced before the last failure."""
        self._pauses = pauses()

    @property
    def owns(self) -> bool:
        """Whether the rule is this process's at the moment."""
        return self._carrying is not None

    def stop(self) -> None:
        """End after the batch in hand."""
        self.ending.set()
        if self._carrying is not None:
            self._carrying.stopping.set()

    async def run(self) -> None:
        """Go on until stopped. Never raises for what a rule or a service does."""
        accounts = self._sync.accounts(self.rule)
        while not self.ending.is_set():
            try:
                epoch = await accounts.take(self.rule.name)
                if epoch is None:
                    await self._wait(min(accounts.lease / 2, 1.0) * random.uniform(0.5, 1.0))  # noqa: S311
                    continue
                await self._own(accounts, epoch)
            except Exception as error:  # The service that keeps the account is down, or busy.
                log.warning("sync rule %r: %s", self.rule.name, error)
                await self._wait(self._pauses(self._failures))

    async def _own(self, accounts: Accounts, epoch: int) -> None:
        carrying = self._carrying = self._sync.carrying(self.rule, epoch=epoch, progress=self.progress)
        if self.ending.is_set():
            carrying.stopping.set()
        try:
            async with leased(accounts, carrying):
                await self._try(carrying)
        except LeaseLostError as error:
            log.warning("%s", error)
        finally:
            self._carrying = None

    async def _try(self, carrying: Carrying) -> None:
        progress = self.progress
        while True:
            try:
                await self._carry_out(carrying)
            except StoppedError:
                progress.state = "stopped"
                return
            except (LeaseLostError, asyncio.CancelledError):
                raise
            except Exception as error:
                if progress.last_sync_at != self._synced_at:  # It went well in between.
                    self._failures, self._synced_at = 0, progress.last_sync_at
                self._failures += 1
                progress.errors += 1
                progress.last_error = f"{type(error).__name__}: {error}"
                known = isinstance(error, FedormError) and not isinstance(error, ConfigurationError | FeedLostError)
                passes = known or may_pass(error)
                progress.state = "retrying" if passes else "failed"
                wait = self._pauses(self._failures) if passes else 60.0
                level = log.warning if passes else log.error
                level(
                    "sync rule %r: %s; again in %.1f s",
                    self.rule.name,
                    error,
                    wait,
                    exc_info=not isinstance(error, FedormError) and not passes,
                )
                with suppress(StoppedError):
                    await carrying.rest(wait)
                    continue
                return
            finally:
                await carrying.applier.abandon()

    async def _carry_out(self, carrying: Carrying) -> None:
        await carry_out(self._sync, carrying)

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.ending.wait()


def pauses() -> Callable[[int], float]:
    """Return what says how many seconds to wait after so many failures."""
    try:
        from tenacity import RetryCallState, wait_exponential_jitter
    except ModuleNotFoundError:
        raise MissingDriverError(user="a sync rule", package="tenacity", extra="sync") from None
    waits = wait_exponential_jitter(multiplier=0.5, max=60.0, jitter=1.0)

    def after(failures: int) -> float:
        state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
        state.attempt_number = max(1, failures)
        return float(waits(state))

    return after


async def carry_out(sync: Sync, carrying: Carrying) -> None:
    """Carry a rule out until it is stopped."""
    strategy = carrying.rule.strategy
    await leave_log(sync, carrying)
    if isinstance(strategy, CDC):
        await Streamer(carrying, sync.feed(carrying.rule)).run()
    elif isinstance(strategy, EventDriven):
        await Following(carrying).run()
    else:
        await Poller(carrying).run()


@asynccontextmanager
async def leased(accounts: Accounts, carrying: Carrying, *, even_paused: bool = False) -> AsyncIterator[None]:
    """Renew a rule's lease as long as the block runs, and let go of it at the end.

    The block is stopped when the rule is paused, and cancelled, with ``LeaseLostError``, when it is another's.
    """
    name, progress = carrying.rule.name, carrying.progress
    block = asyncio.current_task()
    assert block is not None
    lost: list[BaseException] = []

    async def renew() -> None:
        failures = 0
        while True:
            await asyncio.sleep(min(1.0, accounts.lease / 3))
            try:
                if await accounts.renew(name, carrying.epoch, progress) and not even_paused:
                    carrying.stopping.set()
                failures = 0
            except LeaseLostError as error:
                lost.append(error)
                block.cancel()
                return
            except Exception as error:  # Whatever it was, the rule is this process's up to the end of its lease.
                failures += 1
                if failures * min(1.0, accounts.lease / 3) >= accounts.lease:
                    lost.append(LeaseLostError(f"sync rule {name!r}: its lease could not be renewed: {error}"))
                    block.cancel()
                    return

    renewing = asyncio.create_task(renew())
    try:
        yield
    except asyncio.CancelledError:
        if lost and block.uncancel() == 0:
            raise lost[0] from None
        raise
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        if not lost:
            with suppress(StoreError, LeaseLostError):
                await asyncio.shield(accounts.renew(name, carrying.epoch, progress, release=True))
