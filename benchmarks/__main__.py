"""Run every benchmark and write ``docs/benchmarks.md``, or run the lines that are named and print them."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import os
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from benchmarks import federated, hops, opening, records, relations, relay, sync, writes
from benchmarks.measure import Pair
from benchmarks.places import serve
from fedorm.testing.servers import ClickHouseServer, MariaDBServer, MongoDBServer, PostgreSQLServer

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
PACKAGES = (
    *("fedorm", "sqlalchemy", "asyncpg", "aiomysql", "beanie", "pymongo", "clickhouse-sqlalchemy"),
    *("psycopg", "mysql-replication", "clickhouse-driver", "redis"),
    *("sqlglot", "duckdb", "pyarrow", "connectorx", "polars"),
)
"""Whose versions the page names."""


def _row(what: str, measured: Pair, bar: str) -> str:
    line = f"| {what} | {measured.shown()} | {bar} |"
    print(line, flush=True)
    return line


async def _relations(server: PostgreSQLServer, rounds: int) -> Iterator[str]:
    async with relations.opened(server) as bench:
        one_db = await relations.objects_against_one_database(bench, rounds)
        two_binds = await relations.objects_against_two_binds(bench, rounds)
        lists = await relations.collections_against_two_binds(bench, rounds)
        columns = await relations.columns_against_asyncpg(bench, 2 * rounds)
        one_row = await relations.one_service(bench, 1, 4 * rounds, repeat=20)
        many_rows = await relations.one_service(bench, 10_000, 2 * rounds, repeat=1)
    return iter(
        [
            _row("20,000 orders with their 5,000 users, objects; `selectinload` in one database", one_db, "0.70"),
            _row("the same; `selectinload` of a `relationship()` between two binds", two_binds, "below 1"),
            _row("5,000 users with their 20,000 orders; `selectinload` between two binds", lists, "below 1"),
            _row("20,000 orders with their users, columns; asyncpg and a dictionary", columns, "2.0"),
            _row("20 selects of 1 row from one service; a plain `AsyncSession`", one_row, "1.05"),
            _row("a select of 10,000 rows from one service; a plain `AsyncSession`", many_rows, "1.05"),
        ]
    )


async def _hops(
    postgresql: PostgreSQLServer, mariadb: MariaDBServer, mongodb: MongoDBServer, rounds: int
) -> Iterator[str]:
    lines = []
    async with hops.opened(postgresql, mariadb, mongodb) as (fed, finds):
        for parents in (1_000, 2_000, 10_000, 100_000):
            found = await hops.growth(fed, finds, parents, rounds)
            statements = ", ".join(f"{name} {number}" for name, number in sorted(found.statements.items()))
            per_thousand = found.milliseconds / parents * 1000
            line = f"| {parents:,} | {found.milliseconds:.0f} | {per_thousand:.1f} | {statements} |"
            print(line, flush=True)
            lines.append(line)
    return iter(lines)


async def _opening(urls: dict[str, str], rounds: int) -> Iterator[str]:
    lines = []
    for milliseconds in (0, 50):
        found = await opening.opening(urls, milliseconds / 1000, rounds)
        alone = ", ".join(f"{name} {took:.0f}" for name, took in found.alone.items())
        slowest, total = max(found.alone.values()), sum(found.alone.values())
        line = (
            f"| {milliseconds} ms | {alone} | {total:.0f} | {slowest:.0f} | **{found.together:.0f}** "
            f"({found.together / slowest:.2f} of the slowest) |"
        )
        print(line, flush=True)
        lines.append(line)
    return iter(lines)


async def measure(rounds: int) -> str:
    """Start the servers, run everything and return the page."""
    selects = await federated.section(federated.LINES, rounds)
    written = [*await writes.section(rounds), "", *await relay.section(max(1, rounds // 5))]
    synced = await sync.section(rounds)
    recorded = await records.section(rounds)
    with (
        PostgreSQLServer() as postgresql,
        MariaDBServer() as mariadb,
        MongoDBServer() as mongodb,
        ClickHouseServer() as clickhouse,
    ):
        for name in ("open_users", "open_orders"):
            postgresql.create_database(name)
        five = {
            "users": postgresql.url("open_users"),
            "orders": postgresql.url("open_orders"),
            "payments": mariadb.url(),
            "inventory": mongodb.url("open_inventory"),
            "analytics": clickhouse.url(),
        }
        pairs = await _relations(postgresql, rounds)
        growths = await _hops(postgresql, mariadb, mongodb, max(3, rounds // 3))
        openings = await _opening(five, rounds)
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    lines = [
        "# Benchmarks",
        "",
        f"Measured on {datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d} by `make bench`: Python "
        f"{platform.python_version()}, {versions}; {os.cpu_count()} cores, shared with the servers and with others. "
        f"Times are medians in milliseconds. Two ways of one job run in turn, A B B A, {rounds} times or more; the "
        "ratio is the median of the pairs' ratios, with its middle half in brackets.",
        "",
        "## Against other ways",
        "",
        "| fedorm; against | fedorm, ms | other, ms | ratio | bar |",
        "| --- | --- | --- | --- | --- |",
        *pairs,
        "",
        "Why the first rows are below 1: a service gets one statement with all keys in one array, instead of one for "
        "each 500, and the cyclic garbage collector rests while rows become objects. Why columns are near asyncpg: a "
        "select of columns alone is run as SQLAlchemy Core would run it.",
        "",
        "## Three hops: order, items, product, supplier",
        "",
        "Orders and items in two PostgreSQL databases, products in MariaDB, suppliers in MongoDB; two items an order, "
        "5,000 products, 200 suppliers. A hop is one statement for each batch of keys: 10,000 in PostgreSQL, 900 in "
        "MariaDB, 500 in MongoDB.",
        "",
        "| orders | ms | ms per 1,000 orders | statements |",
        "| --- | --- | --- | --- |",
        *growths,
        "",
        "## Opening a federation of five services",
        "",
        "Two PostgreSQL databases, MariaDB, MongoDB and ClickHouse, near, and behind proxies that make every answer "
        "late, as far servers are.",
        "",
        "| answers late by | each alone, ms | their sum | the slowest | all together, ms |",
        "| --- | --- | --- | --- | --- |",
        *openings,
        "",
        *selects,
        "",
        *written,
        "",
        *synced,
        "",
        *recorded,
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the command line and write the page, or run what it names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    lines = ("federated", *federated.LINES, "writes", "relay", "records", "sync", *sync.PARTS, "serve")
    parser.add_argument(
        "lines",
        nargs="*",
        help=f"which lines to run, of {', '.join(lines[:-1])}; without any, all there is is "
        "run and the page written; serve: keep servers for other runs until it is ended (see benchmarks/places.py)",
    )
    parser.add_argument("--rounds", type=int, default=15, help="how often each way is run (default: 15)")
    parser.add_argument("--queries", type=int, nargs="+", default=(), help="of tpch or memory only these, by number")
    parser.add_argument("--print", action="store_true", help="print the page instead of writing docs/benchmarks.md")
    options = parser.parse_args()
    if unknown := set(options.lines) - set(lines):
        parser.error(f"no such line: {', '.join(sorted(unknown))}; there are {', '.join(lines)}")
    if options.lines == ["serve"]:
        serve()
    elif options.lines == ["writes"]:
        asyncio.run(writes.section(options.rounds))
    elif options.lines == ["records"]:
        asyncio.run(records.section(options.rounds))
    elif options.lines == ["relay"]:
        asyncio.run(relay.section(options.rounds))
    elif parts := sync.PARTS if options.lines == ["sync"] else tuple(one for one in options.lines if one in sync.PARTS):
        asyncio.run(sync.section(options.rounds, parts))
    elif options.lines:
        chosen = federated.LINES if "federated" in options.lines else options.lines
        asyncio.run(federated.section(chosen, options.rounds, options.queries))
    else:
        page = asyncio.run(measure(options.rounds))
        if options.print:
            print(page)
        else:
            PAGE.write_text(page)
            print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
