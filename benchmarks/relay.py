"""The relay from one PostgreSQL database to another: how many events a second, and how soon one is at its handler."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.util import greenlet_spawn

from benchmarks.places import Kind, Places, started
from fedorm import AsyncFederatedSession, FederatedBase, Federation
from fedorm.bookkeeping import ensure, own_metadata
from fedorm.outbox.events import Event, new_id
from fedorm.outbox.tables import fedorm_outbox
from fedorm.relay import handler

EVENTS = 30_000
KEYS = 2_000
SINGLE = 100
"""How many events are written one by one, to see how soon each is handled."""

_BARS = {"handler of batches": "10,000", "model": "10,000", "handler that adds an object an event": ""}
"""How many events a second each kind of target has to get."""

_handled: dict[str, float] = {}


class RelayedOrder(FederatedBase):
    __service__ = "relay_to"
    __tablename__ = "relayed_orders"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    total: Mapped[int]


class RelayedCharge(FederatedBase):
    __service__ = "relay_to"
    __tablename__ = "relayed_charges"
    id: Mapped[int] = mapped_column(primary_key=True)
    order: Mapped[str]
    amount: Mapped[int]


@handler("order.placed", service="relay_to", name="one row an event")
async def charge(event: Event, session: AsyncFederatedSession) -> None:
    _handled[event.id] = time.perf_counter()
    session.add(RelayedCharge(order=event.key, amount=event.data["total"]))


@handler("order.placed", service="relay_to", name="one statement a batch", batch=True)
async def charge_all(events: list[Event], session: AsyncFederatedSession) -> None:
    rows = [{"order": event.key, "amount": event.data["total"]} for event in events]
    await session.execute(insert(RelayedCharge), rows)


@dataclass(frozen=True, slots=True)
class Measured:
    """Events a second by target; milliseconds from a commit's start to its handler: median, 95th, worst."""

    rates: dict[str, float]
    latencies: tuple[float, float, float]


async def measured(places: Places, rounds: int, kind: Kind = "postgresql") -> Measured:
    """Hand on a backlog of events, for each kind of target, and then single ones."""
    urls = {name: await places.filled(kind, f"bench_{name}", _nothing) for name in ("relay_from", "relay_to")}
    rates: dict[str, list[float]] = {}
    for _ in range(rounds):
        for what, target in zip(_BARS, (charge_all, RelayedOrder, charge), strict=True):
            rates.setdefault(what, []).append(await _rate(urls, target))
    return Measured({what: median(some) for what, some in rates.items()}, await _latencies(urls))


async def _fresh(fed: Federation) -> None:
    """Make the tables anew: those of the models, and fedorm's own."""
    await fed.drop_all()
    for name, store in fed.stores.items():
        engine: Any = getattr(store, "engine")  # noqa: B009 - both are SQL stores
        await greenlet_spawn(own_metadata(name).drop_all, engine)
        engine.pool.__dict__.pop("fedorm.made", None)
    await fed.create_all()
    engine = getattr(fed.stores["relay_from"], "engine")  # noqa: B009
    await greenlet_spawn(ensure, engine, fedorm_outbox("relay_from"))


async def _rate(urls: dict[str, str], target: Any) -> float:
    async with Federation(urls) as fed:
        await _fresh(fed)
        rows = [
            {"id": new_id(), "type": "order.placed", "key": str(n % KEYS), "data": {"id": n % KEYS, "total": n}}
            for n in range(EVENTS)
        ]
        async with fed.session() as session:
            for start in range(0, EVENTS, 2_000):
                await session.execute(insert(fedorm_outbox("relay_from")), rows[start : start + 2_000])
            await session.commit()
        if target is RelayedOrder:
            fed.outbox.to_model("order.placed", target)
        else:
            fed.outbox.add(target)
        begun = time.perf_counter()
        async with fed.outbox.running(["relay_from"]):
            while fed.outbox.targets_status()[0].delivered < EVENTS:
                await asyncio.sleep(0.005)
            took = time.perf_counter() - begun
        async with fed.session() as session:
            if target is not RelayedOrder:
                assert await session.scalar(select(func.count()).select_from(RelayedCharge)) == EVENTS
            else:
                assert await session.scalar(select(func.count()).select_from(RelayedOrder)) == KEYS
    return EVENTS / took


async def _latencies(urls: dict[str, str]) -> tuple[float, float, float]:
    """Write in one federation and hand on in another, as two processes would: only the database tells."""
    async with Federation(urls) as writing, Federation(urls) as relaying:
        await _fresh(writing)
        relaying.outbox.add(charge)
        took = []
        async with relaying.outbox.running(["relay_from"]):
            await asyncio.sleep(2)
            for number in range(SINGLE):
                event = Event("order.placed", key=number, data={"total": number})
                async with writing.session() as session:
                    session.emit(event, service="relay_from")
                    await session.flush()
                    begun = time.perf_counter()
                    await session.commit()
                while event.id not in _handled:
                    await asyncio.sleep(0.0005)
                took.append((_handled[event.id] - begun) * 1000)
                await asyncio.sleep(0.01)
    took.sort()
    return median(took), took[len(took) * 95 // 100], took[-1]


async def section(rounds: int) -> list[str]:
    """Measure, and return the text."""
    with started() as places:
        found = await measured(places, rounds)
    typical, slow, worst = found.latencies
    lines = [
        "### The relay",
        "",
        f"{EVENTS:,} events of {KEYS:,} keys, from one PostgreSQL database to another, by one process with its inbox; "
        f"then {SINGLE} events one by one, from the start of a commit to its handler, over LISTEN/NOTIFY.",
        "",
        "| | measured | bar |",
        "| --- | --- | --- |",
        *(f"| to a {what} | {rate:,.0f} events a second | {_BARS[what]} |" for what, rate in found.rates.items()),
        f"| commit to handler, median; 95th of 100; worst | {typical:.1f}; {slow:.1f}; {worst:.1f} ms | 20 ms |",
    ]
    print("\n".join(lines), flush=True)
    return lines


async def _nothing(url: str) -> None:
    """Fill a database with nothing: the tables are made for each run."""
