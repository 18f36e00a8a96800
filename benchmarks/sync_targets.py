"""Targets of the sync benchmarks, looked at past fedorm: how far they have come, and whether they are right."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import asyncpg
from clickhouse_driver import Client
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.synced import MARKER

Sums = tuple[int, int, Decimal]
_SUMS = "count(*), sum(amount), sum(price)"


class Target(ABC):
    """One target, over a connection of its own."""

    @abstractmethod
    async def marker(self) -> int:
        """Return the marker's amount, -1 while it is not there."""

    @abstractmethod
    async def sums(self) -> Sums:
        """Return the number of rows, and the sums of two columns."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connection."""


class PostgreSQLTarget(Target):
    """A table in PostgreSQL."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, url: str) -> PostgreSQLTarget:
        """Connect."""
        return cls(await asyncpg.connect(url.replace("+asyncpg", "")))

    async def marker(self) -> int:
        """Look it up by its key."""
        found = await self._connection.fetchval("SELECT amount FROM synced_copies WHERE id = $1", MARKER)
        return -1 if found is None else int(found)

    async def sums(self) -> Sums:
        """Ask for them."""
        row = await self._connection.fetchrow(f"SELECT {_SUMS} FROM synced_copies")
        return int(row[0]), int(row[1] or 0), Decimal(row[2] or 0)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()


class ClickHouseTarget(Target):
    """A table in ClickHouse, asked in a thread."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        options: dict[str, Any] = {"user": parsed.username, "password": parsed.password, "database": parsed.database}
        self._client = Client(parsed.host, parsed.port or 9000, **options)

    @property
    def client(self) -> Client:
        """The driver's client; it serves one thread at a time."""
        return self._client

    async def marker(self) -> int:
        """Look at the newest of its rows."""
        found = await self._ask(f"SELECT argMax(amount, sync_version), count() FROM synced_facts WHERE id = {MARKER}")
        return int(found[0]) if found[1] else -1

    async def sums(self) -> Sums:
        """Ask for them, of the rows that count."""
        found = await self._ask(f"SELECT {_SUMS} FROM synced_facts FINAL WHERE sync_deleted = 0")
        return int(found[0]), int(found[1]), Decimal(found[2])

    async def _ask(self, query: str) -> Any:
        return (await asyncio.to_thread(self._client.execute, query))[0]

    async def close(self) -> None:
        """Close the connection."""
        self._client.disconnect()


async def opened_target(urls: Mapping[str, str]) -> Target:
    """Open the target of a rule."""
    if "sync_target" in urls:
        return await PostgreSQLTarget.open(urls["sync_target"])
    return ClickHouseTarget(urls["sync_facts"])


async def source_sums(urls: Mapping[str, str]) -> Sums:
    """Return what the target's sums have to be."""
    engine = create_async_engine(urls["sync_source"])
    async with engine.connect() as connection:
        row = (await connection.execute(text(f"SELECT {_SUMS} FROM synced_rows"))).one()
    await engine.dispose()
    return int(row[0]), int(row[1] or 0), Decimal(row[2] or 0)
