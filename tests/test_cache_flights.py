"""Equal statements at the same time run once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import literal_column, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import await_only, greenlet_spawn

from fedorm import Federation
from fedorm.cache.flights import Flights
from tests.models import Order, User
from tests.test_cache import CACHED, ask, sent, shop

__all__ = ["shop"]

SLOW = select(User.email, literal_column("pg_sleep(0.3) is null")).order_by(User.id)


class Work:
    """Something that takes until it is told to end, and counts how often it is begun."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = asyncio.Event()

    def __call__(self) -> str:
        self.begun += 1
        await_only(self.may_end.wait())
        return f"run {self.begun}"


def flying(flights: Flights[str], work: Callable[[], str], number: int) -> list[asyncio.Task[tuple[str, bool]]]:
    return [asyncio.create_task(greenlet_spawn(flights.run, "key", work)) for _ in range(number)]


async def settled() -> None:
    """Let all tasks come to where they wait."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_one_runs_for_all() -> None:
    """All get what the one returns, and know who ran; then the next one runs anew."""
    flights, work = Flights[str](), Work()
    tasks = flying(flights, work, 5)
    await settled()
    work.may_end.set()
    assert [await task for task in tasks] == [("run 1", True)] + [("run 1", False)] * 4
    assert await greenlet_spawn(flights.run, "key", work) == ("run 2", True)


async def test_another_takes_over_for_one_that_is_cancelled() -> None:
    """The others never hear of it; who waits may be cancelled as well."""
    flights, work = Flights[str](), Work()
    tasks = flying(flights, work, 5)
    await settled()
    tasks[0].cancel()
    tasks[3].cancel()
    await settled()
    assert (work.begun, [task.cancelled() for task in tasks]) == (2, [True, False, False, True, False])
    work.may_end.set()
    assert sorted([await tasks[number] for number in (1, 2, 4)]) == [("run 2", False)] * 2 + [("run 2", True)]


async def test_the_others_of_one_that_fails_run_by_themselves() -> None:
    """Its error is its own."""
    flights, may_end, begun = Flights[str](), asyncio.Event(), []

    def work() -> str:
        begun.append(1)
        if len(begun) == 1:
            await_only(may_end.wait())
            raise ValueError("the first")
        return "fine"

    tasks = flying(flights, work, 3)
    await settled()
    may_end.set()
    with pytest.raises(ValueError, match="the first"):
        await tasks[0]
    assert [await task for task in tasks[1:]] == [("fine", True)] * 2
    assert len(begun) == 3


def test_threads_wait_for_one_of_them() -> None:
    """As tasks do."""
    flights, may_end, begun = Flights[str](), threading.Event(), []

    def work() -> str:
        begun.append(threading.current_thread())
        may_end.wait(10)
        return "done"

    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(flights.run, "key", work) for _ in range(6)]
        while not begun:
            pass
        may_end.set()
        results = [future.result() for future in futures]
    assert {result for result, _ in results} == {"done"}
    assert sum(ran for _, ran in results) == len(begun)


async def test_equal_statements_are_sent_once(shop: Federation) -> None:
    """Of one service and of several, by tasks of their own with sessions of their own."""
    both = select(User.email, Order.total).join(Order, Order.user_id == User.id).order_by(User.id)
    await ask(shop, both)
    await shop.forget()
    with sent(shop, "users", "orders") as counts:
        found = await asyncio.gather(*(ask(shop, statement) for statement in [SLOW] * 8 + [both] * 8))
    assert [[row[0] for row in rows] for rows in found] == [["ada", "bob"]] * 16
    assert counts == [2, 1]
    assert (shop.stats().cache.hits, shop.stats().cache.misses) == (14, 3)


async def test_who_holds_what_the_other_needs(shop: Federation, urls: dict[str, str]) -> None:
    """Nobody waits for ever for one that waits for the connection that he has himself."""
    both = select(User.email, Order.total).join(Order, Order.user_id == User.id).order_by(User.id)
    one = {"url": urls["users"], "pool_size": 1, "max_overflow": 0, "pool_timeout": 6}
    async with Federation({"users": one, "orders": urls["orders"]}) as fed:
        await ask(fed, both)
        await fed.forget()
        async with fed.session() as session:
            await session.execute(select(User.id))
            other = asyncio.create_task(ask(fed, both))
            while fed.stats().cache.misses < 2:
                await asyncio.sleep(0)
            found = [tuple(row) for row in await session.execute(both, execution_options=CACHED)]
        assert await other == found
        assert [email for email, _ in found] == ["ada", "bob"]


async def test_cancelling_the_statement_that_is_sent(shop: Federation) -> None:
    """It is sent again by another who waits, and all but the cancelled one get the rows."""
    tasks = [asyncio.create_task(ask(shop, SLOW)) for _ in range(5)]
    async with shop.session() as session:
        watching = text(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        )
        while not await session.scalar(watching, bind_arguments={"service": "users"}):
            await session.rollback()
    tasks[0].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(one, asyncio.CancelledError) for one in found] == [True, False, False, False, False]
    assert all([row[0] for row in rows] == ["ada", "bob"] for rows in found[1:] if not isinstance(rows, BaseException))
    assert await ask(shop, SLOW) == found[1]


async def test_equal_statements_that_fail(shop: Federation) -> None:
    """Each has an error of its own, and a session that goes on."""
    failing = text("SELECT 1 / (SELECT count(*) FROM users WHERE pg_sleep(0.1) IS NULL AND id < 0)")

    async def run() -> Any:
        async with shop.session() as session:
            with pytest.raises(DBAPIError) as raised:
                await session.execute(failing, bind_arguments={"service": "users"}, execution_options=CACHED)
            await session.rollback()
            return raised.value, (await session.scalars(select(User.id).order_by(User.id))).all()

    found = await asyncio.gather(*(run() for _ in range(4)))
    assert len({id(error) for error, _ in found}) == 4
    assert [ids for _, ids in found] == [[1, 2]] * 4


def test_threads_send_equal_statements_once(urls: dict[str, str]) -> None:
    """Sessions for threads wait for one of them."""
    with Federation({"users": urls["users"]}) as fed:
        with fed.sync_session() as session:
            session.execute(text("CREATE TABLE t AS SELECT 1 AS id"), bind_arguments={"service": "users"})
            session.commit()

        def read() -> Any:
            with fed.sync_session() as session:
                slow = text("SELECT id, pg_sleep(0.3) IS NULL FROM t")
                found = session.execute(slow, bind_arguments={"service": "users"}, execution_options=CACHED)
                return [tuple(row) for row in found]

        with sent(fed, "users") as counts, ThreadPoolExecutor(8) as pool:
            assert [future.result() for future in [pool.submit(read) for _ in range(8)]] == [[(1, False)]] * 8
        assert counts == [1]
