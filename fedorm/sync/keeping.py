"""Short transactions over fedorm's own tables in a service's database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, inspect
from sqlalchemy.util import greenlet_spawn

from fedorm.bookkeeping import ensure, is_ensured
from fedorm.stores.sql import WRITES, SQLStore

T = TypeVar("T")


class Kept:
    """One own table of one service, made when it is first written to."""

    def __init__(self, store: SQLStore, table: Callable[[str], Table]) -> None:
        self.store = store
        self.table = table(store.service)

    async def make(self) -> None:
        """Make the table unless it is there."""
        await greenlet_spawn(ensure, self.store.engine, self.table)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a transaction of its own."""

        def transaction() -> T:
            ensure(self.store.engine, self.table)
            engine = self.store.engine.execution_options(**{WRITES: True})
            with engine.begin() as connection:
                return work(connection)

        return await greenlet_spawn(transaction)

    async def read(self, query: Any) -> list[Any]:
        """Return the rows of a query, none where the table is not there: who only asks makes no table."""

        def ask() -> list[Any]:
            with self.store.engine.connect() as connection:
                there = is_ensured(self.store.engine, self.table) or inspect(connection).has_table(self.table.name)
                return list(connection.execute(query)) if there else []

        return await greenlet_spawn(ask)
