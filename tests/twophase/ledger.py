"""The child of the tests with ClickHouse: notes one booking in three services, and dies at a point."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, Federation, points


class LedgerEntry(FederatedBase):
    __service__, __tablename__ = "ledger_main", "entries"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(String(50))


class LedgerCopy(FederatedBase):
    __service__, __tablename__ = "ledger_copy", "copies"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(String(50))


class LedgerFact(FederatedBase):
    __service__, __tablename__ = "ledger_facts", "facts"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(String(50))


@dataclass(frozen=True)
class Note:
    """What a child is to write, and where it is to end."""

    urls: dict[str, str]
    id: int
    dies_at: str
    threads: bool


def entries(id: int, facts: int = 3) -> list[FederatedBase]:
    """One booking in two services that can prepare, and some rows of it in one that cannot undo."""
    rows = [LedgerFact(id=id + number, text="fact") for number in range(facts)]
    return [LedgerEntry(id=id, text="entry"), LedgerCopy(id=id, text="copy"), *rows]


def write(note: Note) -> None:
    """Write it, and die on the way."""

    def reached(point: str) -> None:
        if point == note.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    points.reached = reached
    if note.threads:
        with Federation(note.urls) as fed, fed.sync_session(twophase=True) as session:
            session.add_all(entries(note.id))
            session.commit()
    else:
        asyncio.run(_write(note))


async def _write(note: Note) -> None:
    async with Federation(note.urls) as fed, fed.session(twophase=True) as session:
        session.add_all(entries(note.id))
        await session.commit()
