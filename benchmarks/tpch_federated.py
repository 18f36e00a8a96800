"""The 22 queries of TPC-H over two PostgreSQL databases and MariaDB, against DuckDB's scanners over the same."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from statistics import median
from typing import Any

import duckdb
from sqlalchemy import BigInteger, Column, Integer, String, Table, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.schema import CreateTable

from benchmarks.measure import Pair, pair
from benchmarks.places import Places
from benchmarks.scanners import attached
from fedorm import FederatedBase, Federation
from tests.query import tpch

part = Table(
    "part",
    FederatedBase.metadata_of("tpch_supply"),
    Column("p_partkey", BigInteger, primary_key=True, autoincrement=False),
    Column("p_name", String(55)),
    Column("p_mfgr", String(25)),
    Column("p_brand", String(10)),
    Column("p_type", String(25)),
    Column("p_size", Integer),
    Column("p_container", String(10)),
    Column("p_retailprice", tpch.Money),
    Column("p_comment", String(23)),
)
PLACES: dict[str, tuple[Any, tuple[Table, ...]]] = {
    "tpch_sales": ("postgresql", (tpch.region, tpch.nation, tpch.customer)),
    "tpch_orders": ("postgresql", (tpch.orders, tpch.lineitem)),
    "tpch_supply": ("mysql", (tpch.supplier, tpch.partsupp, part)),
}


@dataclass(frozen=True)
class Split:
    """The data behind a federation and behind DuckDB's scanners, and the queries' text by number."""

    fed: Federation
    scanner: duckdb.DuckDBPyConnection
    queries: dict[int, str]

    async def compare(self, number: int, rounds: int) -> Pair:
        """Run a query both ways in turn, its plan known; raise AssertionError if the answers differ."""
        query = self.queries[number]
        answers: dict[str, list[tuple[Any, ...]]] = {}

        async def federated() -> None:
            async with self.fed.session() as session:
                answers["fedorm"] = [tuple(row) for row in (await session.execute(text(query))).all()]

        async def scanned() -> None:
            answers["duckdb"] = self.scanner.execute(query).fetchall()

        measured = await pair(federated, scanned, rounds=rounds, warmups=1)
        assert _alike(answers["fedorm"], answers["duckdb"]), f"query {number} has two answers"
        return measured


@asynccontextmanager
async def opened(places: Places, scale: float) -> AsyncIterator[Split]:
    """Fill the three databases at a scale factor, and open both ways to them."""
    source = tpch.generate(0)
    queries = {int(number): str(query) for number, query in source.execute("FROM tpch_queries()").fetchall()}
    source.close()
    services = {}
    for service, (kind, tables) in PLACES.items():
        database = f"bench_{service}_{scale:g}".replace(".", "_")
        services[service] = await places.filled(kind, database, _filler(tables, scale))
    scanner = attached(services)
    try:
        async with Federation(services) as fed:
            yield Split(fed, scanner, queries)
    finally:
        scanner.close()


def _filler(tables: Collection[Table], scale: float) -> Callable[[str], Awaitable[None]]:
    async def fill(url: str) -> None:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            for table in tables:
                await connection.execute(CreateTable(table))
        whole = tpch.generate(scale)
        target = attached({"target": url})
        for table in tables:
            rows = whole.table(table.name).select(*(column.name for column in table.columns)).to_arrow_table()
            target.register("source", rows)
            target.execute(f"INSERT INTO {table.name} FROM source")
        target.close()
        whole.close()
        async with engine.begin() as connection:
            for index in (index for table in tables for index in table.indexes):
                await connection.run_sync(index.create)
        await engine.dispose()

    return fill


def _alike(first: list[tuple[Any, ...]], second: list[tuple[Any, ...]]) -> bool:
    """Say whether two answers are the same up to the types of their numbers."""

    def same(one: Any, other: Any) -> bool:
        if isinstance(one, int | float | Decimal) and isinstance(other, int | float | Decimal):
            return math.isclose(one, other, rel_tol=1e-9)
        return bool(tpch.comparable(one) == tpch.comparable(other))

    return len(first) == len(second) and all(
        all(map(same, one, other)) for one, other in zip(first, second, strict=True)
    )


def total(measured: Collection[Pair]) -> Pair:
    """Add queries up, round by round."""
    return Pair(
        [sum(times) for times in zip(*(one.first for one in measured), strict=True)],
        [sum(times) for times in zip(*(one.second for one in measured), strict=True)],
    )


def shown(number: int, one: Pair) -> str:
    """Return a query's row."""
    return f"| {number} | {median(one.first):.0f} | {median(one.second):.0f} | {one.ratio:.2f} |"
