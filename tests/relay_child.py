"""A process that hands events on, to be killed: ``python -m tests.relay_child URLS``, with URLs by service as JSON."""

from __future__ import annotations

import asyncio
import json
import sys

from sqlalchemy.orm import Mapped, mapped_column

from fedorm import AsyncFederatedSession, FederatedBase, Federation
from fedorm.outbox.events import Event
from fedorm.relay import handler

LEASE = 1.0


class Effect(FederatedBase):
    """A handler's effect, a row each time that it is called: the inbox alone keeps it from being there twice."""

    __service__ = "relayed_to"
    __tablename__ = "effects"
    seen: Mapped[int] = mapped_column(primary_key=True)
    """In which order they came."""
    key: Mapped[str]
    number: Mapped[int]


class Last(FederatedBase):
    """What a model's row has after the last event of its key."""

    __service__ = "relayed_to"
    __tablename__ = "lasts"
    id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int]


@handler("counted", service="relayed_to", name="effects")
async def take(event: Event, session: AsyncFederatedSession) -> None:
    session.add(Effect(key=event.key, number=event.data["number"]))


async def relay(urls: dict[str, str]) -> None:
    async with Federation(urls) as fed:
        fed.outbox.add(take)
        fed.outbox.to_model("counted", Last)
        print("started", flush=True)
        await fed.outbox.run(["relayed_from"], batch=100, lease=LEASE)


if __name__ == "__main__":
    asyncio.run(relay(json.loads(sys.argv[1])))
