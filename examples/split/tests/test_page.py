"""The how-to page leads from the shop before to the shop after, while somebody goes on buying."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from examples.split.after.shop import database as database_after
from examples.split.after.shop import models, selling
from examples.split.before.shop import database as database_before
from examples.split.before.shop import selling as selling_before
from examples.split.tests.page import REPOSITORY, SPLIT, Walk, shape, sources
from fedorm import Federation
from fedorm.testing.servers import Server

PRODUCTS = 5
STOCK = 1_000_000
OLD = 100
"""Orders from before."""
ENOUGH = 10
"""Orders, while the tables are copied and after the switch, at least."""


class Customers:
    """Customers who register, buy, review and leave, one after the other, as long as they are let in."""

    def __init__(self) -> None:
        self.bought: dict[int, tuple[int, int]] = {}
        """By order: the product and how many."""
        self._number = itertools.count()
        self.registered = self._bought_since = 0

    @asynccontextmanager
    async def buying(self) -> AsyncIterator[None]:
        """Let them in, until the block is left and some have bought."""
        ending, self._bought_since = asyncio.Event(), 0
        task = asyncio.create_task(self._buy(ending))
        try:
            yield
        finally:
            ending.set()
            await task

    async def _buy(self, ending: asyncio.Event) -> None:
        async with database_after.opened() as sessions:
            while not ending.is_set() or self._bought_since < ENOUGH:
                number = next(self._number)
                product, quantity = number % PRODUCTS + 1, number % 7 + 1
                async with sessions() as session:
                    who = (f"{number}@example.com", f"customer {number}", "GB", f"{number} High Street", "London")
                    user = await selling.register(session, *who)
                    self.registered += 1
                    order = await selling.checkout(session, user.id, {product: quantity})
                    self.bought[order.id] = product, quantity
                    self._bought_since += 1
                    await selling.review(session, user.id, product, number % 5 + 1, f"review {number}")
                if number % 3 == 0:
                    async with sessions() as session:
                        await selling.forget(session, user.id)
                        self.registered -= 1


async def stock_before() -> None:
    """Fill the shop as it was."""
    async with database_before.opened() as sessions:
        for number in range(1, PRODUCTS + 1):
            async with sessions() as session:
                await selling_before.add_product(session, "kitchen", f"product {number}", "2.50", STOCK)
        for number in range(OLD):
            async with sessions() as session:
                who = (f"old {number}@example.com", f"customer {number}", "DE", f"{number} Weg", "Berlin")
                user = await selling_before.register(session, *who)
                order = await selling_before.checkout(session, user.id, {number % PRODUCTS + 1: 1})
                await selling_before.review(session, user.id, number % PRODUCTS + 1, 5, "Good.")
                assert order.id == number + 1


async def all_is_there(customers: Customers) -> None:
    """Every order has its items, no key leads nowhere, and what was sold is no longer in stock."""
    async with Federation.from_file(database_after.SETTINGS) as fed:
        async with fed.session() as session:
            for number, (product, quantity) in customers.bought.items():
                page = await selling.order_page(session, number)
                assert [(one.product.id, one.quantity) for one in page.items] == [(product, quantity)]
        async with fed.session() as session:
            sold = dict.fromkeys(range(1, PRODUCTS + 1), OLD // PRODUCTS)
            for product, quantity in customers.bought.values():
                sold[product] += quantity
            pages = [await selling.product_page(session, number) for number in sold]
            assert [STOCK - page.stock for page in pages] == list(sold.values())
            assert sum(len(page.reviews) for page in pages) == OLD + customers.registered
        for relationship in (models.Order.user, models.Order.address, models.Review.user, models.OrderItem.product):
            assert (await fed.orphans(relationship)).rows == 0


@pytest.fixture
def walk(tmp_path: Path, fresh_database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Walk]:
    """Give the application as it was, with a database, in a folder of its own."""
    monkeypatch.setenv("SHOP_URL", one := fresh_database("postgresql"))
    monkeypatch.setenv("USERS_URL", one)
    monkeypatch.setenv("CATALOGUE_URL", one)
    monkeypatch.setenv("NEW_USERS_URL", fresh_database("postgresql"))
    monkeypatch.setenv("NEW_CATALOGUE_URL", fresh_database("mysql"))
    folder = copytree(SPLIT / "before", tmp_path / "work", ignore=ignore_patterns("__pycache__"))
    made = Walk(folder, os.environ)
    yield made
    made.close()


async def followed(walk: Walk, step: str) -> None:
    """Run the step's commands; each prints what the page says, but for ids and numbers."""
    for line, told in walk.told(step):
        async with asyncio.timeout(60):
            while True:
                code, printed = await asyncio.to_thread(walk.run, line)
                # The page says to wait for the first copy.
                if code == 0 or "sync verify" not in line:
                    break
        assert (code, shape(printed)) == (0, shape(told)), f"{line}\n{printed}"


def run_tests(shop: Path, server: Server) -> None:
    """Run the shop's tests for an application in a folder."""
    environment = {
        **os.environ,
        "SPLIT_SHOP": str(shop),
        "FEDORM_TEST_POSTGRESQL_URL": server.url(),
        "PYTHONPATH": str(REPOSITORY),
    }
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "examples/split/tests/test_shop.py"]
    done = subprocess.run(words, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert "6 passed" in done.stdout, done.stdout


async def test_from_one_database_to_three(
    walk: Walk, postgresql_server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is lost on the way, nor after it, and what the page leads to is what is in the folder ``after``."""
    customers = Customers()
    assert walk.run("alembic upgrade head")[0] == 0
    await stock_before()
    walk.apply("Step 1")
    await followed(walk, "Step 1")
    step = copytree(walk.folder, tmp_path / "step")
    walk.apply("Step 2")
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(run_tests, step, postgresql_server))
        await followed(walk, "Step 2")
    for line in ("fedorm --models shop.models migrate downgrade --service orders -1", "fedorm migrate upgrade"):
        assert (await asyncio.to_thread(walk.run, line))[0] == 0
    await followed(walk, "Step 3")
    walk.apply("Step 4")

    def lead_to(urls: dict[str, str]) -> None:
        for name, url in urls.items():
            monkeypatch.setenv(name, url)

    async with customers.buying():
        await followed(walk, "Step 4")
    assert (await asyncio.to_thread(walk.run, "$MOVING sync status"))[0] == 0  # No row was put aside.
    walk.apply("Step 5")
    await followed(walk, "Step 5")
    old = os.environ["SHOP_URL"]
    new = {name: os.environ[f"NEW_{name}"] for name in ("USERS_URL", "CATALOGUE_URL")}
    lead_to(new)
    async with customers.buying():
        pass
    for line in ("$BACK sync verify", "$BACK sync status", "$BACK sync advance-keys"):
        assert (await asyncio.to_thread(walk.run, line))[0] == 0
    for urls in (dict.fromkeys(new, old), new):  # The old tables would do as well.
        lead_to(urls)
        await all_is_there(customers)
    walk.apply("Step 6")
    await followed(walk, "Step 6")
    await all_is_there(customers)
    assert sources(walk.folder) == sources(SPLIT / "after")
