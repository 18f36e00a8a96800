"""Rows that a rule could not sync, with the errors: kept until they are retried, dropped, or synced after all."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from fedorm.exc import EventError
from fedorm.outbox.encoding import encoded
from fedorm.stores.rows import Key, Values
from fedorm.stores.sql import SQLStore
from fedorm.sync.keeping import Kept
from fedorm.sync.keys import key_to_json
from fedorm.sync.tables import fedorm_sync_dead_letters


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row of the source that could not be synced; ``key`` and ``row`` in JSON's types, ``at`` seconds since 1970."""

    id: str
    rule: str
    key: list[Any]
    row: dict[str, Any] | None
    error: str
    attempts: int
    at: float


class DeadLetters:
    """Those of one rule."""

    def __init__(self, rule: str, store: SQLStore) -> None:
        self.rule = rule
        self._kept = Kept(store, fedorm_sync_dead_letters)
        self._ids: set[str] | None = None
        """Of those that there are, as far as this process knows; None while it has not asked."""

    async def put(self, key: Key, row: Values | None, error: BaseException) -> None:
        """Keep a row, in place of what was kept of the same key."""
        table, id = self._kept.table, self._id(key)
        values = {
            "key": json.dumps(key_to_json(key)),
            "row": None if row is None else json.dumps(_shown(row), ensure_ascii=False),
            "error": _in_words(error),
            "at": time.time(),
        }
        again = update(table).where(table.c.id == id).values(attempts=table.c.attempts + 1, **values)

        def work(connection: Connection) -> None:
            if not connection.execute(again).rowcount:
                connection.execute(insert(table).values(id=id, rule=self.rule, **values))

        await self._kept.write(work)
        if self._ids is not None:
            self._ids.add(id)

    async def settled(self, keys: Sequence[Key]) -> None:
        """Drop what was kept of rows that were synced by now."""
        if self._ids is None:
            self._ids = {letter.id for letter in await self.all()}
        if not self._ids:
            return
        ids = {self._id(key) for key in keys} & self._ids
        if ids:
            await self.drop(ids)

    async def all(self, ids: Collection[str] | None = None, *, limit: int | None = None) -> list[DeadLetter]:
        """Return them, the oldest first."""
        table = self._kept.table
        query = select(table).where(table.c.rule == self.rule).order_by(table.c.at)
        if ids is not None:
            query = query.where(table.c.id.in_(list(ids)))
        rows = await self._kept.read(query.limit(limit) if limit is not None else query)
        return [
            DeadLetter(
                row.id,
                row.rule,
                json.loads(row.key),
                None if row.row is None else json.loads(row.row),
                row.error,
                row.attempts,
                row.at,
            )
            for row in rows
        ]

    async def count(self) -> int:
        """Return how many there are."""
        table = self._kept.table
        rows = await self._kept.read(select(func.count()).select_from(table).where(table.c.rule == self.rule))
        return int(rows[0][0]) if rows else 0

    async def drop(self, ids: Collection[str] | None = None) -> int:
        """Drop those with these ids, or all; return how many."""
        table = self._kept.table
        gone = delete(table).where(table.c.rule == self.rule)
        if ids is not None:
            gone = gone.where(table.c.id.in_(list(ids)))
        number = await self._kept.write(lambda connection: int(connection.execute(gone).rowcount))
        if self._ids is not None:
            self._ids = set() if ids is None else self._ids - set(ids)
        return number

    def _id(self, key: Key) -> str:
        text = json.dumps([self.rule, *key_to_json(key)], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def _shown(row: Values) -> dict[str, Any]:
    shown = {}
    for name, value in row.items():
        try:
            shown[name] = encoded(value)
        except EventError:
            shown[name] = repr(value)[:1000]
    return shown


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:4000]
