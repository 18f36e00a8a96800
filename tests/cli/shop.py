"""A shop's models in a file of its own, as a user's are: people in PostgreSQL, sales in MySQL, stock in MongoDB."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, BigInteger, DateTime, LargeBinary, Numeric, String
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, FederatedDocument


class Person(FederatedBase):
    __service__, __tablename__ = "people", "people"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(100))


class Sample(FederatedBase):
    """A column of each kind."""

    __service__, __tablename__ = "people", "samples"
    id: Mapped[int] = mapped_column(primary_key=True)
    big: Mapped[int | None] = mapped_column(BigInteger)
    amount: Mapped[Decimal | None] = mapped_column(Numeric(30, 10))
    ratio: Mapped[float | None]
    flag: Mapped[bool | None]
    name: Mapped[str | None]
    day: Mapped[datetime.date | None]
    at: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))
    local: Mapped[datetime.datetime | None]
    moment: Mapped[datetime.time | None]
    span: Mapped[datetime.timedelta | None]
    token: Mapped[UUID | None]
    raw: Mapped[bytes | None] = mapped_column(LargeBinary)
    data: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))


class Sale(FederatedBase):
    __service__, __tablename__ = "sales", "sales"
    id: Mapped[int] = mapped_column(primary_key=True)
    person_id: Mapped[int]
    sku: Mapped[str] = mapped_column(String(20))
    total: Mapped[Decimal] = mapped_column(Numeric(12, 2))


class Article(FederatedDocument):
    __service__ = "stock"
    sku: str
    price: float

    class Settings:
        name = "articles"
