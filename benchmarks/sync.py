"""The benchmarks of keeping data in sync, and their section of the page."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from statistics import median

from benchmarks import sync_backfill, sync_peers, sync_search, sync_stream
from benchmarks.measure import Pair
from benchmarks.places import Kind, Places, started
from benchmarks.sync_stream import CaughtUp, Latencies, Memory, Stream
from benchmarks.synced import Source
from fedorm.testing.servers import ClickHouseServer, ElasticsearchServer

PARTS = ("sync-backfill", "sync-search", "sync-stream", "sync-memory", "sync-peers")
OFFERED = 1_000
"""Changes a second, when it is looked at how soon each is there."""
SECONDS = 15.0
_ROWS = (1, 10, 1_000)
"""How many changes a transaction has."""
_CHANGES = 100_000
_ROUTES = ("PostgreSQL to PostgreSQL", "PostgreSQL to ClickHouse", "MariaDB to PostgreSQL", "MariaDB to ClickHouse")


@dataclass(frozen=True, slots=True)
class Servers:
    """Where sources and targets are."""

    places: Places
    clickhouse: ClickHouseServer

    async def route(self, name: str) -> tuple[Kind, Mapping[str, str]]:
        """Return the kind of the source, and the URLs of both services, each a database of its own."""
        source, _, target = name.partition(" to ")
        kind: Kind = "postgresql" if source == "PostgreSQL" else "mysql"
        urls = {"sync_source": await self.places.filled(kind, "bench_sync_source", _nothing)}
        if target == "PostgreSQL":
            urls["sync_target"] = await self.places.filled("postgresql", "bench_sync_target", _nothing)
        else:
            urls["sync_facts"] = self.clickhouse.url()
        return kind, urls


@contextmanager
def _servers() -> Iterator[Servers]:
    with started() as places, ClickHouseServer() as clickhouse:
        yield Servers(places, clickhouse)


async def section(rounds: int, parts: tuple[str, ...] = PARTS) -> list[str]:
    """Measure, and return the text."""
    page = _Page()
    page.add(
        "## Keeping data in sync",
        "",
        "Rows of ten columns: integers, three texts, a decimal, a timestamp, a boolean, a float and a date. A process "
        "of its own carries the rule out, and whatever was measured, source and target are compared afterwards.",
    )
    with _servers() as servers:
        if "sync-backfill" in parts:
            await _backfill(page, servers, max(3, rounds // 3))
        if "sync-search" in parts:
            await _search(page, servers, max(5, rounds // 2))
        if "sync-stream" in parts:
            await _stream(page, servers, max(1, rounds // 5))
        if "sync-memory" in parts:
            await _memory(page, servers)
        if "sync-peers" in parts:
            await _peers(page, servers, max(1, rounds // 5))
    return page.lines


class _Page:
    """Lines of the page, printed as they come."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, *lines: str) -> None:
        self.lines.extend(lines)
        print(*lines, sep="\n", flush=True)


async def _backfill(page: _Page, servers: Servers, rounds: int) -> None:
    rows = sync_backfill.ROWS
    page.add(
        "",
        f"### A backfill of {rows:,} rows",
        "",
        "By hand to PostgreSQL: a binary COPY of asyncpg's piped into another. By hand to ClickHouse: a binary COPY "
        f"read by psycopg's C code, and inserted in columns by clickhouse-driver, {sync_backfill.BLOCK:,} rows at "
        "once, both at the same time. The backfill reads pages by the key, saves how far it has come with each, and "
        f"can be interrupted at any moment. {rounds} times each way.",
        "",
        "| fedorm; against | fedorm, rows a second | by hand | rate in that by hand | bar | load |",
        "| --- | --- | --- | --- | --- | --- |",
    )
    for name in _ROUTES[:2]:
        kind, urls = await servers.route(name)
        source = Source(kind, urls["sync_source"])
        source.make(rows)
        source.close()
        measured = await sync_backfill.measured(urls, rounds)
        page.add(f"| {name}; by hand | {_rates(measured, rows)} | 0.5 | {_load()} |")


async def _search(page: _Page, servers: Servers, rounds: int) -> None:
    rows = sync_search.ROWS
    page.add(
        "",
        f"### A backfill of {rows:,} documents in Elasticsearch",
        "",
        "The server is noida-db, a program that speaks Elasticsearch's protocol, and takes most of the time. By hand: "
        "the official client's `async_bulk()`, given rows as a cursor of asyncpg's brings them, and given actions that "
        f"are in memory already; {sync_search.CHUNK:,} a request, as the backfill sends them. {rounds} times each way.",
        "",
        "| fedorm; against | fedorm, rows a second | by hand | rate in that by hand | bar | load |",
        "| --- | --- | --- | --- | --- | --- |",
    )
    with ElasticsearchServer() as server:
        source = await servers.places.filled("postgresql", "bench_sync_source", _nothing)
        table = Source("postgresql", source)
        table.make(rows)
        table.close()
        urls = {"sync_source": source, "sync_texts": server.url("bench")}
        for name, alone in (("a cursor and async_bulk()", False), ("async_bulk() alone", True)):
            measured = await sync_search.measured(urls, rounds, alone=alone)
            page.add(f"| PostgreSQL to Elasticsearch; {name} | {_rates(measured, rows)} | 0.7 | {_load()} |")


def _rates(measured: Pair, rows: int) -> str:
    ours, theirs = (rows / median(times) * 1000 for times in (measured.first, measured.second))
    ratios = sorted(by_hand / our for our, by_hand in zip(measured.first, measured.second, strict=True))
    spread = f"({ratios[len(ratios) // 4]:.2f} to {ratios[-1 - len(ratios) // 4]:.2f})"
    return f"{ours:,.0f} | {theirs:,.0f} | **{median(ratios):.2f}** {spread}"


async def _stream(page: _Page, servers: Servers, rounds: int) -> None:
    page.add(
        "",
        "### Change data capture",
        "",
        f"{_CHANGES:,} changes, half of them inserts and half updates of rows scattered among {sync_stream.BASE:,}, "
        "are committed before the process begins: changes a second from then until the last one is at the target, and "
        "changes for each second that the process's threads were at work, which other work on this machine hardly "
        f"slows down. Then {OFFERED:,} changes a second are written by another process, ten a transaction, for "
        f"{SECONDS:.0f} s: milliseconds from the start of a commit until its rows are seen at the target, by a third "
        "process that looks all the time. The mark that others have published for Sequin, on larger machines: 50,000 "
        "changes a second, 55 ms on average, 253 ms at the 99th of 100.",
        "",
        "| | changes a transaction | changes a second (bar: 20,000) | for a second of the processor | load |",
        "| --- | --- | --- | --- | --- |",
    )
    late: list[str] = []
    for name in _ROUTES:
        async with AsyncExitStack() as stack:
            stream = await Stream.begun(stack, *await servers.route(name))
            for rows in _ROWS:
                found = [await stream.caught_up(rows, _CHANGES) for _ in range(rounds)]
                rate, of_a_core = median(one.rate for one in found), median(one.rate_of_a_core for one in found)
                page.add(f"| {name} | {rows:,} | **{rate:,.0f}** | {of_a_core:,.0f} | {_load()} |")
            seen = [await sync_stream.latencies(stream, rate=OFFERED, rows=10, seconds=SECONDS) for _ in range(rounds)]
            late.append(f"| {name} | {_shown(seen)} | {_load()} |")
    page.add(
        "",
        "| | offered, changes a second | median, ms (bar: 50) | 99th of 100 (bar: 250) | worst | of a core | load |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *late,
    )


def _shown(seen: list[Latencies]) -> str:
    offered, worst = median(one.offered for one in seen), max(one.worst for one in seen)
    typical, slow = median(one.median for one in seen), median(one.at_99 for one in seen)
    busy = median(one.busy for one in seen)
    return f"{offered:,.0f} | **{typical:.1f}** | **{slow:.1f}** | {worst:.1f} | {busy:.2f}"


async def _memory(page: _Page, servers: Servers) -> None:
    page.add(
        "",
        "### Memory of the process that syncs",
        "",
        f"MiB of the whole process, Python and its packages with it, while {sync_stream.CHANGES:,} changes are written "
        "and synced, 100 a transaction; FEDORM_CHANGES=5000000 looks longer.",
        "",
        "| | changes | after a twentieth | after half | at the end | most |",
        "| --- | --- | --- | --- | --- | --- |",
    )
    for name in _ROUTES[1:3]:
        async with AsyncExitStack() as stack:
            stream = await Stream.begun(stack, *await servers.route(name))
            page.add(f"| {name} | {_mebibytes(await sync_stream.memory(stream))} |")


async def _peers(page: _Page, servers: Servers, rounds: int) -> None:
    page.add("", "### Others on the same servers", "", sync_peers.FOUND, "", sync_peers.HALF, "")
    peer = sync_peers.peer()
    if peer is None:
        page.add("(Not measured: `FEDORM_PEERS` names no virtual environment with them.)")
        return
    page.add(
        "| changes a transaction | fedorm, MariaDB to PostgreSQL: a second | for a second of the processor "
        "| its first half: a second | for a second of the processor | times as many for a second of the processor |",
        "| --- | --- | --- | --- | --- | --- |",
    )
    kind, urls = await servers.route(_ROUTES[2])
    for rows in _ROWS:
        ours, theirs = [], []
        for _ in range(rounds):
            async with AsyncExitStack() as stack:
                ours.append(await (await Stream.begun(stack, kind, urls)).caught_up(rows, _CHANGES))
            theirs.append(await peer.caught_up(urls["sync_source"], _CHANGES, rows))
        ratio = median(a.rate_of_a_core / b.rate_of_a_core for a, b in zip(ours, theirs, strict=True))
        cells = [f"{median(one.rate for one in some):,.0f} | {_of_a_core(some)}" for some in (ours, theirs)]
        page.add(f"| {rows:,} | {' | '.join(cells)} | **{ratio:.1f}** |")


def _of_a_core(found: list[CaughtUp]) -> str:
    return f"{median(one.rate_of_a_core for one in found):,.0f}"


def _mebibytes(found: Memory) -> str:
    growth = found.end / found.start
    at = f"{found.start:.0f} | {found.middle:.0f} | **{found.end:.0f}** ({growth:.2f} of the first)"
    return f"{found.changes:,} | {at} | {found.most:.0f}"


def _load() -> str:
    """Return how many processes have wanted one of the cores in the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


async def _nothing(url: str) -> None:
    """Fill a database with nothing: the tables are made for each run."""
