"""A rule through a broker, and what its source and its target have."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from sqlalchemy import BigInteger, String, text
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, Federation
from fedorm.sync import CDC, SyncRule
from fedorm.testing.plugin import FreshDatabase
from tests.sync.broker_child import LEASE
from tests.sync.watching import rows_of, until_equal


class Wave(FederatedBase):
    __service__ = "wave_shore"
    __tablename__ = "waves"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(100))
    number: Mapped[int] = mapped_column(BigInteger)


class WaveCopy(FederatedBase):
    __service__ = "wave_beach"
    __tablename__ = "wave_copies"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(5))
    number: Mapped[int] = mapped_column(BigInteger)


@pytest.fixture
def through() -> str:
    """A stream of a test's own."""
    return f"SYNC_{secrets.token_hex(5)}"


@asynccontextmanager
async def waves(fresh_database: FreshDatabase, through: str, **options: Any) -> AsyncIterator[Federation]:
    urls = {"wave_shore": fresh_database("postgresql"), "wave_beach": fresh_database("postgresql")}
    async with Federation(urls) as fed:
        fed.sync.lease = LEASE
        strategy = CDC(through=through, partitions=4)
        fed.sync.add(SyncRule(source=Wave, to=WaveCopy, strategy=strategy, name="waves", **options))
        await fed.create_all()
        yield fed


@asynccontextmanager
async def during(*work: Any) -> AsyncIterator[None]:
    """Carry something out as long as the block runs."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield
        for task in tasks:
            assert not task.done(), task.exception()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def equal(fed: Federation) -> dict[Any, dict[str, Any]]:
    return await until_equal(lambda: rows_of(fed, Wave), lambda: rows_of(fed, WaveCopy))


def some(ids: Any, **values: Any) -> list[dict[str, Any]]:
    return [{"id": id, "name": "wave", "number": 0, **values} for id in ids]


async def write(fed: Federation, statement: Any, *rows: Any) -> None:
    async with fed.session() as session:
        await session.execute(statement, *rows)
        await session.commit()


async def execute(fed: Federation, service: str, *statements: str) -> Any:
    """Execute SQL in a service, and return the last one's rows."""
    async with fed.session() as session:
        for statement in statements:
            result = await session.execute(text(statement), bind_arguments={"service": service})
        rows = result.all() if result.returns_rows else None
        await session.commit()
    return rows


def urls_of(fed: Federation) -> dict[str, str]:
    stores = cast("dict[str, Any]", fed.stores)
    return {name: store.url.render_as_string(hide_password=False) for name, store in stores.items()}


@asynccontextmanager
async def another(fed: Federation) -> AsyncIterator[Federation]:
    """A federation of the same services and rules, as another process has."""
    async with Federation(urls_of(fed)) as other:
        other.sync.lease = LEASE
        other.sync.add(fed.sync.rule("waves").declared)
        yield other


async def holds(fed: Federation, wanted: dict[Any, Any]) -> bool:
    return await rows_of(fed, WaveCopy) == wanted
