"""A process with a relay that stops itself, as a suspended one does, between reading a row and writing its copy.

``python -m tests.sync.stale_child SOURCE TARGET URLS``: kinds of stores, and URLs by service as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fedorm import Federation
from fedorm.sync import EventDriven, SyncRule
from tests.sync.ledgers import source_model, target_model

LONG = 60.0
"""Seconds of a lease, in which its owner does not see that another relay has it."""


def stopping(row: Any) -> Any:
    if row["name"] == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    return row


@asynccontextmanager
async def opened(source: str, target: str, urls: dict[str, str], transform: Any = None) -> AsyncIterator[Federation]:
    """A federation with the rule ``stale``."""
    rule = SyncRule(
        source=source_model(source, events=True),
        to=target_model(target),
        strategy=EventDriven(),
        name="stale",
        transform=transform,
    )
    async with Federation(urls) as fed:
        fed.sync.add(rule)
        yield fed


async def relay(source: str, target: str, urls: dict[str, str]) -> None:
    async with opened(source, target, urls, stopping) as fed:
        print("open", flush=True)
        await fed.outbox.run([source_model(source, events=True).__service__], workers=1, lease=LONG)


if __name__ == "__main__":
    asyncio.run(relay(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
