"""A bank whose books outlive the process that asks it, and that can be made to fail."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path

from examples.ecommerce.errors import BankUnavailableError, CardDeclinedError


class FileBank:
    """Pays up to ``limit``; is ``busy`` for a number of calls, and then has a number of answers that get ``lost``."""

    def __init__(self, path: Path, *, limit: int = 1_000, busy: int = 0, lost: int = 0, closed: bool = False) -> None:
        self._path, self._limit, self.busy, self.lost, self.closed = path, limit, busy, lost, closed
        self.asked: list[str] = []
        """The keys that it was asked to charge."""
        with self._books() as books:
            books.execute("CREATE TABLE IF NOT EXISTS charges (key TEXT PRIMARY KEY, amount TEXT, state TEXT)")

    async def charge(self, key: str, amount: Decimal) -> str:
        self.asked.append(key)
        if self.closed:
            raise BankUnavailableError("it is Sunday")
        if self.busy:
            self.busy -= 1
            raise BankUnavailableError("the line is busy")
        if amount > self._limit:
            raise CardDeclinedError("no money")
        with self._books() as books:
            books.execute("INSERT INTO charges VALUES (?, ?, 'taken') ON CONFLICT DO NOTHING", (key, str(amount)))
            found = books.execute("SELECT rowid, state FROM charges WHERE key = ?", (key,)).fetchone()
        if found[1] == "cancelled":
            raise CardDeclinedError("cancelled")
        if self.lost:
            self.lost -= 1
            raise BankUnavailableError("the line is cut")
        return f"ref-{found[0]}"

    async def cancel(self, key: str) -> bool:
        if self.closed:
            raise BankUnavailableError("it is Sunday")
        with self._books() as books:
            books.execute("INSERT INTO charges VALUES (?, NULL, 'cancelled') ON CONFLICT DO NOTHING", (key,))
            books.execute("UPDATE charges SET state = 'cancelled' WHERE key = ?", (key,))
            return books.execute("SELECT amount FROM charges WHERE key = ?", (key,)).fetchone()[0] is not None

    def books(self) -> list[tuple[str, str]]:
        """What has become of each sum that it has ever taken."""
        with self._books() as books:
            return books.execute("SELECT amount, state FROM charges WHERE amount IS NOT NULL ORDER BY rowid").fetchall()

    @contextmanager
    def _books(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            yield connection


Opens = Callable[..., FileBank]
"""What the fixture ``opens`` gives: it takes the options of a ``FileBank``."""
