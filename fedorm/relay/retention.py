"""Removes what has been kept long enough: delivered events, and what the inboxes remember."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Sequence

from fedorm.exc import FedormError
from fedorm.relay.sources import Source

logger = logging.getLogger("fedorm.outbox")
_EVERY = 30.0


async def sweep(inboxes: Sequence[Source], sources: Sequence[Source], *, keep: float, inbox_keep: float) -> None:
    """Remove what is old enough, again and again until cancelled.

    A service's inbox remembers an event for ``inbox_keep`` seconds after its effect, and as long as any outbox has an
    event as old as that to hand on: this one might be it.
    """
    while True:
        await asyncio.sleep(min(_EVERY, max(1.0, keep / 2)) if keep else _EVERY)
        for source in sources:
            if keep:
                await _quietly(source, source.forget_delivered(keep))
        before: float | None = time.time()
        for source in sources:
            oldest = await _quietly(source, source.oldest())
            before = None if oldest is None or before is None else min(before, oldest)
        if before is None:
            continue  # A source does not answer: nobody knows what it may still have.
        for inbox in inboxes:
            await _quietly(inbox, inbox.forget_inbox(before - inbox_keep))


async def _quietly(source: Source, work: Awaitable[float]) -> float | None:
    try:
        return await work
    except FedormError as error:
        logger.warning("service %r: what is old could not be removed: %s", source.service, error)
        return None
