"""The suite's models for stores of documents; the same fields as those for tables."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from pymongo import IndexModel

from fedorm import Federated, FederatedDocument, federated_relationship
from fedorm.testing.compliance.rows import SERVICE
from fedorm.testing.compliance.values import Color


class SampleDocument(FederatedDocument):
    """One field a type."""

    __service__ = SERVICE
    id: int  # type: ignore[assignment] # Beanie's own way to give ids of another type
    integer: int | None = None
    big: int | None = None
    flag: bool | None = None
    real: float | None = None
    amount: Decimal | None = None
    price: Decimal | None = None
    moment: datetime.datetime | None = None
    wall_clock: datetime.datetime | None = None
    day: datetime.date | None = None
    token: UUID | None = None
    text: str | None = None
    data: bytes | None = None
    document: Any = None
    color: Color | None = None

    class Settings:
        """Beanie's."""

        name = "compliance_samples"


class TargetDocument(FederatedDocument):
    """What links point to, by keys of several types."""

    __service__ = SERVICE
    id: int  # type: ignore[assignment] # Beanie's own way to give ids of another type
    code: str | None = None
    token: UUID | None = None
    day: datetime.date | None = None
    owner: int | None = None
    number: int | None = None

    class Settings:
        """Beanie's."""

        name = "compliance_targets"


class LinkDocument(FederatedDocument):
    """What points; the suite keeps it in memory."""

    __service__ = SERVICE
    id: int  # type: ignore[assignment] # Beanie's own way to give ids of another type
    target_id: int | None = None
    code: str | None = None
    token: UUID | None = None
    day: datetime.date | None = None
    owner: int | None = None
    number: int | None = None
    target: Federated[TargetDocument] = federated_relationship(local_key="target_id")
    by_code: Federated[TargetDocument] = federated_relationship(local_key="code", remote_key="code")
    by_token: Federated[TargetDocument] = federated_relationship(local_key="token", remote_key="token")
    by_day: Federated[TargetDocument] = federated_relationship(local_key="day", remote_key="day")
    by_pair: Federated[TargetDocument] = federated_relationship(
        local_key=("owner", "number"), remote_key=("owner", "number")
    )
    of_owner: Federated[list[TargetDocument]] = federated_relationship(
        local_key="owner", remote_key="owner", order_by="-id"
    )

    class Settings:
        """Beanie's."""

        name = "compliance_links"


class KeyedDocument(FederatedDocument):
    """Several fields that can be a key."""

    __service__ = SERVICE
    code: str
    number: int
    token: UUID
    day: datetime.date
    moment: datetime.datetime
    note: str
    size: int | None = None

    class Settings:
        """Beanie's."""

        name = "compliance_keyed"
        indexes = [IndexModel([("code", 1), ("number", 1)], unique=True), IndexModel("number", unique=True)]
