"""Values are after a broker what they were before."""

from __future__ import annotations

import datetime
import json
import math
import uuid
from decimal import Decimal
from typing import Any

from beanie import PydanticObjectId
from pydantic import BaseModel
from sqlalchemy import JSON, DateTime, Numeric
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, FederatedDocument, Federation
from fedorm.sync.brokers.encoding import RowEncoding
from fedorm.sync.shapes import side_of
from fedorm.testing.plugin import FreshDatabase


class Odd(FederatedBase):
    __service__ = "odd_values"
    __tablename__ = "odd_values"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    amount: Mapped[Decimal | None] = mapped_column(Numeric(30, 10))
    ratio: Mapped[float | None]
    at: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))
    day: Mapped[datetime.date | None]
    wait: Mapped[datetime.timedelta | None]
    raw: Mapped[bytes | None]
    extra: Mapped[Any | None] = mapped_column(JSON)


class Leaf(BaseModel):
    at: datetime.datetime
    cents: Decimal


class OddDocument(FederatedDocument):
    __service__ = "odd_documents"
    leaves: list[Leaf] = []
    anything: Any = None
    size: float | None = None

    class Settings:
        name = "odd"


async def test_values_of_columns_stay_what_they_are(fresh_database: FreshDatabase) -> None:
    """What is read from a message is what a model holds."""
    async with Federation({"odd_values": fresh_database("postgresql")}) as fed:
        encoding = RowEncoding(side_of(Odd, {}, rule="r").whole, fed.stores["odd_values"])
        row = {
            "id": uuid.UUID(int=7),
            "amount": Decimal("1.2500000000"),
            "ratio": math.inf,
            "at": datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC),
            "day": datetime.date(2026, 1, 2),
            "wait": datetime.timedelta(days=-3, microseconds=1),
            "raw": b"\x00\xff",
            "extra": {"ü": [1, None, 2.5]},
        }
        line = encoding.row(row)
        assert line is not None
        assert encoding.values(list(encoding.shape.fields), json.loads(line)) == row
        empty = dict.fromkeys(row) | {"id": row["id"]}
        assert encoding.values(list(encoding.shape.fields), json.loads(encoding.row(empty) or b"")) == empty


async def test_values_of_documents_stay_what_they_are(fresh_database: FreshDatabase) -> None:
    """Also where the class does not say what they are."""
    async with Federation({"odd_documents": fresh_database("mongodb")}) as fed:
        encoding = RowEncoding(side_of(OddDocument, {}, rule="r").whole, fed.stores["odd_documents"])
        moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=datetime.UTC)
        row = {
            "id": PydanticObjectId("0123456789abcdef01234567"),
            "leaves": [Leaf(at=moment, cents=Decimal("1.50"))],
            "anything": {"at": moment, "$is": ["x"], "raw": b"\x00", "of": [Decimal("2.0"), uuid.UUID(int=3)]},
            "size": 2.5,
        }
        line = encoding.row(row)
        assert line is not None
        assert encoding.values(list(encoding.shape.fields), json.loads(line)) == row
