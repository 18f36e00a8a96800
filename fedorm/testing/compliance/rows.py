"""The suite's models for stores of tables."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, BigInteger, DateTime, Enum, LargeBinary, Numeric, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import Federated, FederatedBase, federated_relationship
from fedorm.testing.compliance.values import Color

SERVICE = "compliance"


class SampleRow(FederatedBase):
    """One column a type."""

    __service__ = SERVICE
    __tablename__ = "compliance_samples"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    integer: Mapped[int | None]
    big: Mapped[int | None] = mapped_column(BigInteger)
    flag: Mapped[bool | None]
    real: Mapped[float | None]
    amount: Mapped[Decimal | None] = mapped_column(Numeric(38, 18))
    price: Mapped[Decimal | None]
    moment: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))
    wall_clock: Mapped[datetime.datetime | None]
    day: Mapped[datetime.date | None]
    token: Mapped[UUID | None]
    text: Mapped[str | None] = mapped_column(Text)
    data: Mapped[bytes | None] = mapped_column(LargeBinary)
    document: Mapped[Any | None] = mapped_column(JSON)
    color: Mapped[Color | None] = mapped_column(Enum(Color, name="compliance_color"))


class TargetRow(FederatedBase):
    """What links point to, by keys of several types."""

    __service__ = SERVICE
    __tablename__ = "compliance_targets"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    code: Mapped[str | None] = mapped_column(String(200))
    token: Mapped[UUID | None]
    day: Mapped[datetime.date | None]
    owner: Mapped[int | None]
    number: Mapped[int | None]


class LinkRow(FederatedBase):
    """What points; the suite keeps it in memory."""

    __service__ = SERVICE
    __tablename__ = "compliance_links"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    target_id: Mapped[int | None] = mapped_column(BigInteger)
    code: Mapped[str | None] = mapped_column(String(200))
    token: Mapped[UUID | None]
    day: Mapped[datetime.date | None]
    owner: Mapped[int | None]
    number: Mapped[int | None]
    target: Federated[TargetRow] = federated_relationship(local_key="target_id")
    by_code: Federated[TargetRow] = federated_relationship(local_key="code", remote_key="code")
    by_token: Federated[TargetRow] = federated_relationship(local_key="token", remote_key="token")
    by_day: Federated[TargetRow] = federated_relationship(local_key="day", remote_key="day")
    by_pair: Federated[TargetRow] = federated_relationship(
        local_key=("owner", "number"), remote_key=("owner", "number")
    )
    of_owner: Federated[list[TargetRow]] = federated_relationship(local_key="owner", remote_key="owner", order_by="-id")
