"""The appliers' part: messages of a rule, written to its target in the order of each partition."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from fedorm.exc import FedormError, StoreError
from fedorm.stores.feeds import Change
from fedorm.sync.accounts import Progress
from fedorm.sync.applying import Applier, Work
from fedorm.sync.brokers.channels import Channel, NotNowError
from fedorm.sync.brokers.encoding import RowEncoding
from fedorm.sync.brokers.messages import Message, partition_of, read_message
from fedorm.sync.carrying import log
from fedorm.sync.errors import LeaseLostError
from fedorm.sync.keys import is_key
from fedorm.sync.passes import ahead
from fedorm.sync.positions import Position, Positions
from fedorm.sync.resolving import ResolvedRule
from fedorm.sync.running import pauses
from fedorm.sync.strategies import CDC
from fedorm.sync.touching import Touched, work_of

if TYPE_CHECKING:
    from fedorm.sync.sync import Sync

_SAY = 1.0
"""How often, in seconds, it is said what was done, and asked whether the rule is paused."""


class MessageApplier:
    """Writes the messages of one rule, beside as many others in other processes.

    The sequence of the last message of a partition is saved in the target's transaction, and one that is older is not
    written any more: neither one that was taken for lost nor a publisher that was taken for dead brings old rows back.
    """

    def __init__(self, sync: Sync, rule: ResolvedRule, make: Callable[[], Channel], at_once: asyncio.Semaphore) -> None:
        self._sync, self.rule, self._make, self._at_once = sync, rule, make, at_once
        self._encoding = RowEncoding(rule.mapping.source, sync.store(rule.source.service))
        self._stopping = asyncio.Event()
        self._pauses = pauses()
        self._failures = 0
        self._asked = self._said = 0.0
        self._paused = False
        self._positions: dict[int, Positions] = {}
        self.progress = Progress(state="applying")
        self._carrying = sync.carrying(rule, epoch=0, progress=self.progress)
        assert isinstance(rule.strategy, CDC)
        self._partitions, self._page = rule.strategy.partitions, rule.strategy.page

    def stop(self) -> None:
        """End after the messages in hand."""
        self._stopping.set()

    async def run(self) -> None:
        """Go on until stopped. Never raises for what a rule, a service or a broker does."""
        while not self._stopping.is_set():
            channel = self._make()
            try:
                await channel.open(publishes=False)
                self._failures = 0
                await channel.consume(self._take, self._stopping)
            except FedormError as error:
                self._failures += 1
                self._failed(error)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pauses(self._failures)):
                        await self._stopping.wait()
            finally:
                await channel.close()
        await self._say()

    async def _take(self, partition: int, body: bytes) -> None:
        async with self._at_once:
            try:
                await self._ask()
                await self.apply(partition, read_message(body, self._encoding))
            except LeaseLostError:
                log.warning(
                    "sync rule %r, applying: a message of partition %d is older than what was written, and is dropped",
                    self.rule.name,
                    partition,
                )
            except NotNowError:
                raise
            except Exception as error:
                self._failed(error)
                raise
            finally:
                if time.monotonic() - self._said > _SAY:
                    await self._say()

    # -- one message

    async def apply(self, partition: int, message: Message) -> None:
        """Write a message. Raises ``LeaseLostError`` for one that is older than what was written already."""
        if message.kind == "sweep":
            await self._sweep(partition, message)
            return
        carrying, touched = self._carrying, Touched()
        shape, key_of = self.rule.mapping.source, self.rule.mapping.key_of
        for row in message.rows:
            key = key_of(row)
            touched.rows[key] = Change(shape, "upsert", key, row)
        touched.rows |= dict.fromkeys(message.gone)
        touched.unknown = dict.fromkeys(message.reads)
        work = await work_of(carrying, touched)
        if message.kind == "first":
            work.gone.clear()  # Nothing of them is there.
        elif message.kind == "compared":
            work = await carrying.differing(work)
        await self._write(partition, message.sequence, work)
        carrying.done(lag=None if message.at is None else time.time() - message.at)

    async def _sweep(self, partition: int, message: Message) -> None:
        """Remove what of this partition the target has, and the source has no more."""
        carrying, mapping = self._carrying, self.rule.mapping
        async for keys in ahead(carrying.target.key_pages(size=self._page)):
            back = {mapping.source_key(key): key for key in keys}
            mine = [source for source in back if partition_of(source, self._partitions) == partition]
            present = await carrying.source.present([*filter(is_key, mine)])
            work = Work(gone={back[source]: source for source in mine if source not in present})
            if work.gone:
                await self._write(partition, message.sequence, await carrying.differing(work))

    async def _reached(self, partition: int) -> Positions:
        if partition not in self._positions:
            positions = self._sync.partition_positions(self.rule, partition)
            await positions.make()
            self._positions[partition] = positions
        return self._positions[partition]

    async def _write(self, partition: int, sequence: int, work: Work) -> None:
        applier = Applier(
            self.rule.mapping,
            self._carrying.target,
            await self._reached(partition),
            # Anew: other processes put rows aside, too.
            self._sync.letters(self.rule),
            self.progress,
            sequence,
        )
        try:
            await applier.apply(work, Position("stream", version=sequence))
        finally:
            await applier.abandon()

    # -- the account

    async def _ask(self) -> None:
        if time.monotonic() - self._asked > _SAY:
            self._asked = time.monotonic()
            account = await self._sync.accounts(self.rule).get(self.rule.name)
            self._paused = account is not None and account.paused
        if self._paused:
            raise NotNowError(f"sync rule {self.rule.name!r} is paused")

    async def _say(self) -> None:
        self._said = time.monotonic()
        with suppress(StoreError):
            await self._sync.accounts(self.rule).add(self.rule.name, self.progress)

    def _failed(self, error: Exception) -> None:
        self.progress.errors += 1
        self.progress.last_error = f"{type(error).__name__}: {error}"
        known = isinstance(error, FedormError)
        level = log.warning if known else log.error
        level("sync rule %r, applying: %s", self.rule.name, error, exc_info=not known)
