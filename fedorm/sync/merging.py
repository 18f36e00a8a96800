"""Several feeds as one: of a rule whose rows are built from models of several services."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace

from fedorm.exc import FeedLostError
from fedorm.stores.feeds import Backlog, ChangeFeed, Chunk, Kept
from fedorm.stores.findings import Finding


class MergedFeed(ChangeFeed):
    """Feeds by the names of their services; its positions hold one of each."""

    def __init__(self, feeds: Mapping[str, ChangeFeed]) -> None:
        self._feeds = dict(feeds)
        self.shapes = [shape for feed in self._feeds.values() for shape in feed.shapes]

    def _positions(self, position: str) -> dict[str, str]:
        """Return those of each feed. Raises ``FeedLostError`` for one of a rule that has loaded something else."""
        with suppress(ValueError):
            found = json.loads(position)
            if isinstance(found, dict) and self._feeds.keys() <= found.keys():
                return found
        services = ", ".join(sorted(self._feeds))
        raise FeedLostError(
            f"what was saved is no position in the logs of {services}: the rule has loaded other models "
            "until now; a new snapshot has to be made, by  fedorm sync backfill",
            service=next(iter(self._feeds)),
        )

    async def findings(self) -> list[Finding]:
        """Ask each."""
        return [finding for feed in self._feeds.values() for finding in await feed.findings()]

    async def create(self) -> str:
        """Make each."""
        return json.dumps({name: await feed.create() for name, feed in self._feeds.items()})

    async def stream(self, position: str) -> AsyncIterator[Chunk]:
        """Yield chunks of all of them as they come."""
        positions = self._positions(position)
        chunks: asyncio.Queue[tuple[str, Chunk]] = asyncio.Queue(maxsize=1)

        async def follow(name: str, feed: ChangeFeed) -> None:
            stream = feed.stream(positions[name])
            try:
                async for chunk in stream:
                    await chunks.put((name, chunk))
            finally:
                await stream.aclose()  # type: ignore[attr-defined]

        tasks = [asyncio.create_task(follow(name, feed)) for name, feed in self._feeds.items()]
        try:
            while True:
                getting = asyncio.create_task(chunks.get())
                try:
                    await asyncio.wait({getting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
                    if not getting.done():
                        for task in tasks:
                            if task.done():
                                task.result()  # A feed never ends but by an error.
                finally:
                    if not getting.done():
                        getting.cancel()
                name, chunk = await getting
                if chunk.position is not None:
                    positions[name] = chunk.position
                    chunk = replace(chunk, position=json.dumps(positions))
                yield chunk
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def confirm(self, position: str) -> None:
        """Tell each."""
        positions = self._positions(position)
        for name, feed in self._feeds.items():
            await feed.confirm(positions[name])

    async def backlog(self, position: str) -> Backlog:
        """Add up bytes; of seconds, the most."""
        positions = self._positions(position)
        found = [await feed.backlog(positions[name]) for name, feed in self._feeds.items()]
        sizes = [one.bytes for one in found if one.bytes is not None]
        ages = [one.seconds for one in found if one.seconds is not None]
        return Backlog(sum(sizes) if sizes else None, max(ages) if ages else None)

    async def kept(self) -> list[Kept]:
        """Ask each."""
        return [one for feed in self._feeds.values() for one in await feed.kept()]

    async def give_up(self, most: int) -> list[Kept]:
        """Look at each by itself."""
        return [one for feed in self._feeds.values() for one in await feed.give_up(most)]

    async def drop(self) -> None:
        """Drop each."""
        for feed in self._feeds.values():
            await feed.drop()
