"""Processes killed in the middle of checkouts: when runners have been at work, each is there wholly, or not at all.

``FEDORM_CRASHES`` says about how many kills there are.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing import get_context

import pymongo
import pytest
from sqlalchemy import select

from fedorm import Federation
from fedorm.sagas import State
from fedorm.sagas.tables import fedorm_sagas
from tests.checkouts import SKUS, START, Order, books, opening, work
from tests.children import Child

CRASHES = int(os.environ.get("FEDORM_CRASHES", "30"))
PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.checkouts", "asyncpg", "aiomysql", "pymongo"])

FORWARD = [
    f"{when} {step}" for step in ("reserve", "charge", "confirm") for when in ("before do", "within do", "after do")
]
BACK = [
    f"{when} {step}"
    for step in ("confirm", "charge", "reserve")
    for when in ("before undo", "within undo", "after undo")
]
NOTES = [f"{when} {step}" for step in ("reserve", "charge", "confirm") for when in ("before note", "after note")]
POINTS = ["before begin", "after begin", "after end"]
POINTS += [f"{one.rpartition(' ')[0]} test.{one.rpartition(' ')[2]}" for one in (*FORWARD, *BACK, *NOTES)]
POINTS += [f"{when} note undo test.{step}" for step in ("confirm", "charge", "reserve") for when in ("before", "after")]


@pytest.fixture
def urls(fresh_database: Callable[[str], str]) -> dict[str, str]:
    return {
        "saga_stock": fresh_database("mongodb"),
        "saga_bank": fresh_database("mysql"),
        "saga_orders": fresh_database("postgresql"),
    }


async def settled(fed: Federation) -> None:
    """Run what is left, as two runners at once, until nothing is."""
    until = time.monotonic() + 120
    while left := await fed.sagas.unfinished():
        assert time.monotonic() < until, left
        await asyncio.gather(fed.sagas.run_once(), fed.sagas.run_once())
        await asyncio.sleep(0.1)


async def check(urls: dict[str, str], children: list[Child]) -> None:
    """End all sagas, and hold the three services against each other and against what the children have said."""
    async with Federation(urls) as fed:
        await settled(fed)
        held = await books(fed)
        sagas = fedorm_sagas("saga_orders")
        async with fed.session() as session:
            rows = (await session.execute(select(sagas.c.id, sagas.c.state))).all()
        states = {row.id: State(row.state) for row in rows}
    done = {id for id, state in states.items() if state is State.DONE}
    undone = {id for id, state in states.items() if state is State.COMPENSATED}
    assert done | undone == states.keys()
    assert held.sales.keys() == done
    assert held.charges == {id: quantity * 10 for id, (_, quantity) in held.sales.items()}
    assert held.refunds.keys() <= undone
    sold = {sku: sum(quantity for one, quantity in held.sales.values() if one == sku) for sku in SKUS}
    assert held.stock == {sku: START - sold[sku] for sku in SKUS}
    for child in children:
        assert child.done <= done, "what was said to be done is not"
        for id, state in child.failed.items():
            assert id in undone or (state == "unknown" and id in done), f"{id} was said to be {state}"


def kill(urls: dict[str, str], *children: Child) -> None:
    """Kill, and let MongoDB end the transactions of the dead at once: by itself it would keep their locks a minute."""
    for child in children:
        child.kill()
    with pymongo.MongoClient(urls["saga_stock"]) as client:  # type: ignore[var-annotated]
        client.admin.command({"killAllSessions": []})


def opened(order: Order) -> Child:
    child = Child.start(PROCESSES, work, order)
    child.listen(60)
    assert child.is_open
    return child


async def prepared(urls: dict[str, str]) -> None:
    async with Federation(urls) as fed:
        await opening(fed)


def test_killed_at_every_point_of_a_saga(urls: dict[str, str]) -> None:
    """Each point is reached, and kills its process; runners end what it has left."""
    asyncio.run(prepared(urls))
    children = []
    for number, point in enumerate(POINTS):
        child = opened(Order(urls, f"p{number}", seed=number, dies_at=point))
        children.append(child)
        child.listen(20)
        assert child.is_dead, f"{point!r} was not reached, only {child.points}"
        kill(urls, child)
    asyncio.run(check(urls, children))


def test_killed_at_random_while_runners_are_killed_too(urls: dict[str, str]) -> None:
    """Runners compete with each other and with those whose lease has run out, and are killed themselves."""
    asyncio.run(prepared(urls))
    dice = random.Random(4)
    children: list[Child] = []
    for number in range(max(4, CRASHES // 3)):
        several = [opened(Order(urls, f"r{number}", seed=number)), opened(Order(urls, "runner", number, runs=True))]
        children += several
        for child in several:
            child.listen(dice.uniform(0.05, 0.8))
        kill(urls, *several)
        assert not [child for child in several if child.process.exitcode != -signal.SIGKILL]
    asyncio.run(check(urls, children))
    assert sum(len(child.done) for child in children) > 0
