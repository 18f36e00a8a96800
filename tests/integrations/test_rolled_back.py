"""The fixture that undoes what a test has done: over every kind of service, committed or not, async and not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from fedorm import Federation, FedormError, UnsupportedOperationError
from fedorm.testing.rolling_back import rolled_back, sync_rolled_back
from tests.models import Event, Order, Payment, Product, User

Contents = dict[str, list[Any]]


async def contents(fed: Federation) -> Contents:
    async with fed.session() as session:
        rows = {
            model.__name__: list(await session.scalars(select(model.id).order_by(model.id))) for model in (User, Order)
        }
        payments = list(await session.scalars(select(Payment.amount)))
        products = await session.find(Product).sort("sku").to_list()
        return {**rows, "Payment": payments, "Product": [(one.sku, one.price) for one in products]}


def everything(number: int) -> list[Any]:
    return [
        User(id=number, email=f"{number}@example.com"),
        Order(id=number, user_id=number),
        Payment(order_id=number, amount=number),
        Product(sku=f"sku {number}", price=number),
    ]


@pytest.fixture
async def seeded(fed: Federation) -> AsyncIterator[tuple[Federation, Contents]]:
    """What was there before the block is there after it, and nothing else."""
    async with fed.session() as session:
        session.add_all([*everything(1), Product(sku="kept", price=3)])
        await session.commit()
    before = await contents(fed)
    async with rolled_back(fed):
        yield fed, before
    assert await contents(fed) == before


Seeded = tuple[Federation, Contents]


async def test_what_was_committed_is_undone(seeded: Seeded) -> None:
    """Rows and documents, inserted, changed and deleted; other sessions see them until then."""
    fed, before = seeded
    async with fed.session() as session:
        session.add_all(everything(2))
        (await session.get(User, 1)).email = "changed"
        await session.delete(await session.get(Order, 1))
        product = await session.find(Product, Product.sku == "kept").first_or_none()
        product.price = 4
        await session.delete(await session.find(Product, Product.sku == "sku 1").first_or_none())
        await session.commit()
    seen = await contents(fed)
    assert (seen["User"], seen["Order"]) == ([1, 2], [2])
    assert seen["Product"] == [("kept", 4.0), ("sku 2", 2.0)]
    assert seen != before


async def test_a_sessions_own_rollback(seeded: Seeded) -> None:
    """It undoes that session alone, after errors, too; savepoints are as ever."""
    fed, _ = seeded
    async with fed.session() as session:
        session.add_all(everything(2))
        await session.commit()
        session.add_all(everything(3))
        await session.flush()
        await session.rollback()
        session.add(User(id=2, email="twice"))
        with pytest.raises(IntegrityError):
            await session.flush()
        await session.rollback()
        session.add(User(id=4, email="kept"))
        await session.flush()
        nested = await session.begin_nested()
        session.add(User(id=5, email="not"))
        await session.flush()
        await nested.rollback()
        await session.commit()
    seen = await contents(fed)
    assert (seen["User"], seen["Order"]) == ([1, 2, 4], [1, 2])


async def test_sessions_side_by_side(seeded: Seeded) -> None:
    """One that only reads undoes nothing of another; one that has written cannot undo what came before others."""
    fed, _ = seeded
    async with fed.session() as reader, fed.session() as writer:
        assert list(await reader.scalars(select(User.id))) == [1]
        writer.add(User(id=2, email="b"))
        await writer.commit()
        assert list(await reader.scalars(select(User.id).order_by(User.id))) == [1, 2]
        await reader.rollback()
        assert list(await reader.scalars(select(User.id).order_by(User.id))) == [1, 2]
        writer.add(User(id=3, email="c"))
        await writer.flush()
        reader.add(User(id=4, email="d"))
        await reader.commit()
        with pytest.raises(UnsupportedOperationError, match="another one has written since"):
            await writer.rollback()


async def test_many_sessions_at_the_same_time(seeded: Seeded) -> None:
    """Tasks of a test share the connection, one statement after the other."""
    fed, _ = seeded

    async def add(number: int) -> None:
        async with fed.session() as session:
            session.add_all([User(id=number, email="x"), Order(id=number, user_id=number)])
            await session.commit()

    async with asyncio.TaskGroup() as group:
        for number in range(10, 30):
            group.create_task(add(number))
    assert (await contents(fed))["Order"] == [1, *range(10, 30)]


async def test_a_select_over_several_services(seeded: Seeded) -> None:
    """It sees what the test has committed, which is in no database yet; two phases are one."""
    fed, _ = seeded
    async with fed.session(twophase=True) as session:
        session.add_all(everything(2))
        await session.commit()
        found = await session.execute(
            select(User.email, Payment.amount)
            .join(Order, Order.user_id == User.id)
            .join(Payment, Payment.order_id == Order.id)
            .order_by(User.id)
        )
        assert [(email, int(amount)) for email, amount in found] == [("1@example.com", 1), ("2@example.com", 2)]


@pytest.mark.clickhouse
async def test_a_service_without_rollback(seeded: Seeded) -> None:
    """It refuses to be written to, and is read as ever."""
    fed, _ = seeded
    async with fed.session() as session:
        assert list(await session.scalars(select(Event.id))) == []
        session.add(Event(id=1, user_id=1, kind="x"))
        with pytest.raises(UnsupportedOperationError, match=r"'analytics'.*could not be taken back"):
            await session.commit()


async def test_what_ends_the_transaction_is_refused(seeded: Seeded) -> None:
    """MySQL's tables, and isolation levels."""
    fed, _ = seeded
    async with fed.session() as session:
        with pytest.raises(UnsupportedOperationError, match="commits when a table is made"):
            await session.execute(text("create table made (id int)"), bind_arguments={"service": "payments"})
        await session.rollback()
        await session.execute(text("create table made (id int)"), bind_arguments={"service": "users"})
        await session.commit()
        with pytest.raises(UnsupportedOperationError, match="no isolation level"):
            await session.connection(
                bind_arguments={"service": "users"}, execution_options={"isolation_level": "SERIALIZABLE"}
            )


def test_without_async(urls: dict[str, str]) -> None:
    """Sessions of threads, over all kinds of services."""
    fed = Federation(urls)

    async def make() -> None:
        async with fed:
            await fed.create_all()

    def seen() -> tuple[list[int], list[str]]:
        with fed.sync_session() as session:
            return list(session.scalars(select(User.id).order_by(User.id))), [
                one.sku for one in session.find(Product).to_list()
            ]

    asyncio.run(make())
    with fed:
        with fed.sync_session() as session:
            session.add_all(everything(1))
            session.commit()
        with sync_rolled_back(fed):
            with fed.sync_session() as session:
                session.add_all(everything(2))
                session.commit()
                session.add(User(id=3, email="c"))
                session.flush()
                session.rollback()
            assert seen() == ([1, 2], ["sku 1", "sku 2"])
        assert seen() == ([1], ["sku 1"])


async def test_sqlite(tmp_path: Path) -> None:
    """It begins its transactions by itself."""
    fed = Federation({"users": f"sqlite+aiosqlite:///{tmp_path / 'users.db'}"})
    async with fed:
        await fed.create_all()
        async with rolled_back(fed), fed.session() as session:
            session.add(User(id=1, email="a"))
            await session.commit()
            session.add(User(id=2, email="b"))
            await session.flush()
            await session.rollback()
            assert list(await session.scalars(select(User.id))) == [1]
        async with fed.session() as session:
            assert list(await session.scalars(select(User.id))) == []


async def test_a_federation_that_is_not_open(tmp_path: Path) -> None:
    """The error says how it is opened."""
    fed = Federation({"users": f"sqlite+aiosqlite:///{tmp_path / 'users.db'}"})
    with pytest.raises(FedormError, match="async with federation, rolled_back"):
        await rolled_back(fed).__aenter__()
    with pytest.raises(FedormError, match="with federation, sync_rolled_back"):
        sync_rolled_back(fed).__enter__()


CONFTEST = """
import pytest
from sqlalchemy.orm import Mapped, mapped_column
from fedorm import FederatedBase, Federation

class PlainNote(FederatedBase):
    __service__, __tablename__ = "plain_notes", "plain_notes"
    id: Mapped[int] = mapped_column(primary_key=True)

@pytest.fixture(scope="session")
def fedorm_federation(tmp_path_factory):
    return Federation({"plain_notes": f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('db') / 'notes.db'}"})
"""
TESTS = """
import pytest
from sqlalchemy import func, select
from conftest import PlainNote

@pytest.mark.parametrize("turn", [1, 2])
@pytest.mark.asyncio
async def test_async(federation, turn):
    async with federation.session() as session:
        session.add(PlainNote(id=1))
        await session.commit()
        assert await session.scalar(select(func.count()).select_from(PlainNote)) == 1

@pytest.mark.parametrize("turn", [1, 2])
def test_sync(sync_federation, turn):
    with sync_federation.sync_session() as session:
        session.add(PlainNote(id=1))
        session.commit()
        assert session.scalar(select(func.count()).select_from(PlainNote)) == 1
"""


@pytest.mark.parametrize(
    ("conftest", "shown"),
    [
        (CONFTEST, "4 passed"),
        (CONFTEST.replace("def fedorm_", "def other_"), "no fixture says which federation to test"),
    ],
)
@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_the_fixtures_in_a_users_project(tmp_path: Path, conftest: str, shown: str, mode: str) -> None:
    """Each test finds its services as the first one did, in both modes of pytest-asyncio."""
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_notes.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nasyncio_mode = {mode}\nfedorm_leak_check = true\n")
    arguments = ["-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert shown in done.stdout, done.stdout
