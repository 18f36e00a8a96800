"""The reader's part: a first snapshot, and then what the log says, into the partitions of a broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from fedorm.stores.feeds import ChangeFeed, Chunk
from fedorm.sync.brokers.channels import Channel
from fedorm.sync.brokers.encoding import RowEncoding
from fedorm.sync.brokers.gathering import gathered
from fedorm.sync.brokers.messages import Kind, Parts, sweeps
from fedorm.sync.carrying import Carrying
from fedorm.sync.homes import partition_positions
from fedorm.sync.keys import key_to_json
from fedorm.sync.passes import ahead
from fedorm.sync.positions import Position
from fedorm.sync.running import RuleRunner
from fedorm.sync.streaming import Streamer
from fedorm.sync.touching import Touched

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedorm.sync.resolving import ResolvedRule
    from fedorm.sync.sync import Sync

_PAUSE = 0.1
"""Within so many seconds after changes were published, others are gathered before they are."""


class Publishing(Streamer):
    """Publishes one rule's changes, as its only owner.

    The position is saved after the broker has confirmed all that is before it. What is published again after a crash
    has greater sequences, in the same order: ``sequence`` is above all that this process has given.
    """

    def __init__(self, carrying: Carrying, feed: ChangeFeed, channel: Channel, encoding: RowEncoding) -> None:
        super().__init__(carrying, feed)
        self._channel, self._encoding = channel, encoding
        self._partitions = channel.route.partitions
        self.sequence = carrying.first_version()
        self._reached: Position | None = None
        """Published, but not saved yet."""

    async def _begin(self) -> Position:
        rule, stores = self._carrying.rule, self._carrying.federation.stores
        for partition in range(self._partitions):
            # Also where what is kept of the rule was lost, but not its target: what has smaller ones is not written.
            reached = await partition_positions(rule, partition, stores).peek()
            if reached is not None:
                self.sequence = max(self.sequence, reached.version)
        self.sequence += 1
        position = replace(await super()._begin(), version=self.sequence)
        await self._carrying.positions.save(None, position, self._carrying.epoch)
        return position

    # -- the snapshot

    async def _snapshot(self, position: Position) -> Position:
        carrying, mapping = self._carrying, self._carrying.rule.mapping
        carrying.progress.state = "snapshot"
        self.sequence = max(self.sequence, position.version)
        after = None if position.after is None else self._encoding.key_of(position.after)
        kind: Kind = "compared" if position.compares else "first"
        async for rows in ahead(carrying.source.pages(size=self._strategy.page, after=after)):
            parts, keys = self._parts(), [mapping.key_of(row) for row in rows]
            for key, row in zip(keys, rows, strict=True):
                if carrying.related is None:
                    parts.row(key, row)
                else:  # It is read again, with all that belongs to it.
                    parts.read(key)
            await self._publish(parts, kind, None)
            position = replace(position, after=key_to_json(keys[-1]), version=self.sequence)
            await carrying.positions.save(None, position, carrying.epoch)
            if carrying.on_page is not None:
                carrying.on_page(len(rows), 0, 0, 0)
            carrying.check()
        if position.compares:
            await self._sweep()
        position = Position("stream", feed=position.feed, version=self.sequence)
        await carrying.positions.save(None, position, carrying.epoch)
        return position

    # -- the stream

    async def _follow(self, position: Position) -> None:
        self._touched, self._reached = Touched(), None
        self.sequence = max(self.sequence, position.version)
        try:
            await super()._follow(position)
        finally:
            await self._save()

    def _until_stopped(self, chunks: AsyncGenerator[Chunk]) -> AsyncIterator[Chunk]:
        return super()._until_stopped(gathered(chunks, _PAUSE))

    async def _write(self, chunk: Chunk) -> None:
        self._take(chunk)
        if self._touched.linked.emptied:
            if chunk.position is None:
                return
            self._reached = None
            await self._compare_all(Position("stream", feed=chunk.position, version=self.sequence))
        touched, self._touched = self._touched, Touched()
        if touched.emptied:
            # Each partition looks when it comes there: what is on its way to the target is not there to be found yet.
            await self._sweep()
            if self._carrying.shared:
                self._carrying.tell_left()
        parts = self._parts()
        if self._carrying.related is not None:
            belonging = await self._carrying.related.rows_of(touched.linked)
            for key in {**touched.rows, **touched.unknown, **belonging}:
                parts.read(key)
        else:
            for key, change in touched.rows.items():
                if change is None or change.values is None:
                    parts.gone(key)
                else:
                    parts.row(key, change.values)
            for key in touched.unknown:
                parts.read(key)
        await self._publish(parts, "changes", chunk.committed_at)
        if chunk.position is not None:
            self._reached = Position("stream", feed=chunk.position, version=self.sequence)
            self._carrying.progress.position, self._carrying.progress.lag_rows = chunk.position, 0

    async def _confirm(self, position: str) -> None:
        await self._save()
        await super()._confirm(position)

    async def _save(self) -> None:
        if self._reached is not None:
            reached, self._reached = self._reached, None
            await self._carrying.positions.save(None, reached, self._carrying.epoch)

    # -- messages

    def _parts(self) -> Parts:
        return Parts(self._encoding, self._partitions)

    async def _publish(self, parts: Parts, kind: Kind, at: float | None) -> None:
        await self._send(parts.messages(kind, self.sequence + 1, at))

    async def _sweep(self) -> None:
        if self._carrying.rule.declared.on_delete != "ignore" and not self._carrying.shared:
            await self._send(sweeps(self.sequence + 1, range(self._partitions)))

    async def _send(self, messages: Mapping[int, list[tuple[int, bytes]]]) -> None:
        """Publish those of a partition one after the other; return when all are kept."""
        # Counted before: a sequence that may be at the broker is not given again.
        self.sequence = max([self.sequence, *(some[-1][0] for some in messages.values())])

        async def send(partition: int, some: list[tuple[int, bytes]]) -> None:
            for sequence, body in some:
                await self._channel.send(partition, sequence, body)

        tasks = [asyncio.create_task(send(partition, some)) for partition, some in messages.items()]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class PublishingRunner(RuleRunner):
    """Publishes one rule's changes in this process whenever no other does."""

    def __init__(self, sync: Sync, rule: ResolvedRule, make: Callable[[], Channel]) -> None:
        super().__init__(sync, rule)
        self._make = make
        self._given = 0

    async def _carry_out(self, carrying: Carrying) -> None:
        encoding = RowEncoding(self.rule.mapping.source, self._sync.store(self.rule.source.service))
        channel = self._make()
        try:
            await channel.open(publishes=True)
            publishing = Publishing(carrying, self._sync.feed(self.rule), channel, encoding)
            publishing.sequence = max(publishing.sequence, self._given)
            try:
                await publishing.run()
            finally:
                self._given = publishing.sequence
        finally:
            await channel.close()
