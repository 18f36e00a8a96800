"""Rules in a module of their own, as a user's are: an archive keeps an office's letters, stamps and visits."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase
from fedorm.sync import CDC, Batch, EventDriven, SyncRule


class ArchivedLetter(FederatedBase):
    __service__, __tablename__ = "sync_cli_archive", "archived_letters"
    letter_id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(40))


class ListedStamp(FederatedBase):
    __service__, __tablename__ = "sync_cli_archive", "listed_stamps"
    id: Mapped[int] = mapped_column(primary_key=True)
    worth: Mapped[int]


class LoggedVisit(FederatedBase):
    __service__, __tablename__ = "sync_cli_archive", "logged_visits"
    id: Mapped[int] = mapped_column(primary_key=True)
    by: Mapped[str] = mapped_column(String(40))


async def archived(row: Any) -> Any:
    """What is kept of a letter; one that waits does so for a file in the working directory."""
    if row["text"] == "wait":
        print("waiting", row["letter_id"], flush=True)
        while not Path("go").exists():
            await asyncio.sleep(0.02)
    if row["text"] == "never":
        raise ValueError(f"letter {row['letter_id']} is not for the archive")
    return row


class SentLetter(FederatedBase):
    __service__, __tablename__ = "sync_cli_office", "sent_letters"
    __sync__ = [
        SyncRule(
            to=ArchivedLetter, strategy=Batch(every=0.1), fields={"id": "letter_id"}, transform=archived, name="letters"
        )
    ]
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(40))


class SoldStamp(FederatedBase):
    __service__, __tablename__ = "sync_cli_office", "sold_stamps"
    __sync__ = [SyncRule(to=ListedStamp, strategy=CDC(), name="stamps")]
    id: Mapped[int] = mapped_column(primary_key=True)
    worth: Mapped[int]


class PaidVisit(FederatedBase):
    __service__, __tablename__ = "sync_cli_office", "paid_visits"
    __sync__ = [SyncRule(to=LoggedVisit, strategy=EventDriven(), name="visits")]
    id: Mapped[int] = mapped_column(primary_key=True)
    by: Mapped[str] = mapped_column(String(40))
