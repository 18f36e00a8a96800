"""A PostgreSQL service whose log is read, for tests: its tables, statements from outside, chunks of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from sqlalchemy import Column, Connection, MetaData, Table, text
from sqlalchemy.util import greenlet_spawn

from fedorm import Federation
from fedorm.stores.feeds import Change, Chunk
from fedorm.stores.postgresql import PostgreSQLStore
from fedorm.stores.postgresql_feed import PostgreSQLFeed
from fedorm.stores.rows import RowShape

SERVICE = "logged"
PATIENCE = 30
"""Seconds after which what a test waits for will not come any more."""


def table(name: str, *columns: Column[Any], schema: str | None = None) -> Table:
    return Table(name, MetaData(), *columns, schema=schema)


def shape_of(table: Table, *, key: Sequence[str] = ("id",), only: Sequence[str] | None = None) -> RowShape:
    fields = tuple(only or table.columns.keys())
    return RowShape(SERVICE, f"{SERVICE}.{table.name}", tuple(key), fields, table, dict(table.columns.items()))


class Logged:
    """The service, and who else writes there."""

    def __init__(self, fed: Federation) -> None:
        store = fed.stores[SERVICE]
        assert isinstance(store, PostgreSQLStore)
        self.fed, self.store = fed, store

    def feed(self, name: str, *what: Table | RowShape) -> PostgreSQLFeed:
        feed = self.store.change_feed(name, [shape_of(one) if isinstance(one, Table) else one for one in what])
        assert isinstance(feed, PostgreSQLFeed)
        return feed

    async def make(self, *tables: Table) -> None:
        await self.do(lambda connection: [one.create(connection) for one in tables])

    async def run(self, *statements: str) -> None:
        """Run statements in one transaction."""
        await self.do(lambda connection: [connection.exec_driver_sql(one) for one in statements])

    async def alone(self, *statements: str) -> None:
        """Run statements without a transaction of ours."""

        def run() -> None:
            with self.store.engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                for statement in statements:
                    connection.exec_driver_sql(statement)

        await greenlet_spawn(run)

    async def do(self, work: Any) -> Any:
        def run() -> Any:
            with self.store.engine.begin() as connection:
                return work(connection)

        return await greenlet_spawn(run)

    async def ask(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        def work(connection: Connection) -> Any:
            return [tuple(row) for row in connection.execute(text(query), values)]

        found: list[tuple[Any, ...]] = await self.do(work)
        return found

    async def readers(self) -> list[tuple[Any, ...]]:
        """The connections that read this database's log."""
        return await self.ask(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walsender' AND datname = current_database()"
        )

    async def left(self) -> None:
        """Wait until the server has noticed that nobody reads its log any more."""
        async with asyncio.timeout(PATIENCE):
            while await self.readers():
                await asyncio.sleep(0.02)


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[Logged]:
    async with Federation({SERVICE: {"url": url, **settings}}) as fed:
        yield Logged(fed)


async def chunk(stream: AsyncIterator[Chunk]) -> Chunk:
    async with asyncio.timeout(PATIENCE):
        return await anext(stream)


async def chunks(stream: AsyncIterator[Chunk], changes: int) -> list[Chunk]:
    """Return the chunks that bring so many changes."""
    found: list[Chunk] = []
    while sum(len(one.changes) for one in found) < changes:
        found.append(await chunk(stream))
    return found


async def changes(stream: AsyncIterator[Chunk], count: int) -> list[Change]:
    return [change for one in await chunks(stream, count) for change in one.changes]


async def read(feed: PostgreSQLFeed, position: str, count: int) -> list[Chunk]:
    """Read so many changes with a stream of their own."""
    async with aclosing(feed.stream(position)) as stream:  # type: ignore[type-var]
        return await chunks(stream, count)


def told(changes: Sequence[Change]) -> list[tuple[Any, ...]]:
    """All of some changes but whose shape it is."""
    return [(one.kind, one.key, one.values, one.before) for one in changes]
