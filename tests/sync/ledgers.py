"""Models of one kind of row in every kind of store: what histories are written to, and what they are copied to."""

from __future__ import annotations

import datetime
from decimal import Decimal
from importlib.util import find_spec
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Numeric, String
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, FederatedDocument
from fedorm.sync import Replacing

HAS_CLICKHOUSE = find_spec("clickhouse_sqlalchemy") is not None
MOMENT = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


class Entry:
    """The columns of a row; ``extra`` is not everywhere."""

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    number: Mapped[int | None] = mapped_column(BigInteger)
    name: Mapped[str | None] = mapped_column(String(100))
    amount: Mapped[Decimal | None] = mapped_column(Numeric(12, 2))
    flag: Mapped[bool | None]
    moment: Mapped[datetime.datetime | None] = mapped_column(MOMENT)
    touched: Mapped[datetime.datetime] = mapped_column(MOMENT)


class EntryWithExtra(Entry):
    extra: Mapped[Any | None] = mapped_column(JSON)


class LedgerRow(EntryWithExtra, FederatedBase):
    __service__ = "ledger_rows"
    __tablename__ = "ledger"


class LedgerEventRow(EntryWithExtra, FederatedBase):
    """Makes events as soon as a rule of a test asks for them: those of ``LedgerRow`` are not slowed down by them."""

    __service__ = "ledger_event_rows"
    __tablename__ = "ledger"


class LedgerLog(Replacing, Entry, FederatedBase):
    __service__ = "ledger_log"
    __tablename__ = "ledger"


class LedgerMirror(EntryWithExtra, FederatedBase):
    __service__ = "ledger_copies"
    __tablename__ = "ledger_copies"


class LedgerRecord(Replacing, Entry, FederatedBase):
    __service__ = "ledger_records"
    __tablename__ = "ledger_records"


class DocumentOfEntry(FederatedDocument):
    __abstract__ = True
    id: int  # type: ignore[assignment] # Beanie's own way to give ids of another type
    number: int | None = None
    name: str | None = None
    amount: Decimal | None = None
    flag: bool | None = None
    moment: datetime.datetime | None = None
    touched: datetime.datetime
    extra: Any | None = None


class LedgerDocument(DocumentOfEntry):
    __service__ = "ledger_documents"

    class Settings:
        name = "ledger"


class LedgerEventDocument(DocumentOfEntry):
    __service__ = "ledger_event_documents"

    class Settings:
        name = "ledger"


class LedgerCopyDocument(DocumentOfEntry):
    __service__ = "ledger_copy_documents"

    class Settings:
        name = "ledger_copies"


TABLES = ("postgresql", "mysql", "sqlite")
FIELDS = ("id", "number", "name", "amount", "flag", "moment", "touched", "extra")


def source_model(kind: str, *, events: bool) -> type[Any]:
    if kind == "mongodb":
        return LedgerEventDocument if events else LedgerDocument
    if kind == "clickhouse":
        return LedgerLog
    return LedgerEventRow if events else LedgerRow


def target_model(kind: str) -> type[Any]:
    return {"mongodb": LedgerCopyDocument, "clickhouse": LedgerRecord}.get(kind, LedgerMirror)
