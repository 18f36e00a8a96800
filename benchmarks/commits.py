"""A row in each of two services: committed one after the other by hand, by one session, and in two phases."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import String
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks.measure import Pair, pair
from benchmarks.places import Places
from fedorm import FederatedBase, Federation

REPEAT = 20
"""How many commits a run makes."""


class Booking(FederatedBase):
    __service__, __tablename__ = "ledger", "bookings"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(String(50))


class Shipment(FederatedBase):
    __service__, __tablename__ = "depot", "shipments"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(String(50))


@dataclass
class Bench:
    """A federation of two databases, and numbers that no row has yet."""

    fed: Federation
    engines: dict[str, AsyncEngine]
    numbers: Any

    async def by_hand(self) -> None:
        """Commit in two plain sessions, one after the other."""
        for number in itertools.islice(self.numbers, REPEAT):
            for model in (Booking, Shipment):
                async with AsyncSession(self.engines[model.__service__]) as session:
                    session.add(model(id=number, text="one of two"))
                    await session.commit()

    async def together(self, **options: Any) -> None:
        """Commit in one session."""
        for number in itertools.islice(self.numbers, REPEAT):
            async with self.fed.session(**options) as session:
                session.add_all([Booking(id=number, text="one of two"), Shipment(id=number, text="one of two")])
                await session.commit()

    async def in_two_phases(self) -> None:
        """Commit in one session, both or neither."""
        await self.together(twophase=True)


@asynccontextmanager
async def opened(urls: dict[str, str]) -> AsyncIterator[Bench]:
    """Open both services, empty."""
    async with Federation(urls) as fed:
        await fed.drop_all()
        await fed.create_all()
        engines = {name: create_async_engine(url) for name, url in urls.items()}
        yield Bench(fed, engines, itertools.count())
        for engine in engines.values():
            await engine.dispose()
        await fed.drop_all()


async def measured(places: Places, rounds: int, kinds: tuple[Any, Any]) -> tuple[Pair, Pair]:
    """Hold the ordinary commit, and that in two phases, against two plain ones; in databases of two ``kinds``."""
    urls = {}
    for kind, name in zip(kinds, ("ledger", "depot"), strict=True):
        urls[name] = await places.filled(kind, f"bench_{name}", _nothing)
    async with opened(urls) as bench:
        plain = await pair(bench.together, bench.by_hand, rounds=rounds)
        two = await pair(bench.in_two_phases, bench.by_hand, rounds=rounds)
    return plain, two


async def _nothing(url: str) -> None:
    """Fill a database with nothing: the tables are made for each run."""
