"""A MariaDB service whose log is read, and what is done to it from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pymysql
import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, make_url, select
from sqlalchemy.engine import Connection
from sqlalchemy.util import greenlet_spawn

from fedorm import Federation
from fedorm.stores.feeds import ChangeFeed
from fedorm.stores.mysql import MySQLStore
from fedorm.testing.servers import MariaDBServer
from tests.stores.feeding import shape_of

SERVICE = "feeds"


class Logged:
    """A service whose log is read, and what is done to it from outside."""

    def __init__(self, fed: Federation, url: str) -> None:
        store = fed.stores[SERVICE]
        assert isinstance(store, MySQLStore)
        self.store, self.url = store, url
        self.outside = self.connect()

    def connect(self, **options: Any) -> Any:
        url = make_url(self.url)
        place = {"host": url.host, "port": url.port, "user": url.username, "password": url.password}
        return pymysql.connect(**{**place, "database": url.database, "autocommit": True, **options})

    def run(self, *statements: str) -> None:
        """Run statements, over a connection that commits each that is in no transaction."""
        with self.outside.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    async def make(self, *tables: Table) -> ChangeFeed:
        """Make tables and a feed of them."""
        for table in tables:
            await self.store.create_all(table.metadata, [])
        return self.feed(*tables)

    def feed(self, *tables: Table) -> ChangeFeed:
        return self.store.change_feed("test", [shape_of(table) for table in tables])

    async def rows(self, table: Table) -> dict[Any, Any]:
        """Return the rows by key, as the store's engine for threads returns them."""

        def read(connection: Connection) -> dict[Any, Any]:
            found = connection.execute(select(table)).mappings()
            key = [column.name for column in table.primary_key]
            return {tuple(row[name] for name in key): dict(row) for row in found}

        def run() -> dict[Any, Any]:
            with self.store.sync_engine.connect() as connection:
                return read(connection)

        return await asyncio.to_thread(run)

    async def write(self, statement: Any, rows: Any = None) -> None:
        def run() -> None:
            with self.store.engine.begin() as connection:
                connection.execute(statement, rows)

        await greenlet_spawn(run)


@asynccontextmanager
async def logged(url: str, **settings: Any) -> AsyncIterator[Logged]:
    async with Federation({SERVICE: {"url": url, **settings}}) as fed:
        made = Logged(fed, url)
        try:
            yield made
        finally:
            made.outside.close()
            if made.store._sync_engine is not None:
                made.store._sync_engine.dispose()


@pytest.fixture
async def log(mysql_url: str, no_stray_tasks: None) -> AsyncIterator[Logged]:
    async with logged(mysql_url) as made:
        yield made


@pytest.fixture
def own_server() -> Iterator[MariaDBServer]:
    with MariaDBServer() as server:
        server.create_database("logs")
        yield server


def pairs() -> Table:
    """A table of a key and a text."""
    key = Column("id", Integer, primary_key=True, autoincrement=False)
    return Table("feed_pairs", MetaData(), key, Column("name", String(50)))


def row(key: int, name: str | None) -> dict[str, Any]:
    return {"id": key, "name": name}
