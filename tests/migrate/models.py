"""Models of three services of tables, one of documents and one of columns, whose databases are made by migrations."""

from __future__ import annotations

import datetime
import enum
from decimal import Decimal
from typing import Annotated

from beanie import Indexed
from sqlalchemy import BigInteger, DateTime, ForeignKey, Numeric, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fedorm import Federated, FederatedBase, FederatedDocument, federated_relationship
from fedorm.outbox import OutboxRule


class Rank(enum.Enum):
    LOW = "low"
    HIGH = "high"


class MigratedUser(FederatedBase):
    __service__ = "mig_users"
    __tablename__ = "mig_people"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(100), unique=True)
    rank: Mapped[Rank]
    born: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))
    sales: Federated[list[MigratedSale]] = federated_relationship(remote_key="user_id", order_by="id")
    notes: Mapped[list[MigratedNote]] = relationship()
    __outbox__ = OutboxRule(on=("insert", "delete"), columns=["id", "rank"], by="triggers")


class MigratedNote(FederatedBase):
    __service__ = "mig_users"
    __tablename__ = "mig_notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("mig_people.id"), index=True)
    text: Mapped[str] = mapped_column(Text)


class MigratedSale(FederatedBase):
    __service__ = "mig_sales"
    __tablename__ = "mig_sales"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(index=True)
    total: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    user: Federated[MigratedUser] = federated_relationship(local_key="user_id")


class MigratedPart(FederatedBase):
    __service__ = "mig_parts"
    __tablename__ = "mig_parts"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), server_default="none")


class MigratedGood(FederatedDocument):
    __service__ = "mig_goods"
    sku: Annotated[str, Indexed(unique=True)]
    price: float
    user_id: int

    class Settings:
        name = "mig_goods"
        indexes = ["user_id", [("price", -1), ("sku", 1)]]
        validator = {"$jsonSchema": {"bsonType": "object", "required": ["sku"]}}


class MigratedFact(FederatedBase):
    __service__ = "mig_facts"
    __tablename__ = "mig_facts"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    sku: Mapped[str] = mapped_column(server_default="none")
    total: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    at: Mapped[datetime.datetime] = mapped_column(DateTime(timezone=True))
