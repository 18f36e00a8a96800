"""Documents with fields within fields, arrays, classes and links, and rows beside them."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest
from beanie import Link, PydanticObjectId
from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import AsyncFederatedSession, FederatedBase, FederatedDocument, Federation

UTC = datetime.UTC
KEY = UUID("0b5c8e0e-6d0f-4a41-9d3c-2f6f0c1f2a3b")
MAKER = PydanticObjectId("6b062ff74376d7e4463f5a70")


class Grade(StrEnum):
    NEW = "new"
    USED = "used"


class Geo(BaseModel):
    lat: float
    height: int | None = None


class Origin(BaseModel):
    city: str
    name: str | None = None
    geo: Geo | None = None
    since: datetime.date | None = Field(default=None, alias="opened")


class Line(BaseModel):
    sku: str
    amount: Decimal


class Article(FederatedDocument):
    __service__ = "shelf"
    sku: str
    price: float
    cost: Decimal | None = None
    grade: Grade | None = None
    batch: UUID | None = None
    maker: PydanticObjectId | None = None
    seen: datetime.datetime | None = None
    tags: list[str] = []
    amounts: list[Decimal] = []
    visits: list[datetime.datetime] = []
    makers: list[PydanticObjectId] = []
    lines: list[Line] = []
    origin: Origin | None = None
    extra: dict[str, Any] = {}

    class Settings:
        name = "articles"
        is_root = True


class Shop(FederatedDocument):
    __service__ = "shelf"
    id: int
    name: str
    best: Link[Article] | None = None
    others: list[Link[Article]] = []
    near: Link[Shop] | None = None

    class Settings:
        name = "shops"


class Novel(Article):
    pages: int


class Comic(Novel):
    artist: str


class Sale(FederatedBase):
    __service__ = "till"
    __tablename__ = "sales"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str]
    city: Mapped[str]


@pytest.fixture
async def db(fresh_database: Callable[[str], str]) -> AsyncIterator[AsyncFederatedSession]:
    async with Federation({"shelf": fresh_database("mongodb"), "till": fresh_database("postgresql")}) as fed:
        await fed.create_all()
        async with fed.session() as session:
            session.add_all(
                [
                    Article(
                        sku="a", price=1.5, cost=Decimal("1.10"), grade=Grade.NEW, batch=KEY, maker=MAKER,
                        tags=["x", "y"],
                        amounts=[Decimal("1.10"), Decimal(2)], visits=[datetime.datetime(2024, 5, 1, 12, tzinfo=UTC)],
                        makers=[MAKER], seen=datetime.datetime(2024, 5, 1, tzinfo=UTC),
                        origin=Origin(city="Rome", geo=Geo(lat=41.9), opened=datetime.date(1999, 12, 31)),
                        extra={"depth": {"cm": 3}, "a.b": "dotted"},
                    ),
                    Article(
                        sku="b", price=2.5,
                        lines=[Line(sku="q", amount=Decimal("0.30")), Line(sku="r", amount=Decimal(7))],
                        origin=Origin(city="Oslo", name="Nord", geo=Geo(lat=59.9, height=12)),
                    ),
                    Novel(sku="c", price=3.5, tags=["x"], pages=10),
                    Comic(sku="d", price=4.5, pages=11, artist="ink", origin=Origin(city="Rome")),
                ]
            )  # fmt: skip
            session.add_all(
                [Sale(id=1, sku="a", city="Rome"), Sale(id=2, sku="d", city="Rome"), Sale(id=3, sku="z", city="Oslo")]
            )
            await session.commit()
            # As some other program may write it: without most of the fields.
            await (
                fed.stores["shelf"]
                .collection(Article, sync=False)
                .insert_one(  # type: ignore[attr-defined]
                    {"sku": "e", "price": 9, "_class_id": "Article"}
                )
            )
        async with fed.session() as session:
            yield session


async def rows(session: AsyncFederatedSession, statement: Any, *parameters: Any) -> list[tuple[Any, ...]]:
    if isinstance(statement, str):
        statement = text(statement)
    return sorted((tuple(row) for row in await session.execute(statement, *parameters)), key=repr)
