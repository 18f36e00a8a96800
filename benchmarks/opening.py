"""Opening a federation takes as long as its slowest service, not as long as all of them one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from statistics import median
from urllib.parse import urlsplit

from benchmarks.measure import timed
from fedorm import Federation


@dataclass(frozen=True, slots=True)
class Opening:
    """The median milliseconds of opening each service alone, and of opening them all."""

    alone: dict[str, float]
    together: float


@asynccontextmanager
async def delayed(url: str, seconds: float) -> AsyncIterator[str]:
    """Give a URL that leads to the same server, whose every answer comes ``seconds`` later: a far service."""
    target = urlsplit(url)
    connections: set[asyncio.Task[None]] = set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wait: float) -> None:
        while data := await reader.read(65536):
            await asyncio.sleep(wait)
            writer.write(data)
            await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            answers, questions = await asyncio.open_connection(target.hostname, target.port)
            async with asyncio.TaskGroup() as group:
                group.create_task(forward(reader, questions, 0))
                group.create_task(forward(answers, writer, seconds))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            writer.close()
        finally:
            connections.discard(task)

    proxy = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    try:
        yield url.replace(f":{target.port}", f":{port}")
    finally:
        proxy.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def opening(urls: Mapping[str, str], seconds: float, rounds: int) -> Opening:
    """Open each service alone and all together, behind proxies that make each answer ``seconds`` late."""
    async with AsyncExitStack() as stack:
        far = {name: await stack.enter_async_context(delayed(url, seconds)) for name, url in urls.items()}

        async def measure(services: Mapping[str, str]) -> float:
            times = []
            for _ in range(rounds + 1):
                fed = Federation(services)
                times.append(await timed(fed.open))
                await fed.close()
            return median(times[1:])

        alone = {name: await measure({name: url}) for name, url in far.items()}
        return Opening(alone, await measure(far))
