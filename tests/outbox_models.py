"""Models whose changes are events, services of them, and what is in their outboxes."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Numeric, String, select
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, FederatedDocument, Federation
from fedorm.outbox.tables import fedorm_outbox

KINDS = ("postgresql", "mysql", "sqlite")


class Shade(enum.Enum):
    DARK = "d"
    LIGHT = "l"


class Lamp(FederatedBase):
    __service__ = "outbox_lamps"
    __tablename__ = "outbox_lamps"
    __outbox__ = ["insert", "update", "delete"]
    id: Mapped[int] = mapped_column(primary_key=True)
    watts: Mapped[int]
    price: Mapped[Decimal] = mapped_column(Numeric(8, 2), default=Decimal(1))
    made: Mapped[str] = mapped_column("maker", String(20), server_default="somebody")
    note: Mapped[str | None] = mapped_column(String(50))


class Quiet(FederatedBase):
    __service__ = "outbox_quiet"
    __tablename__ = "outbox_quiet"
    id: Mapped[int] = mapped_column(primary_key=True)


class Shelf(FederatedDocument):
    __service__ = "outbox_shelves"
    __outbox__ = ["insert", "update", "delete"]
    id: int
    label: str
    price: Decimal = Decimal(1)
    things: list[str] = []

    class Settings:
        name = "outbox_shelves"


Told = tuple[str, str, Any]


def rows(service: str) -> Any:
    table = fedorm_outbox(service)
    return select(table.c.type, table.c.key, table.c.data).order_by(table.c.position)


async def told(fed: Federation, service: str = "outbox_lamps") -> list[Told]:
    """The events in a service's outbox, in order, which are forgotten with that."""
    async with fed.session() as session:
        found = [tuple(row) for row in await session.execute(rows(service))]
        await session.execute(fedorm_outbox(service).delete())
        await session.commit()
    return found


async def told_documents(fed: Federation) -> list[Told]:
    """The same of the documents' service."""
    database = fed.stores["outbox_shelves"].own_database()  # type: ignore[attr-defined]
    found = await database["fedorm_outbox"].find().sort("position").to_list(None)
    await database["fedorm_outbox"].delete_many({})
    return [(one["type"], one["key"], one["data"]) for one in found]


def url_of(kind: str, fresh_database: Callable[[str], str], tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'lamps.db'}" if kind == "sqlite" else fresh_database(kind)


@pytest.fixture(params=KINDS)
async def lamps(
    request: pytest.FixtureRequest, fresh_database: Callable[[str], str], tmp_path: Path, no_stray_tasks: None
) -> AsyncIterator[Federation]:
    """A service of each kind of database."""
    async with Federation({"outbox_lamps": url_of(request.param, fresh_database, tmp_path)}) as fed:
        await fed.create_all()
        yield fed


@pytest.fixture
async def two(fresh_database: Callable[[str], str], no_stray_tasks: None) -> AsyncIterator[Federation]:
    """PostgreSQL and MongoDB."""
    urls = {"outbox_lamps": fresh_database("postgresql"), "outbox_shelves": fresh_database("mongodb")}
    async with Federation(urls) as fed:
        await fed.create_all()
        yield fed


LAMP = {"id": 1, "watts": 5, "price": "1.00", "maker": "somebody", "note": None}
