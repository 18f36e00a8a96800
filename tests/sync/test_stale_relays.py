"""Relays that go on after another has taken over, as processes and machines do that were suspended."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fedorm import Federation
from fedorm.stores.base import DocumentStore
from fedorm.testing.plugin import FreshDatabase
from tests.sync.ledgers import source_model, target_model
from tests.sync.parts import add, change, run_sql
from tests.sync.stale_child import opened
from tests.sync.watching import rows_of, until

NOW = datetime.datetime(2024, 5, 1)


@asynccontextmanager
async def relaying(source: str, target: str, urls: dict[str, str]) -> AsyncIterator[int]:
    """A relay in a process of its own; its number."""
    arguments = ("-m", "tests.sync.stale_child", source, target, json.dumps(urls))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"open\n"
        yield process.pid
    finally:
        process.kill()
        await process.wait()


async def is_stopped(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WSTOPPED | os.WNOHANG) is not None


async def end_leases(fed: Federation, service: str) -> None:
    """Let all leases be over, as they are after a while."""
    store: Any = fed.stores[service]
    if isinstance(store, DocumentStore):
        leases = store.own_collection("fedorm_outbox_partitions", sync=False)  # type: ignore[attr-defined]
        await leases.update_many({}, {"$set": {"until": 0.0}})
    else:
        await run_sql(fed, service, "UPDATE fedorm_outbox_partitions SET until = 0")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("sqlite", "postgresql"),
        ("mongodb", "mysql"),
        ("sqlite", "mongodb"),
        pytest.param("mongodb", "clickhouse", marks=pytest.mark.clickhouse),
    ],
)
async def test_what_a_suspended_relay_has_read_is_not_written_over_what_is_newer(
    source: str, target: str, fresh_database: FreshDatabase, tmp_path: Path
) -> None:
    """It is refused by the target; the relay goes on with what it is given next."""
    near, far = source_model(source, events=True), target_model(target)
    urls = {
        near.__service__: f"sqlite+aiosqlite:///{tmp_path}/near.db" if source == "sqlite" else fresh_database(source),
        far.__service__: fresh_database(target),
    }
    if (source, target) == ("mongodb", "clickhouse"):  # Which have no place for a rule's account.
        urls["stale_accounts"] = f"sqlite+aiosqlite:///{tmp_path}/accounts.db"

    async def names() -> dict[int, str]:
        return {key: row["name"] for key, row in (await rows_of(fed, far)).items()}

    async def become(wanted: dict[int, str]) -> None:
        async def are() -> bool:
            return await names() == wanted

        await until(are, what=f"{wanted}")

    async with opened(source, target, urls) as fed:
        await fed.create_all()
        await fed.sync.backfill("stale")
        async with relaying(source, target, urls) as process:
            await add(fed, near(id=1, name="stop", touched=NOW))
            await until(lambda: is_stopped(process))
            await change(fed, near, 1, name="new")
            await end_leases(fed, near.__service__)
            async with fed.outbox.running([near.__service__], workers=1):
                await become({1: "new"})
            os.kill(process, signal.SIGCONT)
            await add(fed, near(id=2, name="later", touched=NOW))
            await become({1: "new", 2: "later"})
