"""The benchmarks of one select over several services, and their section of the page."""

from __future__ import annotations

from collections.abc import Collection
from statistics import median

from benchmarks import growth, memory, planning, tpch_federated
from benchmarks.grouping import Group
from benchmarks.lookup import Lookup
from benchmarks.measure import Pair
from benchmarks.places import Places, started
from benchmarks.shop import USERS, opened

LINES = ("lookup", "group", "tpch", "memory", "planning", "growth")
SCALE = 0.1
_PAIRS = ["| fedorm; against | fedorm, ms | other, ms | ratio | bar |", "| --- | --- | --- | --- | --- |"]


class _Page:
    """Lines of the page, printed as they come."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, *lines: str) -> None:
        self.lines.extend(lines)
        print(*lines, sep="\n", flush=True)

    def title(self, title: str, *lines: str) -> None:
        self.add("", f"### {title}", "", *lines)

    def pair(self, what: str, measured: Pair, bar: str) -> None:
        self.add(f"| {what} | {measured.shown()} | {bar} |")
        # For who reads along only: what a machine that others keep busy takes away from a job, it never gives.
        best, others = min(measured.first), min(measured.second)
        print(f"  (at best {best:.1f} and {others:.1f} ms, {best / others:.2f})", flush=True)


async def section(chosen: Collection[str], rounds: int, queries: Collection[int] = ()) -> list[str]:
    """Measure the chosen lines and return the text.

    ``queries``: of TPC-H those with these numbers, of the memory's those in these places from 1; none: all.
    """
    page = _Page()
    page.add("## Federated select")
    with started() as places:
        if "lookup" in chosen:
            await _lookup(page, places, rounds)
        if "group" in chosen:
            await _group(page, places, rounds)
        if "tpch" in chosen:
            await _tpch(page, places, max(3, rounds // 3) if rounds > 3 else rounds, queries)
        if "memory" in chosen:
            await _memory(page, places, queries)
        if "planning" in chosen:
            await _planning(page, places, 10 * rounds)
        if "growth" in chosen:
            await _growth(page, places, max(3, rounds // 3) if rounds > 3 else rounds)
    return page.lines


async def _lookup(page: _Page, places: Places, rounds: int) -> None:
    page.title(
        "A lookup: 1,000 of 1,000,000 orders, those of 100 of 100,000 users",
        "Two PostgreSQL databases, everything indexed, other users each time. Users are a segment's, scattered among "
        "all, or have successive keys: then DuckDB asks for orders by the least and the greatest key, its best case. "
        "asyncpg by hand sends the keys as an array and joins with a dictionary, on connections that are there; fedorm "
        "opens a session each time. The first row is what this machine makes of one job against itself.",
        "",
        *_PAIRS,
    )
    async with opened(places, USERS) as shop:
        scattered, successive = Lookup(shop, ranged=False), Lookup(shop, ranged=True)
        page.pair("(noise: asyncpg by hand; the same)", await scattered.against_itself(4 * rounds), "1")
        page.pair("scattered users; asyncpg by hand", await scattered.against_hand(4 * rounds), "3.0")
        page.pair(
            "the same in a session that is open; asyncpg by hand",
            await scattered.against_hand_in_a_session(4 * rounds),
            "3.0",
        )
        page.pair("successive users; asyncpg by hand", await successive.against_hand(4 * rounds), "3.0")
        page.pair("scattered users; DuckDB with postgres_scanner", await scattered.against_scanner(rounds), "0.17")
        page.pair("successive users; DuckDB with postgres_scanner", await successive.against_scanner(rounds), "0.17")


async def _group(page: _Page, places: Places, rounds: int) -> None:
    page.title(
        "A group: 1,000,000 orders with 100,000 users by country",
        "Two PostgreSQL databases; counted and added up.",
        "",
        *_PAIRS,
    )
    async with opened(places, USERS) as shop:
        group = Group(shop)
        page.pair("select(); DuckDB with postgres_scanner", await group.select_against_scanner(rounds), "1.2")
        page.pair("text(); DuckDB with postgres_scanner", await group.text_against_scanner(rounds), "1.2")
        page.pair("select(); ConnectorX with Polars", await group.select_against_frames(rounds), "0.33")


async def _tpch(page: _Page, places: Places, rounds: int, queries: Collection[int]) -> None:
    page.title(
        f"TPC-H at scale factor {SCALE}",
        "Customers, nations and regions in one PostgreSQL database, orders and lineitems in another, parts, suppliers "
        "and partsupp in MariaDB; the queries' text as it is. DuckDB reads the same servers with postgres_scanner and "
        f"mysql_scanner. The answers are compared. Each query {rounds} times each way, its plan known.",
        "",
        "| query | fedorm, ms | DuckDB, ms | ratio |",
        "| --- | --- | --- | --- |",
    )
    async with tpch_federated.opened(places, SCALE) as split:
        measured = []
        for number in queries or split.queries:
            measured.append(await split.compare(number, rounds))
            page.add(tpch_federated.shown(number, measured[-1]))
    total = tpch_federated.total(measured)
    page.add(f"| total (bar: 1.2) | {median(total.first):.0f} | {median(total.second):.0f} | **{total.ratio:.2f}** |")


async def _memory(page: _Page, places: Places, queries: Collection[int]) -> None:
    page.title(
        "Memory: 10,000,000 orders with 1,000,000 users",
        f'Two PostgreSQL databases; `memory_limit="{memory.MEMORY_LIMIT}"`; the most memory that the whole process '
        "has had at once, Python and its packages with it. Each query once, in a process of its own; the answers are "
        "compared with the server's own arithmetic.",
        "",
        "| query | MiB | bar | seconds |",
        "| --- | --- | --- | --- |",
    )
    for name in [name for number, name in enumerate(memory.QUERIES, 1) if not queries or number in queries]:
        found = await memory.peak(places, name)
        page.add(f"| {name} | **{found.mebibytes:.0f}** | 1536 | {found.seconds:.1f} |")


async def _planning(page: _Page, places: Places, rounds: int) -> None:
    page.title(
        "Planning a known shape",
        "Milliseconds for finding the compiled text of a select() and its plan; and, in an open session, for all "
        "that passes from `session.execute()` until the plan is there, and until the first service gets a statement. "
        "Other values each time.",
        "",
        "| statement | compiled text | plan | both (bar: 0.5) | until the plan is there | until a statement is sent |",
        "| --- | --- | --- | --- | --- | --- |",
    )
    async with opened(places, USERS) as shop:
        for name, statement in (("lookup", planning.looked_up), ("group", planning.grouped)):
            found = await planning.planning(shop, statement, rounds)
            until = " | ".join("-" if one is None else f"{one:.3f}" for one in (found.until_planned, found.until_sent))
            page.add(f"| {name} | {found.compiled:.3f} | {found.planned:.3f} | **{found.together:.3f}** | {until} |")


async def _growth(page: _Page, places: Places, rounds: int) -> None:
    page.title(
        "As rows grow",
        "Milliseconds for each number of orders, with a tenth as many users, in two PostgreSQL databases; and what a "
        f"row costs among ten times as many, in what it costs among fewer (bar: 1.2). {rounds} times each.",
        "",
        "| query | 10,000 | 100,000 | 1,000,000 | 100,000 in 10,000 | 1,000,000 in 100,000 |",
        "| --- | --- | --- | --- | --- | --- |",
    )
    for name, job in (("group by country", growth.grouped), ("all rows of the join", growth.joined)):
        page.add(f"| {name} | {(await growth.growth(places, job, rounds)).shown()} |")
