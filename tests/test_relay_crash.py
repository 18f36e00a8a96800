"""Relays that are killed at any moment: no event is lost, none overtakes another of its key, each has its effect once.

``FEDORM_EVENTS`` and ``FEDORM_CRASHES`` make it longer: ``make crash``.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import select

from fedorm import Federation
from fedorm.outbox.events import Event
from fedorm.testing.plugin import FreshDatabase
from tests.children import release
from tests.relay_child import Effect, Last

EVENTS = int(os.environ.get("FEDORM_EVENTS", 2000))
CRASHES = int(os.environ.get("FEDORM_CRASHES", 4))
KEYS = 50
RELAYS = 2


class Relays:
    """Processes of which some are always killed."""

    def __init__(self, urls: dict[str, str]) -> None:
        self._urls = urls
        self._running: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        self._running.append(
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.relay_child", json.dumps(self._urls), stdout=asyncio.subprocess.PIPE
            )
        )

    async def started(self) -> None:
        for process in self._running:
            assert process.stdout is not None
            if not process.stdout.at_eof() and not getattr(process, "has_started", False):
                assert await process.stdout.readline() == b"started\n"
                process.has_started = True  # type: ignore[attr-defined]

    async def kill_one(self) -> None:
        process = self._running.pop(random.randrange(len(self._running)))
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await asyncio.to_thread(release, self._urls.values())

    async def stop(self) -> None:
        while self._running:
            await self.kill_one()


@asynccontextmanager
async def _late(fed: Federation, number: int) -> AsyncIterator[None]:
    """Take a place in the outbox before the events that are written in the block, and commit after them."""
    async with fed.session() as session:
        session.emit(
            Event("counted", key=f"late {number}", data={"id": f"late {number}", "number": 0}), service="relayed_from"
        )
        await session.flush()
        yield
        await session.commit()


async def _write(fed: Federation, numbers: Counter[str], amount: int) -> None:
    while amount > 0:
        part = min(amount, random.randint(1, 50))
        async with fed.session() as session:
            for _ in range(part):
                key = f"key {random.randrange(KEYS)}"
                session.emit(
                    Event("counted", key=key, data={"id": key, "number": numbers[key]}), service="relayed_from"
                )
                numbers[key] += 1
            await session.commit()
        amount -= part


async def _handed_on(fed: Federation) -> None:
    """Wait until nothing is left of the outbox."""
    async with asyncio.timeout(240):
        while True:
            status = {one.service: one for one in await fed.outbox.status()}["relayed_from"]
            if not status.waiting:
                return
            await asyncio.sleep(0.05)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["postgresql", "mysql", "mongodb"])
async def test_killed_relays_lose_nothing_and_double_nothing(kind: str, fresh_database: FreshDatabase) -> None:
    """Whatever is killed, and whenever: every event's effect is there once, and those of a key are in their order."""
    if kind != "postgresql" and EVENTS > 20_000:
        pytest.skip("the long form is for PostgreSQL")
    urls = {"relayed_from": fresh_database(kind), "relayed_to": fresh_database("postgresql")}
    amount = EVENTS if kind == "postgresql" else EVENTS // 4
    crashes = CRASHES if kind == "postgresql" else max(1, CRASHES // 2)
    numbers: Counter[str] = Counter()
    async with Federation(urls) as fed:
        await fed.create_all()
        relays = Relays(urls)
        try:
            for _ in range(RELAYS):
                await relays.start()
            await relays.started()
            for crash in range(crashes):
                async with _late(fed, crash):
                    await _write(fed, numbers, amount // crashes)
                await asyncio.sleep(random.uniform(0.0, 0.3))
                await relays.kill_one()
                await relays.start()
                if random.random() < 0.5:
                    await relays.started()
            await _handed_on(fed)
        finally:
            await relays.stop()
        async with fed.session() as session:
            effects = (await session.execute(select(Effect.key, Effect.number).order_by(Effect.seen))).all()
            lasts = dict((await session.execute(select(Last.id, Last.number))).tuples().all())
        by_key: dict[str, list[int]] = {}
        for key, number in effects:
            by_key.setdefault(key, []).append(number)
        wanted = {key: list(range(amount)) for key, amount in numbers.items()}
        wanted |= {f"late {crash}": [0] for crash in range(crashes)}
        assert by_key == wanted
        assert lasts == {key: some[-1] for key, some in wanted.items()}
        status = {one.service: one for one in await fed.outbox.status()}["relayed_from"]
        assert (status.waiting, status.held, status.failed) == (0, {}, {})
