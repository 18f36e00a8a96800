"""A process that does nothing but carry out the benchmark's sync rule, and what it costs, seen from outside.

Its standard input says where its services are; when that is closed it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psutil

from benchmarks.synced import federation
from fedorm.hydration import collector_seldom

READY = "ready"


@dataclass(frozen=True, slots=True)
class SyncProcess:
    """The process, while it runs."""

    process: Process

    @property
    def cpu_seconds(self) -> float:
        """How long its threads have been at work so far, all together, for themselves and in the kernel."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def mebibytes(self) -> float:
        """How much memory it has now."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 2**20

    def check(self) -> None:
        """Raise RuntimeError if it has ended."""
        if self.process.returncode is not None:
            raise RuntimeError(f"the process that syncs has ended with {self.process.returncode}")


@asynccontextmanager
async def syncing(urls: Mapping[str, str]) -> AsyncIterator[SyncProcess]:
    """Run the process; the block begins when its federation is open and the rule is about to be carried out."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.sync_process", stdin=PIPE, stdout=PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        # The URLs hold passwords: they go by the standard input, not by the command line.
        process.stdin.write(json.dumps(dict(urls)).encode() + b"\n")
        await process.stdin.drain()
        if (await process.stdout.readline()).decode().strip() != READY:
            raise RuntimeError(f"the process that syncs did not start: {await process.wait()}")
        yield SyncProcess(process)
    finally:
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 30)
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _run() -> None:
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    loop = asyncio.get_running_loop()
    urls = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    async with federation(urls) as fed:
        print(READY, flush=True)
        with collector_seldom():  # As  fedorm sync run  does.
            async with fed.sync.running():
                await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_run())
