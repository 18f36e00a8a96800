"""A kiosk's models in a module of their own, as a user's are: its ledger gets what is sold, if it is not too dear."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase
from fedorm.sync import Batch, SyncRule

print("kiosk is imported")


def entered(row: Any) -> Any:
    if row["cents"] > 1000:
        raise ValueError(f"sale {row['id']} is too dear")
    return row


class KioskEntry(FederatedBase):
    __service__, __tablename__ = "kiosk_ledger", "kiosk_entries"
    id: Mapped[int] = mapped_column(primary_key=True)
    cents: Mapped[int]


class KioskSale(FederatedBase):
    __service__, __tablename__ = "kiosk_till", "kiosk_sales"
    __sync__ = [SyncRule(to=KioskEntry, strategy=Batch(every=60), transform=entered, name="kiosk_sales")]
    id: Mapped[int] = mapped_column(primary_key=True)
    cents: Mapped[int]


SETTINGS = """
models = ["tests.cli.kiosk"]
[services.kiosk_till]
url = "sqlite+aiosqlite:///till.db"
[services.kiosk_ledger]
url = "sqlite+aiosqlite:///ledger.db"
"""
