"""Outboxes of every kind, targets of their events, and waiting for a relay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, Federation
from fedorm.outbox.events import Event
from fedorm.relay import TargetUnavailableError
from fedorm.testing.plugin import FreshDatabase

KINDS = ("postgresql", "mysql", "sqlite", "mongodb")


class Note(FederatedBase):
    """A handler's effect."""

    __service__ = "notes"
    __tablename__ = "notes"
    seen: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class Price(FederatedBase):
    __service__ = "notes"
    __tablename__ = "prices"
    sku: Mapped[str] = mapped_column(primary_key=True)
    amount: Mapped[Decimal]
    label: Mapped[str | None]


class Recorder:
    """A target that takes what it is not told to refuse, and remembers the events and the calls."""

    def __init__(self, name: str = "recorder", types: Sequence[str] = ("*",)) -> None:
        self.name, self.types = name, tuple(types)
        self.took: list[str] = []
        self.calls: list[list[str]] = []
        self.refuses: set[str] = set()
        self._ids: set[str] = set()
        self.is_down = False
        self.is_open = False

    async def open(self, federation: Federation) -> None:
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False

    async def deliver(self, events: Sequence[Event]) -> None:
        assert self.is_open
        names = [f"{event.key}:{event.data['n']}" for event in events]
        self.calls.append(names)
        if self.is_down:
            raise TargetUnavailableError("down for now")
        if self.refuses & set(names):
            raise ValueError(f"cannot take {names}")
        # MariaDB may end a relay's transaction for a deadlock: events come again then, as a target has to expect.
        self.took += [name for name, event in zip(names, events, strict=True) if event.id not in self._ids]
        self._ids |= {event.id for event in events}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_url(fresh_database: FreshDatabase, sqlite_url: str) -> Callable[[str], str]:
    return lambda kind: sqlite_url if kind == "sqlite" else fresh_database(kind)


async def opened(urls: dict[str, str]) -> AsyncIterator[Federation]:
    async with Federation(urls) as federation:
        await federation.create_all()
        yield federation


@pytest.fixture
async def fed(kind: str, make_url: Callable[[str], str], no_stray_tasks: None) -> AsyncIterator[Federation]:
    """Events in a service of every kind, effects in PostgreSQL."""
    async for federation in opened({"news": make_url(kind), "notes": make_url("postgresql")}):
        yield federation


@pytest.fixture
async def pg(make_url: Callable[[str], str], no_stray_tasks: None) -> AsyncIterator[Federation]:
    async for federation in opened({"news": make_url("postgresql"), "notes": make_url("postgresql")}):
        yield federation


async def emit(fed: Federation, *names: str, type: str = "news.made") -> None:
    """Emit events by ``key:number``, each in a transaction of its own."""
    for name in names:
        key, _, number = name.partition(":")
        async with fed.session() as session:
            session.emit(Event(type, key=key, data={"n": int(number)}), service="news")
            await session.commit()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def until_empty(fed: Federation, *, but: int = 0) -> None:
    async with asyncio.timeout(20):
        while (await status(fed)).waiting > but:
            await asyncio.sleep(0.01)


async def until_put_aside(fed: Federation, number: int) -> None:
    async with asyncio.timeout(20):
        while len(await fed.outbox.failed()) < number:
            await asyncio.sleep(0.01)


async def status(fed: Federation) -> Any:
    return {one.service: one for one in await fed.outbox.status()}["news"]


async def notes(fed: Federation) -> list[str]:
    async with fed.session() as session:
        return list(await session.scalars(select(Note.text).order_by(Note.seen)))
