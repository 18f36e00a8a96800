"""Users and ten orders for each of them in two PostgreSQL databases, of any size, made by the servers themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import asyncpg
import duckdb
from sqlalchemy import Index, Numeric, String, Table, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.schema import CreateTable

from benchmarks.places import Places
from benchmarks.scanners import attached
from fedorm import FederatedBase, Federation

COUNTRIES = ("AT", "BE", "CH", "DE", "ES", "FR", "GB", "IT", "NL", "US")
USERS = 100_000
"""How many there are where nothing else is said; ten times as many are the orders."""
SEGMENTS = 1000
"""A user is in one of so many segments: of 100,000 users 100 are in each."""


class Buyer(FederatedBase):
    __service__ = "accounts"
    __tablename__ = "users"
    __table_args__ = (Index("ix_users_segment", "segment"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(100))
    country: Mapped[str] = mapped_column(String(2))
    segment: Mapped[int]


class Purchase(FederatedBase):
    __service__ = "sales"
    __tablename__ = "orders"
    __table_args__ = (Index("ix_orders_user_id", "user_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int]
    status: Mapped[str] = mapped_column(String(10))
    total: Mapped[Decimal] = mapped_column(Numeric(12, 2))


_USERS = """
INSERT INTO users (id, email, country, segment)
SELECT n, 'user' || n || '@example.com', (CAST(:countries AS text[]))[1 + n % 10], n % :segments
FROM generate_series(1, :users) AS n
"""
# 7919 has no divisor in common with the number of users: each has ten orders, and they lie scattered.
_ORDERS = """
INSERT INTO orders (id, user_id, status, total)
SELECT n, 1 + n * 7919 % :users, CASE WHEN n % 3 = 0 THEN 'paid' ELSE 'open' END, n % 100000 / 100.0
FROM generate_series(CAST(1 AS bigint), 10 * :users) AS n
"""


@dataclass(frozen=True)
class Shop:
    """A federation of the two databases, and plain ways to both."""

    fed: Federation
    urls: dict[str, str]
    users: asyncpg.Connection
    orders: asyncpg.Connection
    scanner: duckdb.DuckDBPyConnection


async def urls(places: Places, users: int) -> dict[str, str]:
    """Return the URLs of both databases, filled."""

    def fill(table: Table, statement: str, **values: Any) -> Callable[[str], Any]:
        async def filled(url: str) -> None:
            engine = create_async_engine(url)
            async with engine.begin() as connection:
                await connection.execute(CreateTable(table))
                await connection.execute(text(statement), {"users": users, **values})
                for index in table.indexes:  # Made now, an index costs a fraction of what it costs row by row.
                    await connection.run_sync(index.create)
            await engine.dispose()

        return filled

    accounts: Any = Buyer.__table__
    sales: Any = Purchase.__table__
    fill_users = fill(accounts, _USERS, countries=list(COUNTRIES), segments=SEGMENTS)
    return {
        "accounts": await places.filled("postgresql", f"bench_accounts_{users}", fill_users),
        "sales": await places.filled("postgresql", f"bench_sales_{users}", fill(sales, _ORDERS)),
    }


@asynccontextmanager
async def opened(places: Places, users: int) -> AsyncIterator[Shop]:
    """Open a federation of ``users`` users and ten times as many orders, and the ways around it."""
    services = await urls(places, users)
    async with AsyncExitStack() as stack:
        fed = await stack.enter_async_context(Federation(services))
        raw = {}
        for name, url in services.items():
            raw[name] = await asyncpg.connect(url.replace("+asyncpg", ""))
            stack.push_async_callback(raw[name].close)
        scanner = attached(services)
        stack.callback(scanner.close)
        yield Shop(fed, services, raw["accounts"], raw["sales"], scanner)
