"""A shop of services in which transactions are left as a crash leaves them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import pytest
from sqlalchemy import Connection, text

from fedorm import Federation
from fedorm.recovery import Recovery
from fedorm.stores.branches import Branch, new_id
from fedorm.stores.sql import SQLStore
from fedorm.twophase.decisions import Decision, Outcome, decision_log
from fedorm.twophase.settling import located

SQL = ("users", "orders", "payments")
"""Two PostgreSQL databases and a MariaDB one."""
Side = Literal["async", "sync"]
SIDES = pytest.mark.parametrize("side", ["async", "sync"])
NOTHING: dict[str, set[str]] = {name: set() for name in SQL}


def old_id(seconds: float) -> str:
    """Return the id of a transaction that began some time ago."""
    return f"{int((time.time() - seconds) * 1000):012x}{secrets.token_hex(10)}"


class Shop:
    """The services, over a federation for threads."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self.urls = dict(urls)
        self.fed = Federation(urls)

    def open(self) -> None:
        self.fed.__enter__()
        for name in SQL:
            with self.connected(name) as connection:
                connection.execute(text("CREATE TABLE marks (n INTEGER PRIMARY KEY)"))
                connection.commit()

    def close(self) -> None:
        """End all that is in doubt, without which no database can be dropped."""
        for name in SQL:
            with self.connected(name) as connection:
                left = self.store(name).in_doubt(connection)
            for one in left:
                with self.connected(name) as connection:
                    self.store(name).end_prepared(connection, one.branch, commit=False)
        self.fed.__exit__(None, None, None)

    def store(self, name: str) -> SQLStore:
        store = self.fed.stores[name]
        assert isinstance(store, SQLStore)
        return store

    def connected(self, name: str) -> Connection:
        return self.store(name).sync_engine.connect()

    def log(self, name: str) -> Any:
        assert self.fed._thread_bridge is not None
        return decision_log(self.fed.stores[name], self.fed._thread_bridge, sync=True)

    def located(self, *names: str) -> tuple[str, ...]:
        return tuple(located(name, self.log(name).token()) for name in names)

    # -- what a crash leaves

    def leave(self, holder: str, number: int, *, id: str, decider: str, log: str | None = None) -> Branch:
        """Prepare a branch that writes a mark, and break its connection."""
        connection, branch = self.prepare(holder, number, id=id, decider=decider, log=log)
        connection.invalidate()
        connection.close()
        return branch

    def prepare(
        self, holder: str, number: int, *, id: str, decider: str, log: str | None = None
    ) -> tuple[Connection, Branch]:
        """Prepare a branch that writes a mark, over a connection that lives on."""
        branch = Branch(id, holder, decider, log or self.log(decider).token())
        connection = self.connected(holder)
        transaction = connection.begin_twophase(branch)
        connection.execute(text("INSERT INTO marks VALUES (:n)"), {"n": number})
        transaction.prepare()
        return connection, branch

    def decide(self, decider: str, id: str, *services: str) -> None:
        """Record "committed" as the decider does, in a transaction of its own."""
        log, places = self.log(decider), self.located(*services)
        log.token()
        if decider in SQL:
            with self.connected(decider) as connection:
                log.record(connection, id, places)
                connection.commit()
            return
        store, bridge = self.fed.stores[decider], self.fed._thread_bridge
        assert bridge is not None
        transaction = bridge.run(store.begin(sync=True))  # type: ignore[attr-defined]
        log.record(transaction, id, places)
        bridge.run(store.commit(transaction))  # type: ignore[attr-defined]

    def left(self, *holders: str, decider: str, committed: bool, number: int = 1) -> str:
        """Leave a transaction that was decided, or was not, in some services."""
        id = new_id()
        for holder in holders:
            self.leave(holder, number, id=id, decider=decider)
        if committed:
            self.decide(decider, id, *holders, decider)
        return id

    # -- what there is afterwards

    def marks(self) -> dict[str, list[int]]:
        found = {}
        for name in SQL:
            with self.connected(name) as connection:
                found[name] = sorted(connection.scalars(text("SELECT n FROM marks")))
        return found

    def prepared(self) -> dict[str, set[str]]:
        """The ids of transactions that are in doubt, by service; those that others show, too."""
        found = {}
        for name in SQL:
            with self.connected(name) as connection:
                found[name] = {one.branch.id for one in self.store(name).in_doubt(connection)}
        return found

    def decision(self, name: str, id: str) -> Outcome | None:
        found: Decision | None = self.log(name).find(id)
        return None if found is None else found.outcome

    def recover(self, side: Side, **options: Any) -> Recovery:
        """Recover by a federation of its own, on either side."""
        return recover(self.urls, side, **options)


@pytest.fixture
def urls(fresh_database: Callable[[str], str]) -> dict[str, str]:
    return {
        "users": fresh_database("postgresql"),
        "orders": fresh_database("postgresql"),
        "payments": fresh_database("mysql"),
        "inventory": fresh_database("mongodb"),
    }


@pytest.fixture
def shop(urls: dict[str, str]) -> Iterator[Shop]:
    shop = Shop(urls)
    shop.open()
    yield shop
    shop.close()


def recover(urls: Mapping[str, str], side: Side, **options: Any) -> Recovery:
    if side == "sync":
        with Federation(urls) as fed:
            return fed.sync_recover(**options)

    async def run() -> Recovery:
        async with Federation(urls) as fed:
            return await fed.recover(**options)

    return asyncio.run(run())


def done(report: Recovery) -> dict[tuple[str, str], str]:
    """What was done, by service and transaction."""
    return {(one.service, one.id): one.done.value for one in report.branches}
