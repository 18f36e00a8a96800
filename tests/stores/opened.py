"""One service over one driver; the same synchronous code runs under a greenlet and in a thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.util import greenlet_spawn

from fedorm import Federation
from fedorm.bridge import Bridge
from fedorm.exc import BranchHeldError
from fedorm.stores.branches import Branch, new_id
from fedorm.stores.sql import SQLStore
from fedorm.testing.plugin import FreshDatabase
from fedorm.twophase.decisions import DecisionLog, decision_log

T = TypeVar("T")
SERVICE, LOG = "branches", "0123456789ab"
DRIVERS = {"asyncpg": "postgresql", "psycopg": "postgresql", "aiomysql": "mysql", "pymysql": "mysql"}
SYNC = {"psycopg", "pymysql", "pysqlite", "threads"}


class Opened:
    """A service of an open federation, as a session sees it."""

    def __init__(self, fed: Federation, bridge: Bridge, *, sync: bool) -> None:
        self.bridge, self.sync = bridge, sync
        self._store = fed.stores[SERVICE]

    @property
    def store(self) -> SQLStore:
        assert isinstance(self._store, SQLStore)
        return self._store

    @property
    def engine(self) -> Engine:
        return self.store.bind_for(sync=self.sync)

    @property
    def log(self) -> DecisionLog:
        return decision_log(self._store, self.bridge, sync=self.sync)

    def begin_documents(self) -> Any:
        """A document store's transaction, and what commits it."""
        store: Any = self._store
        transaction = self.bridge.run(store.begin(sync=self.sync))
        return transaction, lambda: self.bridge.run(store.commit(transaction))

    # -- a table of numbers

    def make_table(self) -> None:
        with self.engine.begin() as connection:
            connection.execute(text("CREATE TABLE marks (n INTEGER PRIMARY KEY, was INTEGER)"))

    def marks(self) -> list[int]:
        with self.engine.connect() as connection:
            return list(connection.scalars(text("SELECT n FROM marks ORDER BY n")))

    # -- branches

    def begin(self, number: int | None = None, branch: Branch | None = None) -> tuple[Connection, Any, Branch]:
        """Begin a branch, and write a number in it."""
        branch = branch or Branch(new_id(), SERVICE, "decider", LOG)
        connection = self.engine.connect()
        transaction = connection.begin_twophase(branch)
        if number is not None:
            mark(connection, number)
        return connection, transaction, branch

    def left(self, number: int) -> Branch:
        """Prepare a branch and break its connection."""
        connection, transaction, branch = self.begin(number)
        transaction.prepare()
        connection.invalidate()
        connection.close()
        return branch

    def in_doubt(self) -> list[Branch]:
        with self.engine.connect() as connection:
            return [one.branch for one in self.store.in_doubt(connection)]

    def end(self, branch: Branch, *, commit: bool, patience: float = 10.0) -> bool:
        """End a branch, as soon as the server has seen that its connection is gone."""
        deadline = time.monotonic() + patience
        while True:
            with self.engine.connect() as connection:
                try:
                    return self.store.end_prepared(connection, branch, commit=commit)
                except BranchHeldError:
                    if time.monotonic() > deadline:
                        raise
            time.sleep(0.05)


def mark(connection: Connection, number: int) -> None:
    connection.execute(text("INSERT INTO marks (n) VALUES (:n)"), {"n": number})


def run(driver: str, url: str, work: Callable[[Opened], T], **settings: Any) -> T:
    """Run ``work`` over one side of a federation of its own."""
    fed = Federation({SERVICE: {"url": url, **settings}})
    if driver in SYNC:
        with fed:
            assert fed._thread_bridge is not None
            return work(Opened(fed, fed._thread_bridge, sync=True))

    async def main() -> T:
        async with fed:
            return await greenlet_spawn(work, Opened(fed, fed._async_bridge, sync=False))

    return asyncio.run(main())


def over(*drivers: str, **settings: Any) -> Callable[[Callable[[Opened], None]], Any]:
    """Make a test of what is to be done with a service that has an empty table, over each of the drivers."""

    def decorate(claim: Callable[[Opened], None]) -> Any:
        def test(driver: str, fresh_database: FreshDatabase) -> None:
            def work(opened: Opened) -> None:
                opened.make_table()
                try:
                    claim(opened)
                finally:
                    for branch in opened.in_doubt():  # What is prepared keeps a database from being dropped.
                        opened.end(branch, commit=False)
                pool: Any = opened.engine.pool
                assert pool.checkedout() == 0

            run(driver, fresh_database(DRIVERS[driver]), work, **settings)

        test.__name__, test.__doc__, test.__module__ = claim.__name__, claim.__doc__, claim.__module__
        return pytest.mark.parametrize("driver", drivers or tuple(DRIVERS))(test)

    return decorate
