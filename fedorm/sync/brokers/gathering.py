"""Many small transactions as few chunks: each message costs its appliers a transaction of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

from fedorm.stores.feeds import Chunk

_ENOUGH = 1_000
"""So many changes are not waited for to become more."""


async def gathered(chunks: AsyncGenerator[Chunk], pause: float) -> AsyncGenerator[Chunk]:
    """Yield the first chunk at once, and what comes within ``pause`` seconds after one as one, unless it is large."""
    following: asyncio.Task[Chunk] | None = None
    given = 0.0

    def ask() -> asyncio.Task[Chunk]:
        return asyncio.ensure_future(anext(chunks))

    try:
        while True:
            following = following or ask()
            chunk, following = await following, None
            while chunk.position is not None and len(chunk.changes) < _ENOUGH:
                left = given + pause - time.monotonic()
                if left <= 0:
                    break
                following = following or ask()
                await asyncio.wait({following}, timeout=left)
                if not following.done():
                    break
                more = following.result()
                if more.position is None or len(more.changes) >= _ENOUGH:
                    break  # By itself, next.
                at = chunk.committed_at if more.committed_at is None else more.committed_at
                chunk, following = Chunk([*chunk.changes, *more.changes], more.position, at), None
            given = time.monotonic()
            yield chunk
    finally:
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        await chunks.aclose()
