"""Models whose events the session writes, and the same ones whose events triggers write."""

from __future__ import annotations

import datetime
import enum
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Enum,
    Float,
    ForeignKey,
    Interval,
    LargeBinary,
    Numeric,
    String,
    Text,
    Time,
    Uuid,
)
from sqlalchemy import types as sqltypes
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase
from fedorm.outbox import OutboxRule

SERVICE = "trigger_shop"
UTC = datetime.UTC
ODD = "a\"\\'\n\t\x01\x7f{}é😀\u2028 :x %s %% /*"


class Color(enum.Enum):
    RED = "r"
    GREEN = "g"


class Cents(sqltypes.TypeDecorator[Decimal]):
    """An amount, held as an integer."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Any) -> int | None:
        return None if value is None else int(value * 100)

    def process_result_value(self, value: int | None, dialect: Any) -> Decimal | None:
        return None if value is None else Decimal(value) / 100


class Everything:
    """Columns of all generic types, one with a name that needs quotes everywhere."""

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    label: Mapped[str | None] = mapped_column('the "lab\'el"\\ é', String(200))
    long: Mapped[Any | None] = mapped_column(Text)
    price: Mapped[Any | None] = mapped_column(Numeric(10, 2))
    exact: Mapped[Any | None] = mapped_column(Numeric)
    rounded: Mapped[Any | None] = mapped_column(Numeric(8, 3, asdecimal=False))
    ratio: Mapped[Any | None] = mapped_column(Float)
    big: Mapped[Any | None] = mapped_column(BigInteger)
    ok: Mapped[Any | None] = mapped_column(Boolean)
    at: Mapped[Any | None] = mapped_column(DateTime(timezone=True))
    local: Mapped[Any | None] = mapped_column(DateTime)
    day: Mapped[Any | None] = mapped_column(Date)
    clock: Mapped[Any | None] = mapped_column(Time)
    took: Mapped[Any | None] = mapped_column(Interval)
    raw: Mapped[Any | None] = mapped_column(LargeBinary)
    uid: Mapped[Any | None] = mapped_column(Uuid)
    color: Mapped[Any | None] = mapped_column(Enum(Color, native_enum=False))
    held: Mapped[Any | None] = mapped_column(
        Enum(Color, native_enum=False, values_callable=lambda kind: [one.value for one in kind])
    )
    word: Mapped[Any | None] = mapped_column(Enum("x", "y", native_enum=False))
    document: Mapped[Any | None] = mapped_column(JSON)
    cents: Mapped[Any | None] = mapped_column(Cents)


class BySession(Everything, FederatedBase):
    __service__, __tablename__ = SERVICE, "by_session"
    __outbox__ = OutboxRule(type="thing.{event}")


class ByTriggers(Everything, FederatedBase):
    __service__, __tablename__ = SERVICE, "by_triggers"
    __outbox__ = OutboxRule(type="thing.{event}", by="triggers")


class LineBySession(FederatedBase):
    __service__, __tablename__ = SERVICE, "line_by_session"
    __outbox__ = [
        OutboxRule(type="line.{event}"),
        OutboxRule(on=["update"], type="sku.{event}", key="sku", columns=["sku"]),
    ]
    order: Mapped[str] = mapped_column(String(40), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sku: Mapped[str | None] = mapped_column(String(20))
    amount: Mapped[int]


class LineByTriggers(FederatedBase):
    __service__, __tablename__ = SERVICE, "line_by_triggers"
    __outbox__ = [
        OutboxRule(type="line.{event}", by="triggers"),
        OutboxRule(on=["update"], type="sku.{event}", key="sku", columns=["sku"], by="triggers"),
    ]
    order: Mapped[str] = mapped_column(String(40), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sku: Mapped[str | None] = mapped_column(String(20))
    amount: Mapped[int]


class TwiceTold(FederatedBase):
    __service__, __tablename__ = SERVICE, "twice_told"
    __outbox__ = [OutboxRule(type="session.{event}"), OutboxRule(type="triggers.{event}", by="triggers")]
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Part(FederatedBase):
    __service__, __tablename__ = SERVICE, "parts"
    __outbox__ = OutboxRule(by="triggers")
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    whole_id: Mapped[int | None] = mapped_column(ForeignKey("parts.id", ondelete="CASCADE"))


def full(**other: Any) -> dict[str, Any]:
    """Values for every column."""
    return {
        "label": ODD,
        "long": "x" * 5000,
        "price": Decimal("12.5"),
        "exact": Decimal("1.25"),
        "rounded": 1.5,
        "ratio": 0.1 + 0.2,
        "big": -(2**60),
        "ok": True,
        "at": datetime.datetime(2024, 1, 2, 3, 4, 5, 600, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
        "local": datetime.datetime(2024, 1, 2, 3, 4, 5),
        "day": datetime.date(2024, 2, 29),
        "clock": datetime.time(1, 2, 3, 40),
        "took": datetime.timedelta(days=1, seconds=2, milliseconds=500),
        "raw": bytes(range(256)),
        "uid": UUID("0a1b2c3d-0000-4000-8000-00000000000f"),
        "color": Color.RED,
        "held": Color.GREEN,
        "word": "y",
        "document": {"a": [1, 2.5, None, 'é"'], "b": {"c": True}},
        "cents": Decimal("12.34"),
    } | other


OTHER = {
    "label": "B",
    "long": None,
    "price": Decimal("-0.07"),
    "exact": Decimal(100),
    "rounded": None,
    "ratio": -1.371736728543358e-223,
    "big": 0,
    "ok": False,
    "at": datetime.datetime(2024, 1, 2, tzinfo=UTC),
    "local": datetime.datetime(1999, 12, 31, 23, 59, 59, 999999),
    "day": datetime.date(1, 1, 2),
    "clock": datetime.time(0, 0),
    "took": datetime.timedelta(0),
    "raw": b"",
    "uid": UUID(int=0),
    "color": Color.GREEN,
    "held": None,
    "word": "x",
    "document": [],
    "cents": Decimal("0.01"),
}
