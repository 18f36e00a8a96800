"""Changes from one database to another by a process of its own: how many a second, how soon, and in how much memory."""

from __future__ import annotations

import asyncio
import os
import time
from bisect import bisect_left
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from benchmarks import sync_writer
from benchmarks.places import Kind
from benchmarks.sync_process import SyncProcess, syncing
from benchmarks.sync_targets import Target, opened_target, source_sums
from benchmarks.synced import RULE, Mix, Source, federation, remade

BASE = 100_000
"""How many rows there are before the first change."""
CHANGES = int(os.environ.get("FEDORM_CHANGES", "300000"))
"""How many changes memory is looked at over."""


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What a process did with changes that had been committed before it began."""

    changes: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Changes a second."""
        return self.changes / self.seconds

    @property
    def rate_of_a_core(self) -> float:
        """Changes for each second that the process's threads were at work."""
        return self.changes / self.cpu_seconds


class Stream:
    """One source with a rule to one target, both made anew; the rule has made its snapshot."""

    def __init__(self, kind: Kind, urls: Mapping[str, str], target: Target, source: Source) -> None:
        self.kind, self.urls, self.target, self.source = kind, urls, target, source
        self._next = BASE

    @classmethod
    async def begun(cls, stack: AsyncExitStack, kind: Kind, urls: Mapping[str, str]) -> Stream:
        """Make tables and rows, and let a process come as far as the log."""
        source = Source(kind, urls["sync_source"])
        stack.callback(source.close)
        await asyncio.to_thread(source.make, BASE)
        (service,) = urls.keys() - {"sync_source"}
        async with federation(urls) as fed:
            await remade(fed, service)
            await fed.sync.reset(RULE)
            await fed.sync.backfill(RULE)
        target = await opened_target(urls)
        stack.push_async_callback(target.close)
        stream = cls(kind, urls, target, source)
        await stream.caught_up(1, 1000)
        return stream

    def mix(self, rows: int, changes: int) -> Mix:
        """Return changes that follow those before."""
        begin, self._next = self._next, self._next + changes
        return Mix(begin, changes, BASE, rows)

    async def caught_up(self, rows: int, changes: int) -> CaughtUp:
        """Commit changes, then start a process, and say what it took until the last of them was at the target."""
        mix = self.mix(rows, changes)
        await asyncio.to_thread(self.source.change, mix)
        async with syncing(self.urls) as process:
            cpu, begun = process.cpu_seconds, time.perf_counter()
            await self.reached(mix.begin + changes, process)
            found = CaughtUp(changes, time.perf_counter() - begun, process.cpu_seconds - cpu)
        await self.check()
        return found

    async def reached(self, number: int, process: SyncProcess) -> None:
        """Wait until the marker is at the target."""
        while await self.target.marker() < number:
            process.check()
            await asyncio.sleep(0.01)

    async def check(self) -> None:
        """Raise AssertionError unless the target has what the source has."""
        expected, found = await source_sums(self.urls), await self.target.sums()
        assert found == expected, f"the target has {found}, and the source {expected}"


@dataclass(frozen=True, slots=True)
class Latencies:
    """Milliseconds from the start of a commit until its rows are seen at the target."""

    median: float
    at_99: float
    worst: float
    offered: float
    """Changes a second that were really written."""
    busy: float
    """How much of a core the process was at work, from 0 to 1 and more."""


async def latencies(stream: Stream, *, rate: int, rows: int, seconds: float) -> Latencies:
    """Have another process write at a steady rate, and look at the target all the time."""
    first = stream.mix(rows, int(rate * seconds)).begin
    seen: list[tuple[float, int]] = []
    async with syncing(stream.urls) as process:
        await asyncio.sleep(2)  # The stream is there.
        writing = await sync_writer.started(stream.urls, first, BASE, rate, rows, seconds)
        cpu, begun, last = process.cpu_seconds, time.monotonic(), -1
        while not writing.done() or last < writing.result()[-1][1]:
            process.check()
            number = await stream.target.marker()
            if number != last:
                last = number
                seen.append((time.monotonic(), number))
            await asyncio.sleep(0.001)
        busy = (process.cpu_seconds - cpu) / (time.monotonic() - begun)
    await stream.check()
    committed = writing.result()
    numbers = [number for _, number in seen]
    took = []
    for moment, number in committed:
        at = bisect_left(numbers, number)
        took.append((seen[at][0] - moment) * 1000)
    took.sort()
    lasted = committed[-1][0] - committed[0][0]
    offered = (len(committed) - 1) * rows / lasted
    return Latencies(took[len(took) // 2], took[len(took) * 99 // 100], took[-1], offered, busy)


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB of the process when it had caught up with the first changes, with half of them, and with all."""

    changes: int
    start: float
    middle: float
    end: float
    most: float


async def memory(stream: Stream, changes: int = CHANGES) -> Memory:
    """Write and sync at the same time, a part after the other, and look at the process's memory after each."""
    parts = 20
    found = []
    async with syncing(stream.urls) as process:
        for _ in range(parts + 1):
            mix = stream.mix(100, changes // parts // 100 * 100)
            await asyncio.to_thread(stream.source.change, mix)
            await stream.reached(mix.begin + mix.changes, process)
            found.append(process.mebibytes)
    await stream.check()
    # The first part is for warming up: what Python and its packages need is there then.
    return Memory(parts * (changes // parts // 100 * 100), found[0], found[parts // 2], found[-1], max(found))
