"""Rules in a module of their own, as a user's are: letters go to an archive, stamps to a list, visits to a log."""

from __future__ import annotations

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


def in_words(row: Any) -> Any:
    if "never" in row["text"]:
        raise ValueError(f"letter {row['letter_id']} is not for the archive")
    return row


class SentLetter(FederatedBase):
    __service__, __tablename__ = "sync_cli_office", "sent_letters"
    __sync__ = [
        SyncRule(
            to=ArchivedLetter, strategy=Batch(every=0.1), fields={"id": "letter_id"}, transform=in_words, name="letters"
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
