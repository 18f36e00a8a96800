"""A million rows from one database to another, by a backfill and by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import asyncpg
import psycopg
from sqlalchemy import make_url

from benchmarks.measure import Pair, timed
from benchmarks.sync_targets import ClickHouseTarget, Sums, Target, opened_target, source_sums
from benchmarks.synced import RULE, federation, remade, table_of

ROWS = 1_000_000
BLOCK = 50_000
"""How many rows are one block by hand."""
_NAMES = tuple(column.name for column in table_of("sync_source").columns)
_TYPES = ("int4", "int8", "text", "text", "text", "numeric", "timestamp", "bool", "float8", "date")
_QUERY = f"SELECT {', '.join(_NAMES)} FROM synced_rows"
_INSERT = f"INSERT INTO synced_facts ({', '.join(_NAMES)}, sync_version, sync_deleted) VALUES"


async def measured(urls: Mapping[str, str], rounds: int) -> Pair:
    """Fill the target both ways in turn, empty each time; raise AssertionError if it is not the source's copy then."""
    times: tuple[list[float], list[float]] = ([], [])
    target, (service,) = await opened_target(urls), urls.keys() - {"sync_source"}
    expected = await source_sums(urls)
    async with federation(urls) as fed:

        async def ours() -> None:
            await fed.sync.backfill(RULE)

        async def theirs() -> None:
            if isinstance(target, ClickHouseTarget):
                await _to_clickhouse(urls, target)
            else:
                await _to_postgresql(urls)

        try:
            for number in range(rounds + 1):
                order = (0, 1) if number % 2 == 0 else (1, 0)
                for which in order:
                    await fed.sync.reset(RULE)
                    await remade(fed, service)
                    took = await timed((ours, theirs)[which])
                    await _check(target, expected)
                    if number:  # The first round is for warming up.
                        times[which].append(took)
            await fed.sync.reset(RULE)
        finally:
            await target.close()
    return Pair(*times)


async def _check(target: Target, expected: Sums) -> None:
    found = await target.sums()
    assert found == expected, f"the target has {found}, and the source {expected}"


# -- by hand


async def _to_postgresql(urls: Mapping[str, str]) -> None:
    """Pipe a binary COPY from one connection into one of the other."""
    source = await asyncpg.connect(urls["sync_source"].replace("+asyncpg", ""))
    target = await asyncpg.connect(urls["sync_target"].replace("+asyncpg", ""))
    blocks: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=64)

    async def read() -> None:
        await source.copy_from_query(_QUERY, output=blocks.put, format="binary")
        await blocks.put(None)

    async def arriving() -> AsyncIterator[bytes]:
        while (block := await blocks.get()) is not None:
            yield block

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        await target.copy_to_table("synced_copies", source=arriving(), columns=_NAMES, format="binary")
    await source.close()
    await target.close()


async def _to_clickhouse(urls: Mapping[str, str], target: ClickHouseTarget) -> None:
    """Read a binary COPY by psycopg's C code and insert it in columns, a block at a time, both in threads."""
    blocks: asyncio.Queue[list[tuple[Any, ...]] | None] = asyncio.Queue(maxsize=2)
    loop = asyncio.get_running_loop()

    def read() -> None:
        url = make_url(urls["sync_source"]).set(drivername="postgresql")
        with (
            psycopg.connect(url.render_as_string(hide_password=False)) as connection,
            connection.cursor() as cursor,
            cursor.copy(f"COPY ({_QUERY}) TO STDOUT (FORMAT BINARY)") as copy,
        ):
            copy.set_types(_TYPES)
            rows = []
            for row in copy.rows():
                rows.append(row)
                if len(rows) == BLOCK:
                    asyncio.run_coroutine_threadsafe(blocks.put(rows), loop).result()
                    rows = []
            for last in (rows, None):
                asyncio.run_coroutine_threadsafe(blocks.put(last), loop).result()

    reading = asyncio.create_task(asyncio.to_thread(read))
    while (rows := await blocks.get()) is not None:
        columns = [*zip(*rows, strict=True), [1] * len(rows), [0] * len(rows)]
        await asyncio.to_thread(target.client.execute, _INSERT, columns, columnar=True)
    await reading
