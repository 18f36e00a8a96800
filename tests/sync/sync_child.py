"""A process that carries a rule out, to be killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fedorm import Federation
from fedorm.sync import CDC, Batch, EventDriven, RealTime, SyncRule
from tests.sync.ledgers import source_model, target_model

LEASE = 1.0
STRATEGIES = {
    "batch": lambda: Batch(every=0.2, page=300),
    "real-time": lambda: RealTime(poll=0.1, detect_deletes=0.5, page=300),
    "event-driven": lambda: EventDriven(page=300),
    "cdc": lambda: CDC(page=300, batch=500),
}


@dataclass(frozen=True, slots=True)
class Order:
    """Between which kinds of stores, and how."""

    urls: dict[str, str]
    source: str
    target: str
    strategy: str

    @property
    def near(self) -> Any:
        """The source's model."""
        return source_model(self.source, events=self.strategy == "event-driven")

    @property
    def far(self) -> Any:
        """The target's model."""
        return target_model(self.target)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Federation]:
        """A federation with the rule."""
        async with Federation(self.urls) as fed:
            fed.sync.lease = LEASE
            fed.sync.add(SyncRule(source=self.near, to=self.far, strategy=STRATEGIES[self.strategy](), name="ledger"))
            yield fed


def work(order: Order, pipe: Any) -> None:
    """Carry the rule out until killed."""
    asyncio.run(_work(order, pipe))


async def _work(order: Order, pipe: Any) -> None:
    async with order.opened() as fed:
        pipe.send(("open", None))
        await fed.sync.run(["ledger"])
